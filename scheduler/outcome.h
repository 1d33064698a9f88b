/* outcome.h - what workers tell of deliveries, judged: recipient by recipient into the record, then to the attempt.
 *
 * Every outcome is recorded before its worker hears so (scheduler_turn): it repeats what was not acknowledged.
 */
#ifndef SCHEDULER_OUTCOME_H
#define SCHEDULER_OUTCOME_H
#include "scheduler/lane.h"

/* One that was heard before is acknowledged again and changes nothing. */
void outcome_on_report(struct scheduler *s, struct worker *w, const struct msg_report *m);
/* A scheduler before us sent it: it is under way on that session. */
void outcome_on_inflight(struct scheduler *s, struct worker *w, const struct msg_inflight *m);
/* Found on the board of a worker that knows nothing of it: it died, and the scheduler of its time as well. */
void outcome_on_orphan(struct scheduler *s, struct worker *w, uint64_t id, uint32_t group);
/* The session never came up: every recipient failed at this server for that reason. */
void outcome_on_session_failure(struct scheduler *s, struct job *job, const struct lane *l,
				const struct msg_session_down *m);
/* The worker died with it in its hands. */
void outcome_on_worker_death(struct scheduler *s, struct job *job, const struct worker *w);
#endif
