/* engine_states.c - the table of SMTP steps and what each reply means. Handlers come in the order of a session. */
#include "smtpout/engine_impl.h"

static bool is_accepting(const struct reply *r)
{
	return r->code >= 250 && r->code <= 259;
}

static bool is_refusing(const struct reply *r)
{
	return r->code >= 400;
}

/* Refused before any mail could go: the session is over, the next host may do better. */
static void end_refused(struct engine *e, enum engine_step step, const struct reply *r, enum failure_cause cause)
{
	char *text = engine_said(e, step, r);

	engine_end_politely(e, cause, r->code, engine_reply_dsn(r), text);
	free(text);
}

/* "220 NAME ...": an MX host with our own name is us. A server that was configured may well have it, on another port.
 */
static bool is_ourselves(const struct engine *e, const struct reply *r)
{
	size_t len = 0;

	while (len < r->text.len && r->text.ptr[len] != ' ' && r->text.ptr[len] != '\n')
		len++;
	return slice_equal_nocase((struct slice){ r->text.ptr, len }, slice_of(e->hostname));
}

static void reply_banner(struct engine *e, const struct reply *r)
{
	if (r->code / 100 == 2 && !e->is_relay && is_ourselves(e, r)) {
		char *text = xasprintf("mail loops back to ourselves: host %s greets with our own name %s", e->peer,
				       e->hostname);

		engine_leave(e, FAILURE_GREETING, "5.4.6", text);
		free(text);
	} else if (r->code / 100 == 2) {
		engine_send_hello(e);
	} else if (is_refusing(r)) {
		end_refused(e, STEP_BANNER, r, FAILURE_GREETING);
	} else {
		engine_end_protocol(e, STEP_BANNER, r, "is no greeting");
	}
}

static void be_ready(struct engine *e)
{
	engine_set_state(e, ENGINE_READY);
	e->is_up = true;
}

/* --- logging in, RFC 4954 --- */

/* No QUIT: the server may take it for an answer to its challenge, and count it as a wrong password. */
static void fail_login(struct engine *e, const char *why)
{
	char *text = xasprintf("cannot log in at %s: %s", e->peer, why);

	engine_end(e, FAILURE_AUTH, 0, "4.7.0", text);
	free(text);
}

static void begin_login(struct engine *e)
{
	const char *why = "";

	if (!(e->ehlo.features & EHLO_AUTH)) {
		fail_login(e, e->is_secure ? "it offers no login" : "it offers no login without TLS");
		return;
	}
	buf_put_str(&e->out, "AUTH ");
	if (e->login->begin(e->login, e->ehlo.auth, e->is_secure, &e->out, &why))
		engine_command(e, STEP_AUTH, "\r\n");
	else
		fail_login(e, why);
}

/* Greeted, and as encrypted as it will get. */
static void go_up(struct engine *e)
{
	if (e->login)
		begin_login(e);
	else
		be_ready(e);
}

static void answer_challenge(struct engine *e, const struct reply *r)
{
	const char *why = "";

	if (e->login->step(e->login, r->text, &e->out, &why))
		engine_command(e, STEP_AUTH, "\r\n");
	else
		fail_login(e, why);
}

static void reply_auth(struct engine *e, const struct reply *r)
{
	switch (r->code) {
	case 334:
		answer_challenge(e, r);
		break;
	case 235:
		if (e->login->is_complete(e->login))
			be_ready(e);
		else
			fail_login(e, "the server calls us logged in before it has proved to know the password");
		break;
	case 504: /* not this mechanism ... */
	case 534: /* ... for it is too weak ... */
	case 538: /* ... without TLS. The password was not judged: another one may do. */
		e->login->refused(e->login);
		begin_login(e);
		break;
	default:
		if (is_refusing(r))
			end_refused(e, STEP_AUTH, r, FAILURE_AUTH);
		else
			engine_end_protocol(e, STEP_AUTH, r, "does not answer AUTH");
	}
}

