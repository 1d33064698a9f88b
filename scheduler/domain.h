/* domain.h - recipient domains with the servers that may carry their mail; each such pair is stored once. */
#ifndef SCHEDULER_DOMAIN_H
#define SCHEDULER_DOMAIN_H
#include "lib/plan.h"
#include "lib/table.h"

struct domain {
	struct table_node node;
	uint32_t index, refs;
	struct plan plan;
	char name[]; /* lower case */
};

struct domains {
	struct table by_name;
	struct domain **at; /* by index; index 0 is nobody */
	uint32_t room, limit, free_hint;
	const struct conf *conf; /* borrowed */
};

void domains_init(struct domains *d, const struct conf *conf);
void domains_release(struct domains *d);
/* Finds or makes; takes a reference that domain_unref() gives back. */
struct domain *domain_ref(struct domains *d, struct slice name, const struct plan *plan);
void domain_unref(struct domains *d, uint32_t index);
struct domain *domain_get(const struct domains *d, uint32_t index);
#endif
