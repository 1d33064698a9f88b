/* limiter_ledger_test.c - counts survive restarts, changed configurations and clock steps; damage is refused. */
#include "lib/clock.h"
#include "limiter/ledger.h"
#include "tests/unit/folder.h"
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

enum { HOUR = 3600000, DAY = 24 * HOUR };
static const int64_t START = 1700000000000;

static char dir[64];

static int set_up(void **state)
{
	return folder_make(dir, sizeof(dir), "/tmp");
}

static int tear_down(void **state)
{
	return folder_remove(dir);
}

#define M(text, amount, width)                                     \
	{                                                          \
		(text), UNIT_MESSAGES, (amount), (uint64_t)(width) \
	}
#define R(text, amount, width)                                       \
	{                                                            \
		(text), UNIT_RECIPIENTS, (amount), (uint64_t)(width) \
	}

/* One boot throughout: the boot clock is the limiter's time less START. */
static struct ledger *open_with(const struct limit_spec *limit, unsigned count, int64_t now)
{
	struct account_spec spec = { .name = "isp", .limit_count = count, .limit = limit };
	struct ledger_options o = { .dir = dir,
				    .account_count = count > 0,
				    .account = &spec,
				    .boot_id = "boot",
				    .boot_ms = now - START,
				    .wall_ms = now };
	struct ledger *l;
	const char *why = "";

	if (ledger_open(&l, &o, &why) > STORE_CREATED)
		fail_msg("ledger_open: %s", why);
	assert_int_equal(ledger_now(l, now - START), now);
	return l;
}

static void commit(struct ledger *l)
{
	struct account *a = ledger_find(l, slice_of("isp"));

	if (a)
		ledger_touch(l, a);
	assert_int_equal(ledger_commit(l, START), STORE_OK);
	assert_false(ledger_has_changes(l));
}

static void add(struct ledger *l, enum limit_unit unit, int64_t now, uint64_t count)
{
	struct account *a = ledger_find(l, slice_of("isp"));

	for (unsigned i = 0; i < a->limit_count; i++)
		if (a->limit[i].unit == unit)
			window_add(a->limit[i].window, now, count);
}

static uint64_t used(struct ledger *l, unsigned limit, int64_t now)
{
	return window_used(ledger_find(l, slice_of("isp"))->limit[limit].window, now);
}

static void counts_survive_restart_and_new_amounts(void **state)
{
	static const struct limit_spec BEFORE[] = { M("200/hour", 200, HOUR),
						    M("10000/month", 10000, 30 * (uint64_t)DAY),
						    R("2000/day recipients", 2000, DAY) };
	static const struct limit_spec AFTER[] = { R("50000/day recipients", 50000, DAY), M("100/hour", 100, HOUR),
						   M("20000/month", 20000, 30 * (uint64_t)DAY),
						   M("150/hour", 150, HOUR) };
	struct ledger *l = open_with(BEFORE, 3, START);

	assert_null(ledger_find(l, slice_of("is")));
	assert_null(ledger_find(l, slice_of("isp2")));
	assert_null(ledger_find(l, slice_of("")));
	for (unsigned i = 0; i < 70; i++) {
		add(l, UNIT_MESSAGES, START + i * 1000, 2);
		add(l, UNIT_RECIPIENTS, START + i * 1000, 5);
		commit(l);
	}
	ledger_find(l, slice_of("isp"))->outstanding[CLASS_USUAL][UNIT_MESSAGES] = 7;
	commit(l);
	ledger_close(&l);
	assert_null(l);

	l = open_with(BEFORE, 3, START + 100000);
	assert_int_equal(used(l, 0, START + 100000), 140);
	assert_int_equal(used(l, 1, START + 100000), 140);
	assert_int_equal(used(l, 2, START + 100000), 350);
	assert_int_equal(ledger_find(l, slice_of("isp"))->inherited[CLASS_USUAL][UNIT_MESSAGES], 7);
	assert_int_equal(ledger_find(l, slice_of("isp"))->outstanding[CLASS_USUAL][UNIT_MESSAGES], 0);
	commit(l);
	ledger_close(&l);

	l = open_with(AFTER, 4, START + HOUR + 30500);                     /* the hour has forgotten the first 31 */
	assert_int_equal(ledger_find(l, slice_of("isp"))->limit_count, 3); /* of two for an hour the lower counts */
	assert_int_equal(used(l, 0, START + HOUR + 30500), 350);
	assert_int_equal(used(l, 1, START + HOUR + 30500), 78);
	assert_string_equal(ledger_find(l, slice_of("isp"))->limit[1].text, "100/hour");
	assert_int_equal(window_amount(ledger_find(l, slice_of("isp"))->limit[1].window), 100);
	assert_int_equal(used(l, 2, START + HOUR + 30500), 140);
	commit(l);
	ledger_close(&l);
}

