/* field.c - taking a header apart, and writing its fields. */
#include "lib/field.h"
#include "lib/text.h"

static const char *const NAMES[] = {
	[FIELD_OTHER] = "",
	[FIELD_BCC] = "Bcc",
	[FIELD_CC] = "Cc",
	[FIELD_CONTENT_LENGTH] = "Content-Length",
	[FIELD_CONTENT_TRANSFER_ENCODING] = "Content-Transfer-Encoding",
	[FIELD_CONTENT_TYPE] = "Content-Type",
	[FIELD_DATE] = "Date",
	[FIELD_FROM] = "From",
	[FIELD_MESSAGE_ID] = "Message-ID",
	[FIELD_MIME_VERSION] = "MIME-Version",
	[FIELD_RECEIVED] = "Received",
	[FIELD_REPLY_TO] = "Reply-To",
	[FIELD_RESENT_BCC] = "Resent-Bcc",
	[FIELD_RESENT_CC] = "Resent-Cc",
	[FIELD_RESENT_FROM] = "Resent-From",
	[FIELD_RESENT_SENDER] = "Resent-Sender",
	[FIELD_RESENT_TO] = "Resent-To",
	[FIELD_RETURN_PATH] = "Return-Path",
	[FIELD_SENDER] = "Sender",
	[FIELD_TO] = "To",
	[FIELD_X_POSTERN_PRIORITY] = "X-Postern-Priority",
	[FIELD_X_POSTERN_SEND_AFTER] = "X-Postern-Send-After",
	[FIELD_X_POSTERN_SERVER] = "X-Postern-Server",
	[FIELD_X_RECEIVER] = "X-Receiver",
	[FIELD_X_SENDER] = "X-Sender",
};
_Static_assert(ARRAY_LEN(NAMES) == FIELD_KIND_COUNT, "field names out of step");

static struct slice slice_from(struct slice s, size_t at)
{
	return (struct slice){ s.ptr + at, s.len - at };
}

size_t field_name_length(struct slice line)
{
	size_t len = 0, colon;

	while (len < line.len && line.ptr[len] > ' ' && line.ptr[len] < 127 && line.ptr[len] != ':')
		len++;
	for (colon = len; colon < line.len && text_is_blank(line.ptr[colon]); colon++)
		;
	return colon < line.len && line.ptr[colon] == ':' && len <= FIELD_NAME_MAX ? len : 0;
}

enum field_kind field_kind_of(struct slice name)
{
	for (unsigned i = FIELD_OTHER + 1; i < FIELD_KIND_COUNT; i++) {
		if (slice_equal_nocase(name, slice_of(NAMES[i])))
			return (enum field_kind)i;
	}
	return FIELD_OTHER;
}

bool field_take_line(struct slice *rest, struct slice *line)
{
	const char *newline;

	if (rest->len == 0)
		return false;
	newline = memchr(rest->ptr, '\n', rest->len);
	*line = (struct slice){ rest->ptr, newline ? (size_t)(newline - rest->ptr) : rest->len };
	*rest = slice_from(*rest, line->len + (newline ? 1 : 0));
	if (newline && line->len > 0 && line->ptr[line->len - 1] == '\r')
		line->len--;
	return true;
}

/* A lone CR becomes a blank when it is sent. */
static bool is_continuation(struct slice line)
{
	return line.len > 0 && (text_is_blank(line.ptr[0]) || line.ptr[0] == '\r');
}

bool field_take(struct slice *rest, struct field *out)
{
	struct slice line, ahead;
	const char *colon, *end;

	if (!field_take_line(rest, &line))
		return false;
	out->name = (struct slice){ line.ptr, field_name_length(line) };
	out->kind = field_kind_of(out->name);
	colon = memchr(line.ptr + out->name.len, ':', line.len - out->name.len);
	if (out->name.len == 0 || !colon)
		BUG("not the first line of a field");
	for (end = line.ptr + line.len, ahead = *rest; field_take_line(&ahead, &line); *rest = ahead) {
		if (line.len > 0 && !is_continuation(line))
			break;
		end = line.ptr + line.len;
	}
	out->raw = (struct slice){ out->name.ptr, (size_t)(rest->ptr - out->name.ptr) };
	out->value = (struct slice){ colon + 1, (size_t)(end - colon) - 1 };
	return true;
}

