/* history.h - what happened to each message: SPOOL/history/YYYY-MM-DD.jsonl, one JSON object a line, append-only.
 *
 *   {"time":"2026-11-21T15:04:05.123Z","event":EVENT,"queue_id":ID, ...}
 *   arrived    sender, size, nrcpt, uid
 *   outcome    recipient, status (sent | deferred | bounced | expired), attempt, server, relay, dsn, text, next (time)
 *   done       status (sent | bounced | mixed | deleted): nothing more will come
 *   others     named by their makers (held, released, bounce-sent ...), any fields
 *
 * A day is a day of UTC. Lines are gathered and written once per loop turn; they are for people and `postern trace`,
 * the queue does not depend on them: nothing is fsynced, and what a full disk does not take is counted and lost.
 */
#ifndef SCHEDULER_HISTORY_H
#define SCHEDULER_HISTORY_H
#include "lib/clock.h"

struct history;

/* `spool_fd`: directory that holds history/, borrowed. keep_ms: how long `postern trace` remembers. */
struct history *history_new(int spool_fd, uint64_t keep_ms);
void history_free(struct history **h); /* flushes */

struct history_outcome {
	struct slice recipient;
	const char *status, *server, *relay, *dsn;
	struct slice text;
	unsigned attempt;
	struct wall next; /* ms 0: none */
};

/* A line each, gathered until history_flush(). status: why nothing is left to do, "delivered" and the like. */
void history_arrived(struct history *h, struct wall now, uint64_t id, struct slice sender, uint64_t size_bytes,
		     uint32_t rcpt_count, uint32_t uid);
void history_outcome(struct history *h, struct wall now, uint64_t id, const struct history_outcome *o);
void history_done(struct history *h, struct wall now, uint64_t id, const char *status);
/* Any other event; fields: "key", "value" pairs ended by NULL, may be NULL. */
void history_event(struct history *h, struct wall now, uint64_t id, const char *event, const char *const *fields);

/* Writes what was gathered; once per loop turn. Costs nothing when there is nothing. */
void history_flush(struct history *h);
uint64_t history_lost_count(const struct history *h);
#endif
