/* json.c - the writer. Calls nothing of jansson: a program that only writes JSON does not load the library. */
#include "lib/json.h"
#include "lib/text.h"

static unsigned char_len(const char *p, size_t len)
{
	for (unsigned n = 1; n <= 4 && n <= len; n++)
		if (text_is_utf8((struct slice){ p, n }))
			return n;
	return 0;
}

/* What cannot stand for itself in a string (RFC 8259 7), and bytes that are no UTF-8. */
static void put_escaped(struct buf *out, unsigned char c)
{
	switch (c) {
	case '"':
	case '\\':
		buf_put_char(out, '\\');
		buf_put_char(out, (char)c);
		break;
	case '\n':
		buf_put_str(out, "\\n");
		break;
	case '\r':
		buf_put_str(out, "\\r");
		break;
	case '\t':
		buf_put_str(out, "\\t");
		break;
	default:
		if (c < 0x80)
			buf_printf(out, "\\u%04x", c);
		else
			buf_put_str(out, "\\ufffd");
	}
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void json_put_string(struct buf *out, struct slice text)
{
	size_t i = 0, run;
	unsigned n;

	buf_put_char(out, '"');
	while (i < text.len) {
		for (run = i; run < text.len && is_plain((unsigned char)text.ptr[run]);)
			run++;
		buf_put(out, text.ptr + i, run - i);
		i = run;
		if (i == text.len)
			break;
		n = (unsigned char)text.ptr[i] < 0x80 ? 1 : char_len(text.ptr + i, text.len - i);
		if (n > 1)
			buf_put(out, text.ptr + i, n);
		else
			put_escaped(out, (unsigned char)text.ptr[i]);
		i += n > 1 ? n : 1;
	}
	buf_put_char(out, '"');
}

void json_put_key(struct buf *out, const char *key)
{
	if (out->len > 0 && out->ptr[out->len - 1] != '{' && out->ptr[out->len - 1] != '[')
		buf_put_char(out, ',');
	json_put_string(out, slice_of(key));
	buf_put_char(out, ':');
}

void json_put_member(struct buf *out, const char *key, struct slice text)
{
	json_put_key(out, key);
	json_put_string(out, text);
}

void json_put_member_u64(struct buf *out, const char *key, uint64_t value)
{
	json_put_key(out, key);
	buf_printf(out, "%llu", (unsigned long long)value);
}

void json_put_member_bool(struct buf *out, const char *key, bool value)
{
	json_put_key(out, key);
	buf_put_str(out, value ? "true" : "false");
}
