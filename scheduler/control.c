/* control.c - the operator's socket.
 *
 * A client is READING its request, ANSWERING (steps fill a bounded buffer, which is written as the socket takes it), or
 * ENDING (the end line is in the buffer). Whoever is too slow in sending or in taking is dropped.
 */
#include "scheduler/control.h"
#include "lib/log.h"
#include <errno.h>
#include <stdarg.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	CONTROL_FILL_BYTES = 64 * 1024, /* so much is kept ready for a client */
	CONTROL_STEPS_PER_TURN = 256,   /* of one client; searches that find nothing must not hold up the mail */
	CONTROL_WRITES_PER_TURN = 4,
	CONTROL_READ_BYTES = 4096,
	CONTROL_ACCEPT_PAUSE_MS = 1000, /* out of descriptors */
	CONTROL_OUT_MAX = CONTROL_FILL_BYTES + CONTROL_STEP_MAX + 4096
};

enum client_state { CLIENT_READING, CLIENT_ANSWERING, CLIENT_WAITING, CLIENT_ENDING };

struct control_client {
	struct control *control;
	struct control_client *next, *prev;
	int fd;
	enum client_state state;
	struct loop_io *io;
	struct loop_timer *idle;
	struct buf in, out;
	struct control_request request;
	struct control_reply reply;
	bool is_woken, is_deferred;
};

struct control {
	struct loop *loop;
	int listener;
	struct loop_io *io;
	struct loop_timer *pause;
	const struct control_command *commands;
	unsigned command_count, client_count;
	void *arg;
	struct control_client *first;
};

static void pump(struct control_client *client);

/* --- clients come and go --- */

static void on_deferred_pump(void *arg)
{
	struct control_client *client = arg;

	client->is_deferred = false;
	pump(client);
}

static void release_iterator(struct control_client *client)
{
	struct control_reply *reply = &client->reply;
	void (*release)(void *) = reply->step ? reply->release : NULL;

	reply->step = NULL;
	reply->release = NULL;
	if (release)
		release(reply->iterator);
}

static void client_drop(struct control_client *client)
{
	struct control *c = client->control;

	release_iterator(client);
	if (client->prev)
		client->prev->next = client->next;
	else
		c->first = client->next;
	if (client->next)
		client->next->prev = client->prev;
	c->client_count--;
	loop_defer_cancel(c->loop, on_deferred_pump, client);
	loop_io_free(&client->io);
	loop_timer_free(&client->idle);
	buf_release(&client->in);
	buf_release(&client->out);
	(void)close(client->fd);
	free(client);
}

/* --- answering --- */

static void put_end(struct buf *out, int status, const char *text)
{
	buf_put_str(out, "{\"end\":true,\"status\":");
	buf_printf(out, "%d", status);
	json_put_member(out, "text", slice_of(text));
	buf_put_str(out, "}\n");
}

static void end_answer(struct control_client *client)
{
	release_iterator(client);
	put_end(&client->out, client->reply.status, client->reply.text);
	client->state = CLIENT_ENDING;
}

/* One portion; false when there is nothing more to ask for now. */
static bool step(struct control_client *client)
{
	struct buf *out = &client->out;
	size_t begin = out->len, max = out->max;
	enum control_step result = CONTROL_END;

	if (client->reply.step) {
		client->is_woken = false;
		out->max = begin + CONTROL_STEP_MAX;
		result = client->reply.step(client->reply.iterator, &client->reply, out);
		out->max = max;
	}
	if (out->failed) { /* the answer cannot be trusted any more: end it, and say so */
		out->failed = false;
		out->len = begin;
		control_refuse(&client->reply, EXIT_STATUS_SOFTWARE, "a line of the answer is too long");
		result = CONTROL_END;
	}
	if (result == CONTROL_END)
		end_answer(client);
	else if (result == CONTROL_WAIT && !client->is_woken)
		client->state = CLIENT_WAITING;
	return client->state == CLIENT_ANSWERING;
}

