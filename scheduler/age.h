/* age.h - how old mail is, whatever becomes of the wall clock: time that was skipped by setting it is no age.
 *
 * Waits run on the other clock and do not notice. A point of time that is kept moves along with the clock; how old a
 * message is leaves out the steps since it came. Outlasts restarts; a step made while no scheduler ran is not noticed.
 */
#ifndef SCHEDULER_AGE_H
#define SCHEDULER_AGE_H
#include "scheduler/scheduler.h"

/* Clocks that are slewed, or set right by seconds, are left alone: less is no step. */
enum { STEP_MIN_MS = 60000 };

/* Looks whether the clock was set since the last look. With every turn, and before a point of time is kept. */
void age_watch_clock(struct scheduler *s);
/* Milliseconds since the message came, below 0 when it "came" later than now. */
int64_t age_of(const struct scheduler *s, uint64_t id);
/* At start: what an earlier scheduler wrote down. */
void age_load(struct scheduler *s);
#endif