bool field_measure(struct slice bytes, bool is_all, size_t *header_bytes)
{
	struct slice rest = bytes, line;

	*header_bytes = 0;
	while (is_all || (rest.len > 0 && memchr(rest.ptr, '\n', rest.len))) {
		if (!field_take_line(&rest, &line))
			return true;
		if (is_continuation(line) ? *header_bytes == 0 : field_name_length(line) == 0)
			return true;
		*header_bytes = bytes.len - rest.len;
	}
	return false;
}

void field_unfold(struct buf *out, struct slice value)
{
	struct slice line;

	while (value.len > 0 && (text_is_blank(value.ptr[0]) || value.ptr[0] == '\r' || value.ptr[0] == '\n'))
		value = slice_from(value, 1);
	while (field_take_line(&value, &line)) {
		for (size_t i = 0; i < line.len; i++)
			buf_put_char(out, line.ptr[i] == '\r' ? ' ' : line.ptr[i]);
	}
	while (out->len > 0 && text_is_blank(out->ptr[out->len - 1]))
		out->len--;
}

/* --- writing --- */

static size_t count_blanks(const char *text, size_t len)
{
	size_t i = 0;

	while (i < len && text_is_blank(text[i]))
		i++;
	return i;
}

/* Where to fold a line of more than `max` bytes: a blank with something on both sides; 0: there is none. */
static size_t find_fold(const char *text, size_t len, size_t max)
{
	size_t indent = count_blanks(text, len);

	for (size_t i = max; i > indent; i--) {
		if (text_is_blank(text[i]) && !text_is_blank(text[i - 1]) && i + count_blanks(text + i, len - i) < len)
			return i;
	}
	return 0;
}

/* One line without its end; what is too long becomes several. */
static void put_folded(struct buf *out, const char *text, size_t len)
{
	size_t max = FIELD_LINE_MAX;

	while (len > max && text_is_blank(text[len - 1])) /* a fold before these would make a line of blanks */
		len--;
	while (len > max) {
		size_t cut = find_fold(text, len, max);
		bool is_hard = cut == 0;

		if (is_hard) {
			cut = max;
			while (cut > max - 4 && ((uint8_t)text[cut] & 0xc0) == 0x80) /* not inside a character */
				cut--;
		}
		buf_put(out, text, cut);
		buf_put_str(out, is_hard ? "\r\n " : "\r\n");
		max = is_hard ? FIELD_LINE_MAX - 1 : FIELD_LINE_MAX;
		text += cut;
		len -= cut;
	}
	buf_put(out, text, len);
	buf_put(out, "\r\n", 2);
}

/* Replaces lone CRs of what was put behind `begin`. */
static void blank_cr(struct buf *out, size_t begin)
{
	char *at;

	while (begin < out->len && (at = memchr(out->ptr + begin, '\r', out->len - begin))) {
		*at = ' ';
		begin = (size_t)(at - out->ptr) + 1;
	}
}

/* Nearly all fields: one line, nothing to mend. */
static bool is_plain(const struct field *f)
{
	return f->name.len + 1 + f->value.len <= FIELD_LINE_MAX && !memchr(f->value.ptr, '\n', f->value.len) &&
	       !memchr(f->value.ptr, '\r', f->value.len);
}

static void put_mended(struct buf *out, const struct field *f)
{
	struct slice rest = f->value, line = { "", 0 };
	struct buf text;
	bool is_first = true;

	buf_init(&text, f->name.len + 1 + f->value.len);
	while (field_take_line(&rest, &line) || is_first) {
		buf_clear(&text);
		if (is_first) {
			buf_put_slice(&text, f->name);
			buf_put_char(&text, ':');
		}
		buf_put_slice(&text, line);
		blank_cr(&text, 0);
		if (is_first || count_blanks(text.ptr, text.len) < text.len)
			put_folded(out, text.ptr, text.len);
		is_first = false;
		line.len = 0;
	}
	out->failed |= text.failed;
	buf_release(&text);
}

void field_put(struct buf *out, const struct field *f)
{
	if (!is_plain(f)) {
		put_mended(out, f);
		return;
	}
	buf_put_slice(out, f->name);
	buf_put_char(out, ':');
	buf_put_slice(out, f->value);
	buf_put(out, "\r\n", 2);
}
