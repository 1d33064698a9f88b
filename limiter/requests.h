/* requests.h - what the scheduler asks of the limiter (limiter.c tells the contract), one function for all of it. */
#ifndef LIMITER_REQUESTS_H
#define LIMITER_REQUESTS_H
#include "lib/proc.h"
#include "limiter/forecast.h"
#include "limiter/setup.h"
#include "limiter/shared.h"

enum {
	LIMITER_FULL_RETRY_MS = 5000,       /* the disk is full: when to try again */
	LIMITER_HELD_PAUSE_BYTES = 1 << 19, /* answers that wait for disk or pipe: read nothing new */
	LIMITER_HELD_MAX_BYTES = 1 << 22
};

struct limiter {
	struct proc *proc;
	struct channel *scheduler;
	uint32_t partner;      /* the scheduler's generation */
	struct ledger *ledger; /* NULL: no limits at all, no counters (trouble), or ending */
	struct permits *permits;
	struct forecast *forecast; /* being asked for; NULL: none */
	struct setup *setup;       /* what the configuration says of limits */
	struct shared *shared;     /* the store that a fleet's limits share; NULL: they are ours alone */
	struct packet correction;  /* under way in that store; len 0: none */
	struct loop_timer *retry;
	struct buf held;     /* packets that wait until what they say is durable: u16 length, bytes */
	const char *trouble; /* why nothing can be granted, for people; NULL: all is well */
	bool is_full, is_paused, is_ending;
};

int64_t limiter_now(struct limiter *l); /* limiter time; the ledger knows the wall clock's from then on */
/* Answers into l->held. False: malformed, or no request. */
bool requests_take(struct limiter *l, uint8_t type, const struct packet *packet) MUST_CHECK;
/* The ledger is open and shares its limits: connects to their store. */
void requests_share(struct limiter *l);
void requests_say_store_state(struct limiter *l);
#endif
