/* session.c - one session: hosts in order, the connection, the engine's actions, the end. */
#include "smtpout/session.h"
#include "lib/hosts.h"
#include "lib/log.h"
#include "smtpout/session_impl.h"
#include <arpa/inet.h>

static void connect_host(struct session *s);
static void run(struct session *s);

/* --- texts --- */

static void set_text(char **slot, char *taken)
{
	free(*slot);
	*slot = taken;
}

static void name_peer(struct session *s, const struct host_address *a)
{
	struct buf address;

	buf_init(&address, INET6_ADDRSTRLEN + 1);
	if (a)
		host_address_format(&address, a);
	set_text(&s->peer, xasprintf("%s[%s]", s->host, a ? buf_text(&address) : "none"));
	set_text(&s->relay, a ? xasprintf("%s:%u", s->peer, s->server->port) : xstrdup("none"));
	buf_release(&address);
}

/* --- the end --- */

static void free_session(void *arg)
{
	struct session *s = arg;

	loop_timer_free(&s->timer);
	reply_parser_release(&s->parser);
	buf_release(&s->input);
	buf_release(&s->output);
	if (s->has_engine)
		engine_release(&s->engine);
	login_free(&s->login);
	free(s->failure.text);
	free(s->hosts);
	free(s->host);
	free(s->peer);
	free(s->relay);
	free(s);
}

static void close_connection(struct session *s)
{
	dial_free(&s->dial);
	transport_close(&s->io);
	s->is_shaking_hands = false;
	s->sending = NULL;
	body_release(&s->body);
	buf_release(&s->output);
	buf_release(&s->input);
	reply_parser_release(&s->parser);
	s->output_since_ms = s->envelope_since_ms = 0;
}

static void session_down(struct session *s, const struct engine_outcome *why)
{
	struct channel *ch = report_book_channel(s->w->book);
	struct msg_head head = channel_head(ch);
	struct packet p;
	struct msg_session_down m = {
		.session = s->id,
		.server = conf_server_key(s->server),
		.cause = why->cause,
		.code = why->code,
		.dsn = slice_of(why->dsn),
		.text = slice_of(why->text ? why->text : ""),
		.relay = slice_of(s->relay ? s->relay : "none"),
		.broken_flight = s->has_engine && s->engine.is_flight_broken,
		.is_outdated = why->cause == FAILURE_AUTH && s->login && s->login->is_outdated(s->login),
	};

	close_connection(s);
	loop_timer_cancel(s->timer); /* it may have run out in this very turn */
	session_hand_back(s);
	msg_encode_session_down(&p, &head, &m);
	report_book_send(s->w->book, &p);
	table_remove(&s->w->sessions, &s->node);
	s->is_dead = true;
	loop_defer(s->w->loop, free_session, s);
}

/* Refused in the greeting, or the host is ourselves. */
static bool is_for_good(const struct engine_outcome *why)
{
	return why->cause == FAILURE_GREETING && (why->code >= 500 || (why->code == 0 && why->dsn[0] == '5'));
}

/* Of several hosts' failures the last counts, but one for good never hides one that may pass. */
static void remember_failure(struct session *s, const struct engine_outcome *why)
{
	if (s->failure.text && is_for_good(why) && !is_for_good(&s->failure))
		return;
	free(s->failure.text);
	s->failure = *why;
	s->failure.text = xstrdup(why->text ? why->text : "");
}

/* The connection to this host is over before mail could go: the next host, or the end. */
static void next_host(struct session *s, const struct engine_outcome *why)
{
	remember_failure(s, why);
	close_connection(s);
	s->is_clear_only = false;
	if (++s->host_index < s->host_count && (!s->is_hanging_up || s->next_up))
		connect_host(s);
	else
		session_down(s, &s->failure);
}

static void connection_over(struct session *s)
{
	if (s->was_up || s->engine.failure.cause == FAILURE_NONE)
		session_down(s, &s->engine.failure);
	else
		next_host(s, &s->engine.failure);
}

static void fail_connection(struct session *s, enum failure_cause cause, const char *dsn, char *text_taken)
{
	struct engine_outcome why = { .cause = (uint8_t)cause, .text = text_taken };

	snprintf(why.dsn, sizeof(why.dsn), "%s", dsn);
	next_host(s, &why);
	free(text_taken);
}

/* --- deadlines --- */

