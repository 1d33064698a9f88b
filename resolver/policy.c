/* policy.c - see policy.h. */
#include "resolver/policy.h"
#include "lib/destination.h"
#include "lib/log.h"

bool policy_may_be_wanted(const struct conf *conf, const struct conf_server *server)
{
	bool may_be = server->tls == TLS_OPPORTUNISTIC;

	for (unsigned i = 0; i < conf->destination_count; i++)
		may_be |= conf->destination[i].tls == TLS_OPPORTUNISTIC;
	return may_be && server->method == METHOD_DIRECT;
}

bool policy_is_wanted(const struct conf *conf, const struct conf_server *server, const char *domain,
		      const struct hosts *hosts)
{
	const struct conf_destination *d = destination_find(conf, domain, hosts);
	enum conf_tls level = d && d->tls != TLS_UNSET ? d->tls : server->tls;

	return server->method == METHOD_DIRECT && level == TLS_OPPORTUNISTIC;
}

bool policy_read_id(const struct wire_answer *a, char id[STS_ID_MAX + 1])
{
	static const char BEGIN[] = "v=STSv1;";
	unsigned found = 0;
	bool is_right = false;

	for (unsigned i = 0; i < a->count && a->status == WIRE_RECORDS; i++) {
		struct slice text = { (const char *)a->data + a->record[i].data_at, a->record[i].data_len };

		if (text.len < strlen(BEGIN) || memcmp(text.ptr, BEGIN, strlen("v=STSv1")) != 0)
			continue;
		found++;
		is_right = sts_read_record(text, id);
	}
	return found == 1 && is_right;
}

bool policy_apply(const struct sts_policy *p, struct hosts *hosts)
{
	unsigned kept = 0;

	if (p->mode == STS_NONE)
		return true;
	for (unsigned i = 0; i < hosts->count; i++) {
		struct host *h = &hosts->host[i];
		bool is_named = sts_allows(p, h->name);

		if (!is_named && h->dane != HOST_DANE_USABLE) {
			log_info("host %s of %s is not named by the domain's MTA-STS policy%s", h->name, p->domain,
				 p->mode == STS_ENFORCE ? ": left out" : ", which is in testing: used nevertheless");
			if (p->mode == STS_ENFORCE)
				continue;
		}
		h->is_sts = p->mode == STS_ENFORCE && is_named;
		if (kept != i)
			hosts->host[kept] = *h;
		kept++;
	}
	hosts->count = (uint8_t)kept;
	return kept > 0;
}
