/* engine.c - the client's side of SMTP: what is owed, the mails in hand, and the verdicts. */
#include "smtpout/engine.h"
#include "lib/text.h"
#include "smtpout/engine_impl.h"
#include <stdarg.h>

/* A flight: MAIL with parameters, 100 RCPT of 320 bytes with an ORCPT of 1000, DATA. */
enum { ENGINE_OUT_MAX = 192 * 1024 };

void engine_init(struct engine *e, const char *hostname, const char *peer, enum engine_tls tls)
{
	*e = (struct engine){ .hostname = hostname, .peer = peer, .tls = tls, .may_say_ehlo = true };
	buf_init(&e->out, ENGINE_OUT_MAX);
}

void engine_release(struct engine *e)
{
	buf_release(&e->out);
	free(e->failure.text);
	e->failure.text = NULL;
}

void engine_set_state(struct engine *e, enum engine_state state)
{
	if (e->state == ENGINE_OVER)
		BUG("an ended session goes to state %d", state);
	e->state = state;
}

static void expect(struct engine *e, enum engine_step step)
{
	if (e->fifo_count == ENGINE_FIFO)
		BUG("more than %d replies owed", ENGINE_FIFO);
	e->fifo[(e->fifo_first + e->fifo_count++) % ENGINE_FIFO] = (uint8_t)step;
	e->fifo_unsent++;
}

void engine_command(struct engine *e, enum engine_step step, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	buf_vprintf(&e->out, format, args);
	va_end(args);
	if (e->out.failed)
		BUG("commands of more than %d bytes", ENGINE_OUT_MAX);
	expect(e, step);
}

unsigned engine_owed(const struct engine *e)
{
	return e->fifo_count - e->fifo_unsent;
}

enum engine_step engine_step(const struct engine *e)
{
	if (e->fifo_count > 0)
		return (enum engine_step)e->fifo[e->fifo_first];
	return e->state == ENGINE_NEW ? STEP_BANNER : STEP_COUNT;
}

enum engine_wait engine_wait(const struct engine *e)
{
	return e->fifo_count > 0 ? ENGINE_STEPS[engine_step(e)].wait : ENGINE_WAIT_COMMAND;
}

/* --- outcomes --- */

const char *engine_reply_dsn(const struct reply *r)
{
	if (r->dsn[0] != '\0')
		return r->dsn;
	return r->code >= 500 ? "5.0.0" : r->code >= 400 ? "4.0.0" : "2.0.0";
}

/* The reply in one line: code, then its lines with a blank between them, made printable. */
static void put_reply(struct buf *out, const struct reply *r, size_t max_bytes)
{
	struct buf line;

	buf_printf(out, "%u ", r->code);
	if (r->text.len == 0 || !memchr(r->text.ptr, '\n', r->text.len)) {
		text_escape(out, r->text, max_bytes);
		return;
	}
	buf_init(&line, REPLY_BYTES_MAX + REPLY_LINES_MAX);
	buf_put_slice(&line, r->text);
	for (size_t i = 0; i < line.len; i++) {
		if (line.ptr[i] == '\n')
			line.ptr[i] = ' ';
	}
	text_escape(out, buf_slice(&line), max_bytes);
	buf_release(&line);
}

/* What a server quotes in a login may be the password. */
static void mask_login(const struct engine *e, enum engine_step step, struct buf *text)
{
	if (step == STEP_AUTH)
		e->login->mask(e->login, text->ptr);
}

char *engine_said(const struct engine *e, enum engine_step step, const struct reply *r)
{
	struct buf text;

	buf_init(&text, 4 * ENGINE_TEXT_MAX);
	buf_printf(&text, "host %s said: ", e->peer);
	put_reply(&text, r, ENGINE_TEXT_MAX - 400);
	if (step == STEP_BANNER)
		buf_put_str(&text, " (in the initial server greeting)");
	else if (step != STEP_COUNT)
		buf_printf(&text, " (in reply to %s%s)", ENGINE_STEPS[step].name,
			   step == STEP_DOT || step == STEP_EMPTY_DOT ? "" : " command");
	mask_login(e, step, &text);
	return buf_detach(&text);
}

