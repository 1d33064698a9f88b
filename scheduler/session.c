/* session.c - opening, feeding and closing connections. The counts kept here are what max-connections means. */
#include "scheduler/session.h"
#include "lib/log.h"
#include "lib/text.h"
#include "scheduler/detour.h"
#include "scheduler/dispatch.h"
#include "scheduler/gate.h"
#include "scheduler/job.h"
#include "scheduler/outcome.h"
#include "scheduler/react.h"
#include "scheduler/refusal.h"
#include "scheduler/slots.h"
#include "scheduler/stepwise.h"
#include <stdlib.h>

enum {
	SESSION_AHEAD = 6,          /* deliveries handed to a session that is up: the worker pipelines them */
	SESSION_AHEAD_UNPROVEN = 1, /* to one that is connecting: they would all share its failure */
	SESSION_IDLE_MS = 2000,
	TURN_OF_MANY = 10,         /* messages of one session of several of its lane while other lanes want a slot */
	TURN_OF_ONE = 100,         /* of the lane's only one */
	WORKER_SESSIONS_MAX = 4000 /* below BOARD_SLOTS */
};

static uint64_t id_hash(uint32_t id)
{
	return text_hash(&id, sizeof(id));
}

struct session *session_find(struct scheduler *s, uint32_t id)
{
	for (struct table_node *n = table_first(&s->sessions, id_hash(id)); n; n = table_next(n)) {
		struct session *session = TABLE_OBJECT(n, struct session, node);

		if (session->id == id)
			return session;
	}
	return NULL;
}

unsigned session_server_at(const struct scheduler *s, uint32_t key)
{
	int server = conf_find_server_key(s->conf, key);

	return server < 0 ? s->conf->server_count : (unsigned)server;
}

const char *session_server_name(const struct scheduler *s, unsigned server)
{
	return server < s->conf->server_count ? s->conf->server[server].name : "removed";
}

static struct worker *least_busy_worker(struct scheduler *s)
{
	struct worker *best = NULL;

	for (unsigned i = 0; i < s->worker_count; i++) {
		struct worker *w = &s->worker[i];

		if (w->state != WORKER_UP || proc_peer_is_ending(s->proc, SCHEDULER_PEER_WORKER + i) ||
		    channel_is_full(w->channel) || w->sessions >= WORKER_SESSIONS_MAX)
			continue;
		if (!best || w->sessions < best->sessions)
			best = w;
	}
	return best;
}

static void on_idle(void *arg)
{
	struct session *session = arg;

	if (session->in_flight == 0)
		session_hang_up(session->owner, session);
}

static struct session *session_add(struct scheduler *s, struct worker *w, uint32_t id, unsigned server,
				   const struct conf_destination *destination)
{
	struct session *session = xcalloc(1, sizeof(*session));

	session->id = id;
	session->server = server;
	session->destination = destination;
	session->worker = w;
	session->owner = s;
	session->opened = clock_mono();
	session->idle = loop_timer_new(s->loop, on_idle, session);
	table_add(&s->sessions, &session->node, id_hash(id));
	w->sessions++;
	slots_take(s, server, destination);
	return session;
}

bool session_open(struct scheduler *s, struct lane *l, struct slice hosts)
{
	struct worker *w = least_busy_worker(s);
	struct session *session;
	struct msg_connect m = { 0 };
	struct msg_head head;
	struct packet p;

	if (!w)
		return false;
	do
		s->next_session++;
	while (s->next_session == 0 || session_find(s, s->next_session));
	session = session_add(s, w, s->next_session, l->server, l->destination);
	session->lane = l;
	session->next = l->session;
	if (l->session)
		l->session->prev = session;
	l->session = session;
	l->sessions++;
	l->connecting++;
	m.session = session->id;
	m.server = conf_server_key(&s->conf->server[l->server]);
	m.tls = (uint8_t)(l->destination ? l->destination->tls : TLS_UNSET);
	m.destination = l->destination ? conf_destination_key(l->destination) : 0;
	m.site = l->hosts_key;
	m.stepwise = stepwise_is_on(l);
	m.hosts = detour_order(session, l, hosts);
	head = channel_head(w->channel);
	msg_encode_connect(&p, &head, &m);
	channel_send(w->channel, &p);
	return true;
}

/* How many messages it may carry before it is closed: fewer while other sites of the server wait for a connection.
 * It has a lane: those from before a restart have none, and are given no messages. */
