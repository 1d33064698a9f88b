/* lane.c - ready lists with fairness, the connection window, and the circuit breaker. */
#include "scheduler/lane.h"
#include "lib/log.h"
#include "lib/text.h"
#include "scheduler/detour.h"
#include "scheduler/dispatch.h"
#include "scheduler/permit.h"
#include "scheduler/session.h"
#include "scheduler/slots.h"
#include "scheduler/stepwise.h"
#include "scheduler/verdict.h"
#include <stdlib.h>

enum {
	STEPS_END = 20,   /* connections from which on growth is slow anyway */
	WINDOW_START = 5, /* connections of a lane that is not known yet */
	LOWER_PRIORITY_SHARE =
		8, /* every eighth pick goes to a lower priority that waits, every eighth of them to the lowest */
	FRUITLESS_MAX = 3,
	LANES_REMEMBERED_MAX = 20000, /* lanes without mail */
	THROTTLE_ROUND_MS = 1000      /* answers to one burst count once */
};

static uint64_t lane_hash(unsigned server, uint64_t site)
{
	uint64_t key[2] = { server, site };

	return text_hash(key, sizeof(key));
}

const struct conf_server *lane_server(const struct scheduler *s, const struct lane *l)
{
	return &s->conf->server[l->server];
}

struct lane *lane_at(struct scheduler *s, uint32_t index)
{
	return index > 0 && index < s->lane_limit ? s->lane[index] : NULL;
}

static uint32_t lane_free_index(struct scheduler *s)
{
	if (s->lane_limit == 0)
		s->lane_limit = s->lane_hint = 1;
	while (s->lane_hint < s->lane_limit && s->lane[s->lane_hint])
		s->lane_hint++;
	if (s->lane_hint < s->lane_limit)
		return s->lane_hint;
	if (s->lane_limit >= s->lane_room) {
		s->lane_room = s->lane_room ? s->lane_room * 2 : 64;
		s->lane = xrealloc(s->lane, s->lane_room, sizeof(struct lane *));
		s->lane[0] = NULL;
	}
	return s->lane_limit++;
}

struct lane *lane_get(struct scheduler *s, unsigned server, uint64_t site, const char *name)
{
	uint64_t hash = lane_hash(server, site);
	struct lane *l;

	for (struct table_node *n = table_first(&s->lanes, hash); n; n = table_next(n)) {
		l = TABLE_OBJECT(n, struct lane, node);
		if (l->server == server && l->site == site)
			return l;
	}
	l = xcalloc(1, sizeof(*l));
	l->server = server;
	l->site = site;
	l->name = xstrdup(name);
	l->window = WINDOW_START;
	l->index = lane_free_index(s);
	s->lane[l->index] = l;
	table_add(&s->lanes, &l->node, hash);
	return l;
}

/* Trouble is remembered, of so many sites at most. */
static bool is_worth_remembering(const struct scheduler *s, const struct lane *l)
{
	return s->lanes.count <= LANES_REMEMBERED_MAX &&
	       (l->state != LANE_UP || l->fruitless > 0 || stepwise_is_in_doubt(l) || detour_is_remembered(l) ||
		(l->throttled.ms && clock_mono().ms < l->throttled.ms + LANE_GROWTH_PAUSE_MS));
}

void lane_collect(struct scheduler *s, struct lane *l)
{
	if (l->ready_count || l->asleep_count || l->sessions || l->is_dirty || l->waits_for ||
	    is_worth_remembering(s, l))
		return;
	table_remove(&s->lanes, &l->node);
	s->lane[l->index] = NULL;
	if (l->index < s->lane_hint)
		s->lane_hint = l->index;
	free(l->name);
	free(l->dsn);
	free(l->text);
	free(l->relay);
	free(l);
}

void lane_mark_dirty(struct scheduler *s, struct lane *l)
{
	if (l->is_dirty)
		return;
	l->is_dirty = true;
	l->next_dirty = s->dirty_lanes;
	s->dirty_lanes = l;
}

/* --- ready lists --- */

