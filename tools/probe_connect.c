/* probe_connect.c - every address of a host, tried at the same time. */
#include "tools/probe.h"
#include <arpa/inet.h>
#include <unistd.h>

struct call {
	struct probe *probe;
	unsigned *open_count;
	struct dial *dial;
	struct host only; /* the host with this one address */
	int fd;
	bool is_over, is_local;
	int64_t took_ms, since_ms;
	char *error;
};

char *probe_peer(const struct host *host, const struct host_address *address)
{
	struct buf text;

	buf_init(&text, sizeof(host->name) + INET6_ADDRSTRLEN + 2);
	buf_put_str(&text, host->name);
	buf_put_char(&text, '[');
	host_address_format(&text, address);
	buf_put_char(&text, ']');
	return buf_detach(&text);
}

int64_t probe_wait_ms(const struct conf_server *server)
{
	return server->timeout_ms < PROBE_WAIT_MAX_MS ? (int64_t)server->timeout_ms : PROBE_WAIT_MAX_MS;
}

static void on_end(void *arg, const struct dial_end *end)
{
	struct call *c = arg;

	c->fd = end->fd;
	c->is_local = end->is_local;
	c->took_ms = clock_mono().ms - c->since_ms;
	c->is_over = true;
	if (end->fd < 0)
		c->error = xstrdup(end->error);
	if (--*c->open_count == 0)
		loop_stop(c->probe->loop);
}

static void tell(struct call *c, const struct conf_server *server, enum hint_step step)
{
	char *peer = probe_peer(&c->only, &c->only.address[0]);
	struct probe_end why = { step, c->is_local ? FAILURE_LOCAL : FAILURE_CONNECT, 0, "", NULL };

	why.words = xasprintf("%s:%u: %s", peer, server->port, c->fd >= 0 ? "connected" : c->error);
	if (c->fd >= 0)
		steps_put(&c->probe->steps, STEP_OK, "connect", c->took_ms, why.words);
	else
		probe_fail(c->probe, &why, "connect", c->took_ms, c->only.name, server->port, false);
	free(why.words);
	free(peer);
}

static void begin(struct call *c, struct probe *p, const struct conf_server *server, const struct host *host,
		  unsigned index)
{
	c->probe = p;
	c->since_ms = clock_mono().ms;
	c->only = *host;
	c->only.address[0] = host->address[index];
	c->only.address_count = 1;
	c->dial = dial_new(p->loop, &c->only, server, 0, on_end, c);
}

int probe_connect(struct probe *p, const struct conf_server *server, enum hint_step step, const struct host *host,
		  struct host_address *address)
{
	struct call *calls = xcalloc(HOST_ADDRESSES_MAX, sizeof(*calls));
	unsigned open_count = host->address_count;
	const struct call *best = NULL;
	int fd = -1;

	for (unsigned i = 0; i < host->address_count; i++) {
		calls[i].open_count = &open_count;
		begin(&calls[i], p, server, host, i);
	}
	while (open_count > 0)
		loop_run(p->loop);
	for (unsigned i = 0; i < host->address_count; i++) {
		tell(&calls[i], server, step);
		dial_free(&calls[i].dial);
		free(calls[i].error);
		if (calls[i].fd >= 0 &&
		    (!best || (best->only.address[0].family == AF_INET && calls[i].only.address[0].family == AF_INET6)))
			best = &calls[i];
	}
	for (unsigned i = 0; i < host->address_count; i++) {
		if (calls[i].fd >= 0 && &calls[i] != best)
			close(calls[i].fd);
	}
	if (best) {
		fd = best->fd;
		*address = best->only.address[0];
	}
	free(calls);
	return fd;
}
