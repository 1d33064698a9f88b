/* age.h - how old mail is, whatever becomes of the wall clock: time that was skipped by setting it is no age.
 *
 * Waits run on the other clock and do not notice. A point of time that is kept moves along with the clock; how old a
 * message is leaves out the steps since it came. Outlasts restarts, and notices what was done meanwhile. Over a reboot
 * nothing tells a clock that is wrong from a machine that was off: such time is no age either.
 */
#ifndef SCHEDULER_AGE_H
#define SCHEDULER_AGE_H
#include "scheduler/scheduler.h"

/* Clocks that are slewed, or set right by seconds, are left alone: less is no step. */
enum { STEP_MIN_MS = 60000 };

/* At start, before the mail is loaded: what an earlier scheduler wrote down; boot_id is kept. age_begin() when it is.
 */
void age_load(struct scheduler *s, const char *boot_id);
void age_begin(struct scheduler *s);
/* Looks whether the clock was set since the last look. With every turn, and before a point of time is kept. */
void age_watch_clock(struct scheduler *s);
/* Writes down where the clocks stand, once a minute at most: called when something else is written anyway. */
void age_keep(struct scheduler *s);
/*
 * Milliseconds since the message came, of which we heard at `known` as the clock stood then: an id may be ahead of
 * that, see spool_id_next(). Below 0 when it "came" later than now.
 */
int64_t age_of(const struct scheduler *s, uint64_t id, struct wall known);
#endif