static void need_tls(struct engine *e, const char *why)
{
	char *text = xasprintf("TLS is required, but %s by host %s", why, e->peer);

	engine_end_politely(e, FAILURE_TLS, 0, "4.7.4", text);
	free(text);
}

static void reply_ehlo(struct engine *e, const struct reply *r)
{
	if (is_accepting(r)) {
		ehlo_parse(r->text, &e->ehlo);
		if (!e->is_secure && e->tls != ENGINE_TLS_NEVER && (e->ehlo.features & EHLO_STARTTLS))
			engine_command(e, STEP_STARTTLS, "STARTTLS\r\n");
		else if (!e->is_secure && e->tls == ENGINE_TLS_MUST)
			need_tls(e, "was not offered");
		else
			go_up(e);
	} else if (r->code >= 500) {
		e->may_say_ehlo = false;
		if (!e->is_secure && e->tls == ENGINE_TLS_MUST)
			need_tls(e, "EHLO was refused");
		else
			engine_send_hello(e);
	} else if (is_refusing(r)) {
		end_refused(e, STEP_EHLO, r, FAILURE_GREETING);
	} else {
		engine_end_protocol(e, STEP_EHLO, r, "does not answer EHLO");
	}
}

static void reply_helo(struct engine *e, const struct reply *r)
{
	if (is_accepting(r))
		go_up(e);
	else if (is_refusing(r))
		end_refused(e, STEP_HELO, r, FAILURE_GREETING);
	else
		engine_end_protocol(e, STEP_HELO, r, "does not answer HELO");
}

static void reply_starttls(struct engine *e, const struct reply *r)
{
	if (r->code == 220) {
		e->wants_tls = true;
		engine_set_state(e, ENGINE_HANDSHAKE);
	} else if (is_refusing(r) && e->tls == ENGINE_TLS_MAY && !e->login) {
		be_ready(e); /* opportunistic: what EHLO told in clear still holds */
	} else if (is_refusing(r)) {
		end_refused(e, STEP_STARTTLS, r, FAILURE_TLS);
	} else {
		engine_end_protocol(e, STEP_STARTTLS, r, "does not answer STARTTLS");
	}
}

static bool is_pipelining(const struct engine *e)
{
	return (e->ehlo.features & EHLO_PIPELINING) && !e->is_stepwise;
}

static void reply_mail(struct engine *e, const struct reply *r)
{
	struct engine_mail *m = e->mail[0];

	if (is_accepting(r)) {
		if (!is_pipelining(e))
			engine_send_rcpt(e, m);
		return;
	}
	if (!is_refusing(r)) {
		engine_end_protocol(e, STEP_MAIL, r, "does not answer MAIL FROM");
		return;
	}
	m->is_mail_refused = true;
	engine_settle_reply(e, m, STEP_MAIL, r);
	if (!is_pipelining(e))
		engine_mail_over(e, 0);
}

static void reply_rcpt(struct engine *e, const struct reply *r)
{
	struct engine_mail *m = e->mail[0];
	unsigned index = m->rcpt_answered++;

	if (m->is_mail_refused) /* 503 or whatever: MAIL's reply has decided */
		return;
	if (is_accepting(r)) {
		m->rcpt_accepted++;
		if (e->is_rehearsal)
			m->rcpt_outcome[index] = engine_reply_outcome(e, m, STEP_RCPT, r);
	} else if (is_refusing(r)) {
		m->rcpt_outcome[index] = engine_reply_outcome(e, m, STEP_RCPT, r);
	} else {
		m->rcpt_answered--;
		engine_end_protocol(e, STEP_RCPT, r, "does not answer RCPT TO");
		return;
	}
	if (is_pipelining(e))
		return;
	if (m->rcpt_answered < m->rcpt_count) {
		engine_send_rcpt(e, m);
	} else if (m->rcpt_accepted > 0 && !e->is_rehearsal) {
		engine_send_data(e);
	} else {
		e->needs_reset = true;
		engine_mail_over(e, 0);
	}
}

