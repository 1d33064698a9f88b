/* transport.h - one connected stream, in clear or in TLS, watched by the loop. */
#ifndef SMTPOUT_TRANSPORT_H
#define SMTPOUT_TRANSPORT_H
#include "lib/loop.h"
#include "smtpout/body.h"
#include "smtpout/tls.h"

/* Zeroed: closed. Readiness comes to the callback; every step returns an io_result and never waits. */
struct transport {
	int fd;
	bool is_open;
	struct loop_io *io;
	struct tls_conn *tls;
	unsigned events;
	const char *error; /* after IO_FAILED; static text or the TLS connection's */
};

void transport_open(struct transport *t, struct loop *loop, int fd, loop_io_cb fn, void *arg); /* takes fd */
void transport_close(struct transport *t); /* also from within the callback */
/* The handshake is next. `policy` must outlive the stream; `target` is borrowed for the call. */
void transport_start_tls(struct transport *t, struct tls_policy *policy, const struct tls_target *target);
enum io_result transport_handshake(struct transport *t) MUST_CHECK;
/* As tls_read() and tls_write(): *done > 0 bytes moved, or IO_AGAIN: the callback comes. */
enum io_result transport_read(struct transport *t, char *bytes, size_t max, size_t *done) MUST_CHECK;
enum io_result transport_write(struct transport *t, const char *bytes, size_t len, size_t *done) MUST_CHECK;
enum io_result transport_sendfile(struct transport *t, struct body *body, size_t *done) MUST_CHECK; /* in clear only */
/*
 * After the handshake behind STARTTLS or STLS, before the first command: the other side has spoken already. Nobody
 * asked it to, and what it says would pass for the reply to that command.
 */
bool transport_is_ahead(struct transport *t);
/* Input is always watched for; output when we have some, or when TLS needs it. */
void transport_watch(struct transport *t, bool has_output);
#endif