static void new_windows_take_over_what_is_known(void **state)
{
	static const struct limit_spec BEFORE[] = { M("9/hour", 9, HOUR), M("99999/week", 99999, 7 * DAY) };
	static const struct limit_spec AFTER[] = { M("500/day", 500, DAY), M("9/minute", 9, 60000),
						   M("9999/month", 9999, 30 * (uint64_t)DAY),
						   R("9/day recipients", 9, DAY) };
	struct ledger *l = open_with(BEFORE, 2, START);
	int64_t now = START + 3 * (int64_t)DAY;

	add(l, UNIT_MESSAGES, START, 300);
	add(l, UNIT_MESSAGES, now - 20 * HOUR, 40);
	add(l, UNIT_MESSAGES, now - 1000, 3);
	commit(l);
	ledger_close(&l);
	for (unsigned again = 0; again < 2; again++) {
		l = open_with(AFTER, 4, now);
		assert_int_equal(used(l, 0, now), 43);  /* from the week's buckets */
		assert_int_equal(used(l, 1, now), 3);   /* from the hour's exact times */
		assert_int_equal(used(l, 2, now), 343); /* the week is the longest that is known */
		assert_int_equal(used(l, 3, now), 0);   /* recipients were never counted */
		commit(l);
		ledger_close(&l);
	}
}

/* Taken out of the configuration by mistake, put back some time later: what was sent meanwhile counts, too. */
static void removed_limits_go_on_counting(void **state)
{
	static const struct limit_spec BOTH[] = { M("5/hour", 5, HOUR), M("1000/day", 1000, DAY) };
	struct ledger *l = open_with(BOTH, 2, START);

	add(l, UNIT_MESSAGES, START, 100);
	commit(l);
	ledger_close(&l);
	l = open_with(BOTH, 1, START + HOUR);
	assert_int_equal(ledger_find(l, slice_of("isp"))->limit_count, 2);
	assert_true(ledger_find(l, slice_of("isp"))->limit[1].dormant_since > 0);
	assert_true(window_room(ledger_find(l, slice_of("isp"))->limit[1].window, START + HOUR, 0) > 1000000000);
	add(l, UNIT_MESSAGES, START + 2 * HOUR, 20);
	commit(l);
	ledger_close(&l);
	l = open_with(BOTH, 2, START + 3 * HOUR);
	assert_int_equal(used(l, 1, START + 3 * HOUR), 120);
	assert_int_equal(ledger_find(l, slice_of("isp"))->limit[1].dormant_since, 0);
	commit(l);
	ledger_close(&l);

	l = open_with(NULL, 0, START + 4 * HOUR); /* the whole server is gone, and comes back */
	ledger_close(&l);
	l = open_with(BOTH, 2, START + 5 * HOUR);
	assert_int_equal(used(l, 1, START + 5 * HOUR), 120);
	ledger_close(&l);
	l = open_with(BOTH, 1, START + 5 * HOUR);
	commit(l);
	ledger_close(&l);
	l = open_with(BOTH, 1, START + 31 * HOUR); /* long enough */
	assert_int_equal(ledger_find(l, slice_of("isp"))->limit_count, 1);
	ledger_close(&l);
}

static bool count_record(void *arg, struct slice key UNUSED, struct slice value UNUSED)
{
	++*(unsigned *)arg;
	return true;
}

static unsigned record_count(void)
{
	struct store_options o = { dir, 1 << 20, 10 << 20, 0 };
	struct store *s;
	unsigned count = 0;

	assert_int_equal(store_open(&s, &o), STORE_OPENED);
	assert_int_equal(store_scan(s, slice_of(""), count_record, &count), STORE_OK);
	store_close(&s);
	return count;
}

