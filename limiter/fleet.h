/*
 * fleet.h - this host as one of several that share their counters: what it asks the store and what it makes of the
 * answers; pure but for the ledger. What happens in the store: store.lua.
 *
 *   away     no connection, or none that can be trusted. Leases are void, or (share) good for FLEET_USE_MS
 *   joining  a session begins: the store is told who we are, and whom we know
 *   telling  what is under way; and in an epoch that does not know it yet, what was used: from our own ledger
 *   member   counters are asked for as they are needed
 *
 * An epoch is a time in which the store lost nothing. It ends with the store's process (which may have come back with
 * old data), when its data are gone, or when its clock jumps. In a new one nothing is granted until every host that is
 * known to the store or to any host has told what it used, or an operator has set the counter, or what it cannot know
 * of has expired: a window and FLEET_SILENT_MS later.
 *
 * Times are limiter time (ledger.h).
 */
#ifndef LIMITER_FLEET_H
#define LIMITER_FLEET_H
#include "limiter/permits.h"

enum {
	FLEET_HEARTBEAT_MS = 5000,     /* a call at least so often */
	FLEET_USE_MS = 30 * 60 * 1000, /* so long a lease may be granted from without a word from the store */
	FLEET_SILENT_MS =
		2 * 3600 * 1000 /* store.lua: after that it is taken as used. Between: the longest transaction */
};

/* What the store runs: store.lua. */
extern const char STORE_SCRIPT[];

/* A call of the script: NUL-ended words, the first `keys` of them keys. */
struct fleet_call {
	struct buf words;
	unsigned count, keys;
};

struct fleet;

struct fleet_options {
	const char *hostname;
	struct ledger *ledger;     /* borrowed; its note is ours */
	struct lease_book *book;   /* borrowed; that of the ledger's accounts */
	uint64_t widest_window_ms; /* of all limits */
	uint64_t nonce;            /* random: no two starts of any host have the same */
	bool may_share;            /* limits-store-down = share */
};

struct fleet *fleet_new(const struct fleet_options *o);
void fleet_free(struct fleet **f);
/* A connection to the server process of this name; or there is none. An answer that was due does not come any more. */
void fleet_connected(struct fleet *f, int64_t now, const char *run);
void fleet_disconnected(struct fleet *f, int64_t now, const char *why);
/*
 * The next call, when one is due; one at a time. Everything that it rests on has to be durable: call it after
 * ledger_commit() alone.
 */
bool fleet_next(struct fleet *f, int64_t now, struct fleet_call *out) MUST_CHECK;
void fleet_call_release(struct fleet_call *call);
int64_t fleet_next_at(
	const struct fleet *f); /* when to ask fleet_next() again; INT64_MAX: not before something happens */
/* False: it makes no sense, the connection is of no use. */
bool fleet_take_answer(struct fleet *f, int64_t now, const struct slice *word, unsigned count) MUST_CHECK;
/* Before leases are used: whether that is still allowed. */
void fleet_look_at_clock(struct fleet *f, int64_t now);
/* NULL: all is well. Else why nothing, or not all, can be granted; for people. Borrowed until the next call. */
const char *fleet_trouble(const struct fleet *f);
bool fleet_is_away(const struct fleet *f);

/* Since last time somebody corrected a counter, so that there may be room where there was none. */
bool fleet_take_correction_news(struct fleet *f);

/* A correction of limits of one account, by number; one at a time. False: not now. */
bool fleet_correct(struct fleet *f, struct account *a, const unsigned index[], unsigned count,
		   const struct correction *c) MUST_CHECK;
enum fleet_correction { FLEET_CORRECTING, FLEET_CORRECTED, FLEET_CORRECTION_LOST };
/* *before: what had been used of the first. Once corrected or lost, the next may come. */
enum fleet_correction fleet_correction_state(struct fleet *f, uint64_t *before);
#endif
