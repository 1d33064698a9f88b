/* domain.c - interning of domains; server lists by the global `servers` less those that exclude the domain. */
#include "scheduler/domain.h"
#include "lib/address.h"
#include "lib/text.h"
#include <stdlib.h>

void domains_init(struct domains *d, const struct conf *conf)
{
	*d = (struct domains){ .conf = conf, .limit = 1, .free_hint = 1 };
	table_init(&d->by_name);
}

static void free_node(void *arg UNUSED, struct table_node *node)
{
	free(TABLE_OBJECT(node, struct domain, node));
}

void domains_release(struct domains *d)
{
	table_each(&d->by_name, free_node, NULL);
	table_release(&d->by_name);
	free(d->at);
	*d = (struct domains){ 0 };
}

static bool is_excluded(const struct conf_server *server, struct slice address)
{
	for (unsigned i = 0; i < server->exclude_domains.count; i++)
		if (address_matches(slice_of(server->exclude_domains.item[i]), address))
			return true;
	return false;
}

void plan_make(struct plan *out, const struct conf *conf, struct slice domain)
{
	char text[ADDRESS_DOMAIN_MAX + 8];
	struct slice address = { text, 0 };

	/* Patterns speak of addresses; any local part will do for domains. */
	if (domain.len <= ADDRESS_DOMAIN_MAX) {
		text[0] = 'x';
		text[1] = '@';
		memcpy(text + 2, domain.ptr, domain.len);
		address.len = domain.len + 2;
	}
	out->count = 0;
	for (unsigned i = 0; i < conf->primary_count && out->count < PLAN_SERVERS_MAX; i++)
		if (!is_excluded(&conf->server[conf->primary[i]], address))
			out->server[out->count++] = (uint16_t)conf->primary[i];
}

bool plan_has_direct(const struct plan *p, const struct conf *conf)
{
	for (unsigned i = 0; i < p->count; i++)
		if (conf->server[p->server[i]].method == METHOD_DIRECT)
			return true;
	return false;
}

static uint32_t free_index(struct domains *d)
{
	uint32_t index = d->free_hint;

	while (index < d->limit && d->at[index])
		index++;
	d->free_hint = index + 1;
	if (index < d->limit)
		return index;
	if (d->limit >= d->room) {
		d->room = d->room ? d->room * 2 : 64;
		d->at = xrealloc(d->at, d->room, sizeof(struct domain *));
		d->at[0] = NULL;
	}
	d->at[d->limit] = NULL;
	return d->limit++;
}

struct domain *domain_ref(struct domains *d, struct slice name)
{
	uint64_t hash = text_hash(name.ptr, name.len);
	struct domain *domain;

	for (struct table_node *n = table_first(&d->by_name, hash); n; n = table_next(n)) {
		domain = TABLE_OBJECT(n, struct domain, node);
		if (slice_is(name, domain->name)) {
			domain->refs++;
			return domain;
		}
	}
	domain = xcalloc(1, sizeof(*domain) + name.len + 1);
	memcpy(domain->name, name.ptr, name.len);
	domain->refs = 1;
	domain->index = free_index(d);
	d->at[domain->index] = domain;
	plan_make(&domain->plan, d->conf, name);
	table_add(&d->by_name, &domain->node, hash);
	return domain;
}

void domain_unref(struct domains *d, uint32_t index)
{
	struct domain *domain = domain_get(d, index);

	if (--domain->refs > 0)
		return;
	table_remove(&d->by_name, &domain->node);
	d->at[index] = NULL;
	if (index < d->free_hint)
		d->free_hint = index;
	free(domain);
}

struct domain *domain_get(const struct domains *d, uint32_t index)
{
	if (index == 0 || index >= d->limit || !d->at[index])
		BUG("domain %u of %u", index, d->limit);
	return d->at[index];
}
