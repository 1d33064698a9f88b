/* engine_commands.c - what the engine says: greetings and envelopes, with the parameters that the server understands.
 */
#include "lib/text.h"
#include "smtpout/engine_impl.h"

void engine_send_hello(struct engine *e)
{
	e->ehlo = (struct ehlo){ 0 };
	if (e->may_say_ehlo)
		engine_command(e, STEP_EHLO, "EHLO %s\r\n", e->hostname);
	else
		engine_command(e, STEP_HELO, "HELO %s\r\n", e->hostname);
}

bool engine_needs_utf8(const struct engine_mail *m)
{
	bool is_ascii = text_is_ascii(m->sender);

	for (unsigned i = 0; i < m->rcpt_count; i++)
		is_ascii = is_ascii && text_is_ascii(m->rcpt[i]);
	return !is_ascii;
}

/* What this server cannot take is settled here and not sent. True: it can go. */
bool engine_check_mail(struct engine *e, struct engine_mail *m)
{
	char *text = NULL;
	bool can_go;

	if (e->ehlo.size_limit_bytes > 0 && m->size_bytes > e->ehlo.size_limit_bytes) {
		text = xasprintf("message size %llu exceeds size limit %llu of server %s",
				 (unsigned long long)m->size_bytes, (unsigned long long)e->ehlo.size_limit_bytes,
				 e->peer);
		engine_mail_settle(m, VERDICT_PERMANENT, FAILURE_CAPABILITY, "5.3.4", text);
	} else if (engine_needs_utf8(m) && !(e->ehlo.features & EHLO_SMTPUTF8)) {
		text = xasprintf("SMTPUTF8 is required, but was not offered by host %s", e->peer);
		engine_mail_settle(m, VERDICT_PERMANENT, FAILURE_CAPABILITY, "5.6.7", text);
	}
	m->is_downgraded = m->is_8bit && !(e->ehlo.features & EHLO_8BITMIME);
	can_go = text == NULL;
	free(text);
	return can_go;
}

/* --- parameters of RFC 3461 --- */

/* xtext and the like: no byte that could end the parameter, or the command. */
static bool is_plain(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] <= ' ' || s.ptr[i] == 127) /* also all bytes above 127, where char is signed */
			return false;
	}
	return s.len > 0;
}

static void put_mail_dsn(struct engine *e, const struct engine_mail *m)
{
	if (!(e->ehlo.features & EHLO_DSN))
		return;
	if (m->is_ret_full)
		buf_put_str(&e->out, " RET=FULL");
	if (is_plain(m->envid)) {
		buf_put_str(&e->out, " ENVID=");
		buf_put_slice(&e->out, m->envid);
	}
}

static void put_rcpt_dsn(struct engine *e, const struct engine_mail *m, unsigned index)
{
	static const char *const WORDS[] = { "NEVER", "FAILURE", "DELAY", "SUCCESS" }; /* bit by bit of notify */
	const struct engine_rcpt_dsn *dsn = m->rcpt_dsn ? &m->rcpt_dsn[index] : NULL;
	const char *before = " NOTIFY=";

	if (!dsn || !(e->ehlo.features & EHLO_DSN))
		return;
	for (unsigned i = 0; i < ARRAY_LEN(WORDS); i++) {
		if (!(dsn->notify & 1u << i))
			continue;
		buf_printf(&e->out, "%s%s", before, WORDS[i]);
		before = ",";
	}
	if (is_plain(dsn->orcpt)) {
		buf_put_str(&e->out, " ORCPT=");
		buf_put_slice(&e->out, dsn->orcpt);
	}
}

static void put_mail_from(struct engine *e, const struct engine_mail *m)
{
	buf_put_str(&e->out, "MAIL FROM:<");
	buf_put_slice(&e->out, m->sender);
	buf_put_char(&e->out, '>');
	if (e->ehlo.features & EHLO_SIZE)
		buf_printf(&e->out, " SIZE=%llu", (unsigned long long)m->size_bytes);
	if (m->is_8bit && !m->is_downgraded)
		buf_put_str(&e->out, " BODY=8BITMIME");
	if ((e->ehlo.features & EHLO_SMTPUTF8) && (m->is_utf8 || engine_needs_utf8(m)))
		buf_put_str(&e->out, " SMTPUTF8");
	put_mail_dsn(e, m);
	engine_command(e, STEP_MAIL, "\r\n");
}

void engine_send_rcpt(struct engine *e, struct engine_mail *m)
{
	buf_put_str(&e->out, "RCPT TO:<");
	buf_put_slice(&e->out, m->rcpt[m->rcpt_sent]);
	buf_put_char(&e->out, '>');
	put_rcpt_dsn(e, m, m->rcpt_sent++);
	engine_command(e, STEP_RCPT, "\r\n");
}

void engine_send_data(struct engine *e)
{
	engine_command(e, STEP_DATA, "DATA\r\n");
}

void engine_send_envelope(struct engine *e, struct engine_mail *m)
{
	m->stage = MAIL_ENVELOPE;
	m->was_seen = true;
	m->is_first = e->mail_count++ == 0;
	put_mail_from(e, m);
	if (!(e->ehlo.features & EHLO_PIPELINING) || e->is_stepwise)
		return;
	while (m->rcpt_sent < m->rcpt_count)
		engine_send_rcpt(e, m);
	engine_send_data(e);
}
