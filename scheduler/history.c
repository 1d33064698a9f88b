/* history.c - the append-only record of what happened to each message. */
#include "scheduler/history.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/spool.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	HISTORY_PENDING_MAX = 8 * 1024 * 1024, /* one turn's lines; more is lost */
	HISTORY_WRITE_BYTES = 256 * 1024,      /* so many are not kept until the turn's end */
	HISTORY_COMPLAIN_MS = 60000,
	DAY_TEXT = 11, /* 2026-11-21 and NUL */
	NAME_TEXT = 17 /* with .jsonl */
};

static const int64_t DAY_MS = 86400000;

struct history {
	int dir_fd; /* of history/, -1 while it cannot be opened */
	int spool_fd;
	int fd;      /* of the day's file, -1: none open */
	int64_t day; /* days since 1970 that pending lines and fd belong to */
	uint64_t keep_ms;
	struct buf pending; /* whole lines */
	bool is_torn;       /* the file ends in the middle of a line */
	uint64_t lost, lost_told;
	struct mono complained;
};

struct history *history_new(int spool_fd, uint64_t keep_ms)
{
	struct history *h = xcalloc(1, sizeof(*h));

	h->spool_fd = spool_fd;
	h->dir_fd = -1;
	h->fd = -1;
	h->keep_ms = keep_ms;
	h->complained.ms = clock_mono().ms - HISTORY_COMPLAIN_MS;
	buf_init(&h->pending, HISTORY_PENDING_MAX);
	return h;
}

static void close_day(struct history *h)
{
	if (h->fd >= 0)
		(void)close(h->fd);
	h->fd = -1;
}

void history_free(struct history **history)
{
	struct history *h = *history;

	if (!h)
		return;
	*history = NULL;
	history_flush(h);
	close_day(h);
	if (h->dir_fd >= 0)
		(void)close(h->dir_fd);
	buf_release(&h->pending);
	free(h);
}

uint64_t history_lost_count(const struct history *h)
{
	return h->lost;
}

/* --- files --- */

static void day_name(int64_t day, char name[NAME_TEXT])
{
	struct buf text;

	buf_init(&text, 64);
	clock_format_rfc3339(&text, (struct wall){ day * DAY_MS });
	(void)snprintf(name, NAME_TEXT, "%.*s.jsonl", DAY_TEXT - 1, buf_text(&text));
	buf_release(&text);
}

