/* pop_visit.c - one visit to a POP3 account. */
#include "smtpout/pop_visit.h"
#include "lib/hosts.h"
#include "lib/log.h"
#include "smtpout/dial.h"
#include "smtpout/pop.h"
#include "smtpout/transport.h"
#include <arpa/inet.h>

/* How long a visit may take in all, in time-outs of a command; a login that lingers helps nobody. */
enum { VISIT_TIMEOUTS = 2, QUIT_MS = 3000, POP3S = 995 };

struct pop_visit {
	struct pop_visit *next;
	struct worker *w;
	struct conf_server server; /* as POP3 sees it */
	uint32_t request;
	uint16_t index;
	char *hosts; /* as they came */
	size_t hosts_len;
	uint8_t host_index;
	char *host, *peer;
	struct dial *dial;
	struct transport io;
	struct login *login;
	struct pop pop;
	struct buf input, output;
	struct loop_timer *timer;
	bool has_pop, is_shaking_hands, is_over;
};

static void connect_host(struct pop_visit *v);

struct conf_server pop_visit_server(const struct conf_server *server)
{
	struct conf_server s = *server;

	s.host = server->pop.host;
	s.port = server->pop.port;
	s.tls = server->pop.tls;
	s.is_tls_wrapper = server->pop.port == POP3S;
	s.tls_fingerprints.count = 0; /* those are of the SMTP server's certificate */
	s.tls_client_cert = s.tls_client_key = NULL;
	return s;
}

/* --- the end --- */

static void free_visit(void *arg)
{
	struct pop_visit *v = arg;

	loop_timer_free(&v->timer);
	free(v->hosts);
	free(v->host);
	free(v->peer);
	free(v);
}

static void close_connection(struct pop_visit *v)
{
	dial_free(&v->dial);
	transport_close(&v->io);
	if (v->has_pop)
		pop_release(&v->pop);
	v->has_pop = v->is_shaking_hands = false;
	login_free(&v->login);
	if (v->output.ptr)
		explicit_bzero(v->output.ptr, v->output.cap);
	buf_release(&v->output);
	buf_release(&v->input);
}

static void leave(struct pop_visit *v)
{
	struct pop_visit **at = &v->w->visits;

	close_connection(v);
	while (*at != v)
		at = &(*at)->next;
	*at = v->next;
	v->is_over = true;
	loop_timer_cancel(v->timer);
	loop_defer(v->w->loop, free_visit, v);
}

static void tell(struct pop_visit *v, enum failure_cause cause, const char *text)
{
	struct msg_head head = channel_head(report_book_channel(v->w->book));
	struct msg_pop_done m = {
		.request = v->request,
		.server = conf_server_key(&v->w->conf->server[v->index]),
		.cause = (uint8_t)cause,
		.text = slice_of(text),
		.relay = slice_of(v->peer ? v->peer : "none"),
	};
	struct packet p;

	msg_encode_pop_done(&p, &head, &m);
	report_book_send(v->w->book, &p);
}

/* Takes the text. A host that cannot be reached leaves the next one; one that was reached has had its say. */
static void fail(struct pop_visit *v, enum failure_cause cause, char *text)
{
	static struct hosts hosts;
	bool may_go_on = cause == FAILURE_CONNECT || cause == FAILURE_LOST;

	if (may_go_on && hosts_decode((struct slice){ v->hosts, v->hosts_len }, &hosts) &&
	    v->host_index + 1 < hosts.count) {
		close_connection(v);
		v->host_index++;
		connect_host(v);
	} else {
		tell(v, cause, text);
		leave(v);
	}
	free(text);
}

void pop_visit_end_all(struct worker *w, bool must_tell)
{
	while (w->visits) {
		if (must_tell)
			tell(w->visits, FAILURE_LOCAL, "POP before SMTP: the process that began it has to end");
		leave(w->visits);
	}
}

/* --- the conversation --- */

static void run(struct pop_visit *v);

static void write_output(struct pop_visit *v)
{
	while (v->output.len > 0) {
		size_t done = 0;
		enum io_result result = transport_write(&v->io, v->output.ptr, v->output.len, &done);

		if (result == IO_AGAIN)
			return;
		if (result != IO_DONE) {
			pop_lost(&v->pop, false, result == IO_FAILED ? v->io.error : "");
			return;
		}
		buf_consume(&v->output, done);
	}
}

