/* job.h - a delivery under way, and what is made of its outcome: final, next server, or another attempt later. */
#ifndef SCHEDULER_JOB_H
#define SCHEDULER_JOB_H
#include "scheduler/session.h"

/* Takes the entry out of waiting: reads its record. NULL when the record is gone (the entry is then freed). */
struct job *job_new(struct scheduler *s, entry_index i);
struct job *job_find(struct scheduler *s, uint64_t id, uint16_t group);
unsigned job_rcpt_count(const struct job *job); /* pending ones */

/* Answers of workers. Every report is recorded before it is acknowledged (scheduler_turn). */
void job_on_report(struct scheduler *s, struct worker *w, const struct msg_report *m);
/* A scheduler before us sent it: it is under way on that session. */
/* Found on the board of a worker that knows nothing of it: it died, and the scheduler of its time as well. */
void job_on_orphan(struct scheduler *s, struct worker *w, uint64_t id, uint16_t group);
void job_on_inflight(struct scheduler *s, struct worker *w, const struct msg_inflight *m);
/* The session never came up: every recipient failed at this server for that reason. */
void job_on_session_failure(struct scheduler *s, struct job *job, const struct lane *l,
			    const struct msg_session_down *m);
/* Handed back: not an attempt. was_seen: the server may have seen some of it, limits count it. */
void job_requeue(struct scheduler *s, struct job *job, bool was_seen);
/* Back to the head of its lane before any worker saw it. */
void job_give_back(struct scheduler *s, struct job *job, struct lane *l);
/* More recipients than a limit of its server would ever let through at once: made into several deliveries. */
void job_split(struct scheduler *s, struct job *job);
/* The worker died with it in its hands. */
void job_on_worker_death(struct scheduler *s, struct job *job, const struct worker *w);

/* A failure without any session: no answer from DNS, no server for the domain, the lane is down. */
struct failure {
	enum verdict verdict; /* VERDICT_TEMPORARY or VERDICT_PERMANENT */
	bool is_final;        /* permanent for every server */
	bool is_counted;      /* as an attempt */
	uint16_t code;
	const char *server; /* NAME or "" */
	struct slice dsn, text, relay;
	uint32_t blame; /* whose recovery makes it due at once */
};

/* The entry (in nobody's place) failed at the server it was at; goes to the next or its attempt ends. */
void job_fail_entry(struct scheduler *s, entry_index i, const struct failure *f);
/* No server could be tried (all are down or held): waits until `due` without an attempt; expires when its time is over.
 */
void job_park(struct scheduler *s, entry_index i, struct mono due, uint32_t blame, struct slice why);
#endif
