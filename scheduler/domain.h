/* domain.h - recipient domains, each stored once; with the list of servers that may carry its mail. */
#ifndef SCHEDULER_DOMAIN_H
#define SCHEDULER_DOMAIN_H
#include "lib/conf.h"
#include "lib/table.h"

enum { PLAN_SERVERS_MAX = 32 };

/* "Which server carries a message", rules 1 and 2 of postern.conf(5): worked out once per domain and configuration. */
struct plan {
	uint8_t count;
	uint16_t server[PLAN_SERVERS_MAX]; /* indices into conf.server, in the order to try */
};

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
struct domain *domain_ref(struct domains *d, struct slice name);
void domain_unref(struct domains *d, uint32_t index);
struct domain *domain_get(const struct domains *d, uint32_t index);
/* The plan alone, for messages that are being grouped. */
void plan_make(struct plan *out, const struct conf *conf, struct slice domain);
bool plan_has_direct(const struct plan *p, const struct conf *conf);
#endif
