/*
 * policy_cache.h - the MTA-STS policies that are known, and when to have one fetched (RFC 8461 3, 5.1).
 *
 * The TXT record of a domain only says whether there is news. A policy holds until its max_age is over, whatever
 * becomes of that record or of the host that serves policies; while one holds, nobody waits for its successor.
 */
#ifndef RESOLVER_POLICY_CACHE_H
#define RESOLVER_POLICY_CACHE_H
#include "lib/sts.h"
#include "resolver/dns.h"

enum {
	POLICY_WAIT_MS = 5 * 1000,       /* how long an answer waits for a first policy; the fetch goes on */
	POLICY_LOST_MS = 120 * 1000,     /* a fetch that nobody has heard of since is no more under way */
	POLICY_BACK_OFF_MS = 300 * 1000, /* after a fetch that failed, unless the record names another id */
	POLICY_ENTRIES_MAX = 10000       /* domains with a record; those beyond have no policy */
};

struct policy_cache;
struct policy_check;

/* Asks for a fetch: policy_cache_take() brings what came of it, some time. */
typedef void (*policy_fetch_cb)(void *arg, const char *domain, const char *id);

/* All are borrowed for good; `lines`: policies kept by lib/sts.h, copied. */
struct policy_cache *policy_cache_new(struct loop *loop, struct dns *dns, struct slice lines, policy_fetch_cb fetch,
				      void *arg);
/* `fn` is called once, from the loop and never from in here: what can be known now is known, or nobody waits longer. */
struct policy_check *policy_check_begin(struct policy_cache *c, const char *domain, loop_cb fn, void *arg);
/* Not after the callback: the check is gone then. NULL inside is fine. */
void policy_check_cancel(struct policy_check **check);
/* The policy that holds now; false: there is none. */
bool policy_cache_find(struct policy_cache *c, const char *domain, struct sts_policy *out) MUST_CHECK;
/* How many seconds what policy_cache_find() says may be relied upon; UINT32_MAX: there is no record, and no policy. */
uint32_t policy_cache_ttl_s(struct policy_cache *c, const char *domain);
/* The end of a fetch. `line` is empty when it failed. False: that is no policy of this domain. */
bool policy_cache_take(struct policy_cache *c, struct slice domain, struct slice line) MUST_CHECK;
#endif
