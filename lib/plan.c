/* plan.c - routes in the order of the file, then what each server excludes. */
#include "lib/plan.h"
#include "lib/address.h"

const char *plan_matching_pattern(const struct conf_list *patterns, struct slice address)
{
	for (unsigned i = 0; i < patterns->count; i++)
		if (address_matches(slice_of(patterns->item[i]), address))
			return patterns->item[i];
	return patterns->count == 0 ? "" : NULL;
}

const char *plan_excluding_pattern(const struct conf_server *server, struct slice rcpt)
{
	return server->exclude_domains.count > 0 ? plan_matching_pattern(&server->exclude_domains, rcpt) : NULL;
}

static uint16_t find_route(const struct conf *conf, struct slice sender, struct slice rcpt)
{
	for (unsigned i = 0; i < conf->route_count && i < UINT16_MAX; i++)
		if (plan_matching_pattern(&conf->route[i].sender, sender) &&
		    plan_matching_pattern(&conf->route[i].recipient, rcpt))
			return (uint16_t)(i + 1);
	return 0;
}

const unsigned *plan_candidates(const struct plan *p, const struct conf *conf, unsigned *count)
{
	if (p->route > 0 && p->route <= conf->route_count) {
		*count = conf->route[p->route - 1].server_count;
		return conf->route[p->route - 1].server;
	}
	*count = conf->primary_count;
	return conf->primary;
}

static void add(struct plan *out, const struct conf *conf, unsigned server, struct slice rcpt)
{
	if (out->count < PLAN_SERVERS_MAX && !plan_excluding_pattern(&conf->server[server], rcpt))
		out->server[out->count++] = (uint16_t)server;
}

void plan_make(struct plan *out, const struct conf *conf, struct slice sender, struct slice rcpt, struct slice wanted)
{
	int chosen = wanted.len > 0 ? conf_find_server(conf, wanted) : -1;
	const unsigned *server;
	unsigned count;

	memset(out, 0, sizeof(*out)); /* plans are compared and hashed by their bytes */
	if (chosen >= 0) {
		add(out, conf, (unsigned)chosen, rcpt);
		return;
	}
	out->route = find_route(conf, sender, rcpt);
	server = plan_candidates(out, conf, &count);
	for (unsigned i = 0; i < count; i++)
		add(out, conf, server[i], rcpt);
}

void plan_make_for_domain(struct plan *out, const struct conf *conf, struct slice domain)
{
	char text[ADDRESS_DOMAIN_MAX + 2] = "x@"; /* any local part will do */
	struct slice rcpt = { text, 0 }, none = { "", 0 };

	if (domain.len <= ADDRESS_DOMAIN_MAX) {
		memcpy(text + 2, domain.ptr, domain.len);
		rcpt.len = domain.len + 2;
	}
	plan_make(out, conf, none, rcpt, none);
}

bool plan_needs_addresses(const struct conf *conf)
{
	if (conf->route_count > 0)
		return true;
	for (unsigned i = 0; i < conf->server_count; i++)
		for (unsigned k = 0; k < conf->server[i].exclude_domains.count; k++)
			if (strchr(conf->server[i].exclude_domains.item[k], '@'))
				return true;
	return false;
}

bool plan_equal(const struct plan *a, const struct plan *b)
{
	return a->route == b->route && a->count == b->count &&
	       memcmp(a->server, b->server, a->count * sizeof(a->server[0])) == 0;
}

bool plan_has_direct(const struct plan *p, const struct conf *conf)
{
	for (unsigned i = 0; i < p->count; i++)
		if (conf->server[p->server[i]].method == METHOD_DIRECT)
			return true;
	return false;
}
