/* queuefile.c - writing and reading the header of a queue file.  Form: queuefile.h. */
#include "lib/queuefile.h"
#include "lib/address.h"
#include "lib/spool.h"
#include "lib/text.h"
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_READ_BYTES = 4096, XTEXT_MAX = 1000, SERVER_MAX = 64, SUM_DIGITS = 16, WORD_BYTES_MAX = 32 };

const char QUEUEFILE_END[] = "end\n";
static const char MAGIC[] = "postern 1\n";
enum { END_BYTES = sizeof(QUEUEFILE_END) - 1, MAGIC_BYTES = sizeof(MAGIC) - 1 };

static const char *const PRIORITIES[] = {
	[PRIORITY_HIGH] = "high", [PRIORITY_NORMAL] = "normal", [PRIORITY_BULK] = "bulk"
};
_Static_assert(ARRAY_LEN(PRIORITIES) == PRIORITY_COUNT, "priority names out of step");

static const struct {
	unsigned bit;
	const char *word;
} FLAGS[] = { { QUEUEFILE_DOTS, "dots" }, { QUEUEFILE_8BIT, "8bit" }, { QUEUEFILE_UTF8, "utf8" } },
  NOTIFIES[] = { { NOTIFY_NEVER, "never" },
		 { NOTIFY_FAILURE, "failure" },
		 { NOTIFY_DELAY, "delay" },
		 { NOTIFY_SUCCESS, "success" } };

/* FNV-1a: finds a hand-edited or torn header, not an attacker. Fixed for ever, unlike text_hash(). */
static uint64_t checksum(const char *bytes, size_t len)
{
	uint64_t sum = 0xcbf29ce484222325u;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ (uint8_t)bytes[i]) * 0x100000001b3u;
	return sum;
}

/* --- writing --- */

static void put_flags(struct buf *out, unsigned flags)
{
	const char *blank = "";

	buf_put_str(out, "flags=");
	for (size_t i = 0; i < ARRAY_LEN(FLAGS); i++) {
		if (flags & FLAGS[i].bit) {
			buf_printf(out, "%s%s", blank, FLAGS[i].word);
			blank = " ";
		}
	}
	buf_put_char(out, '\n');
}

static void put_value(struct buf *out, const char *key, struct slice value)
{
	buf_put_str(out, key);
	buf_put_slice(out, value);
	buf_put_char(out, '\n');
}

static void put_rcpt(struct buf *out, const struct queuefile_rcpt *rcpt)
{
	const char *comma = "";

	buf_put_str(out, "rcpt=");
	buf_put_slice(out, rcpt->address);
	if (rcpt->notify) {
		buf_put_str(out, "\tnotify=");
		for (size_t i = 0; i < ARRAY_LEN(NOTIFIES); i++) {
			if (rcpt->notify & NOTIFIES[i].bit) {
				buf_put_str(out, comma);
				buf_put_str(out, NOTIFIES[i].word);
				comma = ",";
			}
		}
	}
	if (rcpt->orcpt.len > 0) {
		buf_put_str(out, "\torcpt=");
		buf_put_slice(out, rcpt->orcpt);
	}
	buf_put_char(out, '\n');
}

void queuefile_format_head(struct buf *out, const struct queuefile *qf)
{
	char id[SPOOL_ID_TEXT];
	size_t begin = out->len;

	spool_id_format(qf->id, id);
	buf_printf(out, "%sid=%s\narrival=%lld\nuid=%u\nsize=%llu\n", MAGIC, id, (long long)qf->arrival.ms, qf->uid,
		   (unsigned long long)qf->size_bytes);
	put_flags(out, qf->flags);
	if (qf->priority != PRIORITY_NORMAL)
		buf_printf(out, "priority=%s\n", PRIORITIES[qf->priority]);
	if (qf->server.len > 0)
		put_value(out, "server=", qf->server);
	if (qf->send_after.ms > 0)
		buf_printf(out, "send-after=%lld\n", (long long)qf->send_after.ms);
	if (qf->envid.len > 0)
		put_value(out, "envid=", qf->envid);
	if (qf->is_ret_full)
		buf_put_str(out, "ret=full\n");
	put_value(out, "sender=", qf->sender);
	for (uint32_t i = 0; i < qf->rcpt_count && !out->failed; i++)
		put_rcpt(out, &qf->rcpt[i]);
	if (!out->failed)
		buf_printf(out, "sum=%016llx\n\n", (unsigned long long)checksum(out->ptr + begin, out->len - begin));
	if (out->len - begin > QUEUEFILE_HEAD_MAX)
		out->failed = true;
}

