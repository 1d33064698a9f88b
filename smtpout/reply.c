/* reply.c - SMTP replies out of a stream of bytes. */
#include "smtpout/reply.h"
#include "lib/text.h"

void reply_parser_init(struct reply_parser *p)
{
	*p = (struct reply_parser){ 0 };
	buf_init(&p->text, REPLY_BYTES_MAX + REPLY_LINES_MAX);
}

void reply_parser_release(struct reply_parser *p)
{
	buf_release(&p->text);
	p->lines = 0;
}

bool reply_parser_is_idle(const struct reply_parser *p)
{
	return p->lines == 0;
}

static enum reply_result malformed(struct reply_parser *p, const char *why)
{
	p->why = why;
	return REPLY_MALFORMED;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits of one part of an enhanced code: at most three (RFC 2034 3). Returns how many. */
static size_t count_digits(struct slice s, size_t at)
{
	size_t n = 0;

	while (at + n < s.len && n < 4 && is_digit(s.ptr[at + n]))
		n++;
	return n <= 3 ? n : 0;
}

/* "5.1.1 text": copies the code when its class is the reply's. A contradicting code is not believed. */
static void take_dsn(struct reply_parser *p, struct slice text)
{
	size_t subject, detail, len;

	if (text.len < 5 || text.ptr[0] != (char)('0' + p->code / 100) || text.ptr[1] != '.')
		return;
	if (text.ptr[0] != '2' && text.ptr[0] != '4' && text.ptr[0] != '5')
		return;
	subject = count_digits(text, 2);
	if (subject == 0 || 2 + subject >= text.len || text.ptr[2 + subject] != '.')
		return;
	detail = count_digits(text, 3 + subject);
	len = 3 + subject + detail;
	if (detail == 0 || (len < text.len && text.ptr[len] != ' '))
		return;
	memcpy(p->dsn, text.ptr, len);
	p->dsn[len] = '\0';
}

/* The code of one line; 0 when there is none. The second digit is not judged: servers in use answer 571 and the like.
 */
static unsigned line_code(struct slice line)
{
	if (line.len < 3 || line.ptr[0] < '1' || line.ptr[0] > '5' || !is_digit(line.ptr[1]) || !is_digit(line.ptr[2]))
		return 0;
	if (line.len > 3 && line.ptr[3] != ' ' && line.ptr[3] != '-')
		return 0;
	return (unsigned)(line.ptr[0] - '0') * 100 + (unsigned)(line.ptr[1] - '0') * 10 + (unsigned)(line.ptr[2] - '0');
}

static enum reply_result feed_line(struct reply_parser *p, struct slice line, struct reply *out)
{
	unsigned code = line_code(line);
	struct slice text = line.len > 4 ? (struct slice){ line.ptr + 4, line.len - 4 } : (struct slice){ "", 0 };

	if (code == 0)
		return malformed(p, "a line does not begin with a reply code");
	if (p->lines > 0 && code != p->code)
		return malformed(p, "the reply code changes between lines");
	if (p->lines == 0) {
		p->dsn[0] = '\0';
		buf_clear(&p->text);
	}
	if (++p->lines > REPLY_LINES_MAX)
		return malformed(p, "too many lines");
	p->code = code;
	if (p->dsn[0] == '\0')
		take_dsn(p, text);
	if (line.len > 3 && line.ptr[3] == '-') {
		buf_put_slice(&p->text, text);
		buf_put_char(&p->text, '\n');
		return p->text.failed ? malformed(p, "too many bytes") : REPLY_MORE;
	}
	if (p->lines > 1) {
		buf_put_slice(&p->text, text);
		if (p->text.failed)
			return malformed(p, "too many bytes");
		text = buf_slice(&p->text);
	}
	out->code = code;
	memcpy(out->dsn, p->dsn, sizeof(out->dsn));
	out->text = text;
	p->lines = 0;
	p->bytes = 0;
	return REPLY_DONE;
}

enum reply_result reply_parse(struct reply_parser *p, struct slice in, size_t *used, struct reply *out)
{
	enum reply_result result = REPLY_MORE;

	*used = 0;
	while (result == REPLY_MORE) {
		struct slice rest = { in.ptr + *used, in.len - *used };
		const char *end = rest.len > 0 ? memchr(rest.ptr, '\n', rest.len) : NULL;
		size_t len = end ? (size_t)(end - rest.ptr) + 1 : rest.len;

		if (len > REPLY_LINE_MAX)
			return malformed(p, "a line is too long");
		if (p->bytes + len > REPLY_BYTES_MAX)
			return malformed(p, "too many bytes");
		if (!end)
			break;
		*used += len;
		p->bytes += len;
		len -= len > 1 && end[-1] == '\r' ? 2 : 1;
		result = feed_line(p, (struct slice){ rest.ptr, len }, out);
	}
	return result;
}
