/* plan.h - which servers may carry a message, in the order to try: "Which server carries a message" in
 * postern.conf(5), rules 1 and 2; pure. */
#ifndef LIB_PLAN_H
#define LIB_PLAN_H
#include "lib/conf.h"

enum { PLAN_SERVERS_MAX = 32 };

struct plan {
	uint16_t route; /* 1 + index into conf.route; 0: none matched, the global list */
	uint8_t count;
	uint16_t server[PLAN_SERVERS_MAX]; /* indices into conf.server */
};

/*
 * For one recipient. `sender` is empty for the null sender, which matches routes without sender patterns and "*" alone.
 * `wanted`: the submitter's own choice (X-Postern-Server), empty: none; an unknown one does not count.
 */
void plan_make(struct plan *out, const struct conf *conf, struct slice sender, struct slice rcpt, struct slice wanted);
/* For some recipient of this domain, when plan_needs_addresses() says that nothing else matters. */
void plan_make_for_domain(struct plan *out, const struct conf *conf, struct slice domain);
/* The configuration speaks of senders or of single addresses. */
bool plan_needs_addresses(const struct conf *conf);
bool plan_equal(const struct plan *a, const struct plan *b); /* the route, too: it may have limits */
bool plan_has_direct(const struct plan *p, const struct conf *conf);

/* Why a server is in the plan or not, for people. */
const char *plan_excluding_pattern(const struct conf_server *server, struct slice rcpt); /* borrowed; NULL: none does */
/* The servers before exclude-domains: of the route, or the global ones. */
const unsigned *plan_candidates(const struct plan *p, const struct conf *conf, unsigned *count);
/* The pattern of the list that the address matches; "" when the list is empty and so matches all; NULL: none. */
const char *plan_matching_pattern(const struct conf_list *patterns, struct slice address);
#endif
