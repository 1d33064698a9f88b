/* A lane: who is next, how many connections it dares, and when it is down, probed and up again. */
#include "lib/text.h"
#include "scheduler/dispatch.h"
#include "scheduler/lane.h"
#include "scheduler/session.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* What scheduler.c has for its modules. */
void scheduler_fail(struct scheduler *s, enum store_result result, const char *doing)
{
	(void)s;
	fail_msg("%s: %d", doing, result);
}

static char relay_name[] = "relay", direct_name[] = "direct";
static uint64_t after_ms[] = { 600 * 1000 };
static struct conf_server servers[] = {
	{ .name = relay_name, .method = METHOD_RELAY, .max_connections = 20, .max_connections_per_destination = 5 },
	{ .name = direct_name, .method = METHOD_DIRECT, .max_connections = 20, .max_connections_per_destination = 5 },
};
static unsigned primary[] = { 0, 1 };
static struct conf conf;

static struct scheduler *scheduler_new(void)
{
	struct scheduler *s = xcalloc(1, sizeof(*s));

	conf = (struct conf){ .server = servers, .server_count = 2, .primary = primary, .primary_count = 2 };
	conf.retry.after_ms = after_ms;
	conf.retry.after_count = 1;
	s->conf = &conf;
	s->entries = entries_new();
	s->server = xcalloc(2, sizeof(*s->server));
	domains_init(&s->domains, &conf);
	table_init(&s->lanes);
	table_init(&s->sender_queues);
	return s;
}

static void scheduler_release(struct scheduler *s)
{
	for (uint32_t i = 1; i < s->lane_limit; i++) {
		struct lane *l = lane_at(s, i);

		if (!l)
			continue;
		while (lane_pop(s, l))
			;
		l->state = LANE_UP;
		l->fruitless = 0;
		l->throttled.ms = 0;
		l->is_dirty = false;
		lane_collect(s, l);
	}
	assert_int_equal(s->lanes.count, 0);
	assert_int_equal(s->sender_queues.count, 0);
	free(s->lane);
	table_release(&s->lanes);
	table_release(&s->sender_queues);
	domains_release(&s->domains);
	entries_free(&s->entries);
	free(s->server);
	free(s);
}

static entry_index push(struct scheduler *s, struct lane *l, uint32_t sender, unsigned priority)
{
	entry_index i = entry_new(s->entries);
	struct entry *e = entry_get(s->entries, i);

	e->sender = sender;
	e->priority = (uint8_t)priority;
	lane_push(s, l, i);
	return i;
}

static uint32_t pop_sender(struct scheduler *s, struct lane *l)
{
	entry_index i = lane_pop(s, l);

	return i ? entry_get(s->entries, i)->sender : 0;
}

/* --- who is next --- */

static void test_senders_take_turns(void **state)
{
	struct scheduler *s = scheduler_new();
	struct lane *l = lane_get(s, 0, 0, "smtp.example");
	enum { FLOOD = 10000 };

	(void)state;
	for (unsigned i = 0; i < FLOOD; i++)
		push(s, l, 1, PRIORITY_NORMAL);
	push(s, l, 2, PRIORITY_NORMAL);
	push(s, l, 3, PRIORITY_NORMAL);
	push(s, l, 3, PRIORITY_NORMAL);
	assert_int_equal(l->ready_count, FLOOD + 3);
	assert_int_equal(s->server[0].waiting, FLOOD + 3);
	for (unsigned i = 0; i < 2; i++) { /* the flood of the first delays the others by one message, not by all */
		assert_int_equal(pop_sender(s, l), 1);
		if (i == 0)
			assert_int_equal(pop_sender(s, l), 2);
		assert_int_equal(pop_sender(s, l), 3);
	}
	for (unsigned i = 2; i < FLOOD; i++)
		assert_int_equal(pop_sender(s, l), 1);
	assert_int_equal(lane_pop(s, l), 0);
	assert_int_equal(s->server[0].waiting, 0);
	scheduler_release(s);
}

static void test_priorities_share(void **state)
{
	struct scheduler *s = scheduler_new();
	struct lane *l = lane_get(s, 0, 0, "smtp.example");
	unsigned count[PRIORITY_COUNT] = { 0 };
	enum { EACH = 640 };

	(void)state;
	for (unsigned i = 0; i < EACH; i++)
		for (unsigned p = 0; p < PRIORITY_COUNT; p++)
			push(s, l, 1, p);
	for (unsigned i = 0; i < EACH; i++)
		count[entry_get(s->entries, lane_pop(s, l))->priority]++;
	assert_int_equal(count[PRIORITY_HIGH], EACH - EACH / 8);
	assert_int_equal(count[PRIORITY_NORMAL], EACH / 8 - EACH / 64);
	assert_int_equal(count[PRIORITY_BULK], EACH / 64); /* even the lowest goes on */
	scheduler_release(s);
}

