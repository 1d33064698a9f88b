/* dial.c - a TCP connection to one of a host's addresses, tried in a race. */
#include "smtpout/dial.h"
#include "lib/deny.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

struct attempt {
	struct dial *dial;
	const struct host_address *address;
	struct loop_io *io;
	int fd; /* -1: over or not begun */
	int64_t deadline_ms;
};

struct dial {
	struct loop *loop;
	const struct conf_server *server;
	dial_cb fn;
	void *arg;
	struct loop_timer *timer;
	unsigned seed, count, begun, running;
	int64_t next_ms; /* when the next attempt begins */
	struct host_address address[HOST_ADDRESSES_MAX];
	struct attempt attempt[HOST_ADDRESSES_MAX];
	const struct host_address *last;
	const char *error;
	bool is_local;
};

/* Families alternate, each in the resolver's order; what is denied drops out. */
static void choose_addresses(struct dial *d, const struct host *host)
{
	unsigned at[2] = { 0, 0 };
	static const uint8_t FAMILY[2] = { AF_INET6, AF_INET };

	for (unsigned turn = 0; at[0] < host->address_count || at[1] < host->address_count; turn ^= 1) {
		while (at[turn] < host->address_count) {
			const struct host_address *a = &host->address[at[turn]++];

			if (a->family != FAMILY[turn])
				continue;
			if (deny_matches(d->server->deny, d->server->deny_count, a))
				continue;
			d->address[d->count++] = *a;
			break;
		}
	}
}

static void end_attempt(struct attempt *a)
{
	loop_io_free(&a->io);
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
	a->dial->running--;
}

static void fail_attempt(struct attempt *a, int error)
{
	struct dial *d = a->dial;

	d->last = a->address;
	d->error = strerrordesc_np(error) ? strerrordesc_np(error) : "unknown error";
	d->is_local = error == EADDRNOTAVAIL || error == EMFILE || error == ENFILE || error == ENOBUFS ||
		      error == ENOMEM || error == EACCES || error == EPERM;
	end_attempt(a);
	d->next_ms = 0; /* the next one need not wait any longer */
}

/* Binds to one of the server's source addresses of the right family, if there are any. -1 with errno */
static int bind_source(const struct dial *d, int fd, uint8_t family)
{
	const struct conf_list *list = &d->server->source_addresses;
	int on = 1;

	for (unsigned i = 0; i < list->count; i++) {
		struct host_address a = { .family = family };
		struct sockaddr_storage ss;

		if (inet_pton(family, list->item[(i + d->seed) % list->count], a.bytes) != 1)
			continue;
		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
		return bind(fd, (struct sockaddr *)&ss, host_address_sockaddr(&a, 0, &ss));
	}
	return 0;
}

static void on_attempt(void *arg, int fd, unsigned events);

/* Returns 0 or an errno. */
static int connect_attempt(struct attempt *a)
{
	struct sockaddr_storage ss;
	unsigned len = host_address_sockaddr(a->address, (uint16_t)a->dial->server->port, &ss);
	int on = 1;

	a->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (a->fd < 0)
		return errno;
	setsockopt(a->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(a->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if (bind_source(a->dial, a->fd, a->address->family) < 0)
		return errno;
	if (connect(a->fd, (struct sockaddr *)&ss, len) < 0 && errno != EINPROGRESS)
		return errno;
	a->io = loop_io_new(a->dial->loop, a->fd, LOOP_WRITE, on_attempt, a);
	return 0;
}

static void begin_next(struct dial *d, int64_t now)
{
	struct attempt *a = &d->attempt[d->begun];
	int error;

	a->dial = d;
	a->address = &d->address[d->begun++];
	a->deadline_ms = now + (int64_t)d->server->connect_timeout_ms;
	d->running++;
	d->next_ms = now + DIAL_HEAD_START_MS;
	error = connect_attempt(a);
	if (error != 0)
		fail_attempt(a, error);
}

/* Begins what is due, gives up what took too long, and sets the timer for the rest. */
static void advance(struct dial *d)
{
	int64_t now = clock_mono().ms, wake = INT64_MAX;

	for (unsigned i = 0; i < d->begun; i++) {
		if (d->attempt[i].fd >= 0 && now >= d->attempt[i].deadline_ms)
			fail_attempt(&d->attempt[i], ETIMEDOUT);
	}
	while (d->begun < d->count && now >= d->next_ms)
		begin_next(d, now);
	if (d->running == 0 && d->begun == d->count) {
		d->fn(d->arg, &(struct dial_end){ -1, d->last, d->error, d->is_local });
		return;
	}
	if (d->begun < d->count)
		wake = d->next_ms;
	for (unsigned i = 0; i < d->begun; i++) {
		if (d->attempt[i].fd >= 0 && d->attempt[i].deadline_ms < wake)
			wake = d->attempt[i].deadline_ms;
	}
	loop_timer_set_ms(d->timer, wake > now ? (uint64_t)(wake - now) : 0);
}

static void on_timer(void *arg)
{
	advance(arg);
}

static void on_attempt(void *arg, int fd, unsigned events UNUSED)
{
	struct attempt *a = arg;
	struct dial *d = a->dial;
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error != 0) {
		fail_attempt(a, error);
		advance(d);
		return;
	}
	a->fd = -1; /* the callee's from here */
	end_attempt(a);
	d->fn(d->arg, &(struct dial_end){ fd, a->address, NULL, false });
}

struct dial *dial_new(struct loop *loop, const struct host *host, const struct conf_server *server, unsigned seed,
		      dial_cb fn, void *arg)
{
	struct dial *d = xcalloc(1, sizeof(*d));

	d->loop = loop;
	d->server = server;
	d->seed = seed;
	d->fn = fn;
	d->arg = arg;
	d->error = host->address_count > 0 ? "the address is in deny-addresses" : "the host has no address";
	for (unsigned i = 0; i < HOST_ADDRESSES_MAX; i++)
		d->attempt[i].fd = -1;
	choose_addresses(d, host);
	d->timer = loop_timer_new(loop, on_timer, d);
	loop_timer_set_ms(d->timer, 0);
	return d;
}

void dial_free(struct dial **dial)
{
	struct dial *d = *dial;

	if (!d)
		return;
	for (unsigned i = 0; i < d->begun; i++) {
		if (d->attempt[i].fd >= 0)
			end_attempt(&d->attempt[i]);
	}
	loop_timer_free(&d->timer);
	free(d);
	*dial = NULL;
}
