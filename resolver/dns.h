/* dns.h - questions to DNS, answered in the loop; the only user of libunbound (a validating stub resolver). */
#ifndef RESOLVER_DNS_H
#define RESOLVER_DNS_H
#include "lib/conf.h"
#include "lib/loop.h"
#include "resolver/wire.h"

struct dns;
struct dns_query;

/* `answer` is borrowed until return. May ask and cancel other questions. */
typedef void (*dns_cb)(void *arg, const struct wire_answer *answer);

/*
 * Reads every file it will ever need (resolv.conf, the trust anchor), so that it works in an empty chroot afterwards.
 * The questions go to conf->dns.servers, else to the host's own name servers. `conf` is borrowed for good. On failure
 * NULL and an explanation in `why`.
 */
struct dns *dns_new(struct loop *loop, const struct conf *conf, struct buf *why) MUST_CHECK;
/*
 * In the jail, before the first question: says once when DNSSEC is off, by itself or because the servers strip it. Asks
 * for the root, which everybody finds whose servers work.
 */
void dns_start(struct dns *dns);
void dns_free(struct dns **dns); /* cancels what is open, without calling back */
/*
 * `name`: A-labels without trailing dot; always taken as absolute, search domains play no part. is_fresh: past the
 * cache of negative answers. `fn` is called once, from the loop and never from inside this call; after dns.timeout at
 * the latest (as WIRE_FAILED). BOGUS comes as WIRE_FAILED.
 */
struct dns_query *dns_ask(struct dns *dns, const char *name, uint16_t type, bool is_fresh, dns_cb fn, void *arg);
/* Not from, or after, the callback: the query is gone then. NULL inside is fine. */
void dns_cancel(struct dns_query **query);
/* How many answers with records have come from the servers themselves, the cache not counted: they do work. */
uint64_t dns_found_count(const struct dns *dns);
#endif
