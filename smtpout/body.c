/* body.c - the message from its queue file to the wire. */
#include "smtpout/body.h"
#include <errno.h>
#include <sys/sendfile.h>
#include <unistd.h>

enum {
	SENDFILE_STEP = 1024 * 1024, /* so that one fast reader does not hold the loop */
	DOWNGRADE_CHUNK = 16 * 1024  /* what it can become still fits into the buffer for output */
};

void body_init(struct body *b, int fd, uint64_t offset, uint64_t size_bytes, bool has_dots)
{
	*b = (struct body){ fd, offset, size_bytes, has_dots, true, { '\r', '\n' }, NULL };
}

void body_release(struct body *b)
{
	downgrade_free(&b->downgrade);
}

void body_stuff(struct body *b, struct slice in, struct buf *out)
{
	const char *at = in.ptr, *end = in.ptr + in.len;

	if (in.len == 0)
		return;
	if (b->is_line_start && at[0] == '.')
		buf_put_char(out, '.');
	/* Every LF begins a line here, also one without CR that the spool should not hold: some servers think so. */
	while (at < end) {
		const char *dot = memmem(at, (size_t)(end - at), "\n.", 2);

		if (!dot) {
			buf_put(out, at, (size_t)(end - at));
			break;
		}
		buf_put(out, at, (size_t)(dot + 1 - at));
		buf_put_char(out, '.');
		at = dot + 1;
	}
	b->is_line_start = end[-1] == '\n';
	b->last[0] = in.len > 1 ? end[-2] : b->last[1];
	b->last[1] = end[-1];
}

void body_end(const struct body *b, struct buf *out)
{
	if (b->last[0] != '\r' || b->last[1] != '\n')
		buf_put_str(out, "\r\n");
	buf_put_str(out, ".\r\n");
}

static char chunk[BODY_CHUNK]; /* used within one call */

bool body_downgrade(struct body *b)
{
	uint64_t offset = b->offset, left = b->left;

	b->downgrade = downgrade_new();
	errno = 0;
	while (left > 0) {
		ssize_t got = pread(b->fd, chunk, left < sizeof(chunk) ? (size_t)left : sizeof(chunk), (off_t)offset);

		if (got <= 0)
			return false;
		downgrade_look(b->downgrade, (struct slice){ chunk, (size_t)got });
		offset += (uint64_t)got;
		left -= (uint64_t)got;
	}
	downgrade_turn(b->downgrade);
	return true;
}

static void put_downgraded(struct body *b, struct slice in, struct buf *out)
{
	struct buf text;

	buf_init(&text, DOWNGRADE_GROWTH * DOWNGRADE_CHUNK + DOWNGRADE_SLACK);
	downgrade_put(b->downgrade, in, &text);
	if (b->left == 0)
		downgrade_end(b->downgrade, &text);
	body_stuff(b, buf_slice(&text), out);
	buf_release(&text);
}

enum body_result body_fill(struct body *b, struct buf *out)
{
	size_t most = b->downgrade ? DOWNGRADE_CHUNK : sizeof(chunk);
	size_t want = b->left < most ? (size_t)b->left : most;
	ssize_t got = 0;

	errno = 0;
	if (want > 0) {
		got = pread(b->fd, chunk, want, (off_t)b->offset);
		if (got <= 0)
			return BODY_BROKEN;
	}
	b->offset += (uint64_t)got;
	b->left -= (uint64_t)got;
	if (b->downgrade)
		put_downgraded(b, (struct slice){ chunk, (size_t)got }, out);
	else
		body_stuff(b, (struct slice){ chunk, (size_t)got }, out);
	if (b->left > 0)
		return BODY_MORE;
	body_end(b, out);
	return BODY_LAST;
}

bool body_can_sendfile(const struct body *b)
{
	return !b->has_dots && !b->downgrade && b->left > BODY_CHUNK;
}

ssize_t body_sendfile(struct body *b, int socket)
{
	uint64_t most = b->left - BODY_CHUNK / 2;
	off_t offset = (off_t)b->offset;
	ssize_t sent = sendfile(socket, b->fd, &offset, most < SENDFILE_STEP ? (size_t)most : SENDFILE_STEP);

	if (sent > 0) {
		b->offset += (uint64_t)sent;
		b->left -= (uint64_t)sent;
		b->is_line_start = false; /* the queue file says that no line begins with a dot */
	}
	return sent;
}