static void old_records_are_removed(void **state)
{
	static const struct limit_spec LIMITS[] = { M("1000/hour", 1000, HOUR) };
	struct ledger *l = open_with(LIMITS, 1, START);

	for (unsigned i = 0; i < 900; i++) {
		add(l, UNIT_MESSAGES, START + i * 60000, 1);
		commit(l);
	}
	ledger_close(&l);
	assert_true(record_count() <= 2 + 3);
	l = open_with(NULL, 0, START + 1000 * 60000); /* the server is gone, and its window has passed */
	ledger_close(&l);
	assert_true(record_count() <= 1);
}

/* Killed between any two commits: what was committed is there. */
static void killed_ledger_keeps_what_was_committed(void **state)
{
	static const struct limit_spec LIMITS[] = { M("1000/hour", 1000, HOUR), M("100000/day", 100000, DAY) };

	for (unsigned round = 1; round <= 5; round++) {
		pid_t pid = fork();
		struct ledger *l;
		int status;

		if (pid == 0) {
			l = open_with(LIMITS, 2, START + round * 1000);
			for (unsigned i = 0; i < 10; i++) {
				add(l, UNIT_MESSAGES, START + round * 1000 + i, 3);
				commit(l);
			}
			add(l, UNIT_MESSAGES, START + round * 1000 + 500, 100); /* never committed, never told */
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		l = open_with(LIMITS, 2, START + round * 1000 + 900);
		assert_int_equal(used(l, 0, START + round * 1000 + 900), 30 * round);
		assert_int_equal(used(l, 1, START + round * 1000 + 900), 30 * round);
		ledger_close(&l);
	}
}

static void damage_is_refused(void **state)
{
	static const struct limit_spec LIMITS[] = { M("1000/hour", 1000, HOUR) };
	static const char *const KEYS[] = { "c", "sisp", "wisp" };
	struct account_spec spec = { .name = "isp", .limit_count = 1, .limit = LIMITS };
	struct ledger_options o = {
		.dir = dir, .account_count = 1, .account = &spec, .boot_id = "boot", .boot_ms = 5, .wall_ms = START
	};
	struct store_options so = { dir, 1 << 20, 10 << 20, 0 };
	const char *why = NULL;
	struct ledger *l;
	struct store *s;

	for (unsigned i = 0; i < ARRAY_LEN(KEYS); i++) {
		l = open_with(LIMITS, 1, START);
		add(l, UNIT_MESSAGES, START, 5);
		commit(l);
		ledger_close(&l);
		assert_int_equal(store_open(&s, &so), STORE_OPENED);
		assert_int_equal(store_put(s, (struct slice){ KEYS[i], strlen(KEYS[i]) + (i > 0) }, slice_of("x")),
				 STORE_OK);
		assert_int_equal(store_sync(s), STORE_OK);
		store_close(&s);
		assert_int_equal(ledger_open(&l, &o, &why), STORE_DAMAGED);
		assert_null(l);
		assert_non_null(why);
		tear_down(NULL);
		set_up(NULL);
	}
}

/* Trap of others: the database is gone, so is the memory of what was sent. */
static void deleted_database_is_refused(void **state)
{
	static const struct limit_spec LIMITS[] = { M("1000/hour", 1000, HOUR) };
	struct account_spec spec = { .name = "isp", .limit_count = 1, .limit = LIMITS };
	struct ledger_options o = {
		.dir = dir, .account_count = 1, .account = &spec, .boot_id = "boot", .boot_ms = 5, .wall_ms = START
	};
	const char *why = NULL;
	char path[128];
	struct ledger *l = open_with(LIMITS, 1, START);

	add(l, UNIT_MESSAGES, START, 5);
	commit(l);
	ledger_close(&l);
	snprintf(path, sizeof(path), "%s/records.db", dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ledger_open(&l, &o, &why), STORE_DAMAGED);
	assert_string_equal(why, "records.db is missing");
}

static void thousands_of_servers_start_quickly(void **state)
{
	enum { SERVERS = 10000 };
	static const struct limit_spec LIMITS[] = { M("20000/hour", 20000, HOUR), M("50000/day", 50000, DAY),
						    M("100000/week", 100000, 7 * DAY),
						    R("1000000/month recipients", 1000000, 30 * (uint64_t)DAY) };
	struct account_spec *spec = xcalloc(SERVERS, sizeof(*spec));
	struct ledger_options o = {
		.dir = dir, .account_count = SERVERS, .account = spec, .boot_id = "boot", .boot_ms = 0, .wall_ms = START
	};
	char name[16];
	const char *why;
	struct ledger *l;
	struct mono before;
	int64_t ms;

	for (unsigned i = 0; i < SERVERS; i++) {
		snprintf(name, sizeof(name), "server-%u", i);
		spec[i] = (struct account_spec){ .name = xstrdup(name),
						 .limit_count = ARRAY_LEN(LIMITS),
						 .limit = LIMITS };
	}
	assert_int_equal(ledger_open(&l, &o, &why), STORE_CREATED);
	for (unsigned k = 0; k < 3; k++) {
		for (unsigned i = 0; i < SERVERS; i++) {
			struct account *a = ledger_account(l, i);

			for (unsigned n = 0; n < a->limit_count; n++)
				window_add(a->limit[n].window, START + k * (int64_t)DAY, 10);
			ledger_touch(l, a);
		}
		assert_int_equal(ledger_commit(l, START), STORE_OK);
	}
	ledger_close(&l);
	before = clock_mono();
	assert_int_equal(ledger_open(&l, &o, &why), STORE_OPENED);
	ms = clock_mono().ms - before.ms;
	print_message("%u servers in %lld ms\n", (unsigned)SERVERS, (long long)ms);
#ifndef POSTERN_SANITIZED
	assert_true(ms < 500);
#endif
	ledger_close(&l);
	for (unsigned i = 0; i < SERVERS; i++)
		free((void *)(uintptr_t)spec[i].name);
	free(spec);
}

static void time_over_restarts_and_reboots(void **state)
{
	static const struct {
		const char *label, *boot_id;
		struct timebase stored;
		int64_t boot_ms, wall_ms, time_ms;
	} CASES[] = {
		{ "same boot, wall ahead", "a", { "a", 1000, 5000, 5000 }, 1700, 999999, 5700 },
		{ "same boot, wall back", "a", { "a", 1000, 5000, 5000 }, 1700, 10, 5700 },
		{ "reboot", "b", { "a", 1000, 5000, 5000 }, 10, 9000, 9000 },
		{ "reboot, wall back", "b", { "a", 1000, 5000, 5000 }, 10, 70, 5000 },
		{ "reboot, clock was ahead", "b", { "a", 1000, 8000, 5000 }, 10, 9000, 6000 },
		{ "reboot, clock was behind", "b", { "a", 1000, 5000, 500000 }, 10, 900000, 500000 },
		{ "reboot, slightly corrected", "b", { "a", 1000, 499000, 500000 }, 10, 900000, 900000 },
		{ "boot clock went back", "a", { "a", 1000, 5000, 5000 }, 900, 9000, 9000 },
		{ "boot unknown", "", { "", 1000, 5000, 5000 }, 1700, 9000, 9000 },
		{ "CK05: reboot in 2036", "b", { "a", 1000, 5000, 5000 }, 10, 5001 + 366 * 86400000ll, 5000 },
		{ "before 1970", "b", { "a", 1000, 5000, 5000 }, 10, -70, 5000 },
	};
	struct timebase t;

	for (unsigned i = 0; i < ARRAY_LEN(CASES); i++) {
		timebase_start(&t, &CASES[i].stored, CASES[i].boot_id, CASES[i].boot_ms, CASES[i].wall_ms);
		if (t.time_ms != CASES[i].time_ms)
			fail_msg("%s: %lld", CASES[i].label, (long long)t.time_ms);
		assert_int_equal(timebase_advance(&t, CASES[i].boot_ms - 5), CASES[i].time_ms);
		assert_int_equal(timebase_advance(&t, CASES[i].boot_ms + 50), CASES[i].time_ms + 50);
	}
	timebase_start(&t, NULL, "a", 5, 7000);
	assert_int_equal(t.time_ms, 7000);
}

#define LEDGER_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LEDGER_TEST(counts_survive_restart_and_new_amounts),
		LEDGER_TEST(new_windows_take_over_what_is_known),
		LEDGER_TEST(removed_limits_go_on_counting),
		LEDGER_TEST(old_records_are_removed),
		LEDGER_TEST(killed_ledger_keeps_what_was_committed),
		LEDGER_TEST(damage_is_refused),
		LEDGER_TEST(deleted_database_is_refused),
		LEDGER_TEST(thousands_of_servers_start_quickly),
		LEDGER_TEST(time_over_restarts_and_reboots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
