/* The heap gives entries in order of due time, whatever was added and taken out in between. */
#include "scheduler/entry.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint32_t seed = 1;

static uint32_t roll(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

static void test_heap_order(void **state)
{
	struct entries *e = entries_new();
	enum { COUNT = 5000 };
	int64_t last = -1;
	unsigned left = 0;

	(void)state;
	for (unsigned i = 0; i < COUNT; i++) {
		entry_index at = entry_new(e);

		entry_get(e, at)->id = i + 1;
		entries_push(e, at, (struct mono){ roll(1000) });
	}
	for (entry_index i = 1; i < entries_limit(e); i += 1 + roll(4)) {
		entries_remove(e, i);
		if (roll(2))
			entry_free(e, i);
		else
			entries_push(e, i, (struct mono){ roll(1000) });
	}
	left = entries_heap_count(e);
	assert_int_equal(left, entries_count(e));
	for (entry_index i; (i = entries_first(e)) != 0; left--) {
		assert_true(entry_get(e, i)->due_ms >= last);
		last = entry_get(e, i)->due_ms;
		entries_remove(e, i);
		entry_free(e, i);
	}
	assert_int_equal(left, 0);
	assert_int_equal(entries_count(e), 0);
	entries_free(&e);
}

static void test_find(void **state)
{
	struct entries *e = entries_new();

	(void)state;
	for (unsigned i = 0; i < 3000; i++) { /* ids 10, 10, 10, 20, 20, 20 ... with groups 1 to 3 */
		struct entry *at = entry_get(e, entry_new(e));

		at->id = (i / 3 + 1) * 10;
		at->group = (uint16_t)(i % 3 + 1);
		at->place = ENTRY_LISTED;
	}
	for (unsigned id = 1; id < 10020; id++)
		assert_int_equal(entries_find_sorted(e, id), id % 10 || id > 10000 ? 0 : (id / 10 - 1) * 3 + 1);
	assert_int_equal(entries_find(e, 20, 2), 5);
	entry_free(e, 5);
	assert_int_equal(entries_find(e, 20, 2), 0);
	entries_free(&e);
}

static void test_freed_entries_come_again(void **state)
{
	struct entries *e = entries_new();
	entry_index a = entry_new(e), b = entry_new(e);

	(void)state;
	entry_get(e, a)->flags = ENTRY_TRIED;
	entry_free(e, a);
	assert_int_equal(entry_new(e), a);
	assert_int_equal(entry_get(e, a)->flags, 0);
	assert_int_equal(entries_limit(e), b + 1);
	entries_free(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heap_order),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_freed_entries_come_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
