/* mime_header.c - what the header of a MIME entity says about its body. */
#include "smtpout/mime_header.h"
#include "lib/field.h"
#include "lib/text.h"

static struct slice skip(struct slice s, size_t len)
{
	return (struct slice){ s.ptr + len, s.len - len };
}

/* Blanks, line ends of folded lines, and comments. */
static struct slice skip_white(struct slice s)
{
	unsigned depth = 0;

	while (s.len > 0) {
		char c = s.ptr[0];

		if (c == '(')
			depth++;
		else if (c == ')' && depth > 0)
			depth--;
		else if (depth > 0 && c == '\\' && s.len > 1)
			s = skip(s, 1);
		else if (depth == 0 && !strchr(" \t\r\n", c))
			break;
		s = skip(s, 1);
	}
	return s;
}

static struct slice cut_token(struct slice *s)
{
	struct slice token;

	*s = skip_white(*s);
	token = (struct slice){ s->ptr, 0 };
	while (token.len < s->len && (unsigned char)s->ptr[token.len] > ' ' &&
	       !strchr("()<>@,;:\\\"/[]?=", s->ptr[token.len]))
		token.len++;
	*s = skip(*s, token.len);
	return token;
}

static bool cut_char(struct slice *s, char c)
{
	*s = skip_white(*s);
	if (s->len == 0 || s->ptr[0] != c)
		return false;
	*s = skip(*s, 1);
	return true;
}

/* A token or a quoted string; returns its length in `value`, of which at most `max` bytes are kept. */
static size_t cut_value(struct slice *s, char *value, size_t max)
{
	struct slice token;
	size_t len = 0;

	if (!cut_char(s, '"')) {
		token = cut_token(s);
		len = token.len < max ? token.len : max;
		if (len > 0)
			memcpy(value, token.ptr, len);
		return len;
	}
	while (s->len > 0 && s->ptr[0] != '"') {
		if (s->ptr[0] == '\\' && s->len > 1)
			*s = skip(*s, 1);
		if (len < max && s->ptr[0] != '\r' && s->ptr[0] != '\n')
			value[len++] = s->ptr[0];
		*s = skip(*s, 1);
	}
	if (s->len > 0)
		*s = skip(*s, 1);
	return len;
}

static void take_parameters(struct mime_header *m, struct slice rest)
{
	char other[MIME_BOUNDARY_MAX];

	while (rest.len > 0) {
		struct slice name;
		bool is_boundary;

		if (!cut_char(&rest, ';')) {
			if (rest.len == 0)
				return;
			rest = skip(rest, 1); /* what no grammar explains */
			continue;
		}
		name = cut_token(&rest);
		is_boundary = slice_equal_nocase(name, slice_of("boundary")) && m->boundary_len == 0;
		if (!cut_char(&rest, '='))
			continue;
		if (is_boundary)
			m->boundary_len = cut_value(&rest, m->boundary, sizeof(m->boundary));
		else
			(void)cut_value(&rest, other, sizeof(other));
	}
}

static void take_type(struct mime_header *m, struct slice value)
{
	struct slice type, subtype;

	if (m->has_type)
		return; /* the first counts */
	m->has_type = true;
	type = cut_token(&value);
	subtype = cut_char(&value, '/') ? cut_token(&value) : (struct slice){ value.ptr, 0 };
	m->kind = MIME_LEAF;
	if (slice_equal_nocase(type, slice_of("message")) &&
	    (slice_equal_nocase(subtype, slice_of("rfc822")) || slice_equal_nocase(subtype, slice_of("global"))))
		m->kind = MIME_MESSAGE;
	if (!slice_equal_nocase(type, slice_of("multipart")))
		return;
	take_parameters(m, value);
	m->is_digest = slice_equal_nocase(subtype, slice_of("digest"));
	if (m->boundary_len > 0)
		m->kind = MIME_MULTIPART; /* without one nothing can be told apart: a text like any other */
}

static void take_encoding(struct mime_header *m, struct slice value)
{
	struct slice token = cut_token(&value);

	if (m->has_encoding)
		return;
	m->has_encoding = true;
	m->is_eight_bit = slice_equal_nocase(token, slice_of("8bit")) || slice_equal_nocase(token, slice_of("binary"));
	m->is_encoded = !m->is_eight_bit && !slice_equal_nocase(token, slice_of("7bit"));
}

bool mime_header_take(struct mime_header *m, struct slice field)
{
	struct field f;

	if (field_name_length(field) == 0 || !field_take(&field, &f))
		return false;
	if (f.kind == FIELD_MIME_VERSION)
		m->has_version = true;
	else if (f.kind == FIELD_CONTENT_TYPE)
		take_type(m, f.value);
	else if (f.kind == FIELD_CONTENT_TRANSFER_ENCODING)
		take_encoding(m, f.value);
	return f.kind == FIELD_CONTENT_TRANSFER_ENCODING;
}

/* A line's end ends a character, so only the last bytes of a piece can be half of one. */
void mime_utf8_feed(struct mime_utf8 *u, struct slice bytes)
{
	if (u->is_broken)
		return;
	for (size_t i = 0; i < bytes.len && !u->is_broken; i++) {
		uint8_t c = (uint8_t)bytes.ptr[i];

		if (u->tail_len == 0 && c < 0x80)
			continue;
		u->tail[u->tail_len++] = c;
		if (text_is_utf8((struct slice){ (const char *)u->tail, u->tail_len }))
			u->tail_len = 0;
		else if (u->tail_len == sizeof(u->tail) || (u->tail_len > 1 && (c & 0xC0) != 0x80))
			u->is_broken = true;
	}
}

bool mime_utf8_is_valid(const struct mime_utf8 *u)
{
	return !u->is_broken && u->tail_len == 0;
}
