/* session_io.c - bytes of a session: replies in, commands and bodies out, and how long each may take. */
#include "smtpout/session_impl.h"
#include <errno.h>

enum {
	MIN_BYTES_PER_S = 1000, /* a server that takes less is given up, RFC 5321 names no figure */
	PHASE_TIMEOUTS = 4, /* greeting, TLS and login; MAIL to DATA's reply: a tarpit of 100 slow RCPTs ends here */
	QUIT_TIMEOUT_MS = 10 * 1000,
	OUTPUT_BYTES_MAX = 1024 * 1024 /* waiting in one session; more would be our bug */
};

/* --- input --- */

/* All whole replies in `in`; returns how many bytes they took. */
static size_t take_replies(struct session *s, struct slice in)
{
	size_t taken = 0, used;
	struct reply reply;

	while (s->engine.state != ENGINE_OVER) {
		struct slice rest = { in.ptr + taken, in.len - taken };
		enum reply_result result = reply_parse(&s->parser, rest, &used, &reply);

		taken += used;
		if (result == REPLY_MALFORMED)
			engine_malformed(&s->engine, s->parser.why);
		if (result != REPLY_DONE)
			break;
		engine_reply(&s->engine, &reply);
		s->since_ms = clock_mono().ms;
	}
	return taken;
}

static void take_input(struct session *s, struct slice in)
{
	size_t taken = take_replies(s, in);
	bool has_more = taken < in.len || !reply_parser_is_idle(&s->parser);

	engine_input_left(&s->engine, has_more);
	buf_clear(&s->input);
	if (taken < in.len && s->engine.state != ENGINE_OVER)
		buf_put(&s->input, in.ptr + taken, in.len - taken);
	else if (s->input.cap > 0)
		buf_release(&s->input);
}

void session_read(struct session *s)
{
	char *buffer = s->w->input;

	while (s->engine.state != ENGINE_OVER && s->engine.state != ENGINE_HANDSHAKE) {
		size_t kept = s->input.len, done = 0;
		enum io_result result;

		if (kept > 0)
			memcpy(buffer, s->input.ptr, kept);
		result = transport_read(&s->io, buffer + kept, WORKER_INPUT_BYTES - kept, &done);
		if (result == IO_AGAIN)
			return;
		if (result != IO_DONE) {
			engine_lost(&s->engine, false, result == IO_FAILED ? s->io.error : "");
			return;
		}
		take_input(s, (struct slice){ buffer, kept + done });
		if (!s->io.tls && kept + done < WORKER_INPUT_BYTES)
			return; /* that was all there is for now; TLS may hold more in its own buffer */
	}
}

/* --- output --- */

bool session_has_output(const struct session *s)
{
	return s->output.len > 0 || s->sending;
}

/* Writes as much as the socket takes and returns it. A failure goes to the engine, which ends the session. */
static size_t write_some(struct session *s, const char *bytes, size_t len)
{
	size_t total = 0;

	while (total < len) {
		size_t done = 0;
		enum io_result result = transport_write(&s->io, bytes + total, len - total, &done);

		if (result == IO_AGAIN)
			break;
		if (result != IO_DONE) {
			/* A refusal may stand in the input, sent before the server closed: read it first. */
			session_read(s);
			engine_lost(&s->engine, false, s->io.error ? s->io.error : "");
			break;
		}
		total += done;
	}
	s->output_bytes += total;
	return total;
}

void session_write(struct session *s, const char *bytes, size_t len)
{
	size_t done = s->output.len == 0 ? write_some(s, bytes, len) : 0;

	if (done == len || s->engine.state == ENGINE_OVER)
		return;
	if (s->output.max == 0)
		buf_init(&s->output, OUTPUT_BYTES_MAX);
	buf_put(&s->output, bytes + done, len - done);
	if (s->output.failed)
		BUG("more than %d bytes wait for a socket", OUTPUT_BYTES_MAX);
}

static void flush_output(struct session *s)
{
	size_t done;

	if (s->output.len == 0)
		return;
	done = write_some(s, s->output.ptr, s->output.len);
	buf_consume(&s->output, done);
	if (s->output.len == 0)
		buf_release(&s->output);
}

