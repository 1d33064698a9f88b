/* job.h - the life of a delivery under way: out of waiting, to a worker, and back.
 *
 * What workers tell of it is judged in outcome.c; what becomes of it when a server failed, in attempt.c.
 */
#ifndef SCHEDULER_JOB_H
#define SCHEDULER_JOB_H
#include "scheduler/grouping.h"
#include "scheduler/session.h"

/*
 * Takes the entry out of waiting: reads its record. NULL when the record is gone (the entry is then freed). One that is
 * ENTRY_HELD, because an operator did not know that it is under way, is held again afterwards.
 */
struct job *job_new(struct scheduler *s, entry_index i);
struct job *job_find(struct scheduler *s, uint64_t id, uint32_t group);
unsigned job_rcpt_count(const struct job *job); /* pending ones */
/* The record into the journal; the process ends when that cannot be. Durable with the turn. */
void job_record(struct scheduler *s, const struct record *r);
void job_write(struct scheduler *s, struct job *job); /* likewise; what it was held is in there */
/*
 * Frees the job; permits that it still holds count as used. The entry is in nobody's place then, and the caller's; so
 * is the record when `kept` takes it.
 */
entry_index job_end(struct scheduler *s, struct job *job, struct record **kept);
/* Handed back: not an attempt. was_seen: the server may have seen some of it, limits count it. */
void job_requeue(struct scheduler *s, struct job *job, bool was_seen);
/* Back to the head of its lane before any worker saw it. */
void job_give_back(struct scheduler *s, struct job *job, struct lane *l);
/* More recipients than its server, or a limit, would ever let through at once: made into several deliveries. */
void job_split(struct scheduler *s, struct job *job, struct grouping_bounds bounds);
#endif
