/* probe_smtp.c - SMTP with one host: smtpout's engine says what, this file shows what is said. */
#include "lib/text.h"
#include "smtpout/engine.h"
#include "tools/probe.h"

enum { INPUT_MAX = 128 * 1024 };

struct talk {
	struct probe *p;
	const struct host *host;
	enum tls_need need;
	char *peer;
	struct probe_stream stream;
	struct engine engine;
	struct login *login;
	struct reply_parser parser;
	struct engine_mail mail;
	struct slice rcpt;
	struct buf input;
	int64_t since_ms;   /* the command now waited for was sent */
	char mechanism[24]; /* of the AUTH under way */
	bool is_clear_only, was_up, is_done, is_told, wants_clear;
};

/* How each of the engine's steps is called here, and where hints look for it. */
static const struct {
	const char *name;
	enum hint_step hint;
} SHOWN[] = {
	[STEP_BANNER] = { "banner", HINT_GREETING }, [STEP_EHLO] = { "EHLO", HINT_GREETING },
	[STEP_HELO] = { "HELO", HINT_GREETING },     [STEP_STARTTLS] = { "STARTTLS", HINT_TLS },
	[STEP_AUTH] = { "login", HINT_LOGIN },       [STEP_MAIL] = { "MAIL FROM", HINT_MAIL },
	[STEP_RCPT] = { "RCPT TO", HINT_RCPT },      [STEP_DATA] = { "DATA", HINT_DATA },
	[STEP_DOT] = { "message", HINT_DATA },       [STEP_EMPTY_DOT] = { "message", HINT_DATA },
	[STEP_RSET] = { "RSET", HINT_DATA },         [STEP_QUIT] = { "QUIT", HINT_DATA },
	[STEP_COUNT] = { "SMTP", HINT_GREETING },
};
_Static_assert(ARRAY_LEN(SHOWN) == STEP_COUNT + 1, "a step that is not shown");

/* --- what is said */

/* A failure's row, once per connection. */
static void fail(struct talk *t, enum engine_step step, const struct engine_outcome *o, const char *words)
{
	struct probe_end why = { SHOWN[step].hint, (enum failure_cause)o->cause, o->code, "", NULL };

	/* What fails for want of TLS or login is of that kind, whatever was said when it turned out. */
	if (o->cause == FAILURE_TLS)
		why.step = HINT_TLS;
	else if (o->cause == FAILURE_AUTH && why.step < HINT_MAIL)
		why.step = HINT_LOGIN;
	(void)snprintf(why.dsn, sizeof(why.dsn), "%s", o->dsn);
	why.words = xstrdup(words);
	probe_fail(t->p, &why, SHOWN[step].name, clock_mono().ms - t->since_ms, t->host->name, t->p->server->port,
		   t->engine.is_secure);
	free(why.words);
	t->is_told = true;
}

/* The server's words; behind EHLO the extensions in a list. */
static char *put_words(struct talk *t, enum engine_step step, const struct reply *r)
{
	struct buf words;
	char *text;

	buf_init(&words, REPLY_BYTES_MAX + 2 * REPLY_LINES_MAX + 64);
	if (step == STEP_AUTH)
		buf_printf(&words, "%s as %s: ", t->mechanism, t->p->server->username);
	buf_printf(&words, "%u ", r->code);
	for (size_t i = 0, line = 0; i < r->text.len; i++) {
		if (r->text.ptr[i] == '\n')
			buf_put_str(&words, step != STEP_EHLO ? " / " : line++ == 0 ? "; offers " : ", ");
		else
			buf_put_char(&words, r->text.ptr[i]);
	}
	text = buf_detach(&words);
	if (step == STEP_AUTH && t->login)
		t->login->mask(t->login, text);
	return text;
}

static void show_reply(struct talk *t, enum engine_step step, const struct reply *r, char *words)
{
	const struct engine_mail *m = &t->mail;
	const struct engine_outcome *o = m->outcome_count > 0 ? &m->outcome[m->outcome_count - 1] : NULL;
	bool is_challenge = step == STEP_AUTH && r->code == 334;

	if (t->engine.state == ENGINE_OVER && t->engine.failure.cause != FAILURE_NONE)
		fail(t, step, &t->engine.failure, r->code >= 400 ? words : t->engine.failure.text);
	else if (r->code >= 400 && o && step >= STEP_MAIL && step <= STEP_EMPTY_DOT)
		fail(t, step, o, words);
	else if (!is_challenge)
		steps_put(&t->p->steps, r->code >= 400 ? STEP_FAILED : STEP_OK, SHOWN[step].name,
			  clock_mono().ms - t->since_ms, words);
	if (!is_challenge)
		t->since_ms = clock_mono().ms;
}

