/* pop.c - a login at a POP3 server. */
#include "smtpout/pop.h"
#include "lib/text.h"

enum { OUT_MAX = 64 * 1024 };

void pop_init(struct pop *p, const char *peer, enum engine_tls tls, const struct sasl_account *account,
	      struct login *login, bool may_be_clear)
{
	*p = (struct pop){ .peer = peer, .tls = tls, .account = account, .login = login, .may_be_clear = may_be_clear };
	buf_init(&p->out, OUT_MAX);
}

void pop_release(struct pop *p)
{
	if (p->out.ptr)
		explicit_bzero(p->out.ptr, p->out.cap);
	buf_release(&p->out);
	free(p->failure.text);
	p->failure.text = NULL;
}

void pop_sent(struct pop *p)
{
	if (p->out.ptr)
		explicit_bzero(p->out.ptr, p->out.cap);
	buf_clear(&p->out);
}

/* --- the end --- */

/* Takes the text. What comes after a login cannot undo it. */
static void end(struct pop *p, enum failure_cause cause, char *text)
{
	if (p->state == POP_OVER || p->state == POP_QUITTING) {
		free(text);
		text = NULL;
	} else {
		p->failure.cause = (uint8_t)cause;
		p->failure.text = text;
	}
	p->state = POP_OVER;
	p->wants_close = true;
	p->wants_tls = false;
	pop_sent(p);
}

static void end_because(struct pop *p, enum failure_cause cause, const char *why)
{
	end(p, cause, xasprintf("POP before SMTP: %s %s", p->peer, why));
}

static void end_refused(struct pop *p, enum failure_cause cause, struct slice line, const char *command)
{
	struct buf text;

	buf_init(&text, 4 * ENGINE_TEXT_MAX);
	buf_printf(&text, "POP before SMTP: host %s said: ", p->peer);
	text_escape(&text, line, ENGINE_TEXT_MAX / 2);
	buf_printf(&text, " (in reply to %s command)", command);
	p->login->mask(p->login, text.ptr);
	end(p, cause, buf_detach(&text));
}

void pop_malformed(struct pop *p, const char *why)
{
	if (p->state != POP_OVER)
		end(p, FAILURE_AUTH, xasprintf("POP before SMTP: %s does not speak POP3: %s", p->peer, why));
}

void pop_lost(struct pop *p, bool is_timeout, const char *error)
{
	if (p->state == POP_OVER)
		return;
	if (is_timeout)
		end_because(p, FAILURE_LOST, "does not answer in time");
	else
		end(p, p->state == POP_HANDSHAKE ? FAILURE_TLS : FAILURE_LOST,
		    xasprintf("POP before SMTP: lost connection with %s%s%s", p->peer, error[0] ? ": " : "", error));
}

void pop_input_left(struct pop *p, bool has_bytes)
{
	/* Before the first command in TLS anything is an attack (RFC 2595 4); all else is looked at as lines. */
	if (has_bytes && p->state == POP_HANDSHAKE)
		pop_malformed(p, "it sends more than it was asked");
}

/* --- commands --- */

static void say(struct pop *p, enum pop_state state, const char *command)
{
	buf_put_str(&p->out, command);
	buf_put_str(&p->out, "\r\n");
	if (p->out.failed)
		BUG("commands of more than %d bytes", OUT_MAX);
	p->state = state;
}

static void ask_capabilities(struct pop *p)
{
	p->is_in_list = p->has_stls = p->has_user = false;
	p->mechanisms = p->lines = 0;
	say(p, POP_CAPABILITIES, "CAPA");
}

static void begin_sasl(struct pop *p, unsigned mechanisms)
{
	const char *why = "";

	buf_put_str(&p->out, "AUTH ");
	if (p->login->begin(p->login, mechanisms, p->is_secure, &p->out, &why))
		say(p, POP_SASL, "");
	else
		end(p, FAILURE_AUTH, xasprintf("POP before SMTP: cannot log in at %s: %s", p->peer, why));
}