static void test_handed_back_goes_first(void **state)
{
	struct scheduler *s = scheduler_new();
	struct lane *l = lane_get(s, 0, 0, "smtp.example");
	entry_index a = push(s, l, 1, PRIORITY_NORMAL), b = push(s, l, 1, PRIORITY_NORMAL),
		    c = push(s, l, 1, PRIORITY_NORMAL);

	(void)state;
	assert_int_equal(lane_pop(s, l), a);
	lane_push_front(s, l, a);
	assert_true(lane_remove(s, l, b));
	assert_false(lane_remove(s, l, b));
	assert_int_equal(lane_pop(s, l), a);
	lane_push_front(s, l, a); /* before the tail that stands alone */
	assert_true(lane_remove(s, l, c));
	push(s, l, 1, PRIORITY_NORMAL);
	assert_int_equal(lane_pop(s, l), a);
	assert_int_equal(l->ready_count, 1);
	scheduler_release(s);
}

/* Random pushes, pops and removals against plain counting: nothing is lost or given twice. */
static void test_lists_hold_together(void **state)
{
	enum { COUNT = 3000 };
	struct scheduler *s = scheduler_new();
	struct lane *l = lane_get(s, 1, 77, "there.example");
	bool *is_in = xcalloc(COUNT + 1, sizeof(bool));
	unsigned in = 0, seed = 7;

	(void)state;
	for (unsigned n = 0; n < COUNT; n++) {
		entry_index i;

		seed = seed * 1664525 + 1013904223;
		i = push(s, l, seed >> 29, (seed >> 20) % PRIORITY_COUNT);

		is_in[i] = true;
		in++;
		if (seed >> 31 && is_in[1 + (seed >> 8) % i]) {
			assert_true(lane_remove(s, l, 1 + (seed >> 8) % i));
			is_in[1 + (seed >> 8) % i] = false;
			in--;
		}
		assert_int_equal(l->ready_count, in);
	}
	for (entry_index i; (i = lane_pop(s, l)) != 0; in--) {
		assert_true(is_in[i]);
		is_in[i] = false;
	}
	assert_int_equal(in, 0);
	free(is_in);
	scheduler_release(s);
}

/* --- lanes --- */

static void test_lanes_are_found_and_freed(void **state)
{
	struct scheduler *s = scheduler_new();
	struct lane *a = lane_get(s, 1, 11, "a.example"), *b = lane_get(s, 1, 22, "b.example");
	uint32_t index = a->index;
	entry_index i;

	(void)state;
	assert_ptr_equal(lane_get(s, 1, 11, "other.example"), a); /* one site, whatever the domain */
	assert_ptr_not_equal(lane_get(s, 0, 11, "a.example"), a);
	assert_ptr_equal(lane_at(s, index), a);
	i = push(s, a, 1, PRIORITY_NORMAL);
	a->is_dirty = false;
	lane_collect(s, a);
	assert_ptr_equal(lane_at(s, index), a); /* it holds mail */
	lane_pop(s, a);
	a->state = LANE_DOWN;
	lane_collect(s, a);
	assert_ptr_equal(lane_at(s, index), a); /* it remembers a failure */
	a->state = LANE_UP;
	lane_collect(s, a);
	assert_null(lane_at(s, index));
	assert_int_equal(lane_get(s, 1, 33, "c.example")->index, index);
	assert_ptr_equal(lane_at(s, b->index), b);
	entry_free(s->entries, i);
	s->dirty_lanes = NULL;
	scheduler_release(s);
}

/* --- how well it goes --- */