static void arm(struct session *s, int64_t now)
{
	int64_t deadline = session_deadline(s);

	if (deadline == 0 || (s->armed_ms > 0 && s->armed_ms <= deadline))
		return;
	s->armed_ms = deadline;
	loop_timer_set_ms(s->timer, deadline > now ? (uint64_t)(deadline - now) : 0);
}

static void tls_failed(struct session *s, const char *why);

static void on_timer(void *arg)
{
	struct session *s = arg;
	int64_t now = clock_mono().ms, deadline = session_deadline(s);

	s->armed_ms = 0;
	if (deadline == 0 || now < deadline) {
		arm(s, now);
		return;
	}
	if (s->is_shaking_hands) {
		tls_failed(s, "the handshake timed out");
		return;
	}
	engine_lost(&s->engine, true, "");
	run(s);
}

/* --- TLS --- */

static bool is_wrapper(const struct session *s)
{
	return s->server->is_tls_wrapper;
}

/*
 * Opportunistic: the same host again, in clear. Never where a password would follow it, and not where TLS is spoken
 * from the first byte.
 */
static void tls_failed(struct session *s, const char *why)
{
	char *text = xasprintf("Cannot start TLS: handshake with %s failed: %s", s->peer, why);

	if (s->need == TLS_NEED_MAY && !is_wrapper(s) && !s->server->username && !s->is_clear_only) {
		log_info("%s; trying without", text);
		free(text);
		close_connection(s);
		s->is_clear_only = true;
		connect_host(s);
		return;
	}
	fail_connection(s, FAILURE_TLS, "4.7.5", text);
}

static void handshake(struct session *s)
{
	switch (transport_handshake(&s->io)) {
	case IO_AGAIN:
		transport_watch(&s->io, false);
		arm(s, clock_mono().ms);
		return;
	case IO_DONE:
		break;
	case IO_CLOSED:
		tls_failed(s, "the server closed the connection");
		return;
	case IO_FAILED:
		tls_failed(s, s->io.error);
		return;
	}
	s->is_shaking_hands = false;
	s->since_ms = clock_mono().ms;
	if (is_wrapper(s))
		engine_connected(&s->engine, true);
	else if (transport_is_ahead(&s->io))
		engine_input_left(&s->engine, true);
	else
		engine_secured(&s->engine);
	run(s);
}

/* The hosts as they came. One list for all: 14 KiB that no session needs to keep. Valid until somebody calls it again.
 */
static const struct hosts *hosts_of(const struct session *s)
{
	static struct hosts hosts;

	if (!hosts_decode((struct slice){ s->hosts, s->hosts_len }, &hosts) || s->host_index >= hosts.count)
		BUG("the host list of session %u does not decode again", s->id);
	return &hosts;
}

static void begin_handshake(struct session *s)
{
	const struct hosts *hosts = hosts_of(s);
	const struct host *host = &hosts->host[s->host_index];
	struct tls_target target = { s->host, s->need, host->tlsa_base, hosts_tlsa(hosts, host) };

	s->is_shaking_hands = true;
	s->since_ms = clock_mono().ms;
	transport_start_tls(&s->io, s->w->policy[s->server_index], &target);
	handshake(s);
}

/* --- the engine's actions --- */

static void tell_up(struct session *s)
{
	struct msg_head head = channel_head(report_book_channel(s->w->book));
	struct packet p;
	struct msg_session_up m = {
		.session = s->id,
		.relay = slice_of(s->relay),
		.size_limit = s->engine.ehlo.size_limit_bytes,
		.rcpt_limit = s->engine.ehlo.rcpt_limit,
		.mail_limit = s->engine.ehlo.mail_limit,
		.domain_limit = s->engine.ehlo.domain_limit,
	};

	s->was_up = true;
	s->had_other_hosts = s->host_count > 1;
	free(s->hosts); /* no other host will be tried */
	s->hosts = NULL;
	s->host_count = 0;
	msg_encode_session_up(&p, &head, &m);
	report_book_send(s->w->book, &p);
}

static void send_commands(struct session *s)
{
	if (engine_owed(&s->engine) == 0)
		s->since_ms = clock_mono().ms;
	session_write(s, s->engine.out.ptr, s->engine.out.len);
	engine_sent(&s->engine);
}

