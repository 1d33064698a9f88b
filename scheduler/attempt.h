/* attempt.h - one attempt: from server to server until one takes the mail, then delivered, bounced, or another later.
 */
#ifndef SCHEDULER_ATTEMPT_H
#define SCHEDULER_ATTEMPT_H
#include "scheduler/scheduler.h"

/* A failure without any reply: no answer from DNS, no server for the domain, no session. */
struct failure {
	enum verdict verdict; /* VERDICT_TEMPORARY or VERDICT_PERMANENT */
	bool is_final;        /* permanent for every server */
	bool is_counted;      /* as an attempt */
	uint16_t code;
	const char *server; /* NAME or "" */
	struct slice dsn, text, relay;
	uint32_t blame; /* whose recovery makes it due at once */
};

/* How long it waits after attempt number `attempts`, unless a rule about replies knows better. */
uint64_t attempt_wait_ms(const struct scheduler *s, const struct record *r, unsigned attempts);
/* Another server of its list is left to be tried in this attempt. */
bool attempt_has_next_server(const struct scheduler *s, const struct job *job);
/*
 * One server is done with the job, its recipients' states tell how. What is left goes to the next server, or the
 * attempt ends: finished when all are final, else another one later. Takes the job.
 */
void attempt_go_on(struct scheduler *s, struct job *job);
/* The server failed all recipients that are left; then as attempt_go_on(). */
void attempt_fail_job(struct scheduler *s, struct job *job, const struct failure *f);
/* The same for an entry (in nobody's place) that no worker had. */
void attempt_fail_entry(struct scheduler *s, entry_index i, const struct failure *f);
/* No server could be tried (all are down or held): waits until `due` without an attempt; expires when its time is over.
 */
void attempt_park(struct scheduler *s, entry_index i, struct mono due, uint32_t blame, struct slice why);
#endif