static void test_window_grows_and_shrinks(void **state)
{
	struct scheduler *s = scheduler_new();
	struct lane *relay = lane_get(s, 0, 0, "smtp.example"), *site = lane_get(s, 1, 9, "there.example");

	(void)state;
	assert_int_equal(lane_limit(s, relay), 5);
	for (unsigned i = 0; i < 1000; i++)
		lane_on_success(s, relay);
	assert_int_equal(lane_limit(s, relay), 20); /* max-connections */
	for (unsigned i = 0; i < 1000; i++)
		lane_on_success(s, site);
	assert_int_equal(lane_limit(s, site), 5); /* max-connections-per-destination */

	relay->sessions = 20;
	for (unsigned i = 0; i < 20; i++) /* one burst */
		lane_on_throttle(s, relay);
	assert_int_equal(lane_limit(s, relay), 10);
	relay->throttled.ms -= 2000;
	lane_on_throttle(s, relay);
	assert_int_equal(lane_limit(s, relay), 5);
	lane_on_success(s, relay); /* what was asked for holds a while */
	assert_int_equal(lane_limit(s, relay), 5);
	relay->throttled.ms -= 40000;
	lane_on_success(s, relay);
	assert_int_equal(lane_limit(s, relay), 6);
	for (unsigned i = 0; i < 10; i++) {
		relay->throttled.ms = 0;
		lane_on_throttle(s, relay);
	}
	assert_int_equal(lane_limit(s, relay), 1);
	relay->sessions = 0;
	scheduler_release(s);
}

static void refuse(struct scheduler *s, struct lane *l)
{
	lane_on_failure(s, l, FAILURE_CONNECT, 0, slice_of("4.4.1"), slice_of("connection refused"), slice_of("none"));
}

static void test_down_and_up_again(void **state)
{
	struct scheduler *s = scheduler_new();
	struct lane *l = lane_get(s, 0, 0, "smtp.example");
	entry_index blamed = entry_new(s->entries), other = entry_new(s->entries);
	int64_t now = clock_mono().ms, first, wait = 30 * 1000;

	(void)state;
	refuse(s, l);
	assert_int_equal(l->state, LANE_DOWN);
	assert_int_equal(lane_limit(s, l), 1);
	assert_in_range(l->retry_at.ms - now, wait, wait + 5000);
	first = l->retry_at.ms;
	refuse(s, l); /* opened together with the first */
	assert_int_equal(l->failures, 1);
	assert_int_equal(l->retry_at.ms, first);

	for (unsigned i = 0; i < 10; i++) { /* each probe that fails doubles the wait, up to the shortest retry wait */
		l->state = LANE_PROBING;
		refuse(s, l);
		wait = wait * 2 < (int64_t)after_ms[0] ? wait * 2 : (int64_t)after_ms[0];
		assert_in_range(l->retry_at.ms - now, wait, wait + 5000);
	}

	entry_get(s->entries, blamed)->blame = l->index;
	entries_push(s->entries, blamed, l->retry_at);
	entries_push(s->entries, other, l->retry_at);
	l->state = LANE_PROBING;
	lane_on_answer(s, l);
	assert_int_equal(l->state, LANE_UP);
	assert_int_equal(l->failures, 0);
	assert_in_range(entry_get(s->entries, blamed)->due_ms, now, now + 5000); /* at once: not when it was due */
	assert_true(entry_get(s->entries, other)->due_ms > now + 60 * 1000);
	entries_remove(s->entries, blamed);
	entries_remove(s->entries, other);
	scheduler_release(s);
}

static void test_sessions_without_an_answer(void **state)
{
	struct scheduler *s = scheduler_new();
	struct lane *l = lane_get(s, 0, 0, "smtp.example");
	const struct msg_session_down lost = {
		.cause = FAILURE_LOST, .dsn = slice_of("4.4.2"), .text = slice_of("lost"), .relay = slice_of("none")
	};

	(void)state;
	lane_on_fruitless(s, l, &lost);
	lane_on_answer(s, l);
	lane_on_fruitless(s, l, &lost);
	lane_on_fruitless(s, l, &lost);
	assert_int_equal(l->state, LANE_UP); /* mishaps with answers between them */
	lane_on_fruitless(s, l, &lost);
	assert_int_equal(l->state, LANE_DOWN);
	l->state = LANE_PROBING;
	lane_on_fruitless(s, l, &lost); /* a probe has one try */
	assert_int_equal(l->state, LANE_DOWN);
	assert_int_equal(l->failures, 2);
	scheduler_release(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_senders_take_turns),        cmocka_unit_test(test_priorities_share),
		cmocka_unit_test(test_handed_back_goes_first),    cmocka_unit_test(test_lists_hold_together),
		cmocka_unit_test(test_lanes_are_found_and_freed), cmocka_unit_test(test_window_grows_and_shrinks),
		cmocka_unit_test(test_down_and_up_again),         cmocka_unit_test(test_sessions_without_an_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