static void begin_apop(struct pop *p)
{
	buf_printf(&p->out, "APOP %s ", sasl_account_username(p->account));
	sasl_apop(p->account, slice_of(p->stamp), &p->out);
	say(p, POP_APOP, "");
}

/* Strongest first; what shows the password only where nobody else reads. */
static void log_in(struct pop *p)
{
	unsigned hidden = 0, shown = 0;
	bool may_show = p->is_secure || p->may_be_clear;

	for (unsigned i = 0; i < MECHANISM_COUNT; i++) {
		if (mechanism_shows_secret((enum mechanism)i))
			shown |= p->mechanisms & 1u << i;
		else
			hidden |= p->mechanisms & 1u << i;
	}
	if (hidden)
		begin_sasl(p, hidden);
	else if (p->stamp[0])
		begin_apop(p);
	else if (!may_show)
		end_because(p, FAILURE_AUTH, "takes passwords in clear only, and there is no TLS");
	else if (shown)
		begin_sasl(p, shown);
	else {
		buf_printf(&p->out, "USER %s", sasl_account_username(p->account));
		say(p, POP_USER, "");
	}
}

static void send_password(struct pop *p)
{
	buf_put_str(&p->out, "PASS ");
	if (sasl_account_put_secret(p->account, &p->out))
		say(p, POP_PASS, "");
	else
		end_because(p, FAILURE_AUTH, "cannot be given a password that holds a line break");
}

static void greet(struct pop *p)
{
	if (p->is_secure || p->tls == ENGINE_TLS_NEVER)
		log_in(p);
	else if (p->has_stls)
		say(p, POP_STARTING_TLS, "STLS");
	else if (p->tls == ENGINE_TLS_MUST)
		end_because(p, FAILURE_TLS, "does not offer TLS, which is required");
	else
		log_in(p);
}

/* --- answers --- */

static bool has_prefix(struct slice line, const char *word)
{
	size_t len = strlen(word);

	return line.len >= len && slice_equal_nocase((struct slice){ line.ptr, len }, slice_of(word)) &&
	       (line.len == len || line.ptr[len] == ' ' || line.ptr[len] == '\t');
}

static bool is_ok(struct slice line)
{
	return has_prefix(line, "+OK");
}

/* RFC 1939 7: a message id; checked, since whoever stands between could have the password's digest for what he likes.
 */
static void take_stamp(struct pop *p, struct slice line)
{
	const char *open = memchr(line.ptr, '<', line.len);
	const char *close = open ? memchr(open, '>', line.len - (size_t)(open - line.ptr)) : NULL;
	size_t len = close ? (size_t)(close - open) + 1 : 0;

	if (len < 5 || len >= sizeof(p->stamp) || !memchr(open, '@', len))
		return;
	for (size_t i = 0; i < len; i++) {
		if (open[i] <= ' ' || open[i] > '~')
			return;
	}
	memcpy(p->stamp, open, len);
	p->stamp[len] = '\0';
}

static void line_greeting(struct pop *p, struct slice line)
{
	if (!is_ok(line)) {
		if (has_prefix(line, "-ERR"))
			end_refused(p, FAILURE_GREETING, line, "connect");
		else
			pop_malformed(p, "its first line is no greeting");
		return;
	}
	take_stamp(p, line);
	ask_capabilities(p);
}

static void line_capability(struct pop *p, struct slice line)
{
	static const char SASL[] = "SASL";

	if (!p->is_in_list) {
		p->is_in_list = is_ok(line);
		if (!p->is_in_list && !has_prefix(line, "-ERR"))
			pop_malformed(p, "it does not answer CAPA");
		else if (!p->is_in_list)
			greet(p); /* a server of before 1998 */
	} else if (slice_is(line, ".")) {
		greet(p);
	} else if (++p->lines > POP_CAPA_LINES_MAX) {
		pop_malformed(p, "its list of capabilities has no end");
	} else if (has_prefix(line, "STLS")) {
		p->has_stls = true;
	} else if (has_prefix(line, SASL)) {
		p->mechanisms |= mechanism_parse((struct slice){ line.ptr + strlen(SASL), line.len - strlen(SASL) });
	}
}