/* --- reading: everything is checked, whoever wrote it --- */

static bool read_number(struct slice value, uint64_t max, uint64_t *out)
{
	return text_parse_u64(value, out) && *out <= max;
}

static bool read_id(struct queuefile *qf, struct slice value)
{
	return spool_id_parse(value, &qf->id);
}

static bool read_arrival(struct queuefile *qf, struct slice value)
{
	uint64_t ms;

	if (!read_number(value, INT64_MAX, &ms))
		return false;
	qf->arrival.ms = (int64_t)ms;
	return true;
}

static bool read_send_after(struct queuefile *qf, struct slice value)
{
	uint64_t ms;

	if (!read_number(value, INT64_MAX, &ms))
		return false;
	qf->send_after.ms = (int64_t)ms;
	return true;
}

static bool read_uid(struct queuefile *qf, struct slice value)
{
	uint64_t uid;

	if (!read_number(value, UINT32_MAX, &uid))
		return false;
	qf->uid = (uint32_t)uid;
	return true;
}

static bool read_size(struct queuefile *qf, struct slice value)
{
	return read_number(value, INT64_MAX / 2, &qf->size_bytes);
}

/* Takes the next word off *rest; false when there is none. */
static bool take_word(struct slice *rest, char separator, struct slice *word)
{
	const char *end;

	if (rest->len == 0)
		return false;
	end = memchr(rest->ptr, separator, rest->len);
	*word = (struct slice){ rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len };
	rest->ptr += word->len;
	rest->len -= word->len;
	if (end) {
		rest->ptr++;
		rest->len--;
	}
	return true;
}

static bool read_flags(struct queuefile *qf, struct slice value)
{
	struct slice word;

	while (take_word(&value, ' ', &word)) {
		unsigned bit = 0;

		for (size_t i = 0; i < ARRAY_LEN(FLAGS); i++) {
			if (slice_is(word, FLAGS[i].word))
				bit = FLAGS[i].bit;
		}
		if (bit == 0)
			return false;
		qf->flags |= bit;
	}
	return true;
}

static bool read_priority(struct queuefile *qf, struct slice value)
{
	for (unsigned i = 0; i < PRIORITY_COUNT; i++) {
		if (slice_is(value, PRIORITIES[i])) {
			qf->priority = (enum mail_priority)i;
			return true;
		}
	}
	return false;
}

/* What goes into an SMTP command as a parameter: printable ASCII without blanks. */
static bool is_graphic(struct slice s, size_t max)
{
	if (s.len == 0 || s.len > max)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if ((uint8_t)s.ptr[i] <= ' ' || (uint8_t)s.ptr[i] >= 127)
			return false;
	}
	return true;
}

static bool read_server(struct queuefile *qf, struct slice value)
{
	qf->server = value;
	return value.len > 0 && value.len <= SERVER_MAX && text_is_utf8(value);
}

static bool read_envid(struct queuefile *qf, struct slice value)
{
	qf->envid = value;
	return is_graphic(value, XTEXT_MAX);
}

static bool read_ret(struct queuefile *qf, struct slice value)
{
	qf->is_ret_full = slice_is(value, "full");
	return qf->is_ret_full || slice_is(value, "hdrs");
}

static bool is_address(struct slice text)
{
	struct address_parts parts;

	return text.len > 0 && text.ptr[0] != '<' && address_parse(text, &parts) == ADDRESS_OK;
}

static bool read_sender(struct queuefile *qf, struct slice value)
{
	qf->sender = value;
	return value.len == 0 || is_address(value);
}

static bool read_notify(struct queuefile_rcpt *rcpt, struct slice value)
{
	struct slice word;

	while (take_word(&value, ',', &word)) {
		unsigned bit = 0;

		for (size_t i = 0; i < ARRAY_LEN(NOTIFIES); i++) {
			if (slice_is(word, NOTIFIES[i].word))
				bit = NOTIFIES[i].bit;
		}
		if (bit == 0)
			return false;
		rcpt->notify |= bit;
	}
	return rcpt->notify != 0 && (rcpt->notify == NOTIFY_NEVER || !(rcpt->notify & NOTIFY_NEVER));
}