/* False: the client is gone. */
static bool write_out(struct control_client *client)
{
	struct buf *out = &client->out;
	ssize_t n;

	for (int i = 0; i < CONTROL_WRITES_PER_TURN && out->len > 0; i++) {
		n = send(client->fd, out->ptr, out->len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0) {
			client_drop(client);
			return false;
		}
		buf_consume(out, (size_t)n);
		loop_timer_set_ms(client->idle, CONTROL_IDLE_MS);
	}
	return true;
}

/* Fills the buffer, writes what the socket takes, and sees to it that we are called when there is more to do. */
static void pump(struct control_client *client)
{
	for (int i = 0; i < CONTROL_STEPS_PER_TURN && client->state == CLIENT_ANSWERING; i++)
		if (client->out.len >= CONTROL_FILL_BYTES || !step(client))
			break;
	if (!write_out(client))
		return;
	if (client->state == CLIENT_ENDING && client->out.len == 0) {
		client_drop(client);
		return;
	}
	loop_io_set(client->io, client->out.len > 0 ? LOOP_WRITE : 0);
	if (client->out.len > 0 || client->state != CLIENT_ANSWERING)
		return;
	if (!client->is_deferred)
		loop_defer(client->control->loop, on_deferred_pump, client);
	client->is_deferred = true;
}

/* A client that waits for something of ours that does not come is told so; any other one has been too slow. */
static void on_idle(void *arg)
{
	struct control_client *client = arg;

	if (client->state != CLIENT_WAITING || client->out.len > 0) {
		client_drop(client);
		return;
	}
	control_refuse(&client->reply, EXIT_STATUS_TEMPORARY, "no answer in time; try again later");
	end_answer(client);
	loop_timer_set_ms(client->idle, CONTROL_IDLE_MS);
	pump(client);
}

void control_wake(struct control_client *client)
{
	client->is_woken = true;
	if (client->state != CLIENT_WAITING)
		return;
	client->state = CLIENT_ANSWERING;
	if (!client->is_deferred)
		loop_defer(client->control->loop, on_deferred_pump, client);
	client->is_deferred = true;
}

void control_refuse(struct control_reply *reply, int status, const char *format, ...)
{
	va_list args;

	reply->status = status;
	va_start(args, format);
	(void)vsnprintf(reply->text, sizeof(reply->text), format, args);
	va_end(args);
}

/* --- requests --- */

static void start_command(struct control_client *client, json_t *object)
{
	struct control *c = client->control;
	const char *name = json_string_value(json_object_get(object, "command"));

	client->request.object = object;
	if (!name) {
		control_refuse(&client->reply, EXIT_STATUS_USAGE, "the request names no command");
		return;
	}
	for (unsigned i = 0; i < c->command_count; i++) {
		if (strcmp(c->commands[i].name, name) == 0) {
			c->commands[i].start(c->arg, &client->request, &client->reply);
			return;
		}
	}
	control_refuse(&client->reply, EXIT_STATUS_USAGE, "this version knows no such command");
}

static void take_request(struct control_client *client, size_t len)
{
	json_error_t error;
	json_t *object = json_loadb(client->in.ptr, len, JSON_REJECT_DUPLICATES, &error);

	client->state = CLIENT_ANSWERING;
	client->reply.client = client;
	if (json_is_object(object))
		start_command(client, object);
	else
		control_refuse(&client->reply, EXIT_STATUS_USAGE, "the request is no JSON object: %s",
			       object ? "something else" : error.text);
	client->request.object = NULL;
	json_decref(object);
	buf_release(&client->in);
	loop_io_set(client->io, 0); /* what a client says after its request is not looked at */
	loop_timer_set_ms(client->idle, CONTROL_IDLE_MS);
	pump(client);
}

static void refuse_request(struct control_client *client, const char *text)
{
	control_refuse(&client->reply, EXIT_STATUS_USAGE, "%s", text);
	client->state = CLIENT_ANSWERING;
	pump(client);
}