/* Returns false when the session changed hands: closed, shaking hands, or gone. */
static bool act(struct session *s, enum engine_action action, struct engine_mail *mail)
{
	switch (action) {
	case ENGINE_MAIL_DONE:
		session_finish(s, mail->owner);
		return true;
	case ENGINE_UP:
		if (!session_leave_for_another(s))
			tell_up(s);
		return true;
	case ENGINE_SEND:
		send_commands(s);
		return true;
	case ENGINE_BODY:
		session_begin_body(s, mail->owner);
		return true;
	case ENGINE_START_TLS:
		begin_handshake(s);
		return false;
	case ENGINE_CLOSE:
		connection_over(s);
		return false;
	case ENGINE_NONE:
		break;
	}
	return false;
}

/* What the deadlines are counted from, and which readiness matters. */
static void settle_down(struct session *s)
{
	const struct engine_mail *m = s->engine.mail[0];
	bool has_output = session_has_output(s);
	int64_t now = clock_mono().ms;

	if (!has_output && s->output_since_ms > 0) {
		s->output_since_ms = 0;
		s->since_ms = now; /* the reply's time begins when all is written */
	} else if (has_output && s->output_since_ms == 0) {
		s->output_since_ms = now;
		s->output_bytes = 0;
	}
	if (!m || m->stage != MAIL_ENVELOPE)
		s->envelope_since_ms = 0;
	else if (s->envelope_since_ms == 0 || s->envelope_of != m)
		s->envelope_since_ms = now;
	s->envelope_of = m;
	transport_watch(&s->io, has_output);
	arm(s, now);
}

/* Takes the engine's actions until there is none, then sets the deadline. */
static void run(struct session *s)
{
	struct engine_mail *mail;
	enum engine_action action;

	for (;;) {
		session_feed(s);
		if (s->is_hanging_up && !s->next_up && s->engine.state == ENGINE_READY)
			engine_hang_up(&s->engine);
		action = engine_next(&s->engine, &mail);
		if (action == ENGINE_NONE) {
			settle_down(s);
			return;
		}
		if (!act(s, action, mail))
			return;
	}
}

static void on_io(void *arg, int fd UNUSED, unsigned events)
{
	struct session *s = arg;

	if (s->is_shaking_hands) {
		handshake(s);
		return;
	}
	if (events & LOOP_READ || s->io.tls)
		session_read(s);
	if (session_has_output(s) && s->engine.state != ENGINE_OVER)
		session_push_output(s);
	run(s);
}

/* --- connecting --- */

static enum engine_tls starttls_level(const struct session *s)
{
	if (s->need == TLS_NEED_NONE || s->is_clear_only || is_wrapper(s))
		return ENGINE_TLS_NEVER;
	return s->need == TLS_NEED_MAY ? ENGINE_TLS_MAY : ENGINE_TLS_MUST;
}

/* Each connection logs in anew. */
static void prepare_login(struct session *s)
{
	const struct conf_server *server = s->server;

	login_free(&s->login);
	if (!s->w->account[s->server_index])
		return;
	s->login = login_new(s->w->account[s->server_index], &server->auth, server->may_auth_without_tls);
	s->engine.login = s->login;
}

static void on_dial(void *arg, const struct dial_end *end)
{
	struct session *s = arg;

	name_peer(s, end->address);
	if (end->fd < 0) {
		char *text = end->address ? xasprintf("connect to %s: %s", s->relay, end->error)
					  : xasprintf("connect to %s: %s", s->host, end->error);

		fail_connection(s, end->is_local ? FAILURE_LOCAL : FAILURE_CONNECT, "4.4.1", text);
		return;
	}
	transport_open(&s->io, s->w->loop, end->fd, on_io, s);
	dial_free(&s->dial);
	if (s->has_engine)
		engine_release(&s->engine);
	engine_init(&s->engine, s->w->conf->hostname, s->peer, starttls_level(s));
	s->engine.is_relay = s->server->method == METHOD_RELAY;
	s->engine.is_stepwise = s->is_stepwise;
	prepare_login(s);
	s->has_engine = true;
	reply_parser_init(&s->parser);
	s->since_ms = s->connected_ms = clock_mono().ms;
	if (is_wrapper(s)) {
		begin_handshake(s);
		return;
	}
	engine_connected(&s->engine, false);
	run(s);
}

static void connect_host(struct session *s)
{
	const struct host *host = &hosts_of(s)->host[s->host_index];

	set_text(&s->host, xstrdup(host->name));
	s->need = tls_need_at(s->server, s->level, host);
	if (s->need == TLS_NEED_DENIED) {
		char *text = xasprintf("TLS with DANE is required, but host %s cannot be authenticated: %s", s->host,
				       tls_need_why(host));

		set_text(&s->relay, xstrdup("none"));
		fail_connection(s, FAILURE_TLS, "4.7.5", text);
		return;
	}
	/* The seed chooses among source addresses: POP before SMTP opens the way for one. */
	s->dial = dial_new(s->w->loop, host, s->server, s->server->pop.is_set ? 0 : s->id, on_dial, s);
}

