/* body.c - line ends, line lengths, and what is in a body. */
#include "pickup/body.h"
#include "lib/queuefile.h"

bool body_is_8bit(const char *bytes, size_t len)
{
	const uint64_t high = 0x8080808080808080u;
	uint64_t word, seen = 0;
	size_t i = 0;

	for (; i + sizeof(word) <= len; i += sizeof(word)) {
		memcpy(&word, bytes + i, sizeof(word));
		seen |= word;
	}
	for (; i < len; i++)
		seen |= (uint64_t)(uint8_t)bytes[i];
	return (seen & high) != 0;
}

/* Bytes of one line, no CR or LF among them. */
static void put_span(struct body_filter *f, const char *bytes, size_t len, struct buf *out)
{
	if (len > 0 && f->column == 0 && bytes[0] == '.')
		f->flags |= QUEUEFILE_DOTS;
	while (len > BODY_LINE_MAX - f->column) {
		size_t room = BODY_LINE_MAX - f->column;

		buf_put(out, bytes, room);
		buf_put(out, "\r\n ", 3);
		bytes += room;
		len -= room;
		f->column = 1;
	}
	buf_put(out, bytes, len);
	f->column += len;
}

/* Part of a line in which CRs are lone ones. */
static void put_part(struct body_filter *f, const char *bytes, size_t len, struct buf *out)
{
	const char *cr;

	while (len > 0 && (cr = memchr(bytes, '\r', len))) {
		put_span(f, bytes, (size_t)(cr - bytes), out);
		put_span(f, " ", 1, out);
		len -= (size_t)(cr - bytes) + 1;
		bytes = cr + 1;
	}
	put_span(f, bytes, len, out);
}

void body_feed(struct body_filter *f, const char *bytes, size_t len, struct buf *out)
{
	if (memchr(bytes, '\0', len))
		f->has_nul = true;
	if (body_is_8bit(bytes, len))
		f->flags |= QUEUEFILE_8BIT;
	while (len > 0) {
		const char *newline = memchr(bytes, '\n', len);
		size_t part = newline ? (size_t)(newline - bytes) : len, taken = part + (newline ? 1 : 0);

		if (f->has_cr && part > 0)
			put_span(f, " ", 1, out);
		f->has_cr = false;
		if (part > 0 && bytes[part - 1] == '\r') {
			part--;
			f->has_cr = !newline;
		}
		put_part(f, bytes, part, out);
		if (newline) {
			buf_put(out, "\r\n", 2);
			f->column = 0;
		}
		bytes += taken;
		len -= taken;
	}
}

void body_finish(struct body_filter *f, struct buf *out)
{
	if (f->has_cr)
		put_span(f, " ", 1, out);
	f->has_cr = false;
	if (f->column > 0)
		buf_put(out, "\r\n", 2);
	f->column = 0;
}