static unsigned session_quota(const struct scheduler *s, const struct session *session)
{
	const struct conf_destination *d = session->lane->destination;
	unsigned every = s->conf->server[session->server].reconnect_every, turn;

	if (d && d->reconnect_every > 0)
		every = d->reconnect_every;
	if (session->mail_limit && session->mail_limit < every)
		every = session->mail_limit;
	if (!slots_are_wanted(s, session->server, d) || s->conf->server[session->server].method != METHOD_DIRECT)
		return every;
	turn = session->lane->sessions > 1 ? TURN_OF_MANY : TURN_OF_ONE;
	return turn < every ? turn : every;
}

/* How many deliveries may be handed to it ahead of their turn. */
static unsigned room_of(const struct scheduler *s, const struct session *session)
{
	unsigned ahead = session->state == SESSION_UP ? SESSION_AHEAD : SESSION_AHEAD_UNPROVEN;
	unsigned every, left, room;

	if ((session->state != SESSION_UP && session->state != SESSION_CONNECTING) ||
	    proc_peer_is_ending(s->proc, SCHEDULER_PEER_WORKER + session->worker->index))
		return 0;
	every = session_quota(s, session);
	if (session->lane->state != LANE_UP)
		ahead = SESSION_AHEAD_UNPROVEN;
	left = every > session->sent_count ? every - session->sent_count : 0;
	room = ahead > session->in_flight ? ahead - session->in_flight : 0;
	return room < left ? room : left;
}

struct session *session_choose(struct scheduler *s, struct lane *l)
{
	struct session *best = NULL;

	for (struct session *at = l->session; at; at = at->next) {
		if (room_of(s, at) == 0 || channel_is_full(at->worker->channel))
			continue;
		if (!best || at->in_flight < best->in_flight)
			best = at;
		if (at->in_flight == 0 && at->state == SESSION_UP)
			return at;
	}
	return best;
}

void session_attach(struct session *session, struct job *job)
{
	job->session = session;
	job->next = NULL;
	job->prev = session->last_job;
	if (session->last_job)
		session->last_job->next = job;
	else
		session->jobs = job;
	session->last_job = job;
	session->in_flight++;
	session->worker->in_flight++;
}

void session_deliver(struct scheduler *s, struct session *session, struct job *job)
{
	uint32_t index[RECORD_RCPT_MAX];
	const struct record *r = job->record;
	struct msg_deliver m = {
		.session = session->id,
		.queue_id = r->id,
		.group = r->group,
		.attempt = (uint16_t)(r->attempts + 1),
		.arrived_ms = r->id >> 12,
		.scheduler_ms = (uint64_t)r->known.ms,
		.active_ms = (uint64_t)clock_wall().ms,
	};
	struct msg_head head = channel_head(session->worker->channel);
	struct packet p;

	m.arrived_ms /= 1000; /* ids carry microseconds */
	for (unsigned i = 0; i < r->rcpt_count; i++)
		if (r->rcpt[i].state == RCPT_PENDING)
			index[m.rcpts.count++] = r->rcpt[i].index;
	m.rcpts.values = index;
	msg_encode_deliver(&p, &head, &m);
	channel_send(session->worker->channel, &p);

	job->rcpts_sent = m.rcpts.count;
	loop_timer_cancel(session->idle);
	session_attach(session, job);
	session->sent_count++;
}

void session_forget_job(struct scheduler *s, struct job *job)
{
	struct session *session = job->session;

	(void)s;
	if (!session)
		return;
	if (job->prev)
		job->prev->next = job->next;
	else
		session->jobs = job->next;
	if (job->next)
		job->next->prev = job->prev;
	else
		session->last_job = job->prev;
	job->next = job->prev = NULL;
	job->session = NULL;
	session->in_flight--;
	session->worker->in_flight--;
}

static void send_hangup(const struct session *session)
{
	struct msg_hangup m = { .session = session->id };
	struct msg_head head = channel_head(session->worker->channel);
	struct packet p;

	msg_encode_hangup(&p, &head, &m);
	channel_send(session->worker->channel, &p);
}

void session_hang_up(struct scheduler *s, struct session *session)
{
	(void)s;
	if (session->state == SESSION_CLOSING || session->state == SESSION_FOREIGN)
		return;
	if (session->state == SESSION_CONNECTING)
		session->lane->connecting--;
	session->state = SESSION_CLOSING;
	loop_timer_cancel(session->idle);
	send_hangup(session);
}