static void reply_data(struct engine *e, const struct reply *r)
{
	struct engine_mail *m = e->mail[0];

	if (is_refusing(r)) {
		engine_settle_reply(e, m, STEP_DATA, r);
		e->needs_reset = !m->is_mail_refused;
		engine_mail_over(e, 0);
	} else if (r->code != 354 || m->is_mail_refused) {
		/* 2yz to DATA: sending the body now would be read as commands */
		engine_end_protocol(e, STEP_DATA, r, "does not answer DATA");
	} else if (m->rcpt_accepted == 0) {
		engine_command(e, STEP_EMPTY_DOT, ".\r\n");
	} else {
		m->stage = MAIL_BODY;
		e->wants_body = true;
	}
}

static void reply_dot(struct engine *e, const struct reply *r)
{
	struct engine_mail *m = e->mail[0];

	if (!is_accepting(r) && !is_refusing(r)) {
		engine_end_protocol(e, STEP_DOT, r, "does not answer the end of data");
		return;
	}
	engine_settle_reply(e, m, STEP_DOT, r);
	engine_mail_over(e, 0);
}

static void reply_empty_dot(struct engine *e, const struct reply *r)
{
	engine_mail_over(e, 0);
	if (!is_accepting(r) && !is_refusing(r))
		engine_end_protocol(e, STEP_EMPTY_DOT, r, "does not answer the end of data");
}

static void reply_rset(struct engine *e, const struct reply *r)
{
	if (!is_accepting(r))
		end_refused(e, STEP_RSET, r, FAILURE_PROTOCOL);
}

static void reply_quit(struct engine *e, const struct reply *r)
{
	engine_end(e, FAILURE_NONE, 0, "", "");
}

const struct engine_step_def ENGINE_STEPS[] = {
	[STEP_BANNER] = { "connect", "receiving the initial server greeting", reply_banner, ENGINE_WAIT_COMMAND,
			  "RFC 5321 3.1" },
	[STEP_EHLO] = { "EHLO", "performing the EHLO handshake", reply_ehlo, ENGINE_WAIT_COMMAND, "RFC 5321 4.1.1.1" },
	[STEP_HELO] = { "HELO", "performing the HELO handshake", reply_helo, ENGINE_WAIT_COMMAND, "RFC 5321 4.1.1.1" },
	[STEP_STARTTLS] = { "STARTTLS", "requesting STARTTLS", reply_starttls, ENGINE_WAIT_COMMAND, "RFC 3207 4" },
	[STEP_AUTH] = { "AUTH", "logging in", reply_auth, ENGINE_WAIT_COMMAND, "RFC 4954 4" },
	[STEP_MAIL] = { "MAIL FROM", "sending MAIL FROM", reply_mail, ENGINE_WAIT_COMMAND, "RFC 5321 4.1.1.2" },
	[STEP_RCPT] = { "RCPT TO", "sending RCPT TO", reply_rcpt, ENGINE_WAIT_COMMAND, "RFC 5321 4.1.1.3" },
	[STEP_DATA] = { "DATA", "sending DATA command", reply_data, ENGINE_WAIT_COMMAND, "RFC 5321 4.1.1.4" },
	[STEP_DOT] = { "end of DATA", "sending end of data -- message may be sent more than once", reply_dot,
		       ENGINE_WAIT_DOT, "RFC 5321 4.1.1.4" },
	[STEP_EMPTY_DOT] = { "end of DATA", "sending end of data", reply_empty_dot, ENGINE_WAIT_DOT, "RFC 2920 3.1" },
	[STEP_RSET] = { "RSET", "sending RSET", reply_rset, ENGINE_WAIT_COMMAND, "RFC 5321 4.1.1.5" },
	[STEP_QUIT] = { "QUIT", "sending QUIT", reply_quit, ENGINE_WAIT_QUIT, "RFC 5321 4.1.1.10" },
};
_Static_assert(ARRAY_LEN(ENGINE_STEPS) == STEP_COUNT, "step table out of step");
