/* conf_limits.c - "N/WINDOW [recipients] [calendar [HH:MM ZONE]]"; pure. */
#include "lib/conf_private.h"
#include "lib/text.h"

#define FORM    "write NUMBER/WINDOW, such as \"200/hour\" or \"2000/day recipients\""
#define WINDOWS "second, minute, hour, day, week, month or a duration such as \"15m\""

static const uint64_t AMOUNT_MAX = 1000000000000ull, WINDOW_MS_MIN = 1000, WINDOW_MS_MAX = 366ull * 86400 * 1000;

static const struct window {
	const char *name;
	uint64_t ms;
	bool has_calendar; /* the clock's hour, day, week or month */
} WINDOW_NAMES[] = {
	{ "second", 1000, false }, { "minute", 60000, false },  { "hour", 3600000, true },
	{ "day", 86400000, true }, { "week", 604800000, true }, { "month", 2592000000, true },
};

static struct slice next_word(struct slice *rest)
{
	size_t skip = 0, len;

	while (skip < rest->len && rest->ptr[skip] == ' ')
		skip++;
	rest->ptr += skip;
	rest->len -= skip;
	for (len = 0; len < rest->len && rest->ptr[len] != ' '; len++)
		;
	struct slice word = { rest->ptr, len };

	rest->ptr += len;
	rest->len -= len;
	return word;
}

static const struct window *find_window(struct slice name)
{
	for (unsigned i = 0; i < ARRAY_LEN(WINDOW_NAMES); i++)
		if (slice_is(name, WINDOW_NAMES[i].name))
			return &WINDOW_NAMES[i];
	return NULL;
}

static bool parse_amount(struct slice digits, uint64_t *out, struct buf *wrong)
{
	if (digits.len > 0 && digits.ptr[0] == '-') {
		buf_put_str(wrong, "is negative; 0 lets nothing pass, \"unlimited\" lifts it");
		return false;
	}
	if (!text_parse_u64(digits, out) || (digits.len > 1 && digits.ptr[0] == '0')) {
		buf_put_str(wrong, digits.len > 0 && digits.ptr[0] >= '0' && digits.ptr[0] <= '9'
					   ? "has no plain decimal number in front; " FORM
					   : "does not begin with a number; " FORM);
		return false;
	}
	if (*out > AMOUNT_MAX) {
		buf_printf(wrong, "is too large; use at most %llu", (unsigned long long)AMOUNT_MAX);
		return false;
	}
	return true;
}

static bool parse_rate(struct slice word, struct conf_limit *out, bool *has_calendar, struct buf *wrong)
{
	const char *slash = memchr(word.ptr, '/', word.len);
	struct slice digits = { word.ptr, slash ? (size_t)(slash - word.ptr) : word.len };
	const struct window *w;

	if (!parse_amount(digits, &out->amount, wrong))
		return false;
	if (!slash || digits.len + 1 == word.len) {
		buf_printf(wrong, "does not say in which time; " FORM);
		return false;
	}
	struct slice window = { slash + 1, word.len - digits.len - 1 };

	if ((w = find_window(window))) {
		out->window_ms = w->ms;
		*has_calendar = w->has_calendar;
		return true;
	}
	*has_calendar = false;
	if (!text_parse_duration(window, &out->window_ms)) {
		buf_put_str(wrong, "has an unknown window; use " WINDOWS);
		return false;
	}
	if (out->window_ms < WINDOW_MS_MIN || out->window_ms > WINDOW_MS_MAX) {
		buf_put_str(wrong, "has a window out of bounds; use 1s to 366d");
		return false;
	}
	return true;
}

bool conf_window_parse(struct slice text, uint64_t *ms)
{
	const struct window *w = find_window(text);

	if (w)
		*ms = w->ms;
	return w || (text_parse_duration(text, ms) && *ms >= WINDOW_MS_MIN && *ms <= WINDOW_MS_MAX);
}