static struct sender_queue *find_queue(struct scheduler *s, struct lane *l, entry_index i, struct purse **purse,
				       uint64_t *hash)
{
	const struct entry *e = entry_get(s->entries, i);
	uint32_t key[3] = { l->index, e->priority, e->sender };

	*purse = permit_purse(s, l->server, e);
	*hash = text_hash(key, sizeof(key));
	for (struct table_node *n = table_first(&s->sender_queues, *hash); n; n = table_next(n)) {
		struct sender_queue *q = TABLE_OBJECT(n, struct sender_queue, node);

		if (q->lane == l->index && q->sender == e->sender && q->priority == e->priority && q->purse == *purse)
			return q;
	}
	return NULL;
}

static void ring_add(struct sender_queue **ring, struct sender_queue *q)
{
	if (*ring) { /* behind the last: the ring's start is the next in turn */
		q->next = *ring;
		q->prev = (*ring)->prev;
		q->prev->next = q->next->prev = q;
	} else {
		q->next = q->prev = q;
		*ring = q;
	}
}

static void ring_remove(struct sender_queue **ring, struct sender_queue *q)
{
	if (q->next == q)
		*ring = NULL;
	else if (*ring == q)
		*ring = q->next;
	q->prev->next = q->next;
	q->next->prev = q->prev;
}

static struct sender_queue **ring_of(struct lane *l, struct sender_queue *q)
{
	return q->is_asleep ? &q->purse->asleep[q->priority] : &l->ring[q->priority];
}

static struct sender_queue *get_queue(struct scheduler *s, struct lane *l, entry_index i)
{
	const struct entry *e = entry_get(s->entries, i);
	struct purse *purse;
	uint64_t hash;
	struct sender_queue *q = find_queue(s, l, i, &purse, &hash);

	if (q)
		return q;
	q = xcalloc(1, sizeof(*q));
	q->lane = l->index;
	q->sender = e->sender;
	q->priority = e->priority;
	q->purse = purse;
	permit_on_queue(purse, 1, 0);
	ring_add(&l->ring[q->priority], q);
	table_add(&s->sender_queues, &q->node, hash);
	return q;
}

static void drop_queue(struct scheduler *s, struct lane *l, struct sender_queue *q)
{
	ring_remove(ring_of(l, q), q);
	if (q->is_asleep)
		q->purse->asleep_count--;
	table_remove(&s->sender_queues, &q->node);
	permit_on_queue(q->purse, -1, 0);
	free(q);
}

static void note_listed(struct scheduler *s, struct lane *l, struct sender_queue *q, struct entry *e)
{
	e->place = ENTRY_LISTED;
	e->blame = l->index; /* while it is listed: where */
	e->held_mark += permit_hold_s(s, l->server, q->purse);
	if (e->flags & ENTRY_FILE_SEEN) {
		struct wall due = { clock_wall().ms - (clock_mono().ms - e->due_ms) };

		e->flags &= (uint8_t)~ENTRY_FILE_SEEN;
		e->held_mark -= permit_hold_before_s(s, l->server, q->purse, due);
	}
	q->count++;
	if (q->is_asleep)
		l->asleep_count++;
	else
		l->ready_count++;
	s->server[l->server].waiting++;
	permit_on_queue(q->purse, 0, 1);
}

void lane_push(struct scheduler *s, struct lane *l, entry_index i)
{
	struct entry *e = entry_get(s->entries, i);
	struct sender_queue *q = get_queue(s, l, i);

	e->next = 0;
	if (q->tail)
		entry_get(s->entries, q->tail)->next = i;
	else
		q->head = i;
	q->tail = i;
	note_listed(s, l, q, e);
	if (!q->is_asleep)
		lane_mark_dirty(s, l);
}

void lane_push_front(struct scheduler *s, struct lane *l, entry_index i)
{
	struct entry *e = entry_get(s->entries, i);
	struct sender_queue *q = get_queue(s, l, i);

	e->next = q->head;
	q->head = i;
	if (!q->tail)
		q->tail = i;
	note_listed(s, l, q, e);
}

static struct sender_queue *next_queue(struct lane *l)
{
	struct sender_queue *first = NULL, *lower = NULL, *lowest = NULL;

	for (unsigned p = 0; p < PRIORITY_COUNT; p++) {
		if (!l->ring[p])
			continue;
		lowest = l->ring[p];
		if (!first)
			first = lowest;
		else if (!lower)
			lower = lowest;
	}
	if (!lower || (l->picks + 1) % LOWER_PRIORITY_SHARE != 0)
		return first;
	return (l->picks + 1) % (LOWER_PRIORITY_SHARE * LOWER_PRIORITY_SHARE) == 0 ? lowest : lower;
}

