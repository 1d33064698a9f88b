/* permits.h - the rules of asking, settling and adopting; pure but for the ledger it writes to. */
#ifndef LIMITER_PERMITS_H
#define LIMITER_PERMITS_H
#include "limiter/ledger.h"

/* How many of the latest requests of each kind are remembered, to answer a repeated one alike. */
enum { PERMITS_REMEMBERED = 2048, PERMITS_SCOPES_MAX = 8 };

struct permits;

/* What is asked for: every limit of every scope is looked at and debited together, or none. */
struct permit_wish {
	struct slice scopes; /* names, a line feed between two */
	enum mail_class class;
	uint32_t messages, recipients;
	uint32_t first; /* recipients that the first of the messages has: fewer are of no use. 0 counts as 1 */
	uint64_t since; /* of shared limits: calls to the store (lease.h) before this one came */
};

struct permit {
	uint32_t messages, recipients; /* both 0: nothing now */
	int64_t free_at;               /* limiter time when to ask again; 0: never, the amount is 0 */
	const char *limit; /* that stands in the way, as written; "" when granted. Borrowed from the configuration */
	unsigned scope_at; /* and whose it is: position in the scopes */
	bool is_pending;   /* nothing yet: the shared store has been asked, ask again when it has answered */
};

struct settlement {
	uint32_t used[UNIT_COUNT], refunded[UNIT_COUNT];
};

enum correction_kind {
	CORRECT_SET,   /* so much of this limit was used, in all */
	CORRECT_RESET, /* nothing was used */
	CORRECT_FULL   /* the provider says that a quota is used up: so is the limit that is nearest to its end */
};

struct permits *permits_new(struct ledger *ledger_borrowed);
void permits_free(struct permits **p);

/* The scheduler was started anew: what it had outstanding waits for its ADOPT, requests begin anew. */
void permits_change_partner(struct permits *p);
/*
 * Granted are as many messages and as many recipients as fit, at least one message and the first's recipients (when
 * those are more than a limit's whole amount, that amount once the window is empty). Scopes that have no limits give
 * what is asked for.
 */
struct permit permits_ask(struct permits *p, int64_t now, uint32_t request, const struct permit_wish *wish);
/* The decision alone, for accounts that are at hand (NULL: no limits); changes nothing but what time itself changes. */
struct permit permits_decide(struct account *const account[], unsigned count, struct moment t,
			     const struct permit_wish *wish);
/* So much was sent there and then. */
void permits_use(struct account *const account[], unsigned count, struct moment t, enum mail_class class,
		 const struct permit *sent);
/* What became of permits, in part or in whole; a repeated request changes nothing. */
void permits_settle(struct permits *p, int64_t now, uint32_t request, struct slice scopes, enum mail_class class,
		    const struct settlement *s);
/*
 * Of what was inherited this much is still under way in one scope; the rest of it is taken as used now. With an empty
 * scope: that was all, what other scopes inherited is used, too.
 */
void permits_adopt(struct permits *p, int64_t now, uint32_t request, struct slice scope, enum mail_class class,
		   uint32_t messages, uint32_t recipients);
struct correction {
	enum correction_kind kind;
	struct slice scope;
	struct slice limit; /* as written in the configuration; empty, but for SET: all of the scope's */
	uint64_t used;      /* SET */
	uint64_t window_ms; /* FULL: only a limit of this window; 0: whichever */
};
enum { PERMITS_LIMITS_MAX = 260 };
/* The limits that a correction is about: numbers in *account. 0: there is no such scope or limit. */
unsigned permits_find(struct permits *p, int64_t now, const struct correction *c, struct account **account,
		      unsigned index[PERMITS_LIMITS_MAX]) MUST_CHECK;
/*
 * By hand, or by a provider's word. False: there is no such scope or limit. *before: what had been used of the (first)
 * limit.
 */
bool permits_correct(struct permits *p, int64_t now, const struct correction *c, uint64_t *before) MUST_CHECK;
#endif
