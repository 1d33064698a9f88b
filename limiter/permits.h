/* permits.h - the rules of asking, settling and adopting; pure but for the ledger it writes to. */
#ifndef LIMITER_PERMITS_H
#define LIMITER_PERMITS_H
#include "limiter/ledger.h"

/* How many of the latest requests of each kind are remembered, to answer a repeated one alike. */
enum { PERMITS_REMEMBERED = 2048 };

struct permits;

struct permit {
	uint32_t messages, recipients; /* both 0: nothing now */
	int64_t free_at;               /* limiter time when to ask again; 0: never, the amount is 0 */
	const char *limit; /* that stands in the way, as written; "" when granted. Borrowed from the ledger */
};

struct settlement {
	uint32_t used[UNIT_COUNT], refunded[UNIT_COUNT];
};

struct permits *permits_new(struct ledger *ledger_borrowed);
void permits_free(struct permits **p);

/* The scheduler was started anew: what it had outstanding waits for its ADOPT, requests begin anew. */
void permits_change_partner(struct permits *p);
/*
 * Every limit of the server is looked at and debited together. Granted are as many messages and as many recipients as
 * fit, at least one of each; to a request for a single message all its recipients or, when they are more than a limit's
 * whole amount, that amount once the window is empty. A server that has no limits gets what it asks for.
 */
struct permit permits_ask(struct permits *p, int64_t now, uint32_t request, struct slice server, uint32_t messages,
			  uint32_t recipients);
/* What became of permits, in part or in whole; a repeated request changes nothing. */
void permits_settle(struct permits *p, int64_t now, uint32_t request, struct slice server, const struct settlement *s);
/* Of what was inherited this much is still under way; the rest is taken as used now. */
void permits_adopt(struct permits *p, int64_t now, uint32_t request, struct slice server, uint32_t messages,
		   uint32_t recipients);
#endif
