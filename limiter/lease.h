/*
 * lease.h - one host's part of a counter that a fleet shares; pure. What Redis does with it: store.lua.
 *
 * A host is granted so much ahead that the network is not in the way of each message. What it has been granted and has
 * neither used nor given back counts against the limit for everybody: a lease that is forgotten costs permits, it never
 * makes any. Amounts are totals since the host's session began, so that a repeated question or a lost answer is
 * harmless.
 */
#ifndef LIMITER_LEASE_H
#define LIMITER_LEASE_H
#include "lib/base.h"

struct account;
struct lease;

enum {
	LEASE_REST_MS = 1000, /* what was not used for so long goes back */
	LEASE_AHEAD_PART = 4, /* leased ahead is at most so small a part of a host's even share */
	LEASE_GRAINS = 128    /* buckets per window in Redis */
};

struct lease_queue {
	struct lease *first, *last;
};

/* What the leases of a host have in common. */
struct lease_book {
	struct lease_queue due;     /* have something to ask or to tell */
	struct lease_queue resting; /* hold something unused; in order of rest_until, which is the same time for all */
	int64_t due_at;             /* limiter time when to call; INT64_MAX: nothing is due */
	uint64_t calls;             /* sent so far */
	uint32_t session;           /* counts: amounts of an earlier one are void */
	unsigned members;           /* hosts of the fleet, at least 1 */
	bool is_usable;             /* leases may be granted from */
	bool is_open;               /* the store answers: what is lacking may be asked for */
};

struct lease {
	struct lease_book *book;
	struct account *account; /* whose limit it belongs to: number `limit` */
	unsigned limit;
	struct lease *next, *previous;
	struct lease_queue *queue; /* NULL: in none */
	uint32_t session, told;    /* that its amounts are of; in which the store was told what is under way */
	uint64_t granted, settled, returned;
	uint64_t settled_sent, returned_sent, settled_known, returned_known;
	uint64_t demand; /* what waits for it */
	uint64_t least;  /* smallest amount that is of use */
	uint64_t ahead;  /* how much to hold beyond what is under way */
	uint64_t settled_then;
	int64_t then, rest_until; /* when settled was settled_then; when to look what is unused */
	uint64_t answered;        /* the call, by number, whose answer it knows; 0: none */
	uint64_t used;            /* by the fleet, with what is under way; as of that answer */
	int64_t free_at;          /* limiter time when there will be room; 0: as soon as there is news */
	bool is_asked;            /* a call about it is under way */
};

void lease_book_init(struct lease_book *b); /* no lease yet; allocates nothing */
/* Every lease begins anew: nothing is held, nothing was used. */
void lease_book_begin_session(struct lease_book *b);

/* `owner`, whose limit number `limit` it is for, is borrowed, too. */
struct lease *lease_new(struct lease_book *book_borrowed, struct account *owner, unsigned limit);
void lease_free(struct lease **l);
/* A session begins: so much is under way from before. */
void lease_begin(struct lease *l, uint64_t outstanding);
/* What may still be granted of what is held; `outstanding`: granted, not settled. */
uint64_t lease_room(const struct lease *l, uint64_t outstanding);
/* Has been answered since call number `since` was the last: a refusal is no longer for want of asking. */
bool lease_is_answered(const struct lease *l, uint64_t since);
bool lease_is_idle(const struct lease *l);

/* So much was used of a limit of this width, or (0) has only been given back. */
void lease_settle(struct lease *l, int64_t now, uint64_t outstanding, uint64_t used, uint64_t width_ms);
/* So much waits; `least` of it is of use. */
void lease_demand(struct lease *l, int64_t now, uint64_t amount, uint64_t least);
/* After a grant: asks for more before the last is gone. */
void lease_look_ahead(struct lease *l, int64_t now, uint64_t outstanding);
/* Asked for news only, or told of a session's beginning. */
void lease_touch(struct lease *l, int64_t at);
/* Moves leases that have rested long enough to those that are due. */
void lease_book_wake(struct lease_book *b, int64_t now);
/* When to call lease_book_wake() next; INT64_MAX: never. */
int64_t lease_book_wake_at(const struct lease_book *b);

/* What to hold in all, decided when the question is written; what is too much is given back by it. */
uint64_t lease_want(struct lease *l, int64_t now, uint64_t outstanding, uint64_t amount);
/* The question has left, and it is the book's call number `calls`. */
void lease_note_sent(struct lease *l);
struct lease_answer {
	uint64_t granted, used;
	/* until there is room; 0: there is, -1: nobody knows, -2: another period has begun, ask anew */
	int64_t wait_ms;
};
/* What the store said to call number `call`; one of an earlier session is ignored. */
void lease_take_answer(struct lease *l, int64_t now, uint64_t call, uint64_t outstanding, const struct lease_answer *a);
#endif