/* `value` begins behind "rcpt=". */
static bool read_rcpt(struct queuefile_rcpt *rcpt, struct slice value)
{
	static const struct slice NOTIFY = { "notify=", 7 }, ORCPT = { "orcpt=", 6 };
	struct slice word;

	*rcpt = (struct queuefile_rcpt){ 0 };
	if (!take_word(&value, '\t', &rcpt->address) || !is_address(rcpt->address))
		return false;
	while (take_word(&value, '\t', &word)) {
		if (word.len > NOTIFY.len && memcmp(word.ptr, NOTIFY.ptr, NOTIFY.len) == 0 && !rcpt->notify) {
			if (!read_notify(rcpt, (struct slice){ word.ptr + NOTIFY.len, word.len - NOTIFY.len }))
				return false;
		} else if (word.len > ORCPT.len && memcmp(word.ptr, ORCPT.ptr, ORCPT.len) == 0 && !rcpt->orcpt.len) {
			rcpt->orcpt = (struct slice){ word.ptr + ORCPT.len, word.len - ORCPT.len };
			if (!is_graphic(rcpt->orcpt, XTEXT_MAX))
				return false;
		} else {
			return false;
		}
	}
	return true;
}

/* In the order in which they stand in a file; each at most once. */
static const struct key {
	const char *name;
	bool is_required;
	bool (*read)(struct queuefile *qf, struct slice value);
} KEYS[] = {
	{ "id", true, read_id },          { "arrival", true, read_arrival },
	{ "uid", true, read_uid },        { "size", true, read_size },
	{ "flags", true, read_flags },    { "priority", false, read_priority },
	{ "server", false, read_server }, { "send-after", false, read_send_after },
	{ "envid", false, read_envid },   { "ret", false, read_ret },
	{ "sender", true, read_sender },
};

/* Takes one line off *rest, newline removed; false when there is no whole line. */
static bool take_line(struct slice *rest, struct slice *line)
{
	const char *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;

	if (!end)
		return false;
	*line = (struct slice){ rest->ptr, (size_t)(end - rest->ptr) };
	rest->ptr += line->len + 1;
	rest->len -= line->len + 1;
	return true;
}

/* "KEY=VALUE": true and *value when the line has this key. */
static bool has_key(struct slice line, const char *key, struct slice *value)
{
	size_t len = strlen(key);

	if (line.len <= len || line.ptr[len] != '=' || memcmp(line.ptr, key, len) != 0)
		return false;
	*value = (struct slice){ line.ptr + len + 1, line.len - len - 1 };
	return true;
}

/* All lines up to and with sender=. */
static bool parse_keys(struct queuefile *qf, struct slice *rest)
{
	struct slice line, value;

	if (!take_line(rest, &line))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(KEYS); i++) {
		if (!has_key(line, KEYS[i].name, &value)) {
			if (KEYS[i].is_required)
				return false;
			continue;
		}
		if (!KEYS[i].read(qf, value))
			return false;
		if (i + 1 < ARRAY_LEN(KEYS) && !take_line(rest, &line))
			return false;
	}
	return true;
}

static uint32_t count_rcpts(struct slice rest)
{
	struct slice line, value;
	uint32_t count = 0;

	while (count <= QUEUEFILE_RCPT_MAX && take_line(&rest, &line) && has_key(line, "rcpt", &value))
		count++;
	return count;
}

static bool parse_rcpts(struct queuefile *qf, struct slice *rest)
{
	struct slice line, value;
	uint32_t count = count_rcpts(*rest);

	if (count == 0 || count > QUEUEFILE_RCPT_MAX)
		return false;
	qf->rcpt = xcalloc(count, sizeof(*qf->rcpt));
	for (uint32_t i = 0; i < count; i++) {
		if (!take_line(rest, &line) || !has_key(line, "rcpt", &value) || !read_rcpt(&qf->rcpt[i], value))
			return false;
		qf->rcpt_count++;
	}
	return true;
}

/* The sum= line, which must be the last one, and the blank line. */
static bool parse_sum(const struct queuefile *qf, struct slice rest)
{
	struct slice line, value;
	char digits[SUM_DIGITS + 1];
	uint64_t sum = checksum(qf->text, (size_t)(rest.ptr - qf->text));

	if (!take_line(&rest, &line) || !has_key(line, "sum", &value) || value.len != SUM_DIGITS)
		return false;
	snprintf(digits, sizeof(digits), "%016llx", (unsigned long long)sum);
	return memcmp(value.ptr, digits, SUM_DIGITS) == 0 && rest.len == 1 && rest.ptr[0] == '\n';
}

/* Parses qf->text, which ends with the blank line. */
static enum queuefile_result parse_own_text(struct queuefile *qf)
{
	struct slice rest = { qf->text, qf->text_len };

	if (rest.len < MAGIC_BYTES || memcmp(rest.ptr, MAGIC, MAGIC_BYTES) != 0 || memchr(rest.ptr, '\0', rest.len))
		return QUEUEFILE_DAMAGED;
	rest.ptr += MAGIC_BYTES;
	rest.len -= MAGIC_BYTES;
	qf->body_offset_bytes = qf->text_len;
	qf->priority = PRIORITY_NORMAL;
	if (!parse_keys(qf, &rest) || !parse_rcpts(qf, &rest) || !parse_sum(qf, rest))
		return QUEUEFILE_DAMAGED;
	return QUEUEFILE_OK;
}