/* All whole replies that have come. */
static void take_replies(struct talk *t)
{
	while (t->engine.state != ENGINE_OVER) {
		enum engine_step step = engine_step(&t->engine);
		struct reply reply;
		size_t used;
		enum reply_result result = reply_parse(&t->parser, buf_slice(&t->input), &used, &reply);

		if (result == REPLY_MALFORMED)
			engine_malformed(&t->engine, t->parser.why);
		if (result == REPLY_DONE) {
			char *words = put_words(t, step, &reply);

			engine_reply(&t->engine, &reply);
			show_reply(t, step, &reply, words);
			free(words);
		}
		buf_consume(&t->input, used);
		if (result != REPLY_DONE)
			break;
	}
	engine_input_left(&t->engine, t->input.len > 0 || !reply_parser_is_idle(&t->parser));
}

/* --- what is done */

static void lost(struct talk *t, enum probe_result result)
{
	engine_lost(&t->engine, result == PROBE_TIMED_OUT, result == PROBE_FAILED ? t->stream.error : "");
}

static int64_t deadline(const struct talk *t)
{
	int64_t wait = probe_wait_ms(t->p->server);

	return clock_mono().ms + (engine_wait(&t->engine) == ENGINE_WAIT_DOT ? 2 * wait : wait);
}

static void wait_for_replies(struct talk *t)
{
	enum probe_result result = probe_stream_read(&t->stream, &t->input, deadline(t));

	if (result == PROBE_OK)
		take_replies(t);
	else
		lost(t, result);
}

static void send_bytes(struct talk *t, struct slice bytes)
{
	enum probe_result result = probe_stream_write(&t->stream, bytes, deadline(t));

	if (result != PROBE_OK && t->engine.state != ENGINE_OVER) {
		/* A refusal may have come before the end: it says more. */
		if (probe_stream_read(&t->stream, &t->input, clock_mono().ms) == PROBE_OK)
			take_replies(t);
		lost(t, result);
	}
}

static void send_commands(struct talk *t)
{
	struct slice out = buf_slice(&t->engine.out);

	if (out.len > 5 && strncmp(out.ptr, "AUTH ", 5) == 0)
		(void)snprintf(t->mechanism, sizeof(t->mechanism), "%.*s", (int)strcspn(out.ptr + 5, " \r\n"),
			       out.ptr + 5);
	send_bytes(t, out);
	engine_sent(&t->engine); /* also when it is over: a last QUIT is not answered */
}

static void send_letter(struct talk *t)
{
	struct body body;
	struct buf out;

	buf_init(&out, BODY_OUT_MAX + 64 * 1024);
	body_init(&body, t->p->letter_fd, 0, t->mail.size_bytes, false);
	if (body_fill(&body, &out) != BODY_LAST) {
		engine_broken_here(&t->engine, "the test message cannot be read");
	} else {
		engine_dot_sent(&t->engine);
		buf_put_slice(&out, buf_slice(&t->engine.out));
		engine_sent(&t->engine);
		send_bytes(t, buf_slice(&out));
	}
	buf_release(&out);
}

static bool may_be_clear(const struct talk *t)
{
	const struct conf_server *server = t->p->server;

	return t->need == TLS_NEED_MAY && !server->is_tls_wrapper && !server->username;
}

/* False: it failed, and was told. */
static bool start_tls(struct talk *t)
{
	const struct host *h = t->host;
	struct tls_target target = { h->name, t->need, h->tlsa_base, hosts_tlsa(&t->p->hosts, h) };

	if (probe_start_tls(t->p, &t->stream, t->p->server, t->p->policy, &target, HINT_TLS, may_be_clear(t))) {
		t->since_ms = clock_mono().ms;
		return true;
	}
	t->is_told = true;
	t->wants_clear = may_be_clear(t);
	return false;
}

static void take_mail(struct talk *t)
{
	t->was_up = true;
	t->since_ms = clock_mono().ms;
	engine_take_mail(&t->engine, &t->mail);
}

static void mail_done(struct talk *t)
{
	const struct engine_outcome *o = &t->mail.outcome[t->mail.rcpt_outcome[0] - 1];

	t->is_done = o->verdict == VERDICT_DELIVERED;
	if (!t->is_done && !t->is_told && t->engine.state != ENGINE_OVER)
		fail(t, STEP_MAIL, o, o->text);
	engine_hang_up(&t->engine);
}

/* False: the conversation is over. */
static bool act(struct talk *t, enum engine_action action)
{
	switch (action) {
	case ENGINE_MAIL_DONE:
		mail_done(t);
		return true;
	case ENGINE_UP:
		take_mail(t);
		return true;
	case ENGINE_SEND:
		send_commands(t);
		return true;
	case ENGINE_BODY:
		send_letter(t);
		return true;
	case ENGINE_START_TLS:
		if (!start_tls(t))
			return false;
		if (transport_is_ahead(&t->stream.io))
			engine_input_left(&t->engine, true);
		else
			engine_secured(&t->engine);
		return true;
	case ENGINE_CLOSE:
		return false;
	case ENGINE_NONE:
		wait_for_replies(t);
		return true;
	}
	return false;
}

