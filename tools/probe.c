/* probe.c - how a test of a server went. */
#include "tools/probe.h"
#include <unistd.h>

/* A host's refusal for good hides none that may pass, as in a delivery; behind the greeting no other host is tried. */
static bool decides(const struct probe_end *old, const struct probe_end *why)
{
	return old->cause == FAILURE_NONE || why->step >= HINT_LOGIN || why->code < 500 || old->code >= 500;
}

void probe_fail(struct probe *p, const struct probe_end *why, const char *row, int64_t took_ms, const char *host,
		unsigned port, bool is_secure)
{
	const struct hint_facts facts = {
		.step = why->step,
		.cause = why->cause,
		.code = why->code,
		.dsn = why->dsn,
		.words = why->words,
		.host = host,
		.sender = p->sender,
		.domain = p->domain,
		.preset = p->server->preset ? p->server->preset : "",
		.port = port,
		.is_direct = p->server->method == METHOD_DIRECT,
		.is_secure = is_secure,
		.has_login = p->server->username != NULL,
		.is_bound = p->is_bound,
	};
	struct buf advice;

	buf_init(&advice, PROBE_TEXT_MAX);
	hint_put(&advice, &facts);
	steps_put(&p->steps, STEP_FAILED, row, took_ms, why->words);
	steps_put(&p->steps, STEP_ADVICE, row, -1, buf_text(&advice));
	buf_release(&advice);
	if (!decides(&p->end, why))
		return;
	free(p->end.words);
	p->end = *why;
	p->end.words = xstrdup(why->words);
}

void probe_release(struct probe *p)
{
	tls_policy_free(&p->policy);
	tls_policy_free(&p->pop_policy);
	tls_policy_free(&p->judge);
	sasl_account_free(&p->account);
	sasl_account_free(&p->pop_account);
	host_file_free(&p->host_file);
	dns_free(&p->dns);
	loop_free(&p->loop);
	if (p->letter_fd >= 0)
		close(p->letter_fd);
	free(p->sender);
	free(p->rcpt);
	free(p->end.words);
	free(p->sts_trouble);
}
