/* lookup.h - the requests of the scheduler: queued, coalesced, bounded, answered. */
#ifndef RESOLVER_LOOKUP_H
#define RESOLVER_LOOKUP_H
#include "lib/channel.h"
#include "lib/conf.h"
#include "resolver/dns.h"
#include "resolver/host.h"
#include "resolver/policy_cache.h"

enum {
	LOOKUP_ACTIVE_MAX = 500,    /* under way in DNS at a time */
	LOOKUP_REQUESTS_MAX = 20000 /* known at a time, those that wait included; more are TEMPORARY at once */
};

struct lookups;

/* All arguments are borrowed for good. */
struct lookups *lookups_new(struct loop *loop, const struct conf *conf, struct dns *dns, const struct host_file *file,
			    struct policy_cache *policies, struct channel *channel);
/* Each request gets its RESOLVED sooner or later, in any order; the same name is looked up once for all who ask. */
void lookups_add(struct lookups *lookups, const struct msg_resolve *request, uint32_t generation);
/* Schedulers up to this generation wait no more: they are gone, and their successor asks again. */
void lookups_forget(struct lookups *lookups, uint32_t last_generation);
#endif