static void handshake(struct pop_visit *v)
{
	const char *why = "the server closed the connection";

	switch (transport_handshake(&v->io)) {
	case IO_AGAIN:
		transport_watch(&v->io, false);
		return;
	case IO_DONE:
		v->is_shaking_hands = false;
		if (v->server.is_tls_wrapper)
			pop_connected(&v->pop, true);
		else if (transport_is_ahead(&v->io))
			pop_input_left(&v->pop, true);
		else
			pop_secured(&v->pop);
		run(v);
		return;
	case IO_FAILED:
		why = v->io.error;
		break;
	case IO_CLOSED:
		break;
	}
	fail(v, FAILURE_TLS, xasprintf("POP before SMTP: handshake with %s failed: %s", v->peer, why));
}

static void begin_handshake(struct pop_visit *v)
{
	struct tls_target target = { v->host, tls_need(&v->server, HOST_DANE_NONE), "", { "", 0 } };

	v->is_shaking_hands = true;
	transport_start_tls(&v->io, v->w->pop_policy[v->index], &target);
	handshake(v);
}

static void end_visit(struct pop_visit *v)
{
	enum failure_cause cause = (enum failure_cause)v->pop.failure.cause;

	if (cause != FAILURE_NONE) {
		fail(v, cause, xstrdup(v->pop.failure.text ? v->pop.failure.text : ""));
		return;
	}
	log_debug("logged in at %s, POP before SMTP", v->peer);
	tell(v, FAILURE_NONE, "");
	leave(v);
}

static void run(struct pop_visit *v)
{
	for (;;) {
		switch (pop_next(&v->pop)) {
		case POP_SEND:
			buf_put_slice(&v->output, buf_slice(&v->pop.out));
			pop_sent(&v->pop);
			write_output(v);
			if (v->pop.state == POP_QUITTING)
				loop_timer_set_ms(v->timer, QUIT_MS);
			continue;
		case POP_START_TLS:
			begin_handshake(v);
			return;
		case POP_CLOSE:
			end_visit(v);
			return;
		case POP_NONE:
			transport_watch(&v->io, v->output.len > 0);
			return;
		}
	}
}

/* Hands over the whole lines of v->input, and keeps the rest. */
static void take_lines(struct pop_visit *v)
{
	size_t taken = 0;

	while (v->pop.state != POP_OVER && v->pop.state != POP_HANDSHAKE) {
		const char *start = v->input.ptr + taken;
		const char *end = memchr(start, '\n', v->input.len - taken);
		size_t len = end ? (size_t)(end - start) : 0;

		if (!end)
			break;
		taken += len + 1;
		pop_line(&v->pop, (struct slice){ start, len > 0 && start[len - 1] == '\r' ? len - 1 : len });
	}
	buf_consume(&v->input, taken);
	pop_input_left(&v->pop, v->input.len > 0);
	if (v->input.len > POP_LINE_MAX)
		pop_malformed(&v->pop, "it sends a line without end");
}

static void read_input(struct pop_visit *v)
{
	while (v->pop.state != POP_OVER && v->pop.state != POP_HANDSHAKE) {
		char *room = buf_reserve(&v->input, POP_LINE_MAX);
		size_t done = 0;
		enum io_result result;

		if (!room)
			BUG("POP input of more than %zu bytes", v->input.max);
		result = transport_read(&v->io, room, POP_LINE_MAX, &done);
		if (result == IO_AGAIN)
			return;
		if (result != IO_DONE) {
			pop_lost(&v->pop, false, result == IO_FAILED ? v->io.error : "");
			return;
		}
		v->input.len += done;
		take_lines(v);
	}
}

static void on_io(void *arg, int fd UNUSED, unsigned events)
{
	struct pop_visit *v = arg;

	if (v->is_shaking_hands) {
		handshake(v);
		return;
	}
	if (events & LOOP_READ || v->io.tls)
		read_input(v);
	if (v->pop.state != POP_OVER)
		write_output(v);
	run(v);
}

static void on_timer(void *arg)
{
	struct pop_visit *v = arg;

	if (v->has_pop && !v->is_shaking_hands) {
		pop_lost(&v->pop, true, "");
		run(v);
	} else {
		fail(v, v->is_shaking_hands ? FAILURE_TLS : FAILURE_CONNECT,
		     xasprintf("POP before SMTP: no connection with %s in time", v->peer ? v->peer : v->host));
	}
}