/* What this process lacks to begin at all. */
static bool refuse_at_once(struct session *s)
{
	const struct worker *w = s->w;
	struct engine_outcome why = { 0 };

	if (w->is_draining || w->sessions.count > WORKER_SESSIONS_MAX)
		why = (struct engine_outcome){ .cause = FAILURE_LOCAL,
					       .dsn = "4.3.2",
					       .text = (char *)"this process takes no more sessions" };
	else if (!w->policy[s->server_index] && s->level != TLS_NONE)
		why = (struct engine_outcome){ .cause = FAILURE_TLS,
					       .dsn = "4.7.5",
					       .text = (char *)"the certificates of this server could not be loaded" };
	else if (!w->account[s->server_index] && s->server->username)
		why = (struct engine_outcome){
			.cause = FAILURE_AUTH,
			.dsn = "4.7.0",
			.text = (char *)(s->server->oauth2.is_set
						 ? "no access token has been fetched for this server yet"
						 : "the password of this server could not be read")
		};
	if (why.cause == FAILURE_NONE)
		return false;
	session_down(s, &why);
	return true;
}

/* TLS from the first byte leaves no choice whether. */
static enum conf_tls level_of(const struct conf_server *server, uint8_t destination)
{
	enum conf_tls level = destination < TLS_UNSET ? (enum conf_tls)destination : server->tls;

	return server->is_tls_wrapper && level < TLS_REQUIRE ? TLS_REQUIRE : level;
}

/* Our configuration is older or newer than the scheduler's: one of us is about to be replaced. */
static void refuse_unknown_server(struct worker *w, const struct msg_connect *m)
{
	struct msg_head head = channel_head(report_book_channel(w->book));
	struct packet p;
	struct msg_session_down down = {
		.session = m->session,
		.server = m->server,
		.cause = FAILURE_LOCAL,
		.dsn = slice_of("4.3.2"),
		.text = slice_of("this process has a configuration without that server"),
		.relay = slice_of("none"),
	};

	msg_encode_session_down(&p, &head, &down);
	report_book_send(w->book, &p);
}

bool session_open(struct worker *w, const struct msg_connect *m)
{
	static struct hosts hosts;
	int server = conf_find_server_key(w->conf, m->server);
	struct session *s;

	if (!hosts_decode(m->hosts, &hosts) || hosts.count == 0 || session_find(w, m->session))
		return false;
	if (server < 0) {
		refuse_unknown_server(w, m);
		return true;
	}
	s = xcalloc(1, sizeof(*s));
	s->w = w;
	s->id = m->session;
	s->server_index = (uint16_t)server;
	s->server = &w->conf->server[server];
	s->level = level_of(s->server, m->tls);
	s->is_stepwise = m->stepwise;
	s->destination = m->destination;
	s->site = m->site;
	s->host_count = hosts.count;
	s->hosts = xstrndup(m->hosts.ptr, m->hosts.len);
	s->hosts_len = m->hosts.len;
	s->relay = xstrdup("none");
	buf_init(&s->input, WORKER_INPUT_BYTES);
	s->timer = loop_timer_new(w->loop, on_timer, s);
	table_add(&w->sessions, &s->node, s->id);
	if (!refuse_at_once(s))
		connect_host(s);
	return true;
}

struct session *session_of_node(struct table_node *node)
{
	return TABLE_OBJECT(node, struct session, node);
}

struct session *session_find(struct worker *w, uint32_t id)
{
	for (struct table_node *n = table_first(&w->sessions, id); n; n = table_next(n)) {
		if (session_of_node(n)->id == id)
			return session_of_node(n);
	}
	return NULL;
}

void session_wake(struct session *s)
{
	if (!s->is_dead && s->engine.state == ENGINE_READY && s->io.is_open && !s->is_shaking_hands)
		run(s);
}

void session_hang_up(struct session *s)
{
	s->is_hanging_up = true;
	if (!s->was_up && !s->next_up) {
		session_down(s, &(struct engine_outcome){ .cause = FAILURE_NONE });
		return;
	}
	session_wake(s);
}

void session_drain(struct session *s)
{
	session_hand_back(s);
	session_hang_up(s);
}