/* "HH:MM" */
static bool parse_clock(struct slice word, struct conf_limit *out)
{
	uint64_t hour, minute;

	if (word.len != 5 || word.ptr[2] != ':' || !text_parse_u64((struct slice){ word.ptr, 2 }, &hour) ||
	    !text_parse_u64((struct slice){ word.ptr + 3, 2 }, &minute) || hour > 23 || minute > 59)
		return false;
	out->calendar_hour = (int)hour;
	out->calendar_minute = (int)minute;
	return true;
}

/* A name of the time zone database; it becomes part of a path there. */
static bool is_zone(struct slice s)
{
	if (s.len == 0 || s.len > 64 || s.ptr[0] < 'A' || s.ptr[0] > 'Z')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && !strchr("_+-/", c))
			return false;
	}
	return true;
}

/* Behind "calendar": nothing, or a time of day and a zone. */
static bool parse_calendar(struct slice *rest, struct conf_limit *out, struct buf *wrong)
{
	struct slice ahead = *rest, word = next_word(&ahead);

	out->is_calendar = true;
	if (word.len == 0 || slice_is(word, "recipients"))
		return true;
	if (!parse_clock(word, out)) {
		buf_put_str(wrong, "has something else than a time and a zone behind \"calendar\"; write \"calendar "
				   "00:00 Europe/Paris\"");
		return false;
	}
	word = next_word(&ahead);
	if (!is_zone(word)) {
		buf_put_str(wrong, "has no time zone behind the time; write \"calendar 00:00 Europe/Paris\"");
		return false;
	}
	out->calendar_zone = xstrndup(word.ptr, word.len);
	*rest = ahead;
	return true;
}

static bool parse_options(struct slice rest, struct conf_limit *out, bool has_calendar, struct buf *wrong)
{
	for (struct slice word = next_word(&rest); word.len > 0; word = next_word(&rest)) {
		if (slice_is(word, "recipients") && !out->is_recipients) {
			out->is_recipients = true;
		} else if (slice_is(word, "calendar") && !out->is_calendar) {
			if (!parse_calendar(&rest, out, wrong))
				return false;
		} else {
			buf_put_str(wrong, "has something else than \"recipients\" and \"calendar\", each once, behind "
					   "NUMBER/WINDOW");
			return false;
		}
	}
	if (out->is_calendar && !has_calendar) {
		buf_put_str(wrong, "has \"calendar\" with another window than hour, day, week or month");
		return false;
	}
	return true;
}

static void limit_release(struct conf_limit *l)
{
	free(l->text);
	free(l->calendar_zone);
	memset(l, 0, sizeof(*l));
}

bool conf_limit_parse(struct slice text, struct conf_limit *out, struct buf *wrong)
{
	struct slice rest = text;
	bool has_calendar = false;
	struct slice first = next_word(&rest);

	memset(out, 0, sizeof(*out));
	if (first.len == 0) {
		buf_put_str(wrong, "is empty; " FORM);
		return false;
	}
	if (slice_is(first, "unlimited")) {
		out->is_unlimited = true;
		if (next_word(&rest).len > 0) {
			buf_put_str(wrong, "has something behind \"unlimited\", which stands alone");
			return false;
		}
	} else if (!parse_rate(first, out, &has_calendar, wrong) || !parse_options(rest, out, has_calendar, wrong)) {
		limit_release(out);
		return false;
	}
	out->text = xstrndup(text.ptr, text.len);
	return true;
}

void conf_limits_add(struct conf_limits *l, const struct conf_limit *taken)
{
	l->limit = xrealloc(l->limit, (size_t)l->count + 1, sizeof(l->limit[0]));
	l->limit[l->count++] = *taken;
}

void conf_limits_release(struct conf_limits *l)
{
	for (unsigned i = 0; i < l->count; i++)
		limit_release(&l->limit[i]);
	free(l->limit);
	memset(l, 0, sizeof(*l));
}