struct purse *lane_next_purse(struct lane *l)
{
	return next_queue(l)->purse;
}

void lane_sleep(struct scheduler *s, struct lane *l)
{
	struct sender_queue *q = next_queue(l);

	(void)s;
	ring_remove(&l->ring[q->priority], q);
	q->is_asleep = true;
	ring_add(&q->purse->asleep[q->priority], q);
	q->purse->asleep_count++;
	l->ready_count -= q->count;
	l->asleep_count += q->count;
}

void lane_wake(struct scheduler *s, struct sender_queue *q)
{
	struct lane *l = lane_at(s, q->lane);

	ring_remove(&q->purse->asleep[q->priority], q);
	q->purse->asleep_count--;
	q->is_asleep = false;
	ring_add(&l->ring[q->priority], q);
	l->asleep_count -= q->count;
	l->ready_count += q->count;
	lane_mark_dirty(s, l);
}

static void unlist(struct scheduler *s, struct lane *l, struct sender_queue *q, entry_index before, entry_index i)
{
	struct entry *e = entry_get(s->entries, i);

	if (before)
		entry_get(s->entries, before)->next = e->next;
	else
		q->head = e->next;
	if (q->tail == i)
		q->tail = before;
	e->next = 0;
	q->count--;
	if (q->is_asleep)
		l->asleep_count--;
	else
		l->ready_count--;
	e->held_mark -= permit_hold_s(s, l->server, q->purse);
	s->server[l->server].waiting--;
	permit_on_queue(q->purse, 0, -1);
	if (!q->head)
		drop_queue(s, l, q);
}

entry_index lane_pop(struct scheduler *s, struct lane *l)
{
	struct sender_queue *q = next_queue(l);
	entry_index i;

	if (!q)
		return 0;
	l->picks++;
	i = q->head;
	l->ring[q->priority] = q->next;
	unlist(s, l, q, 0, i);
	return i;
}

entry_index lane_pop_queue(struct scheduler *s, struct sender_queue *q)
{
	entry_index i = q->head;

	unlist(s, lane_at(s, q->lane), q, 0, i);
	return i;
}

bool lane_remove(struct scheduler *s, struct lane *l, entry_index i)
{
	struct purse *purse;
	uint64_t hash;
	struct sender_queue *q = find_queue(s, l, i, &purse, &hash);
	entry_index before = 0, at = q ? q->head : 0;

	while (at && at != i) {
		before = at;
		at = entry_get(s->entries, at)->next;
	}
	if (!at)
		return false;
	unlist(s, l, q, before, i);
	return true;
}

/* --- how well it goes --- */

unsigned lane_limit(const struct scheduler *s, const struct lane *l)
{
	const struct conf_server *server = lane_server(s, l);
	unsigned most = server->max_connections, window = (unsigned)l->window;

	if (l->destination && l->destination->max_connections > 0) {
		if (l->destination->max_connections < most)
			most = l->destination->max_connections;
	} else if (server->method == METHOD_DIRECT && server->max_connections_per_destination < most) {
		most = server->max_connections_per_destination;
	}
	if (l->state != LANE_UP)
		return 1;
	return window < most ? window : most;
}

static void come_up(struct scheduler *s, struct lane *l)
{
	bool was_alerted = l->failures > 0;

	l->state = LANE_UP;
	l->failures = 0;
	l->is_resting = false;
	if (!was_alerted)
		return;
	l->window = WINDOW_START;
	log_warn("server %s: %s answers again", lane_server(s, l)->name, l->name);
	dispatch_release_blamed(s, l->index);
}

void lane_on_answer(struct scheduler *s, struct lane *l)
{
	l->fruitless = 0;
	if (l->is_resting && l->state == LANE_DOWN)
		return;
	if (l->state != LANE_UP || l->failures > 0)
		come_up(s, l);
}

void lane_on_success(struct scheduler *s, struct lane *l)
{
	unsigned most = lane_server(s, l)->max_connections;

	lane_on_answer(s, l);
	slots_on_success(s, l->server);
	if (l->throttled.ms && clock_mono().ms < l->throttled.ms + LANE_GROWTH_PAUSE_MS)
		return;
	/* One more for every good answer while it is small, then one more a round. */
	l->window += l->window < 10 && !l->is_stepping ? 1 : 1 / l->window;
	if (l->window >= STEPS_END)
		l->is_stepping = false;
	if (l->window > most)
		l->window = most;
}

