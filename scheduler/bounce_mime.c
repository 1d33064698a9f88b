/* bounce_mime.c - text into forms that every mail server carries. */
#include "scheduler/bounce_mime.h"
#include "lib/text.h"

enum { FOLD_COLUMN = 78, WORD_MAX = 900, QP_LINE_MAX = 76, BASE64_LINE_BYTES = 57 };

/* --- header fields --- */

static void put_visible(struct buf *out, struct slice value)
{
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.ptr[i];

		if (c > 0x7f)
			buf_printf(out, "\\%03o", c);
		else
			buf_put_char(out, c < 0x20 || c == 0x7f ? '?' : (char)c);
	}
}

/* Words stay whole unless one alone is longer than a line may be; several blanks become one. */
static void put_folded(struct buf *out, struct slice text, size_t column)
{
	size_t word;
	bool has_blank = false, is_first = true;

	for (; text.len > 0; text.ptr += word, text.len -= word) {
		for (; text.len > 0 && *text.ptr == ' '; text.ptr++, text.len--)
			has_blank = true;
		for (word = 0; word < text.len && text.ptr[word] != ' ' && word < WORD_MAX;)
			word++;
		if (word == 0)
			break; /* blanks at the end */
		if (column + 1 + word > FOLD_COLUMN && !is_first) {
			buf_put_str(out, "\r\n ");
			column = 1;
		} else if (has_blank && !is_first) {
			buf_put_char(out, ' ');
			column++;
		}
		buf_put(out, text.ptr, word);
		column += word;
		has_blank = is_first = false;
	}
}

void bounce_put_typed_field(struct buf *out, const char *name, const char *type, struct slice value)
{
	struct buf text;

	if (value.len == 0)
		return;
	buf_init(&text, value.len * 4 + strlen(type));
	buf_put_str(&text, type);
	put_visible(&text, value);
	buf_printf(out, "%s: ", name);
	put_folded(out, buf_slice(&text), strlen(name) + 2);
	buf_put_str(out, "\r\n");
	buf_release(&text);
}

void bounce_put_field(struct buf *out, const char *name, struct slice value)
{
	bounce_put_typed_field(out, name, "", value);
}

/* --- content transfer encodings --- */

/* How many bytes at p are a line end: 2 for CRLF, 1 for LF. */
static unsigned line_end(const char *p, size_t len)
{
	return len > 0 && p[0] == '\n' ? 1 : len > 1 && p[0] == '\r' && p[1] == '\n' ? 2 : 0;
}

/* Blanks before a line end and a dot or "From " at a line's beginning are encoded: some carriers change those. */
static bool must_quote(unsigned char c, size_t column, bool is_last)
{
	if (c == ' ' || c == '\t')
		return is_last;
	return c < 0x21 || c > 0x7e || c == '=' || (column == 0 && (c == '.' || c == 'F'));
}

void bounce_put_quoted_printable(struct buf *out, struct slice text)
{
	size_t column = 0, i = 0;
	unsigned end;

	while (i < text.len) {
		end = line_end(text.ptr + i, text.len - i);
		if (end > 0) {
			buf_put_str(out, "\r\n");
			column = 0;
			i += end;
			continue;
		}
		bool is_last = i + 1 == text.len || line_end(text.ptr + i + 1, text.len - i - 1) > 0;
		bool is_quoted = must_quote((unsigned char)text.ptr[i], column, is_last);

		if (column + (is_quoted ? 3 : 1) > QP_LINE_MAX - 1) {
			buf_put_str(out, "=\r\n");
			column = 0;
			is_quoted = must_quote((unsigned char)text.ptr[i], column, is_last);
		}
		if (is_quoted)
			buf_printf(out, "=%02X", (unsigned char)text.ptr[i]);
		else
			buf_put_char(out, text.ptr[i]);
		column += is_quoted ? 3 : 1;
		i++;
	}
}

static void put_base64_group(struct buf *out, const unsigned char *p, size_t len)
{
	static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned bits = (unsigned)p[0] << 16 | (len > 1 ? (unsigned)p[1] << 8 : 0) | (len > 2 ? p[2] : 0u);

	buf_put_char(out, DIGITS[bits >> 18]);
	buf_put_char(out, DIGITS[bits >> 12 & 63]);
	buf_put_char(out, len > 1 ? DIGITS[bits >> 6 & 63] : '=');
	buf_put_char(out, len > 2 ? DIGITS[bits & 63] : '=');
}

void bounce_put_base64(struct buf *out, struct slice bytes)
{
	const unsigned char *p = (const unsigned char *)bytes.ptr;

	for (size_t line = 0; line < bytes.len; line += BASE64_LINE_BYTES) {
		size_t end = line + BASE64_LINE_BYTES < bytes.len ? line + BASE64_LINE_BYTES : bytes.len;

		for (size_t i = line; i < end; i += 3)
			put_base64_group(out, p + i, end - i);
		buf_put_str(out, "\r\n");
	}
}

/* --- addresses --- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool bounce_put_xtext_decoded(struct buf *out, struct slice xtext)
{
	size_t begin = out->len;
	int c, high, low;

	for (size_t i = 0; i < xtext.len; i++) {
		c = (unsigned char)xtext.ptr[i];
		if (c == '+') {
			high = i + 2 < xtext.len ? hex_digit(xtext.ptr[i + 1]) : -1;
			low = i + 2 < xtext.len ? hex_digit(xtext.ptr[i + 2]) : -1;
			c = high < 0 || low < 0 ? 0 : high << 4 | low;
			i += 2;
		}
		if (c < 0x20 || c > 0x7e) {
			out->len = begin;
			return false;
		}
		buf_put_char(out, (char)c);
	}
	return true;
}

void bounce_put_ascii_address(struct buf *out, struct slice address)
{
	for (size_t i = 0; i < address.len; i++) {
		unsigned char c = (unsigned char)address.ptr[i];
		unsigned more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
		unsigned point = more == 0 ? c : c & (0x3fu >> more);

		if (more == 0) {
			buf_put_char(out, (char)c);
			continue;
		}
		for (; more > 0 && i + 1 < address.len; more--)
			point = point << 6 | ((unsigned char)address.ptr[++i] & 0x3fu);
		buf_printf(out, "\\x{%X}", point); /* RFC 6533, 3: no leading zeros */
	}
}