/* A host's name has 255 bytes at most, so only a local text could be longer; cut it at a character. */
static char *cut_text(const char *text)
{
	struct buf out;

	buf_init(&out, 2 * ENGINE_TEXT_MAX);
	if (strlen(text) <= ENGINE_TEXT_MAX)
		return xstrdup(text);
	text_escape(&out, slice_of(text), ENGINE_TEXT_MAX);
	return buf_detach(&out);
}

static bool is_same_outcome(const struct engine_outcome *o, const struct engine_outcome *p)
{
	return o->verdict == p->verdict && o->cause == p->cause && o->code == p->code && strcmp(o->dsn, p->dsn) == 0 &&
	       strcmp(o->text, p->text) == 0;
}

/* Takes the outcome's text. Returns its index plus 1; equal ones are kept once. */
static uint8_t add_outcome(struct engine_mail *m, struct engine_outcome outcome)
{
	for (unsigned i = 0; i < m->outcome_count; i++) {
		if (is_same_outcome(&m->outcome[i], &outcome)) {
			free(outcome.text);
			return (uint8_t)(i + 1);
		}
	}
	if ((m->outcome_count & (m->outcome_count - 1)) == 0)
		m->outcome = xrealloc(m->outcome, m->outcome_count ? 2 * m->outcome_count : 1, sizeof(*m->outcome));
	m->outcome[m->outcome_count++] = outcome;
	return (uint8_t)m->outcome_count;
}

static struct engine_outcome make_outcome(enum verdict verdict, enum failure_cause cause, unsigned code,
					  const char *dsn, char *text)
{
	struct engine_outcome o = { (uint8_t)verdict, (uint8_t)cause, (uint16_t)code, "", text };

	snprintf(o.dsn, sizeof(o.dsn), "%s", dsn);
	return o;
}

uint8_t engine_reply_outcome(struct engine *e, struct engine_mail *m, enum engine_step step, const struct reply *r)
{
	struct engine_outcome refused;
	struct buf text;

	if (r->code >= 400) {
		refused = make_outcome(r->code >= 500 ? VERDICT_PERMANENT : VERDICT_TEMPORARY, FAILURE_REPLY, r->code,
				       engine_reply_dsn(r), engine_said(e, step, r));
		refused.is_after_dot = m->stage == MAIL_AFTER_DOT;
		return add_outcome(m, refused);
	}
	buf_init(&text, 2 * ENGINE_TEXT_MAX);
	put_reply(&text, r, ENGINE_TEXT_MAX - 4);
	return add_outcome(
		m, make_outcome(VERDICT_DELIVERED, FAILURE_NONE, r->code, engine_reply_dsn(r), buf_detach(&text)));
}

static void settle_rest(struct engine_mail *m, uint8_t outcome)
{
	for (unsigned i = 0; i < m->rcpt_count; i++) {
		if (m->rcpt_outcome[i] == 0)
			m->rcpt_outcome[i] = outcome;
	}
}

static bool has_unsettled(const struct engine_mail *m)
{
	return memchr(m->rcpt_outcome, 0, m->rcpt_count) != NULL;
}

void engine_settle_reply(struct engine *e, struct engine_mail *m, enum engine_step step, const struct reply *r)
{
	if (has_unsettled(m))
		settle_rest(m, engine_reply_outcome(e, m, step, r));
}

void engine_mail_settle(struct engine_mail *m, enum verdict verdict, enum failure_cause cause, const char *dsn,
			const char *text)
{
	if (has_unsettled(m))
		settle_rest(m, add_outcome(m, make_outcome(verdict, cause, 0, dsn, cut_text(text))));
}

void engine_mail_release(struct engine_mail *m)
{
	for (unsigned i = 0; i < m->outcome_count; i++)
		free(m->outcome[i].text);
	free(m->outcome);
	m->outcome = NULL;
	m->outcome_count = 0;
}

void engine_mail_over(struct engine *e, unsigned index)
{
	struct engine_mail *m = e->mail[index];

	if (has_unsettled(m))
		BUG("a mail is over with %u of %u recipients undecided", m->rcpt_count - m->rcpt_answered,
		    m->rcpt_count);
	m->stage = MAIL_OVER;
	m->next_over = NULL;
	if (e->last_over)
		e->last_over->next_over = m;
	else
		e->first_over = m;
	e->last_over = m;
	if (index == 0)
		e->mail[0] = e->mail[1];
	e->mail[1] = NULL;
}

