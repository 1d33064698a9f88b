/* domain.c - interning of domains with their plans. */
#include "scheduler/domain.h"
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

struct domain *domain_ref(struct domains *d, struct slice name, const struct plan *plan)
{
	uint64_t hash = text_hash(name.ptr, name.len) ^ text_hash(plan->server, plan->count * sizeof(plan->server[0]));
	struct domain *domain;

	for (struct table_node *n = table_first(&d->by_name, hash); n; n = table_next(n)) {
		domain = TABLE_OBJECT(n, struct domain, node);
		if (slice_is(name, domain->name) && plan_equal(&domain->plan, plan)) {
			domain->refs++;
			return domain;
		}
	}
	domain = xcalloc(1, sizeof(*domain) + name.len + 1);
	memcpy(domain->name, name.ptr, name.len);
	domain->refs = 1;
	domain->index = free_index(d);
	d->at[domain->index] = domain;
	domain->plan = *plan;
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
