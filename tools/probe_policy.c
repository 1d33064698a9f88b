/* probe_policy.c - the MTA-STS policy of the recipient's domain: mail would heed it, so a test does. */
#include "lib/helper.h"
#include "lib/idn.h"
#include "lib/oauth.h"
#include "resolver/policy.h"
#include "tools/broker.h"
#include "tools/probe.h"

enum { DEADLINE_MS = 30 * 1000, ANSWER_BYTES_MAX = 8192 };

/* A policy, the word that there is none, or why nobody knows. */
static void take_answer(struct probe *p, const char *domain, struct slice rest)
{
	struct slice name, value, text = slice_of("the program token did not answer");
	bool is_known = false;

	while (oauth_next_record(&rest, &name, &value)) {
		if (slice_is(name, "text"))
			text = value;
		else if (slice_is(name, "no-policy"))
			is_known = true;
		else if (slice_is(name, "policy") && sts_read_line(value, &p->sts) &&
			 strcmp(p->sts.domain, domain) == 0)
			is_known = p->has_sts = true;
	}
	if (!is_known)
		p->sts_trouble = xstrndup(text.ptr, text.len);
}

static void fetch(struct probe *p, const char *domain)
{
	char *url = xasprintf("https://mta-sts.%s/.well-known/mta-sts.txt", domain), *why;
	struct buf question, answer;

	buf_init(&question, HELPER_QUESTION_MAX);
	buf_init(&answer, ANSWER_BYTES_MAX);
	oauth_put_record(&question, "url", slice_of(url));
	oauth_put_record(&question, "policy-domain", slice_of(domain));
	oauth_put_number(&question, "deadline", DEADLINE_MS);
	oauth_put_dns(&question, p->conf);
	if (broker_run(p->conf, buf_slice(&question), -1, DEADLINE_MS + p->conf->dns.timeout_ms, &answer, &why))
		take_answer(p, domain, buf_slice(&answer));
	else
		p->sts_trouble = why;
	buf_release(&question);
	buf_release(&answer);
	free(url);
}

void probe_fetch_policy(struct probe *p)
{
	int64_t since_ms = clock_mono().ms;
	struct buf ascii;

	buf_init(&ascii, WIRE_NAME_SIZE);
	if (policy_may_be_wanted(p->conf, p->server) && idn_to_ascii(&ascii, slice_of(p->domain)) &&
	    sts_is_domain(buf_slice(&ascii)))
		fetch(p, buf_text(&ascii));
	buf_release(&ascii);
	p->sts_took_ms = clock_mono().ms - since_ms;
}

static void advise(struct probe *p, int64_t took_ms, char *text_taken)
{
	steps_put(&p->steps, STEP_ADVICE, "MTA-STS", took_ms, text_taken);
	free(text_taken);
}

static void tell_policy(struct probe *p)
{
	char *text = xasprintf("policy of %s: mode %s, hosts %s, for %llu s", p->sts.domain, sts_mode_name(p->sts.mode),
			       p->sts.mx[0] ? p->sts.mx : "none", (unsigned long long)p->sts.max_age_s);

	steps_put(&p->steps, STEP_OK, "MTA-STS", p->sts_took_ms, text);
	free(text);
	for (unsigned i = 0; i < p->hosts.count && p->sts.mode != STS_NONE; i++) {
		const struct host *h = &p->hosts.host[i];

		if (h->dane != HOST_DANE_USABLE && !sts_allows(&p->sts, h->name))
			advise(p, -1,
			       xasprintf("host %s is not named by it: %s", h->name,
					 p->sts.mode == STS_ENFORCE
						 ? "mail does not go there"
						 : "mail goes there nevertheless, for it is in testing"));
	}
}

bool probe_heed_policy(struct probe *p)
{
	struct probe_end why = { HINT_TLS, FAILURE_TLS, 0, "", NULL };

	if (p->tls != TLS_OPPORTUNISTIC || !(p->has_sts || p->sts_trouble))
		return true;
	if (!p->has_sts) {
		advise(p, p->sts_took_ms,
		       xasprintf("the policy of %s cannot be fetched: %s; unless the service has one from before, mail "
				 "goes as if there were none",
				 p->domain, p->sts_trouble));
		return true;
	}
	tell_policy(p);
	if (policy_apply(&p->sts, &p->hosts))
		return true;
	p->is_bound = true;
	why.words = xasprintf("the MTA-STS policy of %s names none of its MX hosts", p->sts.domain);
	probe_fail(p, &why, "MTA-STS", -1, p->sts.domain, p->server->port, false);
	free(why.words);
	return false;
}