/* --- endings --- */

/*
 * Verdict for a mail that the session's end left unfinished. RFC 1047: between the dot and its reply nobody knows. A
 * later mail of a connection, not answered at all, met a server that closes kept connections: hand it back untouched.
 * So is what a server refuses because of our login: no attempt was made.
 */
static void settle_lost(struct engine_mail *m, enum failure_cause cause, unsigned code, const char *dsn,
			const char *text)
{
	enum verdict verdict = VERDICT_TEMPORARY;
	struct engine_outcome o;

	if (!has_unsettled(m))
		return;
	if (m->stage == MAIL_AFTER_DOT) {
		verdict = VERDICT_UNKNOWN;
		cause = cause == FAILURE_PROTOCOL ? FAILURE_PROTOCOL : FAILURE_UNKNOWN;
	} else if (m->stage == MAIL_WAITING || (!m->was_answered && !m->is_first) || cause == FAILURE_AUTH) {
		verdict = VERDICT_UNSENT;
		cause = FAILURE_NONE;
	}
	o = make_outcome(verdict, cause, verdict == VERDICT_TEMPORARY ? code : 0, dsn,
			 cut_text(verdict == VERDICT_UNSENT ? "" : text));
	o.is_after_dot = m->stage == MAIL_AFTER_DOT;
	settle_rest(m, add_outcome(m, o));
}

void engine_end(struct engine *e, enum failure_cause cause, unsigned code, const char *dsn, const char *text)
{
	if (e->state == ENGINE_OVER)
		return;
	while (e->mail[0]) {
		settle_lost(e->mail[0], cause, code, dsn, text);
		engine_mail_over(e, 0);
	}
	e->failure = make_outcome(0, cause, code, dsn, cut_text(text));
	engine_set_state(e, ENGINE_OVER);
	e->wants_body = e->wants_tls = e->is_up = false;
	e->wants_close = true;
	e->fifo_count = e->fifo_unsent = 0;
	buf_clear(&e->out);
}

/* Nobody waits for the answer to this QUIT, but a server that is left in peace counts no broken session. */
void engine_end_politely(struct engine *e, enum failure_cause cause, unsigned code, const char *dsn, const char *text)
{
	if (e->state == ENGINE_OVER)
		return;
	engine_end(e, cause, code, dsn, text);
	buf_put_str(&e->out, "QUIT\r\n");
}

void engine_leave(struct engine *e, enum failure_cause cause, const char *dsn, const char *text)
{
	engine_end_politely(e, cause, 0, dsn, text);
}

void engine_end_protocol(struct engine *e, enum engine_step step, const struct reply *r, const char *why)
{
	struct buf text;

	buf_init(&text, 4 * ENGINE_TEXT_MAX);
	buf_printf(&text, "host %s sent \"", e->peer);
	put_reply(&text, r, ENGINE_TEXT_MAX / 3);
	buf_printf(&text, "\", which %s", why);
	if (step != STEP_COUNT && step != STEP_BANNER)
		buf_printf(&text, ", while %s", ENGINE_STEPS[step].progress);
	mask_login(e, step, &text);
	engine_end(e, FAILURE_PROTOCOL, 0, "4.5.0", buf_text(&text));
	buf_release(&text);
}

/* What we were doing, for the log. */
static const char *progress(const struct engine *e)
{
	enum engine_step step = engine_step(e);

	if (e->mail[0] && e->mail[0]->stage == MAIL_BODY)
		return "sending message body";
	if (e->state == ENGINE_HANDSHAKE)
		return "performing the TLS handshake";
	return step == STEP_COUNT ? "waiting for work" : ENGINE_STEPS[step].progress;
}

void engine_malformed(struct engine *e, const char *why)
{
	char *text = xasprintf("host %s does not speak SMTP: %s, while %s", e->peer, why, progress(e));

	engine_end(e, FAILURE_PROTOCOL, 0, "4.5.0", text);
	free(text);
}