static bool open_dir(struct history *h)
{
	if (h->dir_fd < 0)
		h->dir_fd = openat(h->spool_fd, "history", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return h->dir_fd >= 0;
}

/* A predecessor that was killed may have left half a line. */
static bool ends_torn(int fd)
{
	off_t end = lseek(fd, 0, SEEK_END);
	char last = '\n';

	return end > 0 && pread(fd, &last, 1, end - 1) == 1 && last != '\n';
}

static bool open_day(struct history *h)
{
	char name[NAME_TEXT];

	if (h->fd >= 0)
		return true;
	if (!open_dir(h))
		return false;
	day_name(h->day, name);
	h->fd = openat(h->dir_fd, name, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (h->fd < 0)
		return false;
	h->is_torn = ends_torn(h->fd);
	return true;
}

static uint64_t count_lines(const char *ptr, size_t len)
{
	uint64_t lines = 0;

	for (const char *end = ptr + len; ptr < end && (ptr = memchr(ptr, '\n', (size_t)(end - ptr))); ptr++)
		lines++;
	return lines;
}

static void complain(struct history *h, int error)
{
	struct mono now = clock_mono();

	if (now.ms - h->complained.ms < HISTORY_COMPLAIN_MS)
		return;
	log_warn("history/ cannot be written (%s): %llu lines lost since the last such message", strerror(error),
		 (unsigned long long)(h->lost - h->lost_told));
	h->complained = now;
	h->lost_told = h->lost;
}

/* How many bytes of what is pending are in the file now; errno says why not all. */
static size_t write_day(struct history *h)
{
	size_t done = 0;
	ssize_t n;

	if (!open_day(h))
		return 0;
	if (h->is_torn && write(h->fd, "\n", 1) != 1)
		return 0;
	h->is_torn = false;
	while (done < h->pending.len) {
		n = write(h->fd, h->pending.ptr + done, h->pending.len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

void history_flush(struct history *h)
{
	size_t done;
	int error;

	if (h->pending.len == 0)
		return;
	errno = 0;
	done = write_day(h);
	if (done < h->pending.len) {
		error = errno;
		h->is_torn = done > 0 && h->pending.ptr[done - 1] != '\n';
		h->lost += count_lines(h->pending.ptr + done, h->pending.len - done);
		complain(h, error);
	}
	buf_clear(&h->pending);
}

/* Days since 1970 of a name like 2026-11-21.jsonl; false for anything else. */
static bool parse_day(const char *name, int64_t *day)
{
	static const char FORM[] = "0000-00-00.jsonl";
	struct tm tm = { 0 };
	int64_t seconds;

	for (size_t i = 0; i < sizeof(FORM); i++)
		if (FORM[i] == '0' ? name[i] < '0' || name[i] > '9' : name[i] != FORM[i])
			return false;
	tm.tm_year = (name[0] - '0') * 1000 + (name[1] - '0') * 100 + (name[2] - '0') * 10 + (name[3] - '0') - 1900;
	tm.tm_mon = (name[5] - '0') * 10 + (name[6] - '0') - 1;
	tm.tm_mday = (name[8] - '0') * 10 + (name[9] - '0');
	seconds = timegm(&tm);
	*day = seconds / 86400;
	return seconds >= 0;
}

/* Removes day files that ended more than keep_ms ago. */
static void prune(struct history *h, struct wall now)
{
	const struct dirent *entry;
	int64_t day;
	DIR *dir;
	int fd;

	if (!open_dir(h))
		return;
	fd = openat(h->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (parse_day(entry->d_name, &day) && (day + 1) * DAY_MS < now.ms - (int64_t)h->keep_ms)
			(void)unlinkat(h->dir_fd, entry->d_name, 0);
	(void)closedir(dir);
}

/* --- lines --- */

static void turn_day(struct history *h, struct wall now)
{
	int64_t day = now.ms / DAY_MS;

	if (day == h->day)
		return;
	history_flush(h);
	close_day(h);
	h->day = day;
	prune(h, now);
}

static struct buf *begin_line(struct history *h, struct wall now, uint64_t id, const char *event)
{
	struct buf *b = &h->pending;
	char id_text[SPOOL_ID_TEXT];

	spool_id_format(id, id_text);
	buf_put_str(b, "{\"time\":\"");
	clock_format_rfc3339_ms(b, now);
	buf_put_char(b, '"');
	json_put_member(b, "event", slice_of(event));
	json_put_member(b, "queue_id", slice_of(id_text));
	return b;
}

/* `begin`: how long pending was before the line. A line that does not fit is taken back whole. */
static void end_line(struct history *h, size_t begin)
{
	buf_put_str(&h->pending, "}\n");
	if (h->pending.failed) {
		h->pending.failed = false;
		h->pending.len = begin;
		h->lost++;
	}
	if (h->pending.len >= HISTORY_WRITE_BYTES)
		history_flush(h);
}

/* Where the next line begins; a new day's first line begins a new file. */
static size_t pending_begin(struct history *h, struct wall now)
{
	turn_day(h, now);
	return h->pending.len;
}

void history_arrived(struct history *h, struct wall now, uint64_t id, struct slice sender, uint64_t size_bytes,
		     uint32_t rcpt_count, uint32_t uid)
{
	size_t begin = pending_begin(h, now);
	struct buf *b = begin_line(h, now, id, "arrived");

	json_put_member(b, "sender", sender);
	json_put_member_u64(b, "size", size_bytes);
	json_put_member_u64(b, "nrcpt", rcpt_count);
	json_put_member_u64(b, "uid", uid);
	end_line(h, begin);
}

void history_outcome(struct history *h, struct wall now, uint64_t id, const struct history_outcome *o)
{
	size_t begin = pending_begin(h, now);
	struct buf *b = begin_line(h, now, id, "outcome"), next;

	json_put_member(b, "recipient", o->recipient);
	json_put_member(b, "status", slice_of(o->status));
	json_put_member_u64(b, "attempt", o->attempt);
	json_put_member(b, "server", slice_of(o->server));
	json_put_member(b, "relay", slice_of(o->relay));
	json_put_member(b, "dsn", slice_of(o->dsn));
	json_put_member(b, "text", o->text);
	if (o->next.ms > 0) {
		buf_init(&next, 64);
		clock_format_rfc3339(&next, o->next);
		json_put_member(b, "next", buf_slice(&next));
		buf_release(&next);
	}
	end_line(h, begin);
}

void history_done(struct history *h, struct wall now, uint64_t id, const char *status)
{
	const char *const fields[] = { "status", status, NULL };

	history_event(h, now, id, "done", fields);
}

void history_event(struct history *h, struct wall now, uint64_t id, const char *event, const char *const *fields)
{
	size_t begin = pending_begin(h, now);
	struct buf *b = begin_line(h, now, id, event);

	for (; fields && fields[0]; fields += 2)
		json_put_member(b, fields[0], slice_of(fields[1]));
	end_line(h, begin);
}
