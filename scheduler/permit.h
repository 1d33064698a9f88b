/* permit.h - permits of mail that falls under limits: asked in batches, used one by one, settled when the reply is in.
 *
 * What falls under the same limits shares a purse: server, route, destination, sender and class of priority, as far as
 * they matter to any limit. Mail for which no permit is at hand sleeps in its purse, costs nothing there and stands in
 * nobody's way. Mail that falls under no limit has no purse (NULL): then everything here says yes and does nothing.
 */
#ifndef SCHEDULER_PERMIT_H
#define SCHEDULER_PERMIT_H
#include "scheduler/lane.h"

struct purse {
	struct table_node node;
	struct scheduler *owner;
	unsigned server;
	uint16_t route, destination; /* 1 + index; 0: none with limits */
	uint32_t sender;             /* hash, as in entries; 0: senders do not matter */
	uint8_t class;               /* enum mail_class of the limiter: 1 high */
	char *scopes;                /* names, a line feed between two */
	unsigned waiting;            /* entries that wait for permits, awake or asleep */
	unsigned queue_count, job_count;
	struct sender_queue *asleep[PRIORITY_COUNT]; /* rings, the first fell asleep first */
	unsigned asleep_count;                       /* queues in those rings */
	unsigned wakes;
	uint32_t permit_messages, permit_recipients; /* granted, not used yet */
	uint32_t flight_messages, flight_recipients; /* used by deliveries under way */
	uint32_t ask_request;                        /* open PERMIT_ASK, 0: none */
	uint32_t ask_messages, ask_recipients, ask_first;
	uint32_t next_rcpts;       /* what the head of the line needs at once; 0: unknown */
	struct wall blocked_until; /* no permit before then; 0: not blocked; INT64_MAX: never */
	char blocked_limit[65];    /* which limit says so */
	char *blocked_scope;       /* and whose it is */
	struct hold hold;          /* while it is blocked */
	struct mono said;
	struct loop_timer *unblock;
	uint32_t settle_used_messages, settle_used_recipients, settle_refund_messages, settle_refund_recipients;
	unsigned settlement_count; /* on their way */
	struct purse *next_dirty;
	bool is_dirty, is_ask_unsent, must_adopt;
};

/* Finds or makes the purse of a waiting entry at this server. */
struct purse *permit_purse(struct scheduler *s, unsigned server, const struct entry *e);
/* At least one permit is at hand; else asks for as many as wait, unless the limiter said when to ask again. */
bool permit_is_ready(struct scheduler *s, struct purse *p);
/* One message to so many recipients; false (and asks for more) when they do not suffice. The job then holds it. */
bool permit_take(struct scheduler *s, struct purse *p, struct job *job, unsigned rcpts);
/* A taken permit: used when the server saw the transaction, else refunded. Once for each job; then does nothing. */
void permit_settle(struct scheduler *s, struct job *job, bool was_used);
/* A delivery of the scheduler before us is under way there. */
void permit_adopt(struct scheduler *s, struct job *job, unsigned server);
/* Its server's own limit is used up: another server may have room. */
bool permit_is_server_full(const struct purse *p);
/* A queue of the purse has appeared (+1) or gone (-1); entries have come or gone. */
void permit_on_queue(struct purse *p, int queues, int entries);
/* Seconds that this mail was held back by a limit or a pause, from some point in time on. */
uint32_t permit_hold_s(const struct scheduler *s, unsigned server, const struct purse *p);
/* Likewise of mail that waited in the time of the scheduler before us, since it was due. */
uint32_t permit_hold_before_s(struct scheduler *s, unsigned server, struct purse *p, struct wall due);
/* The server itself has limits. */
bool permit_has_limits(const struct scheduler *s, unsigned server);
/* The first of its limits that mail waits for, if any does. */
void permit_format_server(struct buf *out, struct scheduler *s, unsigned server);
/* "limit 200/hour of isp until 14:05" */
void permit_format(struct buf *out, const struct purse *p);
/* A limit was corrected: ask again. scope: its name; empty: whatever it was. */
void permit_ask_again(struct scheduler *s, struct slice scope);
void permit_on_granted(struct scheduler *s, const struct msg_permit *m);
void permit_on_settled(struct scheduler *s, const struct msg_settled *m);
/* A new limiter: tells it what is under way, then repeats what it did not answer. */
void permit_resync(struct scheduler *s);
/* Once per turn: sends settlements, gives back what nobody waits for. */
void permit_turn(struct scheduler *s);
#endif
