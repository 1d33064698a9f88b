/* policy.h - what an MTA-STS policy leaves of a domain's hosts; pure.  RFC 8461 4.1, 5 */
#ifndef RESOLVER_POLICY_H
#define RESOLVER_POLICY_H
#include "lib/conf.h"
#include "lib/hosts.h"
#include "lib/sts.h"
#include "resolver/wire.h"

/* Whether some domain may be delivered to opportunistically by this server: the only level that asks for policies. */
bool policy_may_be_wanted(const struct conf *conf, const struct conf_server *server);
/* The same of this domain at these hosts. */
bool policy_is_wanted(const struct conf *conf, const struct conf_server *server, const char *domain,
		      const struct hosts *hosts);
/* From the TXT records of _mta-sts.DOMAIN: there has to be exactly one of this kind (RFC 8461 3.1). */
bool policy_read_id(const struct wire_answer *a, char id[STS_ID_MAX + 1]) MUST_CHECK;
/*
 * Mode enforce: takes out the hosts that it does not name, and marks the others. A host with usable TLSA records stays
 * as it is: DANE says more, and signed DNS led to it. The other modes change nothing; testing is logged. False: nothing
 * is left.
 */
bool policy_apply(const struct sts_policy *p, struct hosts *hosts) MUST_CHECK;
#endif
