/* log.c - lines are gathered in memory and written without ever waiting for whoever reads them. */
#include "lib/log.h"
#include "lib/clock.h"
#include "lib/json.h"
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	LOG_LINE_MAX = 3900,       /* a line goes into one slot of a pipe, and into one datagram */
	LOG_FLUSH_BYTES = 4000,    /* so many are not kept until the turn's end */
	LOG_PENDING_MAX = 65536,   /* kept for a reader that is slow; more is lost */
	LOG_DATAGRAMS_MAX = 64,    /* lines per sendmmsg */
	LOG_FACILITY_MAIL = 2 << 3 /* RFC 3164 4.1.1 */
};

enum sink { SINK_FILE, SINK_SOCKET, SINK_OTHER };

static struct {
	enum log_target target;
	enum log_format format;
	enum log_level lowest;
	int fd;
	enum sink sink;
	bool is_open, is_torn, is_flushing;
	char *program, *host;
	pid_t pid;          /* whose lines are pending */
	struct buf pending; /* whole lines, each with its LF */
	struct buf line;    /* the one that is being made */
	uint64_t lost, lost_told;
	int lost_errno;
	struct sockaddr_un syslogd; /* where the socket was connected to: it may have to be again */
	socklen_t syslogd_len;
	struct mono reconnected;
} log_state = { .target = LOG_TARGET_STDERR, .fd = STDERR_FILENO, .lowest = LOG_LEVEL_INFO };

static const struct {
	const char *name, *prefix; /* prefix as Postfix has it: pflogsumm counts by it */
	int severity;
} LEVELS[] = {
	[LOG_LEVEL_DEBUG] = { "debug", "debug: ", 7 },
	[LOG_LEVEL_INFO] = { "info", "", 6 },
	[LOG_LEVEL_WARN] = { "warn", "warning: ", 4 },
	[LOG_LEVEL_ERROR] = { "error", "error: ", 3 },
};
_Static_assert(ARRAY_LEN(LEVELS) == LOG_LEVEL_COUNT, "log levels out of step");

static enum sink sink_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return SINK_OTHER;
	return S_ISREG(st.st_mode) ? SINK_FILE : S_ISSOCK(st.st_mode) ? SINK_SOCKET : SINK_OTHER;
}

/* After fork() the parent's lines are the parent's to write. */
static void forget_parent(void)
{
	pid_t pid = getpid();

	if (pid != log_state.pid)
		buf_clear(&log_state.pending);
	log_state.pid = pid;
}

/* Ready for lines even before log_open(): then to stderr. */
static void ensure_open(void)
{
	forget_parent();
	if (log_state.is_open)
		return;
	log_state.is_open = true;
	log_state.sink = sink_of(log_state.fd);
	buf_init(&log_state.pending, LOG_PENDING_MAX);
	buf_init(&log_state.line, LOG_LINE_MAX);
	if (!log_state.program)
		log_state.program = xstrdup(program_invocation_short_name);
	if (!log_state.host)
		log_state.host = xstrdup("localhost");
}

void log_open(enum log_target target, enum log_format format, int fd, const char *program, const char *host)
{
	struct sockaddr_un *peer = &log_state.syslogd;

	if (log_state.is_open)
		log_flush();
	free(log_state.program);
	free(log_state.host);
	log_state.program = xstrdup(program);
	log_state.host = xstrdup(host);
	log_state.target = target;
	log_state.format = format;
	log_state.fd = fd;
	ensure_open();
	log_state.sink = sink_of(fd);
	log_state.is_torn = false;
	log_state.syslogd_len = sizeof(*peer);
	if (target != LOG_TARGET_SYSLOG || getpeername(fd, (struct sockaddr *)peer, &log_state.syslogd_len) < 0)
		log_state.syslogd_len = 0;
}

void log_set_level(enum log_level lowest)
{
	log_state.lowest = lowest;
}

uint64_t log_lost_count(void)
{
	return log_state.lost;
}

/* --- writing what is pending --- */