void engine_input_left(struct engine *e, bool has_bytes)
{
	bool is_sending = e->mail[0] && e->mail[0]->stage == MAIL_BODY && !e->wants_body;

	/* While a body is on its way this may be the beginning of its refusal: unexpected_reply() judges it when whole.
	 */
	if (has_bytes && !is_sending && e->state != ENGINE_OVER && engine_owed(e) == 0)
		engine_malformed(e, "it sends more than it was asked");
}

void engine_lost(struct engine *e, bool is_timeout, const char *error)
{
	char *text;

	if (e->state == ENGINE_OVER)
		return;
	/* After QUIT all is said; and a server may close a connection that it finds idle, once it was of use. */
	if (e->state == ENGINE_QUITTING ||
	    (e->state == ENGINE_READY && !e->is_up && !e->mail[0] && e->fifo_count == 0)) {
		engine_end(e, FAILURE_NONE, 0, "", "");
		return;
	}
	/* Who refuses and hangs up has said why the rest is missing. */
	e->is_flight_broken = engine_owed(e) > 0 && e->is_flight_answered && !e->is_flight_refused;
	if (is_timeout)
		text = xasprintf("conversation with %s timed out while %s", e->peer, progress(e));
	else
		text = xasprintf("lost connection with %s while %s%s%s", e->peer, progress(e), error[0] ? ": " : "",
				 error);
	engine_end(e, e->state == ENGINE_HANDSHAKE ? FAILURE_TLS : FAILURE_LOST, 0, "4.4.2", text);
	free(text);
}

void engine_broken_here(struct engine *e, const char *why)
{
	engine_end(e, FAILURE_LOCAL, 0, "4.3.0", why);
}

/* --- what can start --- */

/* May the envelope of mail[index] go now? Behind a dot only with PIPELINING, else when nothing is owed. */
static bool may_begin(const struct engine *e, unsigned index)
{
	if (!e->mail[index] || e->mail[index]->stage != MAIL_WAITING || e->needs_reset)
		return false;
	if (index == 0)
		return e->fifo_count == 0;
	return e->mail[0]->stage == MAIL_AFTER_DOT && (e->ehlo.features & EHLO_PIPELINING) && !e->is_stepwise;
}

/* Starts what can start now. */
static void go_on(struct engine *e)
{
	if (e->state != ENGINE_READY)
		return;
	if (e->needs_reset && e->fifo_count == 0 && e->mail[0]) {
		e->needs_reset = false;
		engine_command(e, STEP_RSET, "RSET\r\n");
	}
	for (unsigned i = 0; i < ENGINE_MAILS; i++) {
		while (may_begin(e, i)) {
			if (engine_check_mail(e, e->mail[i]))
				engine_send_envelope(e, e->mail[i]);
			else
				engine_mail_over(e, i);
		}
	}
	if (e->is_hanging_up && !e->mail[0] && e->fifo_count == 0) {
		engine_set_state(e, ENGINE_QUITTING);
		engine_command(e, STEP_QUIT, "QUIT\r\n");
	}
}

/* --- events --- */

void engine_connected(struct engine *e, bool is_secure)
{
	e->is_secure = is_secure;
	engine_set_state(e, ENGINE_GREETING);
	expect(e, STEP_BANNER);
	e->fifo_unsent = 0; /* the server speaks first */
}

/* 421: the server closes, whatever was asked. RFC 5321 3.8 */
static void end_421(struct engine *e, enum engine_step step, const struct reply *r)
{
	char *text = engine_said(e, step, r);
	bool is_greeting = e->state == ENGINE_GREETING || e->is_up; /* nobody has heard yet that mail can go */

	if (e->mail[0] && e->mail[0]->stage == MAIL_AFTER_DOT && step == STEP_DOT)
		engine_settle_reply(e, e->mail[0], STEP_DOT, r);
	engine_end(e, is_greeting ? FAILURE_GREETING : FAILURE_REPLY, r->code, engine_reply_dsn(r), text);
	free(text);
}

/* Nothing is owed. A refusal inside the message ends it (some servers do that for size or content), 421 the session. */
static void unexpected_reply(struct engine *e, const struct reply *r)
{
	struct engine_mail *m = e->mail[0];

	if (m && m->stage == MAIL_BODY && !e->wants_body && r->code >= 400) {
		engine_settle_reply(e, m, STEP_DOT, r);
		engine_end(e, FAILURE_REPLY, r->code, engine_reply_dsn(r), "the message was refused while it was sent");
	} else if (r->code == 421) {
		end_421(e, STEP_COUNT, r);
	} else {
		engine_end_protocol(e, STEP_COUNT, r, "nobody asked for");
	}
}

