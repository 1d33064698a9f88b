/* hold.h - how long we held mail back ourselves: a limit of a purse, a pause of a server. Such time is no age.
 *
 * A counter of seconds; mail remembers where it stood when it began to wait. What a restart must not forget is written
 * down once for each hold, not for each message: when the present row of holds began (a row ends when there was none
 * for an hour), how long it held in all, and from when until when the last hold of it lasts.
 */
#ifndef SCHEDULER_HOLD_H
#define SCHEDULER_HOLD_H
#include "lib/clock.h"
#include "scheduler/journal.h"

struct hold {
	unsigned reasons;  /* time counts while there is one */
	uint32_t seconds;  /* in all, but for the hold under way */
	struct mono since; /* of that one */
	struct {           /* the row; times as the wall clock has them, in ms */
		bool is_known;
		int64_t begun, held, from, until;
	} row;
	struct mono written; /* 0: not by us */
};

/* `name` says whose it is, at most 100 bytes; `until` when it will be over as far as is known. */
void hold_begin(struct hold *h, struct journal *j, const char *name, struct wall until);
/* The hold under way lasts longer, or less, than was known. */
void hold_change(struct hold *h, struct journal *j, const char *name, struct wall until);
void hold_end(struct hold *h);
uint32_t hold_s(const struct hold *h); /* the counter now; wraps */
/* How long mail was held that waited from `due` until the process before us ended; the latter at `start` at most. */
uint32_t hold_before(struct hold *h, struct journal *j, const char *name, struct wall due, struct wall start);
/* Nobody waits: the row is over. */
void hold_forget(struct hold *h, struct journal *j, const char *name);
/* At start: strikes out what is too old to matter, of limits that are not any more. */
void hold_sweep(struct journal *j);
#endif