static void on_readable(struct control_client *client)
{
	char *at = buf_reserve(&client->in, CONTROL_READ_BYTES), *lf;
	ssize_t n;

	n = recv(client->fd, at, CONTROL_READ_BYTES, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == 0 && client->in.len > 0) { /* shut down for writing: that ends a line too */
		take_request(client, client->in.len);
		return;
	}
	if (n <= 0) {
		client_drop(client);
		return;
	}
	client->in.len += (size_t)n;
	lf = memchr(at, '\n', (size_t)n);
	if (lf)
		take_request(client, (size_t)(lf - client->in.ptr));
	else if (client->in.len > CONTROL_REQUEST_MAX)
		refuse_request(client, "the request is too long");
}

static void on_client(void *arg, int fd UNUSED, unsigned events UNUSED)
{
	struct control_client *client = arg;

	if (client->state == CLIENT_READING)
		on_readable(client);
	else
		pump(client);
}

/* --- the listener --- */

static void client_new(struct control *c, int fd)
{
	struct control_client *client = xcalloc(1, sizeof(*client));
	struct ucred who = { .pid = 0, .uid = (uid_t)-1, .gid = (gid_t)-1 };
	socklen_t len = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		who.uid = (uid_t)-1;
	client->control = c;
	client->fd = fd;
	client->request.uid = who.uid;
	client->request.pid = who.pid;
	buf_init(&client->in, CONTROL_REQUEST_MAX + CONTROL_READ_BYTES);
	buf_init(&client->out, CONTROL_OUT_MAX);
	client->next = c->first;
	if (c->first)
		c->first->prev = client;
	c->first = client;
	c->client_count++;
	client->io = loop_io_new(c->loop, fd, LOOP_READ, on_client, client);
	client->idle = loop_timer_new(c->loop, on_idle, client);
	loop_timer_set_ms(client->idle, CONTROL_REQUEST_MS);
}

/* One too many: told so as far as the socket takes it at once. */
static void turn_away(int fd)
{
	struct buf out;

	buf_init(&out, 1024);
	put_end(&out, EXIT_STATUS_TEMPORARY, "too many commands at a time; try again later");
	(void)!send(fd, out.ptr, out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	buf_release(&out);
	(void)close(fd);
}

static void on_listener(void *arg, int listener, unsigned events UNUSED)
{
	struct control *c = arg;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	if (fd < 0) {
		log_warn("operators' commands have to wait: %m");
		loop_io_set(c->io, 0); /* level-triggered: it would fire for ever */
		loop_timer_set_ms(c->pause, CONTROL_ACCEPT_PAUSE_MS);
	} else if (c->client_count >= CONTROL_CLIENTS_MAX) {
		turn_away(fd);
	} else {
		client_new(c, fd);
	}
}

static void on_pause_over(void *arg)
{
	struct control *c = arg;

	loop_io_set(c->io, LOOP_READ);
}

struct control *control_new(struct loop *loop, int listener, const struct control_command *commands, unsigned count,
			    void *arg)
{
	struct control *c = xcalloc(1, sizeof(*c));
	size_t seed;

	/* jansson would look for a device, which a jail does not have */
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		seed = (size_t)clock_wall_us();
	json_object_seed(seed);
	c->loop = loop;
	c->listener = listener;
	c->commands = commands;
	c->command_count = count;
	c->arg = arg;
	c->io = loop_io_new(loop, listener, LOOP_READ, on_listener, c);
	c->pause = loop_timer_new(loop, on_pause_over, c);
	return c;
}

void control_free(struct control **control)
{
	struct control *c = *control;

	if (!c)
		return;
	*control = NULL;
	for (struct control_client *next, *client = c->first; client; client = next) {
		next = client->next;
		client_drop(client);
	}
	loop_io_free(&c->io);
	loop_timer_free(&c->pause);
	free(c);
}

unsigned control_client_count(const struct control *c)
{
	return c->client_count;
}

/* --- arguments --- */

const char *control_get_string(const struct control_request *r, const char *key)
{
	return json_string_value(json_object_get(r->object, key));
}
