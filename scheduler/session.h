/* session.h - connections: which worker holds them, what is under way on them. */
#ifndef SCHEDULER_SESSION_H
#define SCHEDULER_SESSION_H
#include "scheduler/lane.h"

enum session_state {
	SESSION_CONNECTING,
	SESSION_UP,
	SESSION_CLOSING, /* HANGUP was sent */
	SESSION_FOREIGN  /* opened by the scheduler before us: it finishes what it has and is counted until then */
};

struct session {
	struct table_node node; /* by id */
	uint32_t id;
	enum session_state state;
	unsigned server;
	struct worker *worker;
	struct lane *lane;    /* NULL: foreign */
	struct lane *counted; /* foreign: in this one's sessions; NULL: no lane for its site yet */
	uint64_t site;        /* foreign: the lane's hosts_key */
	const struct conf_destination *destination;
	struct session *next, *prev; /* of the lane */
	struct job *jobs;            /* list, oldest first */
	struct job *last_job;
	unsigned in_flight, sent_count, delivered_count;
	uint32_t mail_limit; /* RFC 9422 MAILMAX, 0: unknown */
	uint64_t size_limit;
	struct mono opened;
	bool was_up, was_answered; /* answered: a reply about some delivery came */
	/* Of its host, see detour.h. */
	bool has_other_hosts, was_useful, was_put_off, was_left;
	unsigned detour; /* of the lane, when it was opened */
	struct loop_timer *idle;
	struct scheduler *owner;
};

/* Opens one for the lane on the least busy worker. False when there is none or its pipe is full. */
bool session_open(struct scheduler *s, struct lane *l, struct slice hosts);
struct session *session_find(struct scheduler *s, uint32_t id);
/* What a worker calls a server: its index, or conf->server_count when this configuration has none of that name. */
unsigned session_server_at(const struct scheduler *s, uint32_t key);
const char *session_server_name(const struct scheduler *s, unsigned server);
/* The session of the lane that should get the next delivery; NULL: none has room. */
struct session *session_choose(struct scheduler *s, struct lane *l);
/* Hands the delivery over. The job and its entry are the session's from now on. */
void session_deliver(struct scheduler *s, struct session *session, struct job *job);
/* The job is the session's from now on. */
void session_attach(struct session *session, struct job *job);
void session_hang_up(struct scheduler *s, struct session *session);
/* One of these that is idle, if any, to make room for another lane. */
void session_hang_up_idle(struct scheduler *s, const struct slots *slots);
/* The job leaves its session: answered, or handed back. */
void session_forget_job(struct scheduler *s, struct job *job);
void session_on_up(struct scheduler *s, struct worker *w, const struct msg_session_up *m);
void session_on_down(struct scheduler *s, struct worker *w, const struct msg_session_down *m);
/* After a delivery was answered: reconnect-every, idle time. */
void session_on_progress(struct scheduler *s, struct session *session);
/* The scheduler before us opened it. */
void session_foreign(struct scheduler *s, struct worker *w, const struct msg_session_open *m);
/* The lane's hosts are known, for the first time perhaps: foreign sessions to them are connections of this lane. */
void session_on_hosts(struct scheduler *s, struct lane *l, struct slice hosts);
/* Everything of a worker that died. */
void session_lose_all(struct scheduler *s, struct worker *w);
void session_hang_up_all(struct scheduler *s);
#endif