static void count_lost(uint64_t lines, int error)
{
	log_state.lost += lines;
	log_state.lost_errno = error;
}

static uint64_t count_lines(const char *ptr, size_t len)
{
	uint64_t lines = 0;

	for (const char *end = ptr + len; ptr < end && (ptr = memchr(ptr, '\n', (size_t)(end - ptr))); ptr++)
		lines++;
	return lines;
}

/* One write that cannot wait: how many bytes went, or -1 with errno. */
static ssize_t write_now(const char *ptr, size_t len)
{
	struct pollfd pfd = { .fd = log_state.fd, .events = POLLOUT };
	struct iovec iov = { (char *)ptr, len };
	ssize_t n;

	if (log_state.sink == SINK_FILE)
		return write(log_state.fd, ptr, len);
	if (log_state.sink == SINK_SOCKET)
		return send(log_state.fd, ptr, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	/* O_NONBLOCK would hold for everybody who shares the terminal or pipe */
	if (poll(&pfd, 1, 0) != 1 || !(pfd.revents & POLLOUT)) {
		errno = EAGAIN;
		return -1;
	}
	n = pwritev2(log_state.fd, &iov, 1, -1, RWF_NOWAIT); /* others may have filled it since; not every kernel can */
	if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL || errno == ESPIPE))
		n = write(log_state.fd, ptr, len);
	return n;
}

/* End of the last whole line within the first `max` bytes of what is pending. */
static size_t whole_lines(size_t max)
{
	const char *end;

	if (log_state.pending.len <= max)
		return log_state.pending.len;
	end = memrchr(log_state.pending.ptr, '\n', max);
	return end ? (size_t)(end - log_state.pending.ptr) + 1 : max;
}

/* False: nothing more goes now. */
static bool flush_stream(void)
{
	struct buf *b = &log_state.pending;
	size_t len = log_state.sink == SINK_FILE ? b->len : whole_lines(LOG_LINE_MAX + 1);
	ssize_t n;

	if (log_state.is_torn && log_state.sink == SINK_FILE) {
		if (write_now("\n", 1) != 1)
			return false; /* the disk is still full: keep what fits */
		log_state.is_torn = false;
	}
	n = write_now(b->ptr, len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0) {
		count_lost(count_lines(b->ptr, len), errno);
		buf_consume(b, len);
		return b->len > 0;
	}
	if ((size_t)n < len && log_state.sink == SINK_FILE) {
		/* The disk is full: the line that was cut is lost, and the next one must begin a line of its own. */
		const char *lf = memchr(b->ptr + n, '\n', b->len - (size_t)n);

		log_state.is_torn = n > 0 && b->ptr[n - 1] != '\n';
		if (log_state.is_torn && lf) {
			count_lost(1, ENOSPC);
			n = lf - b->ptr + 1;
		}
	}
	buf_consume(b, (size_t)n);
	return b->len > 0;
}

/* syslogd was restarted: connect again, at most once a second. In a jail that fails, and lines are counted as lost. */
static bool reconnect_syslog(void)
{
	struct mono now = clock_mono();

	if (log_state.syslogd_len <= sizeof(sa_family_t) || now.ms - log_state.reconnected.ms < 1000)
		return false;
	log_state.reconnected = now;
	return connect(log_state.fd, (struct sockaddr *)&log_state.syslogd, log_state.syslogd_len) == 0;
}

