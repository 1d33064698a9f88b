/*
 * policies.h - MTA-STS policies (RFC 8461): fetched when the resolver asks, kept across restarts in run/mta-sts.
 *
 * A fetch that fails takes nothing away: whoever can block HTTPS must not be able to end a policy. When to fetch, and
 * what a policy means, is the resolver's business.
 */
#ifndef MASTER_POLICIES_H
#define MASTER_POLICIES_H
#include "master/supervisor.h"

enum {
	POLICIES_MAX = 10000,       /* kept; then the one that is fetched longest ago makes room */
	POLICIES_ACTIVE_MAX = 4,    /* fetches at a time, each a process */
	POLICIES_WAITING_MAX = 1000 /* for one; what is too many is not answered, and asked again later */
};

struct policies;

/* Reads what the last master kept; a line that makes no sense is left out. */
struct policies *policies_new(struct master *m);
void policies_free(struct policies **p); /* writes what is not yet written */
/* All that is kept, for a resolver that starts: lines of lib/sts.h. */
void policies_collect(const struct policies *p, struct buf *out);
/* The resolver asks: it gets a POLICY. False: that is no question an honest one asks. */
bool policies_ask(struct policies *p, const struct msg_policy_ask *ask) MUST_CHECK;
#endif