/*
 * The last bytes of a message, its dot, and the next envelope behind it leave in one write. The board is told first:
 * from here on only the reply, or the board, knows what became of the message.
 */
static void send_last(struct session *s)
{
	struct delivery *d = s->sending;
	struct buf *out = &s->w->output;

	d->board_slot = worker_take_slot(s->w);
	if (d->board_slot >= 0 && s->w->board)
		board_post(s->w->board, (unsigned)d->board_slot, d->queue_id, d->group);
	s->sending = NULL;
	session_feed(s);
	engine_dot_sent(&s->engine);
	buf_put_slice(out, buf_slice(&s->engine.out));
	engine_sent(&s->engine);
	session_write(s, out->ptr, out->len);
}

static void broken_body(struct session *s)
{
	char *why = errno ? xasprintf("the queue file cannot be read: %s", strerrordesc_np(errno))
			  : xstrdup("the queue file is shorter than it says");

	engine_broken_here(&s->engine, why);
	free(why);
}

/* One piece of the body. False: the socket takes no more now, or it is over. */
static bool push_piece(struct session *s)
{
	struct buf *out = &s->w->output;
	size_t done = 0;

	if (!s->io.tls && body_can_sendfile(&s->body)) {
		enum io_result result = transport_sendfile(&s->io, &s->body, &done);

		s->output_bytes += done;
		if (result == IO_FAILED && s->engine.state != ENGINE_OVER) {
			session_read(s);
			engine_lost(&s->engine, false, s->io.error);
		}
		return result == IO_DONE;
	}
	buf_clear(out);
	switch (body_fill(&s->body, out)) {
	case BODY_MORE:
		session_write(s, out->ptr, out->len);
		return s->output.len == 0 && s->engine.state != ENGINE_OVER;
	case BODY_LAST:
		send_last(s);
		return false;
	case BODY_BROKEN:
		broken_body(s);
		return false;
	}
	return false;
}

void session_push_output(struct session *s)
{
	flush_output(s);
	while (s->sending && s->output.len == 0 && s->engine.state != ENGINE_OVER && push_piece(s))
		;
}

void session_begin_body(struct session *s, struct delivery *d)
{
	s->sending = d;
	body_release(&s->body);
	body_init(&s->body, d->fd, d->qf.body_offset_bytes + d->head_bytes, d->qf.size_bytes - d->head_bytes,
		  d->qf.flags & QUEUEFILE_DOTS);
	body_set_head(&s->body, buf_slice(&d->head));
	if (d->mail.is_downgraded && !body_downgrade(&s->body)) {
		broken_body(s);
		return;
	}
	session_push_output(s);
}

/* --- deadlines --- */

static int64_t reply_deadline(const struct session *s)
{
	int64_t timeout = (int64_t)s->server->timeout_ms;

	switch (engine_wait(&s->engine)) {
	case ENGINE_WAIT_DOT:
		return s->since_ms + 2 * timeout; /* RFC 5321 4.5.3.2.6: longer, to avoid copies */
	case ENGINE_WAIT_QUIT:
		return s->since_ms + (timeout < QUIT_TIMEOUT_MS ? timeout : QUIT_TIMEOUT_MS);
	case ENGINE_WAIT_COMMAND:
		break;
	}
	return s->since_ms + timeout;
}

/*
 * A deadline per reply, per piece of output, and for all until mails can go and all of an envelope; never per read: a
 * byte a minute does not move it.
 */
int64_t session_deadline(const struct session *s)
{
	int64_t timeout = (int64_t)s->server->timeout_ms, deadline = 0;
	int64_t phase_ms = s->was_up ? s->envelope_since_ms : s->connected_ms;

	if (s->is_shaking_hands)
		deadline = s->since_ms + timeout;
	else if (session_has_output(s) && s->output_since_ms > 0)
		deadline = s->output_since_ms + timeout + (int64_t)(s->output_bytes * 1000 / MIN_BYTES_PER_S);
	else if (engine_owed(&s->engine) > 0)
		deadline = reply_deadline(s);
	if (phase_ms > 0 && phase_ms + PHASE_TIMEOUTS * timeout < deadline)
		deadline = phase_ms + PHASE_TIMEOUTS * timeout;
	return deadline;
}