/* --- connecting --- */

static enum engine_tls stls_level(const struct pop_visit *v)
{
	if (v->server.tls == TLS_NONE || v->server.is_tls_wrapper)
		return ENGINE_TLS_NEVER;
	return v->server.tls == TLS_OPPORTUNISTIC ? ENGINE_TLS_MAY : ENGINE_TLS_MUST;
}

static void begin_pop(struct pop_visit *v)
{
	static char automatic[] = "auto", *words[] = { automatic };
	static const struct conf_list AUTO = { 1, words };
	bool may_be_clear = v->server.tls == TLS_NONE || v->server.may_auth_without_tls;
	struct sasl_account *account = v->w->pop_account[v->index];

	v->login = login_new(account, &AUTO, may_be_clear);
	pop_init(&v->pop, v->peer, stls_level(v), account, v->login, may_be_clear);
	v->has_pop = true;
}

static void on_dial(void *arg, const struct dial_end *end)
{
	struct pop_visit *v = arg;
	struct buf address;

	buf_init(&address, INET6_ADDRSTRLEN + 1);
	if (end->address)
		host_address_format(&address, end->address);
	free(v->peer);
	v->peer = xasprintf("%s[%s]:%u", v->host, end->address ? buf_text(&address) : "none", v->server.port);
	buf_release(&address);
	if (end->fd < 0) {
		fail(v, end->is_local ? FAILURE_LOCAL : FAILURE_CONNECT,
		     xasprintf("POP before SMTP: connect to %s: %s", v->peer, end->error));
		return;
	}
	transport_open(&v->io, v->w->loop, end->fd, on_io, v);
	dial_free(&v->dial);
	loop_timer_set_ms(v->timer, VISIT_TIMEOUTS * v->server.timeout_ms);
	begin_pop(v);
	if (v->server.is_tls_wrapper)
		begin_handshake(v);
	else
		pop_connected(&v->pop, false);
}

static void connect_host(struct pop_visit *v)
{
	static struct hosts hosts;

	if (!hosts_decode((struct slice){ v->hosts, v->hosts_len }, &hosts) || v->host_index >= hosts.count)
		BUG("the host list of a POP3 server does not decode again");
	free(v->host);
	v->host = xstrdup(hosts.host[v->host_index].name);
	buf_init(&v->input, 3 * POP_LINE_MAX);
	buf_init(&v->output, 3 * POP_LINE_MAX);
	/* The seed chooses among source addresses: all of this server's connections have the same. */
	v->dial = dial_new(v->w->loop, &hosts.host[v->host_index], &v->server, 0, on_dial, v);
	loop_timer_set_ms(v->timer, HOST_ADDRESSES_MAX * v->server.connect_timeout_ms);
}

static const char *what_is_missing(const struct pop_visit *v)
{
	if (!v->w->pop_account[v->index])
		return "POP before SMTP: the password of this account could not be read";
	if (v->server.tls != TLS_NONE && !v->w->pop_policy[v->index])
		return "POP before SMTP: the certificates for this server could not be loaded";
	return NULL;
}

bool pop_visit_begin(struct worker *w, const struct msg_pop_login *m)
{
	static struct hosts hosts;
	struct pop_visit *v;
	const char *missing;
	int index = conf_find_server_key(w->conf, m->server);

	if (index < 0 || !w->conf->server[index].pop.is_set)
		return true; /* our configuration is another than the scheduler's: one of us is about to be replaced */
	if (!hosts_decode(m->hosts, &hosts) || hosts.count == 0)
		return false;
	v = xcalloc(1, sizeof(*v));
	v->w = w;
	v->server = pop_visit_server(&w->conf->server[index]);
	v->request = m->request;
	v->index = (uint16_t)index;
	v->hosts = xstrndup(m->hosts.ptr, m->hosts.len);
	v->hosts_len = m->hosts.len;
	v->timer = loop_timer_new(w->loop, on_timer, v);
	v->next = w->visits;
	w->visits = v;
	missing = what_is_missing(v);
	if (w->is_draining) {
		pop_visit_end_all(w, true);
	} else if (missing) {
		tell(v, FAILURE_AUTH, missing);
		leave(v);
	} else {
		connect_host(v);
	}
	return true;
}
