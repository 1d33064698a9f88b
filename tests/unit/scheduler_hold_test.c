/* Time that we held mail back ourselves: counted once, in this process and across restarts; with a clock of our own. */
#include "scheduler/hold.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { S = 1000, MIN = 60 * S, HOUR = 60 * MIN, DAY = 24 * HOUR };
static const int64_t EPOCH = INT64_C(1795307043000);
static int64_t wall_ms, boot_ms;

/* Both clocks, for lib/clock.c. */
int clock_gettime(clockid_t clock, struct timespec *out)
{
	int64_t ms = clock == CLOCK_REALTIME ? wall_ms : boot_ms;

	*out = (struct timespec){ ms / 1000, ms % 1000 * 1000000 };
	return 0;
}

static void pass(int64_t ms)
{
	wall_ms += ms;
	boot_ms += ms;
}

/* A journal of one note. */
static char note_name[128], note_value[200];
static unsigned note_writes;

enum store_result journal_put_note(struct journal *j, const char *name, struct slice value)
{
	(void)j;
	snprintf(note_name, sizeof(note_name), "%s", name);
	snprintf(note_value, sizeof(note_value), "%.*s", (int)value.len, value.ptr);
	note_writes++;
	return STORE_OK;
}

enum store_result journal_delete_note(struct journal *j, const char *name)
{
	(void)j;
	if (strcmp(name, note_name) == 0)
		note_name[0] = note_value[0] = '\0';
	return STORE_OK;
}

bool journal_get_note(struct journal *j, const char *name, struct buf *value)
{
	(void)j;
	buf_clear(value);
	if (strcmp(name, note_name) != 0)
		return false;
	buf_put_str(value, note_value);
	return true;
}

enum store_result journal_scan_notes(struct journal *j, const char *prefix,
				     void (*fn)(void *arg, struct slice name, struct slice value), void *arg)
{
	(void)j;
	if (note_name[0] && strncmp(note_name, prefix, strlen(prefix)) == 0)
		fn(arg, slice_of(note_name), slice_of(note_value));
	return STORE_OK;
}

static int begin(void **state)
{
	(void)state;
	wall_ms = EPOCH;
	boot_ms = DAY;
	note_name[0] = note_value[0] = '\0';
	note_writes = 0;
	return 0;
}

static struct wall at(int64_t ms)
{
	return (struct wall){ ms };
}

static uint32_t before(struct hold *h, int64_t due)
{
	return hold_before(h, NULL, "isp/0/x", at(due), at(wall_ms));
}

static void hold_for(struct hold *h, int64_t ms)
{
	hold_begin(h, NULL, "isp/0/x", at(wall_ms + ms));
	pass(ms);
	hold_end(h);
}

static void the_counter_runs_while_there_is_a_reason(void **state)
{
	struct hold h = { 0 };

	(void)state;
	hold_for(&h, 5 * S);
	pass(7 * S);
	assert_int_equal(hold_s(&h), 5);
	hold_begin(&h, NULL, "x", at(INT64_MAX));
	hold_begin(&h, NULL, "x", at(INT64_MAX));
	pass(2 * S);
	hold_end(&h);
	pass(2 * S);
	assert_int_equal(hold_s(&h), 9);
	wall_ms += DAY; /* the clock is set */
	assert_int_equal(hold_s(&h), 9);
	hold_end(&h);
	hold_end(&h); /* one too many */
	pass(2 * S);
	assert_int_equal(hold_s(&h), 9);
}

/* Killed in the midst of a long hold, the machine stays off for a while: it would have been held all the time. */
static void a_hold_under_way_outlasts_a_crash(void **state)
{
	struct hold h = { 0 }, next = { 0 }, third = { 0 };

	(void)state;
	hold_begin(&h, NULL, "isp/0/x", at(wall_ms + DAY));
	pass(10 * HOUR);
	assert_int_equal(before(&next, EPOCH), 10 * 3600);
	assert_int_equal(before(&next, EPOCH - DAY), 10 * 3600);
	assert_int_equal(before(&next, EPOCH + 4 * HOUR), 6 * 3600);
	assert_int_equal(before(&next, wall_ms + 5), 0);
	assert_int_equal(hold_s(&next), 0);
	/* Held on, killed again. */
	hold_begin(&next, NULL, "isp/0/x", at(EPOCH + DAY));
	pass(8 * HOUR);
	assert_int_equal(before(&third, EPOCH), 18 * 3600);
	assert_int_equal(before(&third, EPOCH + 4 * HOUR), 14 * 3600);
	pass(2 * DAY);
	assert_int_equal(before(&third, EPOCH), 24 * 3600); /* for the rest it might have gone */
}

/* A limit of seconds holds mail all day in short pieces: written down now and then, and counted nearly whole. */
static void short_holds_add_up(void **state)
{
	struct hold h = { 0 }, next = { 0 };
	uint32_t held;

	(void)state;
	for (unsigned i = 0; i < 3600; i++) {
		hold_for(&h, 18 * S);
		pass(2 * S);
	}
	assert_int_equal(hold_s(&h), 18 * 3600);
	assert_in_range(note_writes, 600, 1200);
	held = before(&next, EPOCH);
	assert_in_range(held, 18 * 3600 - 60, 18 * 3600);
	held = before(&next, EPOCH + 10 * HOUR);
	assert_in_range(held, 9 * 3600 - 60, 9 * 3600);
}

/* What was held long ago is nothing to mail that came since. */
static void a_row_ends(void **state)
{
	struct hold h = { 0 }, next = { 0 };

	(void)state;
	hold_for(&h, 5 * HOUR);
	pass(2 * HOUR);
	hold_begin(&h, NULL, "isp/0/x", at(wall_ms + HOUR));
	pass(HOUR / 2);
	assert_int_equal(before(&next, EPOCH + 6 * HOUR), 1800);
	assert_int_equal(before(&next, EPOCH), 1800);
}

static void an_end_is_foreseen_anew(void **state)
{
	struct hold h = { 0 }, next = { 0 };

	(void)state;
	hold_begin(&h, NULL, "isp/0/x", at(wall_ms + MIN));
	hold_change(&h, NULL, "isp/0/x", at(wall_ms + HOUR));
	pass(HOUR / 2);
	assert_int_equal(before(&next, EPOCH), 1800);
}

static void forgotten_and_swept(void **state)
{
	struct hold h = { 0 };

	(void)state;
	hold_begin(&h, NULL, "isp/0/x", at(wall_ms + HOUR));
	hold_sweep(NULL);
	assert_string_equal(note_name, "held/isp/0/x");
	hold_end(&h);
	hold_forget(&h, NULL, "isp/0/x");
	assert_string_equal(note_name, "");
	hold_begin(&h, NULL, "isp/0/x", at(wall_ms + HOUR));
	pass(400 * (int64_t)DAY);
	hold_sweep(NULL);
	assert_string_equal(note_name, "");
	assert_int_equal(journal_put_note(NULL, "held/y", slice_of("nonsense")), STORE_OK);
	hold_sweep(NULL);
	assert_string_equal(note_name, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(the_counter_runs_while_there_is_a_reason, begin),
		cmocka_unit_test_setup(a_hold_under_way_outlasts_a_crash, begin),
		cmocka_unit_test_setup(short_holds_add_up, begin),
		cmocka_unit_test_setup(a_row_ends, begin),
		cmocka_unit_test_setup(an_end_is_foreseen_anew, begin),
		cmocka_unit_test_setup(forgotten_and_swept, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
