/* events.h - what happened to a message, told to the log and to the history file. */
#ifndef SCHEDULER_EVENTS_H
#define SCHEDULER_EVENTS_H
#include "scheduler/attempt.h"

/* It is recorded, and in the queue from now on. */
void event_arrived(struct scheduler *s, const struct queuefile *qf);
/* A worker's report was judged; the worker itself writes the `to=` lines once it is acknowledged. */
void event_attempt(struct scheduler *s, const struct record *r, const struct msg_report *m, enum disposition d,
		   uint64_t wait_ms);
/* A failure without a session, for recipients with that outcome: those it bounced (DISPOSITION_BOUNCED), or those still
 * pending. The `to=` lines are ours (none for DISPOSITION_PASSED_ON). */
void event_failure(struct scheduler *s, const struct record *r, const struct failure *f, uint8_t outcome,
		   enum disposition d, uint64_t wait_ms);
/* It waits for a server that is known to be down; said once. */
void event_suspended(struct scheduler *s, entry_index i, struct slice why);
/* Every pending recipient's time is over: status=bounced, 4.4.7, with the last reply. */
void event_expired(struct scheduler *s, const struct record *r);
/* No reply to the final dot: a copy may have been delivered already, and another will be sent. */
void event_possibly_repeated(struct scheduler *s, const struct record *r);
void event_bounced(struct scheduler *s, uint64_t id, uint64_t bounce_id); /* a report to the sender was made */
void event_removed(struct scheduler *s, uint64_t id, const char *why);    /* "delivered", "bounced", "deleted" */
#endif
