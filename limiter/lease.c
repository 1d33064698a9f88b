/* lease.c - see lease.h. */
#include "limiter/lease.h"
#include <stdlib.h>

enum { TELL_MAX_MS = 1000, AHEAD_MAX = 100000 };

/* --- the book --- */

void lease_book_init(struct lease_book *b)
{
	*b = (struct lease_book){ .due_at = INT64_MAX, .members = 1 };
}

static void queue_remove(struct lease *l)
{
	if (!l->queue)
		return;
	if (l->previous)
		l->previous->next = l->next;
	else
		l->queue->first = l->next;
	if (l->next)
		l->next->previous = l->previous;
	else
		l->queue->last = l->previous;
	l->next = l->previous = NULL;
	l->queue = NULL;
}

static void queue_append(struct lease_queue *q, struct lease *l)
{
	queue_remove(l);
	l->queue = q;
	l->previous = q->last;
	if (q->last)
		q->last->next = l;
	else
		q->first = l;
	q->last = l;
}

void lease_book_begin_session(struct lease_book *b)
{
	while (b->due.first)
		queue_remove(b->due.first);
	while (b->resting.first)
		queue_remove(b->resting.first);
	b->due_at = INT64_MAX;
	b->session++;
	b->is_usable = false;
}

void lease_book_wake(struct lease_book *b, int64_t now)
{
	while (b->resting.first && b->resting.first->rest_until <= now)
		lease_touch(b->resting.first, now);
}

int64_t lease_book_wake_at(const struct lease_book *b)
{
	return b->resting.first ? b->resting.first->rest_until : INT64_MAX;
}

/* --- one lease --- */

struct lease *lease_new(struct lease_book *book_borrowed, struct account *owner, unsigned limit)
{
	struct lease *l = xcalloc(1, sizeof(*l));

	l->book = book_borrowed;
	l->account = owner;
	l->limit = limit;
	l->session = book_borrowed->session;
	l->least = 1;
	return l;
}

void lease_free(struct lease **l)
{
	if (!*l)
		return;
	queue_remove(*l);
	free(*l);
	*l = NULL;
}

/* Whatever is known from an earlier session is void. */
static void join_session(struct lease *l)
{
	if (l->session == l->book->session)
		return;
	l->session = l->book->session;
	l->granted = l->settled = l->returned = l->settled_then = 0;
	l->settled_sent = l->returned_sent = l->settled_known = l->returned_known = 0;
	l->answered = l->ahead = l->demand = 0;
	l->least = 1;
}

void lease_begin(struct lease *l, uint64_t outstanding)
{
	l->session = l->book->session - 1;
	join_session(l);
	l->told = l->session;
	l->granted = outstanding;
}

static uint64_t held(const struct lease *l)
{
	uint64_t gone = l->settled + l->returned;

	return l->session == l->book->session && l->granted > gone ? l->granted - gone : 0;
}

uint64_t lease_room(const struct lease *l, uint64_t outstanding)
{
	uint64_t has = l->book->is_usable ? held(l) : 0;

	return has > outstanding ? has - outstanding : 0;
}

bool lease_is_answered(const struct lease *l, uint64_t since)
{
	return !l->book->is_open || (l->session == l->book->session && l->answered > since);
}

bool lease_is_idle(const struct lease *l)
{
	return held(l) == 0 && !l->queue && !l->is_asked && l->settled == l->settled_known &&
	       l->returned == l->returned_known;
}

void lease_touch(struct lease *l, int64_t at)
{
	if (l->queue != &l->book->due)
		queue_append(&l->book->due, l);
	if (at < l->book->due_at)
		l->book->due_at = at;
}

static void rest(struct lease *l, int64_t now)
{
	if (l->queue)
		return;
	l->rest_until = now + LEASE_REST_MS;
	queue_append(&l->book->resting, l);
}

/* What was used counts as under way until Redis hears of it: told within one of its buckets, but not each by itself. */
void lease_settle(struct lease *l, int64_t now, uint64_t outstanding, uint64_t used, uint64_t width_ms)
{
	uint64_t delay = width_ms / LEASE_GRAINS / 2;

	if (l->session != l->book->session)
		return; /* not told of yet: the beginning of the session does it */
	l->settled += used;
	if (used > 0)
		lease_touch(l, now + (int64_t)(delay < TELL_MAX_MS ? delay : TELL_MAX_MS));
	else if (held(l) > outstanding)
		rest(l, now);
}

void lease_demand(struct lease *l, int64_t now, uint64_t amount, uint64_t least)
{
	join_session(l);
	l->demand += amount;
	if (least > l->least)
		l->least = least;
	lease_touch(l, now);
}

void lease_look_ahead(struct lease *l, int64_t now, uint64_t outstanding)
{
	uint64_t room = lease_room(l, outstanding);

	if (room < l->ahead / 2)
		lease_touch(l, now);
	else if (room > 0)
		rest(l, now);
}

/* What was used within the last second or so; twice as much each time that it did not do. */
static void plan_ahead(struct lease *l, int64_t now, uint64_t amount)
{
	uint64_t most = amount / LEASE_AHEAD_PART / l->book->members;
	int64_t passed = now - l->then;

	if (passed >= LEASE_REST_MS) {
		l->ahead = (l->settled - l->settled_then) * LEASE_REST_MS / (uint64_t)passed;
		l->settled_then = l->settled;
		l->then = now;
	}
	if (l->demand > 0)
		l->ahead = l->ahead * 2 > l->demand ? l->ahead * 2 : l->demand;
	most = most < AHEAD_MAX ? most : AHEAD_MAX;
	l->ahead = l->ahead < most ? l->ahead : most;
}

uint64_t lease_want(struct lease *l, int64_t now, uint64_t outstanding, uint64_t amount)
{
	uint64_t want, has;

	join_session(l);
	plan_ahead(l, now, amount);
	want = outstanding + l->demand + l->ahead;
	has = held(l);
	if (has > want)
		l->returned += has - want;
	return want;
}

void lease_note_sent(struct lease *l)
{
	queue_remove(l);
	l->settled_sent = l->settled;
	l->returned_sent = l->returned;
	l->demand = 0;
	l->is_asked = true;
}

void lease_take_answer(struct lease *l, int64_t now, uint64_t call, uint64_t outstanding, const struct lease_answer *a)
{
	if (l->session != l->book->session)
		return;
	l->granted = a->granted;
	l->settled_known = l->settled_sent;
	l->returned_known = l->returned_sent;
	l->answered = call;
	l->used = a->used;
	l->free_at = a->wait_ms > 0 ? now + a->wait_ms : 0;
	l->least = 1;
	if (a->wait_ms == -2)
		lease_touch(l, now);
	else if (held(l) > outstanding)
		rest(l, now);
}