struct idle_search {
	const struct scheduler *s;
	const struct slots *slots;
	struct session *found;
};

static void look_for_idle(void *arg, struct table_node *node)
{
	struct idle_search *search = arg;
	struct session *session = TABLE_OBJECT(node, struct session, node);

	if (session->state == SESSION_UP && session->in_flight == 0 && session->lane->ready_count == 0 &&
	    slots_include(search->s, search->slots, session->server, session->destination))
		search->found = session;
}

void session_hang_up_idle(struct scheduler *s, const struct slots *slots)
{
	struct idle_search search = { s, slots, NULL };

	table_each(&s->sessions, look_for_idle, &search);
	if (search.found)
		session_hang_up(s, search.found);
}

void session_on_progress(struct scheduler *s, struct session *session)
{
	if (session->state == SESSION_FOREIGN || session->state == SESSION_CLOSING)
		return;
	lane_mark_dirty(s, session->lane);
	if (session->in_flight > 0)
		return;
	if (session->sent_count >= session_quota(s, session) || detour_is_due(session))
		session_hang_up(s, session);
	else
		loop_timer_set_ms(session->idle, SESSION_IDLE_MS);
}

/* Behind one name several servers may stand. */
static void lower(unsigned *least, uint32_t told)
{
	if (told > 0 && (*least == 0 || told < *least))
		*least = told;
}

void session_on_up(struct scheduler *s, struct worker *w, const struct msg_session_up *m)
{
	struct session *session = session_find(s, m->session);

	if (!session || session->worker != w || !session->lane)
		return;
	session->was_up = true;
	refusal_forget(s, session->server);
	session->size_limit = m->size_limit;
	lower(&session->lane->rcpt_limit, m->rcpt_limit);
	lower(&session->lane->domain_limit, m->domain_limit);
	session->mail_limit = m->mail_limit;
	if (session->state == SESSION_CONNECTING) {
		session->state = SESSION_UP;
		session->lane->connecting--;
	}
	if (session->in_flight == 0)
		loop_timer_set_ms(session->idle, SESSION_IDLE_MS);
	lane_mark_dirty(s, session->lane);
}

static void session_remove(struct scheduler *s, struct session *session)
{
	struct lane *l = session->lane;

	if (l) {
		if (session->state == SESSION_CONNECTING)
			l->connecting--;
		if (session->prev)
			session->prev->next = session->next;
		else
			l->session = session->next;
		if (session->next)
			session->next->prev = session->prev;
		l->sessions--;
		lane_mark_dirty(s, l);
	} else if (session->counted) {
		session->counted->sessions--;
		lane_mark_dirty(s, session->counted);
	} else {
		s->uncounted_sessions--;
	}
	session->worker->sessions--;
	slots_give_back(s, session->server, session->destination);
	table_remove(&s->sessions, &session->node);
	loop_timer_free(&session->idle);
	free(session);
}

static unsigned count_others_up(const struct lane *l, const struct session *but)
{
	unsigned count = 0;

	for (const struct session *at = l->session; at; at = at->next)
		count += at != but && at->state == SESSION_UP;
	return count;
}

/* Deliveries that came back untouched go to the head of their lane again; on a failed session they share its failure.
 */
static void settle_returned(struct scheduler *s, struct session *session, const struct msg_session_down *m,
			    bool is_explained)
{
	bool is_failure = !is_explained && m->cause != FAILURE_NONE && !session->was_up && session->lane &&
			  (m->cause == FAILURE_LOCAL || count_others_up(session->lane, session) == 0);

	while (session->last_job) { /* both end the job, which takes it out of the session */
		if (is_failure)
			outcome_on_session_failure(s, session->last_job, session->lane, m);
		else
			job_requeue(s, session->last_job, false);
	}
}

enum session_end { END_ORDERLY, END_THROTTLED, END_ONE_TOO_MANY, END_FRUITLESS, END_FAILED };

