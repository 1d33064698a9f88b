/* probe_tls.c - a TLS handshake, and what the server showed in it. */
#include "smtpout/tls_report.h"
#include "tools/probe.h"

static void tell(struct probe *p, const struct tls_conn *c, int64_t took_ms)
{
	struct buf text;

	buf_init(&text, PROBE_TEXT_MAX);
	tls_describe(c, &text);
	steps_put(&p->steps, STEP_OK, "TLS", took_ms, buf_text(&text));
	buf_clear(&text);
	tls_report_chain(c, &text);
	steps_put(&p->steps, STEP_OK, "certificate", -1, buf_text(&text));
	buf_clear(&text);
	tls_report_trust(c, p->judge, &text);
	steps_put(&p->steps, STEP_OK, "certificate", -1, buf_text(&text));
	buf_clear(&text);
	tls_report_expiry(c, &text);
	steps_put(&p->steps, STEP_OK, "certificate", -1, buf_text(&text));
	buf_release(&text);
}

bool probe_start_tls(struct probe *p, struct probe_stream *s, const struct conf_server *server,
		     struct tls_policy *policy, const struct tls_target *target, enum hint_step step, bool may_fail)
{
	int64_t since_ms = clock_mono().ms;
	enum probe_result result = probe_stream_handshake(s, policy, target, since_ms + probe_wait_ms(server));
	int64_t took_ms = clock_mono().ms - since_ms;
	struct probe_end why = { step, FAILURE_TLS, 0, "", NULL };

	if (result == PROBE_OK) {
		tell(p, s->io.tls, took_ms);
		return true;
	}
	why.words = xasprintf("handshake with %s failed: %s", target->host,
			      result == PROBE_TIMED_OUT ? "it timed out"
			      : result == PROBE_CLOSED  ? "the server closed the connection"
							: s->error);
	if (may_fail)
		steps_put(&p->steps, STEP_FAILED, "TLS", took_ms, why.words);
	else
		probe_fail(p, &why, "TLS", took_ms, target->host, server->port, true);
	free(why.words);
	return false;
}
