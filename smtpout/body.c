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
	*b = (struct body){ .fd = fd,
			    .offset = offset,
			    .left = size_bytes,
			    .head = { "", 0 },
			    .has_dots = has_dots,
			    .is_line_start = true,
			    .last = { '\r', '\n' } };
}

void body_set_head(struct body *b, struct slice head)
{
	b->head = head;
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
	for (const char *dot = at; (dot = memchr(dot, '.', (size_t)(end - dot))); dot++) {
		if (dot == in.ptr || dot[-1] != '\n')
			continue;
		buf_put(out, at, (size_t)(dot - at));
		buf_put_char(out, '.');
		at = dot;
	}
	buf_put(out, at, (size_t)(end - at));
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

/* The next bytes, at most `most`: of the head, then of the file. false: unreadable; errno, 0 for short. */
static bool take(struct body *b, size_t most, struct slice *out)
{
	size_t head = b->head.len < most ? b->head.len : most;
	size_t want = b->left < most - head ? (size_t)b->left : most - head;
	ssize_t got = 0;

	memcpy(chunk, b->head.ptr, head);
	errno = 0;
	if (want > 0) {
		got = pread(b->fd, chunk + head, want, (off_t)b->offset);
		if (got <= 0)
			return false;
	}
	b->head = (struct slice){ b->head.ptr + head, b->head.len - head };
	b->offset += (uint64_t)got;
	b->left -= (uint64_t)got;
	*out = (struct slice){ chunk, head + (size_t)got };
	return true;
}

static bool has_more(const struct body *b)
{
	return b->left > 0 || b->head.len > 0;
}

bool body_downgrade(struct body *b)
{
	struct body first_time = *b;
	struct slice in;

	b->downgrade = downgrade_new();
	while (has_more(&first_time)) {
		if (!take(&first_time, sizeof(chunk), &in))
			return false;
		downgrade_look(b->downgrade, in);
	}
	downgrade_turn(b->downgrade);
	return true;
}

static void put_downgraded(struct body *b, struct slice in, struct buf *out)
{
	struct buf text;

	buf_init(&text, DOWNGRADE_GROWTH * DOWNGRADE_CHUNK + DOWNGRADE_SLACK);
	downgrade_put(b->downgrade, in, &text);
	if (!has_more(b))
		downgrade_end(b->downgrade, &text);
	body_stuff(b, buf_slice(&text), out);
	buf_release(&text);
}

enum body_result body_fill(struct body *b, struct buf *out)
{
	struct slice in;

	if (!take(b, b->downgrade ? DOWNGRADE_CHUNK : sizeof(chunk), &in))
		return BODY_BROKEN;
	if (b->downgrade)
		put_downgraded(b, in, out);
	else
		body_stuff(b, in, out);
	if (has_more(b))
		return BODY_MORE;
	body_end(b, out);
	return BODY_LAST;
}

bool body_can_sendfile(const struct body *b)
{
	return !b->has_dots && !b->downgrade && b->head.len == 0 && b->left > BODY_CHUNK;
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