/* What its end says about the lane. */
static enum session_end judge_end(const struct session *session, const struct msg_session_down *m)
{
	if (m->cause == FAILURE_AUTH)
		return END_FAILED; /* asked for a login in the midst of it too */
	if (session->was_up && session->sent_count > 0 && !session->was_answered && session->last_job)
		return END_FRUITLESS; /* greeted, then gone before anything was said about mail, in whatever words */
	if (m->cause == FAILURE_NONE)
		return END_ORDERLY;
	if (session->was_up)
		return session->sent_count > 0 && !session->was_answered ? END_FRUITLESS : END_THROTTLED;
	if (m->cause == FAILURE_LOCAL)
		return END_THROTTLED;
	return count_others_up(session->lane, session) > 0 ? END_ONE_TOO_MANY : END_FAILED;
}

void session_on_down(struct scheduler *s, struct worker *w, const struct msg_session_down *m)
{
	struct session *session = session_find(s, m->session);
	enum session_end end;
	bool is_explained;
	struct lane *l;

	if (!session || session->worker != w)
		return;
	l = session->lane;
	/* A login refused with the token before the one that we have by now goes again, and nothing is learnt of it. */
	is_explained = l && m->is_outdated;
	if (l && !is_explained && !session->was_up)
		is_explained = react_to_session(s, react_find(s, session->server, m->code, m->dsn, m->text), l, m);
	if (l && !is_explained && refusal_is_one(s, session->server, m)) {
		if (!gate_on_refusal(s, session->server, m->text))
			refusal_note(s, session->server, m->code, m->text);
		is_explained = true;
	}
	end = l && !is_explained ? judge_end(session, m) : END_ORDERLY;
	switch (end) {
	case END_THROTTLED:
		lane_on_throttle(s, l);
		break;
	case END_ONE_TOO_MANY:
		lane_on_one_too_many(l, count_others_up(l, session));
		break;
	case END_FRUITLESS:
		lane_on_fruitless(s, l, m);
		break;
	case END_FAILED:
		lane_on_failure(s, l, (enum failure_cause)m->cause, m->code, m->dsn, m->text, m->relay);
		break;
	default:
		break;
	}
	if (l)
		stepwise_on_down(s, session, m->broken_flight);
	if (l && !is_explained)
		detour_on_end(s, session, end == END_FRUITLESS, m->relay);
	settle_returned(s, session, m, is_explained);
	session_remove(s, session);
}

/* --- from before our time --- */

void session_foreign(struct scheduler *s, struct worker *w, const struct msg_session_open *m)
{
	struct session *session;

	if (w->state != WORKER_SYNCING || session_find(s, m->session))
		return;
	session = session_add(s, w, m->session, session_server_at(s, m->server),
			      conf_find_destination_key(s->conf, m->destination));
	session->state = SESSION_FOREIGN;
	session->was_up = true;
	session->site = m->site;
	s->uncounted_sessions++;
	send_hangup(session);
}

static void count_if_there(void *arg, struct table_node *node)
{
	struct session *session = TABLE_OBJECT(node, struct session, node);
	struct lane *l = arg;

	if (session->lane || session->counted || session->server != l->server || session->site != l->hosts_key ||
	    session->destination != l->destination)
		return;
	session->counted = l;
	l->sessions++;
	session->owner->uncounted_sessions--;
}

void session_on_hosts(struct scheduler *s, struct lane *l, struct slice hosts)
{
	if (l->hosts_key != 0)
		return;
	stepwise_begin(s, l, hosts);
	if (s->uncounted_sessions > 0)
		table_each(&s->sessions, count_if_there, l);
}

struct worker_sessions {
	struct worker *worker;
	struct session **found;
	unsigned count, room;
};

static void collect_sessions(void *arg, struct table_node *node)
{
	struct worker_sessions *list = arg;
	struct session *session = TABLE_OBJECT(node, struct session, node);

	if (!list->worker || session->worker == list->worker)
		*(struct session **)array_add((void **)&list->found, &list->count, &list->room,
					      sizeof(struct session *)) = session;
}

void session_lose_all(struct scheduler *s, struct worker *w)
{
	struct worker_sessions list = { .worker = w };

	table_each(&s->sessions, collect_sessions, &list);
	for (unsigned i = 0; i < list.count; i++) {
		while (list.found[i]->last_job)
			outcome_on_worker_death(s, list.found[i]->last_job, w);
		session_remove(s, list.found[i]);
	}
	free(list.found);
}

void session_hang_up_all(struct scheduler *s)
{
	struct worker_sessions list = { .worker = NULL };

	table_each(&s->sessions, collect_sessions, &list);
	for (unsigned i = 0; i < list.count; i++)
		session_hang_up(s, list.found[i]);
	free(list.found);
}
