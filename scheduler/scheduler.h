/* scheduler.h - the state of the scheduler process, shared by its modules; each module's verbs are in its own header.
 */
#ifndef SCHEDULER_SCHEDULER_H
#define SCHEDULER_SCHEDULER_H
#include "lib/board.h"
#include "lib/proc.h"
#include "scheduler/domain.h"
#include "scheduler/entry.h"
#include "scheduler/hold.h"
#include "scheduler/journal.h"

struct control;
struct fuse;
struct gate;
struct history;
struct lane;
struct limits_query;
struct session;
struct settlement;
struct pause;
struct purse;
struct replies;
struct status_query;

/* Totals since this process started, per server and in all. */
struct counters {
	uint64_t sent, deferred, bounced;
};

/* Connections that lanes share; see slots.h. */
struct slots {
	unsigned connections, most; /* most 0: as many as there may be otherwise */
	double window;              /* fewer, since the server asked for it; 0: it did not */
	struct mono throttled;      /* when it did */
	struct lane *wanting;       /* ring of lanes with mail that wait for one */
};

/* What we know of a way out; by index of conf.server. */
struct server_state {
	struct slots slots;
	unsigned waiting; /* entries in the ready lists of its lanes */
	struct counters count;
	struct hold hold;       /* by anything but limits: a pause */
	struct pause *pause;    /* NULL: not paused */
	unsigned refusals;      /* of our login, in a row */
	unsigned login_outages; /* it could not judge our login, in a row */
	struct gate *gate;      /* POP before SMTP; NULL: not needed so far */
	struct fuse *fuse;      /* NULL: it refused nothing since it took a message */
};

/* Our partners' numbers, see proc.h. */
enum { SCHEDULER_PEER_PICKUP, SCHEDULER_PEER_RESOLVER, SCHEDULER_PEER_LIMITER, SCHEDULER_PEER_WORKER };

enum worker_state { WORKER_DOWN, WORKER_SYNCING, WORKER_UP };

/* A transaction between its final dot and its reply. */
struct suspect {
	uint64_t id;
	uint32_t group;
};

struct worker {
	unsigned index;
	enum worker_state state;
	struct channel *channel;
	struct board *board;
	unsigned sessions, in_flight;
	uint32_t *acks; /* triples for REPORT_ACK, sent once the journal is durable */
	unsigned ack_count, ack_room;
	/* Found on its board when we started, and not accounted for by the worker yet: whoever sent it may be dead. */
	struct suspect *suspects;
	unsigned suspect_count, suspect_room;
	struct scheduler *owner;
};

/* Of messages with more than one group: how many groups are not final yet. */
struct message {
	struct table_node node;
	uint64_t id;
	uint32_t group_count, open_groups;
	bool is_warned;     /* its sender had a delay notice from this process */
	bool is_report_due; /* some report is, see report.h */
};

/* A delivery in a worker's hands, or between two servers of one attempt. */
struct job {
	struct table_node node; /* by id and group */
	entry_index entry;
	struct record *record;
	struct session *session;
	struct job *next, *prev; /* in the session */
	uint64_t wait_ms;        /* until the next attempt, as far as outcomes have told; 0: none yet */
	uint16_t rcpts_sent;     /* recipients handed to the worker */
	struct purse *purse;     /* whose permits it holds, until they are settled */
	uint16_t permit_rcpts;
	uint32_t held_s;    /* of the record's: when the job comes to nothing it is the entry's again */
	bool was_taken;     /* some recipient was delivered, or may have been */
	bool is_unknown;    /* some recipient's outcome is unknown: no other server at once */
	bool is_wait_fixed; /* a rule said how long for the whole delivery */
	bool goes_again;    /* what was said is not about this delivery: again, and no attempt was made */
	bool is_outside;    /* sent through a server that is not on its list any more: others are still to be tried */
};

/* The wall clock was set, see age.h: messages up to this id came before that. */
enum { CLOCK_STEPS_MAX = 32 };
struct clock_step {
	uint64_t last_id;
	int64_t by_ms;
};

