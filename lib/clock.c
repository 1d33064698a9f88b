/* clock.c - the two clocks and their written forms. */
#include "lib/clock.h"
#include <fcntl.h>
#include <unistd.h>

static const char DAYS[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
static const char MONTHS[12][4] = {
	"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"
};

static struct timespec clock_read(clockid_t id)
{
	struct timespec ts;

	if (clock_gettime(id, &ts) < 0)
		BUG("clock %d cannot be read", (int)id);
	return ts;
}

struct mono clock_mono(void)
{
	struct timespec ts = clock_read(CLOCK_BOOTTIME);

	return (struct mono){ (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 };
}

struct wall clock_wall(void)
{
	struct timespec ts = clock_read(CLOCK_REALTIME);

	return (struct wall){ (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 };
}

uint64_t clock_wall_us(void)
{
	struct timespec ts = clock_read(CLOCK_REALTIME);

	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

const char *clock_boot_id(void)
{
	static char id[40];
	static bool is_read;
	int fd = is_read ? -1 : open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? 0 : read(fd, id, sizeof(id) - 1);

	if (fd >= 0)
		close(fd);
	if (len > 0)
		id[strcspn(id, "\n")] = '\0';
	is_read = true;
	return id;
}

/* Seconds since 1970, inside the four-digit years, and the milliseconds beyond; rounds down for times before 1970. */
static time_t seconds_of(struct wall t, int *ms)
{
	static const int64_t FIRST = -62167219200, LAST = 253402300799; /* 0000-01-01, 9999-12-31T23:59:59 */
	int64_t s = t.ms / 1000, rest = t.ms % 1000;

	if (rest < 0) {
		rest += 1000;
		s--;
	}
	*ms = (int)rest;
	return (time_t)(s < FIRST ? FIRST : s > LAST ? LAST : s);
}

static void put_digits(struct buf *out, int value, unsigned digits)
{
	char text[4];

	for (unsigned i = digits; i-- > 0; value /= 10)
		text[i] = (char)('0' + value % 10);
	buf_put(out, text, digits);
}

/* In every line of log and history: without printf(3). */
static void put_utc(struct buf *out, struct wall t, struct tm *tm, int *ms)
{
	time_t s = seconds_of(t, ms);

	if (!gmtime_r(&s, tm))
		BUG("time %lld has no date", (long long)s);
	put_digits(out, tm->tm_year + 1900, 4);
	buf_put_char(out, '-');
	put_digits(out, tm->tm_mon + 1, 2);
	buf_put_char(out, '-');
	put_digits(out, tm->tm_mday, 2);
	buf_put_char(out, 'T');
	put_digits(out, tm->tm_hour, 2);
	buf_put_char(out, ':');
	put_digits(out, tm->tm_min, 2);
	buf_put_char(out, ':');
	put_digits(out, tm->tm_sec, 2);
}

void clock_format_rfc3339(struct buf *out, struct wall t)
{
	struct tm tm;
	int ms;

	put_utc(out, t, &tm, &ms);
	buf_put_char(out, 'Z');
}

void clock_format_rfc3339_ms(struct buf *out, struct wall t)
{
	struct tm tm;
	int ms;

	put_utc(out, t, &tm, &ms);
	buf_put_char(out, '.');
	put_digits(out, ms, 3);
	buf_put_char(out, 'Z');
}

void clock_format_rfc5322(struct buf *out, struct wall t)
{
	struct tm tm;
	int ms;
	time_t s = seconds_of(t, &ms);
	long offset_min;

	if (!localtime_r(&s, &tm))
		BUG("time %lld has no date", (long long)s);
	offset_min = tm.tm_gmtoff / 60;
	buf_printf(out, "%s, %d %s %04d %02d:%02d:%02d %c%02ld%02ld", DAYS[tm.tm_wday], tm.tm_mday, MONTHS[tm.tm_mon],
		   tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec, offset_min < 0 ? '-' : '+',
		   labs(offset_min) / 60, labs(offset_min) % 60);
}

void clock_format_syslog(struct buf *out, struct wall t)
{
	struct tm tm;
	int ms;
	time_t s = seconds_of(t, &ms);

	if (!localtime_r(&s, &tm))
		BUG("time %lld has no date", (long long)s);
	buf_printf(out, "%s %2d %02d:%02d:%02d", MONTHS[tm.tm_mon], tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* --- RFC 5322 3.3 and 4.3 --- */

/* Blanks, line ends and nested comments; false when a comment does not end. */
static bool skip_cfws(struct slice *s)
{
	unsigned depth = 0;

	for (; s->len > 0; s->ptr++, s->len--) {
		char c = *s->ptr;

		if (c == '(') {
			depth++;
		} else if (depth > 0) {
			if (c == ')')
				depth--;
			else if (c == '\\' && s->len > 1)
				s->ptr++, s->len--;
		} else if (c != ' ' && c != '\t' && c != '\r' && c != '\n') {
			break;
		}
	}
	return depth == 0;
}

static bool take_char(struct slice *s, char c)
{
	if (!skip_cfws(s) || s->len == 0 || *s->ptr != c)
		return false;
	s->ptr++;
	s->len--;
	return true;
}

/* A number of at most max_digits; how many there were in *digits. */
static bool take_digits(struct slice *s, unsigned max_digits, int *value, unsigned *digits)
{
	if (!skip_cfws(s))
		return false;
	*value = 0;
	for (*digits = 0; s->len > 0 && *s->ptr >= '0' && *s->ptr <= '9' && *digits < max_digits; ++*digits) {
		*value = *value * 10 + (*s->ptr - '0');
		s->ptr++;
		s->len--;
	}
	return *digits > 0 && (s->len == 0 || *s->ptr < '0' || *s->ptr > '9');
}

static struct slice take_word(struct slice *s)
{
	struct slice word = { s->ptr, 0 };

	while (s->len > 0 && ((*s->ptr | 0x20) >= 'a' && (*s->ptr | 0x20) <= 'z')) {
		s->ptr++;
		s->len--;
		word.len++;
	}
	return word;
}

static int find_name(struct slice word, const char (*names)[4], int count)
{
	for (int i = 0; i < count; i++)
		if (slice_equal_nocase(word, slice_of(names[i])))
			return i;
	return -1;
}

/* Minutes east of UTC. Letters of one are unreliable and count as UTC, other unknown ones too (RFC 5322 4.3). */
static bool take_zone(struct slice *s, int *offset_min)
{
	static const struct {
		const char *name;
		int hours;
	} ZONES[] = { { "EST", -5 }, { "EDT", -4 }, { "CST", -6 }, { "CDT", -5 },
		      { "MST", -7 }, { "MDT", -6 }, { "PST", -8 }, { "PDT", -7 } };
	struct slice word;
	unsigned digits;
	int value, sign;

	*offset_min = 0;
	if (!skip_cfws(s) || s->len == 0)
		return false;
	if (*s->ptr == '+' || *s->ptr == '-') {
		sign = *s->ptr == '-' ? -1 : 1;
		s->ptr++;
		s->len--;
		if (s->len == 0 || *s->ptr < '0' || *s->ptr > '9' || !take_digits(s, 4, &value, &digits) ||
		    digits != 4 || value % 100 > 59)
			return false;
		*offset_min = sign * (value / 100 * 60 + value % 100);
		return true;
	}
	word = take_word(s);
	for (unsigned i = 0; i < ARRAY_LEN(ZONES); i++)
		if (slice_equal_nocase(word, slice_of(ZONES[i].name)))
			*offset_min = ZONES[i].hours * 60;
	return word.len > 0;
}

static bool take_date(struct slice *s, struct tm *tm)
{
	struct slice word;
	unsigned digits;

	if (!skip_cfws(s))
		return false;
	word = take_word(s);
	if (word.len > 0 && (find_name(word, DAYS, 7) < 0 || !take_char(s, ',')))
		return false;
	if (!take_digits(s, 2, &tm->tm_mday, &digits) || !skip_cfws(s))
		return false;
	tm->tm_mon = find_name(take_word(s), MONTHS, 12);
	if (tm->tm_mon < 0 || !take_digits(s, 4, &tm->tm_year, &digits) || digits < 2)
		return false;
	if (digits == 2)
		tm->tm_year += tm->tm_year < 50 ? 2000 : 1900;
	else if (digits == 3)
		tm->tm_year += 1900;
	tm->tm_year -= 1900;
	return true;
}

static bool take_time(struct slice *s, struct tm *tm)
{
	unsigned digits;

	if (!take_digits(s, 2, &tm->tm_hour, &digits) || !take_char(s, ':') || !take_digits(s, 2, &tm->tm_min, &digits))
		return false;
	return !take_char(s, ':') || take_digits(s, 2, &tm->tm_sec, &digits);
}

bool clock_parse_rfc5322(struct slice s, struct wall *out)
{
	static const int DAYS_IN[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	struct tm tm = { 0 };
	int offset_min, year, leap;

	if (!take_date(&s, &tm) || !take_time(&s, &tm) || !take_zone(&s, &offset_min) || !skip_cfws(&s) || s.len > 0)
		return false;
	year = tm.tm_year + 1900;
	leap = tm.tm_mon == 1 && (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
	if (year < 1900 || tm.tm_mday < 1 || tm.tm_mday > DAYS_IN[tm.tm_mon] + leap || tm.tm_hour > 23 ||
	    tm.tm_min > 59 || tm.tm_sec > 60)
		return false;
	out->ms = ((int64_t)timegm(&tm) - offset_min * 60) * 1000;
	return true;
}
