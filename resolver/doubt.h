/*
 * doubt.h - whether name servers that find nothing are believed; pure.
 *
 * Behind a captive portal, a broken forwarder or a filter every domain "does not exist", and what does not exist makes
 * mail bounce. So unsigned denials count only where something was found since the start, and not too many different
 * names were denied in a row since. A relay's own name never bounces anything and plays no part.
 */
#ifndef RESOLVER_DOUBT_H
#define RESOLVER_DOUBT_H
#include "lib/base.h"

enum { DOUBT_DENIALS_MAX = 20 }; /* a list with every second address dead has that once in a million */

/* All zero to begin with. */
struct doubt {
	uint64_t found;                     /* as it was when the row began */
	uint64_t denied[DOUBT_DENIALS_MAX]; /* hashes of the names in the row */
	unsigned count;
};

/* `found`, here and below: how many answers of the servers themselves, not of a cache, have found something so far. */

/* `name` was denied, without a signature. True: by this one the row has become too long. */
bool doubt_denied(struct doubt *d, const char *name, uint64_t found);
/* True: the row was too long, and has ended. */
bool doubt_is_over(struct doubt *d, uint64_t found);
bool doubt_is_on(const struct doubt *d, uint64_t found);
#endif