static bool flush_syslog(void)
{
	struct mmsghdr message[LOG_DATAGRAMS_MAX] = { 0 };
	struct iovec iov[LOG_DATAGRAMS_MAX];
	struct buf *b = &log_state.pending;
	unsigned count = 0;
	size_t at = 0;
	int sent;

	for (; count < LOG_DATAGRAMS_MAX && at < b->len; count++) {
		size_t len = (size_t)((const char *)memchr(b->ptr + at, '\n', b->len - at) - b->ptr) - at;

		iov[count] = (struct iovec){ b->ptr + at, len };
		message[count].msg_hdr = (struct msghdr){ .msg_iov = &iov[count], .msg_iovlen = 1 };
		at += len + 1;
	}
	sent = sendmmsg(log_state.fd, message, count, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0 && (errno == ECONNREFUSED || errno == ENOTCONN || errno == ECONNRESET) && reconnect_syslog())
		return true;
	if (sent < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS))
		return false;
	if (sent <= 0) { /* the first one cannot go at all */
		count_lost(1, errno);
		sent = 1;
	}
	at = 0;
	for (int i = 0; i < sent; i++)
		at += iov[i].iov_len + 1;
	buf_consume(b, at);
	return b->len > 0;
}

static void put_line(enum log_level level, const char *queue_id, const char *event, const char *text,
		     const char *const *fields);

/* Says how much was lost once lines go through again. */
static void tell_lost(void)
{
	uint64_t lines = log_state.lost - log_state.lost_told;
	char text[160];

	log_state.lost_told = log_state.lost;
	(void)snprintf(text, sizeof(text), "%llu log line%s lost (%s)", (unsigned long long)lines,
		       lines == 1 ? " was" : "s were", strerror(log_state.lost_errno));
	put_line(LOG_LEVEL_WARN, NULL, "log-lost", text, NULL);
}

void log_flush(void)
{
	bool is_syslog = log_state.sink == SINK_SOCKET && log_state.target == LOG_TARGET_SYSLOG;
	int saved = errno;

	if (!log_state.is_open || log_state.is_flushing || log_state.pending.len == 0)
		return;
	forget_parent();
	log_state.is_flushing = true;
	for (int round = 0; round < 2; round++) {
		uint64_t lost_before = log_state.lost;

		while (log_state.pending.len > 0 && (is_syslog ? flush_syslog() : flush_stream()))
			;
		if (log_state.pending.len > 0 || log_state.lost == log_state.lost_told || log_state.lost != lost_before)
			break;
		tell_lost();
	}
	log_state.is_flushing = false;
	errno = saved;
}

/* --- making lines --- */

/* Fields that are numbers in JSON; all others are strings, whatever they look like. */
static bool is_number(const char *key, const char *value)
{
	static const char *const KEYS[] = { "size", "nrcpt", "uid", "delay", "attempt", "port", "count", "code" };
	size_t digits = strspn(value, "0123456789");
	bool is_key = false;

	for (unsigned i = 0; i < ARRAY_LEN(KEYS); i++)
		is_key = is_key || strcmp(key, KEYS[i]) == 0;
	if (!is_key || digits == 0 || digits > 15 || (value[0] == '0' && digits > 1))
		return false;
	if (value[digits] == '.' && value[digits + 1])
		digits += 1 + strspn(value + digits + 1, "0123456789");
	return value[digits] == '\0';
}

static void put_json(struct buf *line, enum log_level level, const char *queue_id, const char *event, const char *text,
		     const char *const *fields)
{
	struct buf now;

	buf_init(&now, 64);
	clock_format_rfc3339_ms(&now, clock_wall());
	buf_put_char(line, '{');
	json_put_member(line, "time", buf_slice(&now));
	buf_release(&now);
	json_put_member(line, "host", slice_of(log_state.host));
	json_put_member(line, "program", slice_of(log_state.program));
	json_put_member_u64(line, "pid", (uint64_t)log_state.pid);
	json_put_member(line, "event", slice_of(event));
	if (queue_id)
		json_put_member(line, "queue_id", slice_of(queue_id));
	else
		json_put_member(line, "level", slice_of(LEVELS[level].name));
	for (; fields && fields[0]; fields += 2) {
		if (is_number(fields[0], fields[1])) {
			json_put_key(line, fields[0]);
			buf_put_str(line, fields[1]);
		} else {
			json_put_member(line, fields[0], slice_of(fields[1]));
		}
	}
	if (text)
		json_put_member(line, "text", slice_of(text));
	buf_put_char(line, '}');
}