static void line_stls(struct pop *p, struct slice line)
{
	if (is_ok(line)) {
		p->state = POP_HANDSHAKE;
		p->wants_tls = true;
	} else if (has_prefix(line, "-ERR")) {
		end_refused(p, FAILURE_TLS, line, "STLS"); /* offered, then taken back: no password for this one */
	} else {
		pop_malformed(p, "it does not answer STLS");
	}
}

static void succeed(struct pop *p)
{
	say(p, POP_QUITTING, "QUIT");
}

/* RFC 2449 8.1.1, RFC 3206: the password was not judged, or was right. */
static bool is_for_now(struct slice line)
{
	static const char *const CODES[] = { "[IN-USE]", "[LOGIN-DELAY]", "[SYS/TEMP]" };

	for (unsigned i = 0; i < ARRAY_LEN(CODES); i++) {
		if (memmem(line.ptr, line.len, CODES[i], strlen(CODES[i])))
			return true;
	}
	return false;
}

static void line_verdict(struct pop *p, struct slice line, const char *command)
{
	if (is_ok(line))
		succeed(p);
	else if (has_prefix(line, "-ERR"))
		end_refused(p, is_for_now(line) ? FAILURE_GREETING : FAILURE_AUTH, line, command);
	else
		pop_malformed(p, "it does not answer the login");
}

static void line_user(struct pop *p, struct slice line)
{
	if (is_ok(line))
		send_password(p);
	else
		line_verdict(p, line, "USER");
}

static void line_sasl(struct pop *p, struct slice line)
{
	const char *why = "";
	struct slice challenge;

	if (line.len == 0 || line.ptr[0] != '+' || is_ok(line)) {
		if (is_ok(line) && !p->login->is_complete(p->login))
			end_because(p, FAILURE_AUTH, "calls us logged in before it has proved to know the password");
		else
			line_verdict(p, line, "AUTH");
		return;
	}
	challenge = text_trim((struct slice){ line.ptr + 1, line.len - 1 });
	if (p->login->step(p->login, challenge, &p->out, &why))
		say(p, POP_SASL, "");
	else
		end(p, FAILURE_AUTH, xasprintf("POP before SMTP: cannot log in at %s: %s", p->peer, why));
}

void pop_line(struct pop *p, struct slice line)
{
	switch (p->state) {
	case POP_GREETING:
		line_greeting(p, line);
		break;
	case POP_CAPABILITIES:
		line_capability(p, line);
		break;
	case POP_STARTING_TLS:
		line_stls(p, line);
		break;
	case POP_APOP:
		line_verdict(p, line, "APOP");
		break;
	case POP_SASL:
		line_sasl(p, line);
		break;
	case POP_USER:
		line_user(p, line);
		break;
	case POP_PASS:
		line_verdict(p, line, "PASS");
		break;
	case POP_HANDSHAKE:
		pop_input_left(p, true);
		break;
	case POP_QUITTING:
		end(p, FAILURE_NONE, NULL);
		break;
	case POP_OVER:
		break;
	}
}

void pop_connected(struct pop *p, bool is_secure)
{
	p->is_secure = is_secure;
	p->state = POP_GREETING;
}

void pop_secured(struct pop *p)
{
	p->is_secure = true;
	p->stamp[0] = '\0'; /* RFC 2595 4: what was learnt in clear is forgotten */
	ask_capabilities(p);
}

static bool take_flag(bool *flag)
{
	bool was = *flag;

	*flag = false;
	return was;
}

enum pop_action pop_next(struct pop *p)
{
	if (p->out.len > 0)
		return POP_SEND;
	if (take_flag(&p->wants_tls))
		return POP_START_TLS;
	return take_flag(&p->wants_close) ? POP_CLOSE : POP_NONE;
}
