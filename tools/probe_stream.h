/* probe_stream.h - a connection for a program with one thing to do: each call waits, in the loop, for its end. */
#ifndef TOOLS_PROBE_STREAM_H
#define TOOLS_PROBE_STREAM_H
#include "lib/loop.h"
#include "smtpout/dial.h"
#include "smtpout/transport.h"

enum probe_result { PROBE_OK, PROBE_CLOSED, PROBE_FAILED, PROBE_TIMED_OUT };

/* Zeroed but for `loop`: closed. */
struct probe_stream {
	struct loop *loop;
	struct transport io;
	struct loop_timer *timer;
	bool is_ready, is_late;
	const char *error; /* after PROBE_FAILED; borrowed until the stream is closed */
};

void probe_stream_open(struct probe_stream *s, int fd); /* takes fd */
void probe_stream_close(struct probe_stream *s);
/* The deadline is in milliseconds of clock_mono(). */
enum probe_result probe_stream_handshake(struct probe_stream *s, struct tls_policy *policy,
					 const struct tls_target *target, int64_t deadline_ms) MUST_CHECK;
enum probe_result probe_stream_write(struct probe_stream *s, struct slice bytes, int64_t deadline_ms) MUST_CHECK;
/* Appends at least one byte to `in`. */
enum probe_result probe_stream_read(struct probe_stream *s, struct buf *in, int64_t deadline_ms) MUST_CHECK;
#endif
