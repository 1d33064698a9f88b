/* lane.h - one lane: the mail for one site through one server, its connections, and how well it goes.
 *
 * State:  UP --failure--> DOWN --time's up, mail arrives--> PROBING --success--> UP
 *                          ^--------------failure--------------'
 * A lane that is DOWN costs one probe after each back-off, not one time-out per message.
 */
#ifndef SCHEDULER_LANE_H
#define SCHEDULER_LANE_H
#include "scheduler/scheduler.h"

enum { LANE_GROWTH_PAUSE_MS = 30000 }; /* after a server asked for less */

enum lane_state { LANE_UP, LANE_DOWN, LANE_PROBING };

/* Entries of one sender that are ready in a lane; senders take turns. */
struct sender_queue {
	struct table_node node; /* by lane, priority, sender */
	uint32_t lane, sender;
	struct purse *purse; /* whose limits it falls under; NULL: none */
	uint8_t priority;
	bool is_asleep; /* no permit is at hand: in a ring of the purse's */
	unsigned count;
	entry_index head, tail;
	struct sender_queue *next, *prev; /* the ring */
};

struct lane {
	struct table_node node; /* by server and site */
	uint32_t index;
	unsigned server;
	const struct conf_destination *destination; /* settings of the domain or its MX hosts; NULL: none */
	uint64_t site;                              /* 0 for a relay */
	char *name;         /* the relay's host, or a domain of this site: to find its hosts again */
	bool is_name_stale; /* that domain has gone elsewhere, or is not found: the next one that comes gives its own */
	enum lane_state state;
	double window; /* connections that we dare, adapts to success and failure */
	unsigned sessions, connecting;
	struct session *session;            /* list */
	unsigned rcpt_limit, domain_limit;  /* RFC 9422 RCPTMAX, RCPTDOMAINMAX: the least that was told; 0: none */
	unsigned ready_count, asleep_count; /* entries; asleep: without a permit */
	struct sender_queue *ring[PRIORITY_COUNT];
	unsigned picks;        /* for the share of lower priorities */
	unsigned failures;     /* in a row */
	unsigned fruitless;    /* sessions in a row that came up and ended without a word about any delivery */
	struct mono throttled; /* when it was asked for less; 0: never */
	struct mono retry_at;  /* LANE_DOWN */
	bool is_resting;       /* LANE_DOWN because it was asked to be left alone: a late success changes nothing */
	bool is_stepping;      /* it was asked for less: one connection more for each round of successes */
	enum failure_cause cause;
	uint16_t code;
	char *dsn, *text, *relay;     /* the last failure */
	uint64_t hosts_key;           /* of its MX set, the same in every process; 0: not needed so far */
	struct wall stepwise_until;   /* no PIPELINING; see stepwise.h */
	struct mono broken_flight_at; /* when a session ended with a part of a flight unanswered; 0: none did */
	unsigned detour;              /* so many of its hosts are tried last; see detour.h */
	struct mono detour_until, put_off_since;
	bool is_dirty;
	struct slots *waits_for; /* a connection of these; NULL: it does not */
	struct lane *next_dirty, *next_wanting, *prev_wanting;
};

/* Finds or makes. `site`: of the MX host set, 0 for a relay. `name`: as in struct lane; copied. */
struct lane *lane_get(struct scheduler *s, unsigned server, uint64_t site, const char *name);
struct lane *lane_at(struct scheduler *s, uint32_t index); /* NULL when gone */
const struct conf_server *lane_server(const struct scheduler *s, const struct lane *l);
/* Queues an entry (place LISTED); the lane is worked on at the end of the turn. */
void lane_push(struct scheduler *s, struct lane *l, entry_index i);
/* Handed back: it was first once. The lane is worked on when the caller says so, or when what it lacked comes. */
void lane_push_front(struct scheduler *s, struct lane *l, entry_index i);
/* The next in turn: high before normal before bulk with a share for the lower ones; senders in rotation. 0: none. */
entry_index lane_pop(struct scheduler *s, struct lane *l);
bool lane_remove(struct scheduler *s, struct lane *l, entry_index i); /* operator: false when it is not listed here */
void lane_mark_dirty(struct scheduler *s, struct lane *l);
/* The purse of the next in turn; the lane has something ready. */
struct purse *lane_next_purse(struct lane *l);
/* The queue of the next in turn goes to sleep in its purse; wake: it has a permit. */
void lane_sleep(struct scheduler *s, struct lane *l);
void lane_wake(struct scheduler *s, struct sender_queue *q);
/* Out of a queue, awake or asleep; never 0. */
entry_index lane_pop_queue(struct scheduler *s, struct sender_queue *q);
/* Frees a lane that holds nothing and remembers nothing. */
void lane_collect(struct scheduler *s, struct lane *l);
/* How many connections it may have now, by window and configuration. */
unsigned lane_limit(const struct scheduler *s, const struct lane *l);
void lane_on_answer(struct scheduler *s, struct lane *l);   /* it lives, though this delivery must wait */
void lane_on_success(struct scheduler *s, struct lane *l);  /* a delivery was answered in good order */
void lane_on_throttle(struct scheduler *s, struct lane *l); /* the server asks for less */
/* One more connection was refused beside `up` others that work: those are all it may have for a while. */
void lane_on_one_too_many(struct lane *l, unsigned up);
/* A session came up and was lost before any delivery was answered: once is a mishap, thrice in a row is a failure. */
void lane_on_fruitless(struct scheduler *s, struct lane *l, const struct msg_session_down *m);
/* A rule about replies: nothing for so long, then one connection, then step by step more. */
void lane_pause(struct scheduler *s, struct lane *l, uint64_t wait_ms, struct slice why);
/* A rule about replies: one connection less than there are. */
void lane_use_fewer(struct scheduler *s, struct lane *l);
/* One delivery goes first, then step by step more. */
void lane_probe(struct scheduler *s, struct lane *l);
/* A session failed before it was up. Tells the operator once per change of state. */
void lane_on_failure(struct scheduler *s, struct lane *l, enum failure_cause cause, uint16_t code, struct slice dsn,
		     struct slice text, struct slice relay);
#endif
