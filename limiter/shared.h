/*
 * shared.h - the store that a fleet's limits share, as the limiter sees it: connection, timers, what is said of it in
 * the log, and the requests that wait for its answers. What is asked and why: fleet.h.
 */
#ifndef LIMITER_SHARED_H
#define LIMITER_SHARED_H
#include "lib/conf.h"
#include "lib/loop.h"
#include "lib/msg.h"
#include "limiter/fleet.h"

struct shared;

/* As root, before the jail: finds the host, reads the password. NULL: limits-store = local. Never fails: says why. */
struct shared *shared_prepare(const struct conf *c);
struct lease_book *shared_book(struct shared *s); /* for the accounts of the ledger; NULL where `s` is */

struct shared_options {
	struct loop *loop;
	struct ledger *ledger; /* borrowed, opened with the book */
	uint64_t widest_window_ms;
	/* The store has told something, or is away: look again at what was parked, see shared_retry_parked(). */
	void (*on_news)(void *arg);
	/* What is said of the store has changed, or somebody corrected what it counts. */
	void (*on_state)(void *arg);
	void *arg;
};
void shared_begin(struct shared *s, const struct shared_options *o); /* again with a new ledger, too */
void shared_end(struct shared *s);
/* At the end of each turn: first what was heard, then, when all that was decided is durable, what is to be said. */
void shared_take_news(struct shared *s);
void shared_turn(struct shared *s, int64_t now);
/* Before leases are used. */
void shared_look_at_clock(struct shared *s, int64_t now);
struct fleet *shared_fleet(struct shared *s); /* NULL before shared_begin() */
/* NULL: all is well. Else why nothing, or not all, is granted. */
const char *shared_trouble(struct shared *s);
/* NULL: all is well. Else what an operator has to know; with the store's name. */
const char *shared_state(const struct shared *s);

/* Requests that wait. since: of struct permit_wish. False: there are too many. */
bool shared_park(struct shared *s, const struct packet *p, uint64_t since) MUST_CHECK;
/* Each of those that are parked now; it may be parked again. */
void shared_retry_parked(struct shared *s, void (*retry)(void *arg, const struct packet *p, uint64_t since), void *arg);
void shared_forget_parked(struct shared *s);
#endif