/* Length of the header, blank line included; 0: its end is not among these bytes. */
static size_t head_length(const char *bytes, size_t len)
{
	const char *end = memmem(bytes, len, "\n\n", 2);

	return end ? (size_t)(end - bytes) + 2 : 0;
}

enum queuefile_result queuefile_parse(struct slice head, struct queuefile *out)
{
	size_t len = head_length(head.ptr, head.len);

	*out = (struct queuefile){ 0 };
	if (len == 0 || len > QUEUEFILE_HEAD_MAX)
		return QUEUEFILE_DAMAGED;
	out->text = xmalloc(len);
	out->text_len = len;
	memcpy(out->text, head.ptr, len);
	return parse_own_text(out);
}

/* The rest of a header that is longer than the first read; owned text, or NULL (errno 0: damaged). */
static char *read_long_head(int fd, const char *first, size_t got, size_t *head_len)
{
	size_t cap = 4 * FIRST_READ_BYTES, scanned = 0;
	char *text = xmalloc(cap);

	memcpy(text, first, got);
	for (;;) {
		ssize_t n;

		*head_len = head_length(text + scanned, got - scanned);
		if (*head_len > 0) {
			*head_len += scanned;
			return text;
		}
		scanned = got - 1;
		if (got >= QUEUEFILE_HEAD_MAX)
			break;
		if (got == cap) {
			cap *= 2;
			text = xrealloc(text, cap, 1);
		}
		n = pread(fd, text + got, cap - got, (off_t)got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			free(text);
			return NULL;
		}
		if (n == 0)
			break;
		got += (size_t)n;
	}
	free(text);
	errno = 0;
	return NULL;
}

/* `first` holds the file's first `got` bytes. */
static enum queuefile_result check_end(int fd, const struct queuefile *qf, const char *first, size_t got)
{
	uint64_t end = qf->body_offset_bytes + qf->size_bytes;
	char mark[END_BYTES];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return QUEUEFILE_IO;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != end + END_BYTES)
		return QUEUEFILE_DAMAGED;
	if (end + END_BYTES <= got)
		return memcmp(first + end, QUEUEFILE_END, END_BYTES) == 0 ? QUEUEFILE_OK : QUEUEFILE_DAMAGED;
	if (pread(fd, mark, END_BYTES, (off_t)end) != END_BYTES)
		return QUEUEFILE_IO;
	return memcmp(mark, QUEUEFILE_END, END_BYTES) == 0 ? QUEUEFILE_OK : QUEUEFILE_DAMAGED;
}

enum queuefile_result queuefile_read(int fd, struct queuefile *out)
{
	char first[FIRST_READ_BYTES];
	enum queuefile_result result;
	ssize_t got;
	size_t len;

	*out = (struct queuefile){ 0 };
	do
		got = pread(fd, first, sizeof(first), 0);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return QUEUEFILE_IO;
	if (got < MAGIC_BYTES || memcmp(first, MAGIC, MAGIC_BYTES) != 0)
		return QUEUEFILE_DAMAGED;
	len = head_length(first, (size_t)got);
	if (len > 0) {
		out->text = xmalloc(len);
		memcpy(out->text, first, len);
	} else {
		out->text = read_long_head(fd, first, (size_t)got, &len);
		if (!out->text)
			return errno ? QUEUEFILE_IO : QUEUEFILE_DAMAGED;
	}
	out->text_len = len;
	result = parse_own_text(out);
	return result == QUEUEFILE_OK ? check_end(fd, out, first, (size_t)got) : result;
}

bool queuefile_is_foreign_version(int fd)
{
	static const struct slice WORD = { MAGIC, sizeof("postern ") - 1 };
	char first[WORD_BYTES_MAX];
	ssize_t got = pread(fd, first, sizeof(first), 0);
	const char *end = got > 0 ? memchr(first, '\n', (size_t)got) : NULL;
	uint64_t version;

	return end && (size_t)(end - first) > WORD.len && memcmp(first, WORD.ptr, WORD.len) == 0 &&
	       text_parse_u64((struct slice){ first + WORD.len, (size_t)(end - first) - WORD.len }, &version) &&
	       version > 1;
}

void queuefile_release(struct queuefile *qf)
{
	free(qf->text);
	free(qf->rcpt);
	*qf = (struct queuefile){ 0 };
}