/* RFC 4954 6: our own server wants a login first. That says nothing about this mail. */
static bool is_login_missing(const struct engine *e, enum engine_step step, const struct reply *r)
{
	const struct engine_mail *m = e->mail[0];

	return r->code == 530 && e->is_relay && m && m->outcome_count == 0 &&
	       (step == STEP_MAIL || step == STEP_RCPT || step == STEP_DATA);
}

static void end_not_logged_in(struct engine *e, enum engine_step step, const struct reply *r)
{
	char *text = engine_said(e, step, r);

	engine_end(e, FAILURE_AUTH, r->code, engine_reply_dsn(r), text);
	free(text);
}

void engine_reply(struct engine *e, const struct reply *r)
{
	enum engine_step step = engine_step(e);

	if (e->state == ENGINE_OVER)
		return;
	if (engine_owed(e) == 0) {
		unexpected_reply(e, r);
		return;
	}
	e->fifo_first = (e->fifo_first + 1) % ENGINE_FIFO;
	e->fifo_count--;
	e->is_flight_answered = true;
	e->is_flight_refused |= r->code >= 400;
	if (e->mail[0] && step >= STEP_MAIL && step <= STEP_EMPTY_DOT)
		e->mail[0]->was_answered = true;
	if (r->code == 421 && step != STEP_QUIT)
		end_421(e, step, r);
	else if (is_login_missing(e, step, r))
		end_not_logged_in(e, step, r);
	else
		ENGINE_STEPS[step].on_reply(e, r);
	go_on(e);
}

void engine_secured(struct engine *e)
{
	e->is_secure = true;
	e->may_say_ehlo = true;
	engine_set_state(e, ENGINE_GREETING);
	engine_send_hello(e); /* forgets what was learnt in clear: RFC 3207 4.2 */
}

void engine_sent(struct engine *e)
{
	if (engine_owed(e) == 0)
		e->is_flight_answered = e->is_flight_refused = false;
	e->fifo_unsent = 0;
	if (e->out.cap > 4096)
		buf_release(&e->out);
	else
		buf_clear(&e->out);
}

void engine_dot_sent(struct engine *e)
{
	if (!e->mail[0] || e->mail[0]->stage != MAIL_BODY)
		BUG("a dot without a message");
	e->mail[0]->stage = MAIL_AFTER_DOT;
	expect(e, STEP_DOT);
	go_on(e);
}

bool engine_wants_mail(const struct engine *e)
{
	return e->state == ENGINE_READY && !e->is_hanging_up && !e->mail[1];
}

void engine_take_mail(struct engine *e, struct engine_mail *m)
{
	unsigned index = e->mail[0] ? 1 : 0;

	if (!engine_wants_mail(e) || m->rcpt_count == 0 || m->rcpt_count > ENGINE_RCPT_MAX)
		BUG("a mail that the engine cannot take");
	m->stage = MAIL_WAITING;
	e->mail[index] = m;
	go_on(e);
}

void engine_hang_up(struct engine *e)
{
	e->is_hanging_up = true;
	go_on(e);
}

static bool take_flag(bool *flag)
{
	bool was = *flag;

	*flag = false;
	return was;
}

enum engine_action engine_next(struct engine *e, struct engine_mail **mail)
{
	*mail = e->first_over;
	if (e->first_over) {
		e->first_over = e->first_over->next_over;
		if (!e->first_over)
			e->last_over = NULL;
		return ENGINE_MAIL_DONE;
	}
	if (take_flag(&e->is_up))
		return ENGINE_UP;
	if (e->out.len > 0 && (e->wants_body || !e->mail[0] || e->mail[0]->stage != MAIL_BODY))
		return ENGINE_SEND;
	if (take_flag(&e->wants_tls))
		return ENGINE_START_TLS;
	*mail = e->mail[0];
	if (take_flag(&e->wants_body))
		return ENGINE_BODY;
	return take_flag(&e->wants_close) ? ENGINE_CLOSE : ENGINE_NONE;
}
