/* transport.c - one connected stream, in clear or in TLS. */
#include "smtpout/transport.h"
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

void transport_open(struct transport *t, struct loop *loop, int fd, loop_io_cb fn, void *arg)
{
	*t = (struct transport){ .fd = fd, .is_open = true, .events = LOOP_READ };
	t->io = loop_io_new(loop, fd, LOOP_READ, fn, arg);
}

void transport_close(struct transport *t)
{
	if (!t->is_open)
		return;
	tls_conn_free(&t->tls);
	loop_io_free(&t->io);
	close(t->fd);
	*t = (struct transport){ 0 };
}

void transport_start_tls(struct transport *t, struct tls_policy *policy, const struct tls_target *target)
{
	t->tls = tls_conn_new(policy, t->fd, target);
}

/* From a system call's errno. */
static enum io_result judge_errno(struct transport *t, int error)
{
	if (error == EAGAIN || error == EINTR)
		return IO_AGAIN;
	t->error = strerrordesc_np(error);
	return IO_FAILED;
}

static enum io_result judge_tls(struct transport *t, enum io_result result)
{
	if (result == IO_FAILED)
		t->error = tls_error(t->tls);
	return result;
}

enum io_result transport_handshake(struct transport *t)
{
	return judge_tls(t, tls_handshake(t->tls));
}

enum io_result transport_read(struct transport *t, char *bytes, size_t max, size_t *done)
{
	ssize_t got;

	if (t->tls)
		return judge_tls(t, tls_read(t->tls, bytes, max, done));
	got = recv(t->fd, bytes, max, 0);
	if (got < 0)
		return judge_errno(t, errno);
	*done = (size_t)got;
	return got == 0 ? IO_CLOSED : IO_DONE;
}

enum io_result transport_write(struct transport *t, const char *bytes, size_t len, size_t *done)
{
	ssize_t sent;

	if (t->tls)
		return judge_tls(t, tls_write(t->tls, bytes, len, done));
	sent = send(t->fd, bytes, len, MSG_NOSIGNAL);
	if (sent < 0)
		return judge_errno(t, errno);
	*done = (size_t)sent;
	return IO_DONE;
}

enum io_result transport_sendfile(struct transport *t, struct body *body, size_t *done)
{
	ssize_t sent = body_sendfile(body, t->fd);

	if (sent < 0)
		return judge_errno(t, errno);
	if (sent == 0) {
		t->error = "the queue file is shorter than it says";
		return IO_FAILED;
	}
	*done = (size_t)sent;
	return IO_DONE;
}

bool transport_is_ahead(struct transport *t)
{
	return tls_has_input(t->tls);
}

void transport_watch(struct transport *t, bool has_output)
{
	unsigned events = LOOP_READ;

	if (has_output || (t->tls && tls_wants_write(t->tls)))
		events |= LOOP_WRITE;
	if (events != t->events)
		loop_io_set(t->io, events);
	t->events = events;
}