/* Callers have made foreign text printable; this is for the case that one forgot. */
static void blunt_controls(struct buf *line)
{
	for (size_t i = 0; i < line->len; i++)
		if ((unsigned char)line->ptr[i] < 0x20 || line->ptr[i] == 0x7f)
			line->ptr[i] = '?';
}

static void put_text(struct buf *line, enum log_level level, const char *queue_id, const char *text)
{
	static const char MORE[] = " [...]";
	size_t room, len = strlen(text);

	if (queue_id)
		buf_printf(line, "%s: ", queue_id);
	buf_put_str(line, LEVELS[level].prefix);
	room = line->max - line->len - sizeof(MORE);
	buf_put(line, text, len < room ? len : room);
	if (len >= room)
		buf_put_str(line, MORE);
	blunt_controls(line);
}

/* What stands before the text or object; a file in JSON form has nothing there. */
static void put_prefix(struct buf *line, enum log_level level)
{
	bool is_file = log_state.target == LOG_TARGET_FILE;

	if (log_state.target == LOG_TARGET_SYSLOG) {
		buf_printf(line, "<%d>", LOG_FACILITY_MAIL | LEVELS[level].severity);
		clock_format_syslog(line, clock_wall());
		buf_put_char(line, ' ');
	} else if (log_state.format == LOG_FORMAT_JSON) {
		return;
	} else if (is_file) {
		clock_format_rfc3339_ms(line, clock_wall());
		buf_printf(line, " %s ", log_state.host);
	}
	buf_printf(line, "postern/%s[%d]: ", log_state.program, (int)log_state.pid);
}

static void put_line(enum log_level level, const char *queue_id, const char *event, const char *text,
		     const char *const *fields)
{
	struct buf *line = &log_state.line;

	buf_clear(line);
	put_prefix(line, level);
	if (log_state.format == LOG_FORMAT_JSON) {
		size_t begin = line->len;

		put_json(line, level, queue_id, event, fields ? NULL : text, fields);
		/* Too long: an object that is whole, without the fields. */
		if (line->failed || line->len == line->max) {
			char *cut = xstrndup(text, strnlen(text, LOG_LINE_MAX / 8));

			line->failed = false;
			line->len = begin;
			put_json(line, level, queue_id, event, cut, NULL);
			free(cut);
		}
	} else {
		put_text(line, level, queue_id, text);
	}
	buf_put_char(line, '\n');
	buf_put_slice(&log_state.pending, buf_slice(line));
	if (log_state.pending.failed || line->failed) {
		log_state.pending.failed = false;
		count_lost(1, ENOBUFS);
	}
}

static void log_line(enum log_level level, const char *format, va_list args)
{
	char text[LOG_LINE_MAX];
	int saved = errno;

	if (level < log_state.lowest)
		return;
	ensure_open();
	(void)vsnprintf(text, sizeof(text), format, args);
	put_line(level, NULL, "log", text, NULL);
	if (level >= LOG_LEVEL_WARN || log_state.pending.len >= LOG_FLUSH_BYTES)
		log_flush();
	errno = saved;
}

#define LOG_AT(level)                  \
	va_list args;                  \
	va_start(args, format);        \
	log_line(level, format, args); \
	va_end(args)

void log_info(const char *format, ...)
{
	LOG_AT(LOG_LEVEL_INFO);
}

void log_warn(const char *format, ...)
{
	LOG_AT(LOG_LEVEL_WARN);
}

void log_error(const char *format, ...)
{
	LOG_AT(LOG_LEVEL_ERROR);
}

void log_debug(const char *format, ...)
{
	LOG_AT(LOG_LEVEL_DEBUG);
}

void log_message(const char *queue_id, const char *event, const char *text, const char *const *fields)
{
	int saved = errno;

	if (LOG_LEVEL_INFO < log_state.lowest)
		return;
	ensure_open();
	put_line(LOG_LEVEL_INFO, queue_id, event, text, fields);
	if (log_state.pending.len >= LOG_FLUSH_BYTES)
		log_flush();
	errno = saved;
}