static void converse(struct talk *t)
{
	struct engine_mail *mail;
	enum engine_step step = STEP_BANNER;

	if (t->p->server->is_tls_wrapper && !start_tls(t))
		return;
	engine_connected(&t->engine, t->p->server->is_tls_wrapper);
	do {
		if (engine_step(&t->engine) != STEP_COUNT)
			step = engine_step(&t->engine);
	} while (act(t, engine_next(&t->engine, &mail)));
	if (!t->is_told && t->engine.failure.cause != FAILURE_NONE) {
		struct engine_outcome o = t->engine.failure;

		if (step >= STEP_DOT && step <= STEP_EMPTY_DOT && o.cause == FAILURE_LOST)
			o.cause = FAILURE_UNKNOWN;
		fail(t, step, &o, o.text);
	}
}

/* --- one connection */

static enum engine_tls starttls_level(const struct talk *t)
{
	if (t->need == TLS_NEED_NONE || t->is_clear_only || t->p->server->is_tls_wrapper)
		return ENGINE_TLS_NEVER;
	return t->need == TLS_NEED_MAY ? ENGINE_TLS_MAY : ENGINE_TLS_MUST;
}

static void begin(struct talk *t, struct probe *p, int fd)
{
	const struct conf_server *server = p->server;
	bool is_ascii = text_is_ascii(slice_of(p->sender)) && text_is_ascii(slice_of(p->rcpt));

	t->stream.loop = p->loop;
	probe_stream_open(&t->stream, fd);
	buf_init(&t->input, INPUT_MAX);
	reply_parser_init(&t->parser);
	engine_init(&t->engine, p->conf->hostname, t->peer, starttls_level(t));
	t->engine.is_relay = server->method == METHOD_RELAY;
	t->engine.is_stepwise = true;
	t->engine.is_rehearsal = p->is_rehearsal;
	if (p->account)
		t->engine.login = t->login = login_new(p->account, &server->auth, server->may_auth_without_tls);
	t->rcpt = slice_of(p->rcpt);
	t->mail = (struct engine_mail){ .sender = slice_of(p->sender), .rcpt = &t->rcpt, .rcpt_count = 1 };
	t->mail.is_8bit = t->mail.is_utf8 = !is_ascii;
	t->mail.size_bytes = p->letter_bytes;
	t->since_ms = clock_mono().ms;
}

static void end(struct talk *t)
{
	probe_stream_close(&t->stream);
	login_free(&t->login);
	reply_parser_release(&t->parser);
	engine_mail_release(&t->mail);
	engine_release(&t->engine);
	buf_release(&t->input);
	free(t->peer);
	t->peer = NULL;
}

static bool talk_once(struct probe *p, const struct host *host, bool is_clear_only, bool *wants_clear, bool *may_go_on)
{
	struct talk *t = xcalloc(1, sizeof(*t));
	struct host_address address;
	int fd = probe_connect(p, p->server, HINT_CONNECT, host, &address);
	bool is_done = false;

	*may_go_on = true;
	if (fd >= 0) {
		t->p = p;
		t->host = host;
		t->is_clear_only = is_clear_only;
		t->need = tls_need_at(p->server, p->tls, host);
		t->peer = probe_peer(host, &address);
		begin(t, p, fd);
		converse(t);
		is_done = t->is_done;
		*may_go_on = !t->was_up;
		*wants_clear = t->wants_clear;
		end(t);
	}
	free(t);
	return is_done;
}

bool probe_smtp(struct probe *p, const struct host *host, bool *may_go_on)
{
	bool wants_clear = false, is_done;

	p->is_bound = tls_need_at(p->server, p->tls, host) == TLS_NEED_STS;
	if (tls_need_at(p->server, p->tls, host) == TLS_NEED_DENIED) {
		struct probe_end why = { HINT_TLS, FAILURE_TLS, 0, "", NULL };

		why.words = xasprintf("TLS with DANE is required, but host %s cannot be authenticated: %s", host->name,
				      tls_need_why(host));
		probe_fail(p, &why, "TLS", -1, host->name, p->server->port, false);
		free(why.words);
		*may_go_on = true;
		return false;
	}
	is_done = talk_once(p, host, false, &wants_clear, may_go_on);
	if (!wants_clear)
		return is_done;
	steps_put(&p->steps, STEP_ADVICE, "TLS", -1,
		  "opportunistic: mail would go there in clear, and so does this test; set tls = require when it must "
		  "not");
	return talk_once(p, host, true, &wants_clear, may_go_on);
}