void lane_on_throttle(struct scheduler *s, struct lane *l)
{
	struct mono now = clock_mono();

	(void)s;
	if (l->throttled.ms && now.ms < l->throttled.ms + THROTTLE_ROUND_MS)
		return;
	l->throttled = now;
	/* A window that was never filled says nothing: half of what is open. */
	if (l->sessions < l->window)
		l->window = l->sessions;
	l->window = l->window / 2 < 1 ? 1 : l->window / 2;
}

void lane_on_one_too_many(struct lane *l, unsigned up)
{
	l->throttled = clock_mono();
	l->window = up;
}

static void keep_text(char **at, struct slice text)
{
	free(*at);
	*at = xstrndup(text.ptr, text.len);
}

void lane_pause(struct scheduler *s, struct lane *l, uint64_t wait_ms, struct slice why)
{
	struct mono until = { clock_mono().ms + (int64_t)wait_ms };
	bool was_resting = l->state == LANE_DOWN && l->is_resting;
	struct buf time;

	if (was_resting && until.ms < l->retry_at.ms + 1000)
		return; /* the answers to one burst */
	l->state = LANE_DOWN;
	l->is_resting = l->is_stepping = true;
	l->failures = 0;
	l->window = 1;
	l->retry_at = until;
	keep_text(&l->dsn, slice_of("4.3.2"));
	keep_text(&l->text, why);
	keep_text(&l->relay, slice_of("none"));
	for (struct session *at = l->session; at; at = at->next)
		session_hang_up(s, at);
	if (!was_resting) {
		buf_init(&time, 64);
		text_format_duration(&time, wait_ms);
		log_warn("server %s: %s is left alone for %s: %s", lane_server(s, l)->name, l->name, buf_text(&time),
			 l->text);
		buf_release(&time);
	}
	lane_mark_dirty(s, l);
}

void lane_use_fewer(struct scheduler *s, struct lane *l)
{
	double fewer = l->sessions > 1 ? l->sessions - 1 : 1;

	(void)s;
	l->is_stepping = true;
	l->throttled = clock_mono();
	if (fewer < l->window)
		l->window = fewer;
}

void lane_probe(struct scheduler *s, struct lane *l)
{
	l->window = 1;
	l->is_stepping = true;
	if (l->state == LANE_UP && l->ready_count > 0)
		l->state = LANE_PROBING;
	lane_mark_dirty(s, l);
}

void lane_on_fruitless(struct scheduler *s, struct lane *l, const struct msg_session_down *m)
{
	if (++l->fruitless < FRUITLESS_MAX && l->state == LANE_UP) {
		lane_on_throttle(s, l);
		return;
	}
	lane_on_failure(s, l, m->cause == FAILURE_NONE ? FAILURE_LOST : (enum failure_cause)m->cause, m->code,
			m->dsn.len > 0 ? m->dsn : slice_of("4.4.2"),
			m->text.len > 0 ? m->text : slice_of("connections end before any mail is answered"), m->relay);
}

void lane_on_failure(struct scheduler *s, struct lane *l, enum failure_cause cause, uint16_t code, struct slice dsn,
		     struct slice text, struct slice relay)
{
	struct mono now = clock_mono();
	bool was_up = l->state == LANE_UP && l->failures == 0;
	bool is_same_round = l->state == LANE_DOWN && l->retry_at.ms > now.ms;

	l->cause = cause;
	l->code = code;
	keep_text(&l->dsn, dsn);
	keep_text(&l->text, text);
	keep_text(&l->relay, relay);
	l->is_resting &= is_same_round;
	l->state = LANE_DOWN;
	l->window = 1;
	if (!is_same_round) { /* sessions that were opened together fail together: one failure */
		l->failures++;
		l->retry_at.ms = now.ms + (int64_t)lane_backoff_ms(s->conf, l->failures);
	}
	if (was_up)
		log_warn("server %s: %s does not take mail now: %s", lane_server(s, l)->name, l->name, l->text);
	lane_mark_dirty(s, l);
}
