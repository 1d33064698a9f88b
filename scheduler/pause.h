/* pause.h - servers that are left alone for a while: what they said, until when; outlasts restarts.
 *
 * Mail of a paused server goes to the next one or waits in its lane; waiting is no attempt and its time does not count
 * as age. When the time is over one delivery goes first, and its success lets the others follow.
 */
#ifndef SCHEDULER_PAUSE_H
#define SCHEDULER_PAUSE_H
#include "scheduler/scheduler.h"

bool pause_is_on(const struct scheduler *s, unsigned server);
struct wall pause_until(const struct scheduler *s, unsigned server); /* of one that is on */
/* One log line when it begins; while it lasts it can only become longer, silently. `why` is printable. */
void pause_begin(struct scheduler *s, unsigned server, uint64_t wait_ms, struct slice why);
/* Before its time, or because it is over. */
void pause_end(struct scheduler *s, unsigned server);
/* At start: what an earlier scheduler wrote down. */
void pause_load(struct scheduler *s);
/* "server isp is paused until 2026-11-22T10:00:00Z: host ... said ..." */
void pause_format(struct buf *out, const struct scheduler *s, unsigned server);
/* The wall clock was set: the wait remains what it was. */
void pause_clock_set(struct scheduler *s, int64_t by_ms);
#endif
