/* probe_stream.c - a connection that is waited for. */
#include "tools/probe_stream.h"

enum { READ_BYTES = 16384 };

static void on_io(void *arg, int fd UNUSED, unsigned events UNUSED)
{
	struct probe_stream *s = arg;

	s->is_ready = true;
	loop_stop(s->loop);
}

static void on_timer(void *arg)
{
	struct probe_stream *s = arg;

	s->is_late = true;
	loop_stop(s->loop);
}

void probe_stream_open(struct probe_stream *s, int fd)
{
	transport_open(&s->io, s->loop, fd, on_io, s);
	s->timer = loop_timer_new(s->loop, on_timer, s);
}

void probe_stream_close(struct probe_stream *s)
{
	transport_close(&s->io);
	loop_timer_free(&s->timer);
}

/* What to make of a step: PROBE_OK with *is_done, or PROBE_OK for "call again". */
static enum probe_result judge(struct probe_stream *s, enum io_result result, bool has_output, int64_t deadline_ms,
			       bool *is_done)
{
	int64_t left = deadline_ms - clock_mono().ms;

	*is_done = result == IO_DONE;
	switch (result) {
	case IO_DONE:
		return PROBE_OK;
	case IO_CLOSED:
		return PROBE_CLOSED;
	case IO_FAILED:
		s->error = s->io.error;
		return PROBE_FAILED;
	case IO_AGAIN:
		break;
	}
	transport_watch(&s->io, has_output);
	s->is_ready = s->is_late = false;
	loop_timer_set_ms(s->timer, left > 0 ? (uint64_t)left : 0);
	while (!s->is_ready && !s->is_late)
		loop_run(s->loop);
	loop_timer_cancel(s->timer);
	return s->is_ready ? PROBE_OK : PROBE_TIMED_OUT;
}

enum probe_result probe_stream_handshake(struct probe_stream *s, struct tls_policy *policy,
					 const struct tls_target *target, int64_t deadline_ms)
{
	enum probe_result result;
	bool is_done;

	transport_start_tls(&s->io, policy, target);
	do
		result = judge(s, transport_handshake(&s->io), false, deadline_ms, &is_done);
	while (result == PROBE_OK && !is_done);
	return result;
}

enum probe_result probe_stream_write(struct probe_stream *s, struct slice bytes, int64_t deadline_ms)
{
	enum probe_result result = PROBE_OK;

	while (bytes.len > 0 && result == PROBE_OK) {
		size_t done = 0;
		bool is_done;

		result = judge(s, transport_write(&s->io, bytes.ptr, bytes.len, &done), true, deadline_ms, &is_done);
		bytes.ptr += is_done ? done : 0;
		bytes.len -= is_done ? done : 0;
	}
	return result;
}

enum probe_result probe_stream_read(struct probe_stream *s, struct buf *in, int64_t deadline_ms)
{
	enum probe_result result;
	bool is_done;

	do {
		char *room = buf_reserve(in, READ_BYTES);
		size_t done = 0;

		if (!room)
			BUG("more than %zu bytes of input kept", in->max);
		result = judge(s, transport_read(&s->io, room, READ_BYTES, &done), false, deadline_ms, &is_done);
		in->len += is_done ? done : 0;
	} while (result == PROBE_OK && !is_done);
	return result;
}