/* A message whose last record says done: its file may go, then the record. */
struct done_message {
	uint64_t id;
	uint32_t group; /* that the record has */
	const char *why;
};

struct scheduler {
	struct proc *proc;
	struct loop *loop;
	const struct conf *conf;
	struct replies *rules;
	int spool_fd;
	struct journal *journal;
	struct entries *entries;
	struct domains domains;
	struct history *history;
	struct control *control;
	struct limits_query *limits_queries; /* so do these */
	struct status_query *status_queries; /* wait for the limiter's answers */
	struct channel *pickup, *resolver, *limiter;
	char store_state[201]; /* what is wrong with the limits-store; "" */
	bool is_limiter_up, is_resolver_up, is_draining, is_over;
	bool is_full; /* the disk: the last sync of the journal found no room */
	unsigned worker_count, syncing_count;
	struct worker *worker;
	struct server_state *server; /* one more than configured: sessions of servers that are not any more */
	struct slots *destination;   /* by index of conf.destination */
	struct counters total;
	uint64_t accepted_count, rejected_count, expired_count, deleted_count;
	struct wall since;
	struct loop_timer *due_timer, *retry_sync_timer, *sweep_timer, *refused_timer;

	struct table jobs, messages, sessions, targets, asked;
	uint32_t next_session, next_request;
	unsigned uncounted_sessions; /* of our predecessor, in no lane yet */

	struct table purses; /* of mail under limits, see permit.h */
	struct purse *dirty_purses;
	struct settlement *settlements; /* not answered yet */
	struct mono speed_since;        /* see limits_note_speed() */
	uint64_t speed_count;
	double speed;     /* recipients a second, 0: unknown */
	bool is_adopting; /* a new limiter does not know yet all that is under way */

	struct table lanes, sender_queues;
	struct lane **lane; /* by index, 1..lane_limit-1 */
	uint32_t lane_limit, lane_room, lane_hint;
	struct lane *dirty_lanes;

	/* decided in this turn, to be done after the journal's sync */
	uint64_t *admitted;
	unsigned admitted_count, admitted_room;
	entry_index newborn;     /* list of entries of admitted messages */
	unsigned stuck_count;    /* so many of the admitted, the first ones, could not be moved into queue/ */
	struct mono admit_again; /* when to try that anew */
	struct loop_timer *admit_timer;
	struct done_message *done;
	unsigned done_count, done_room;
	struct done_message *sweep; /* unlinked; their records go after a sync of the folders */
	unsigned sweep_count, sweep_room;
	uint64_t *report; /* messages whose bounce is named durably and must be written */
	unsigned report_count, report_room;
	uint64_t *refused; /* admissions that found no room: again later */
	unsigned refused_count, refused_room;
	uint64_t last_id;
	unsigned dns_failures;     /* answers in a row that were none */
	unsigned stepwise_count;   /* sites written down, see stepwise.h */
	struct mono report_again;  /* reports that met a full disk */
	int64_t clock_distance_ms; /* of the wall clock from the other, when last looked at */
	int64_t clock_back_ms;     /* while loading: how far it stands behind where it stood, 0 or less */
	uint64_t clock_last_id;    /* last_id then */
	struct mono clock_written; /* 0: not by us */
	const char *boot_id;       /* "": unknown */
	struct clock_step clock_step[CLOCK_STEPS_MAX];
	unsigned clock_step_count;
	int64_t due_armed_ms; /* what due_timer is set to */
};

/* Appends to an array that doubles; returns the new element's address. */
void *array_add(void **array, unsigned *count, unsigned *room, size_t element_bytes);
/* The process cannot go on (database): says why and ends it; master starts it again. */
void scheduler_fail(struct scheduler *s, enum store_result result, const char *doing);
/* What is not STORE_OK is such a case. */
static inline void scheduler_must(struct scheduler *s, enum store_result result, const char *doing)
{
	if (result != STORE_OK)
		scheduler_fail(s, result, doing);
}
#endif
