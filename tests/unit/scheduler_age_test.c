/* How old mail is while clocks are set, processes start anew and machines boot: true histories, and what is made of
 * them. */
#include "lib/spool.h"
#include "scheduler/age.h"
#include "scheduler/pause.h"
#include "scheduler/permit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/random_below.h"

enum { S = 1000, MINUTE = 60 * S, HOUR = 60 * MINUTE, MAILS_MAX = 300 };
static const int64_t EPOCH = INT64_C(1795307043000), DAY = 24 * HOUR;

/* The world: what time it really is, and what the clocks show. */
static int64_t real_ms, wall_off_ms, booted_ms;
static char boot_id[20];

int clock_gettime(clockid_t clock, struct timespec *out)
{
	int64_t ms = clock == CLOCK_REALTIME ? real_ms + wall_off_ms : real_ms - booted_ms;

	*out = (struct timespec){ ms / 1000, ms % 1000 * 1000000 };
	return 0;
}

/* A journal of one note. */
static char note[4096];

enum store_result journal_put_note(struct journal *j, const char *name, struct slice value)
{
	(void)j;
	assert_string_equal(name, "clock");
	assert_true(value.len < sizeof(note));
	snprintf(note, sizeof(note), "%.*s", (int)value.len, value.ptr);
	return STORE_OK;
}

bool journal_get_note(struct journal *j, const char *name, struct buf *value)
{
	(void)j;
	assert_string_equal(name, "clock");
	buf_put_str(value, note);
	return note[0] != '\0';
}

void pause_clock_set(struct scheduler *s, int64_t by_ms)
{
	(void)s, (void)by_ms;
}

void permit_ask_again(struct scheduler *s, struct slice limit)
{
	(void)s, (void)limit;
}

/* --- a life --- */

static struct scheduler *s;
static struct {
	uint64_t id;
	struct wall known;
	int64_t came_ms, off_ms; /* really; how long the machine was off before */
} mail[MAILS_MAX];
static unsigned mail_count;
static int64_t off_ms;

static void start(void)
{
	uint64_t last_id = mail_count > 0 ? mail[mail_count - 1].id : 0;

	free(s);
	s = xcalloc(1, sizeof(*s));
	age_load(s, boot_id);
	s->last_id = last_id;
	age_begin(s);
}

static void begin(void)
{
	real_ms = EPOCH;
	wall_off_ms = off_ms = 0;
	booted_ms = EPOCH - HOUR;
	mail_count = 0;
	note[0] = '\0';
	snprintf(boot_id, sizeof(boot_id), "first");
	start();
}

static void turn(void)
{
	age_watch_clock(s);
	age_keep(s);
}

static void pass(int64_t ms)
{
	real_ms += ms;
	turn();
}

static void arrive(void)
{
	uint64_t id = spool_id_next(s->last_id, SPOOL_BY_PICKUP);

	assert_true(mail_count < MAILS_MAX && id > s->last_id);
	mail[mail_count].known = clock_wall();
	mail[mail_count].came_ms = real_ms;
	mail[mail_count].off_ms = off_ms;
	mail[mail_count++].id = s->last_id = id;
	turn(); /* of the same turn */
}

static void set_clock(int64_t by_ms)
{
	wall_off_ms += by_ms;
}

static void reboot(int64_t off, int64_t wrong_by_ms)
{
	static unsigned count;

	snprintf(boot_id, sizeof(boot_id), "boot-%u", ++count);
	real_ms += off;
	off_ms += off;
	booted_ms = real_ms;
	wall_off_ms = wrong_by_ms;
	real_ms += 10 * S;
	start();
}

/* None is older than it is, and none younger by more than the machine was off. A minute is no step. */
static void check(void)
{
	for (unsigned i = 0; i < mail_count; i++) {
		int64_t age = age_of(s, mail[i].id, mail[i].known), true_age = real_ms - mail[i].came_ms;
		int64_t least = true_age - (off_ms - mail[i].off_ms);

		if (age > true_age + MINUTE || age < least - MINUTE)
			fail_msg("mail %u: %lld s old, really %lld s", i, (long long)age / S, (long long)true_age / S);
	}
}

/* --- tests --- */

static void a_week_back_and_forth(void **state)
{
	(void)state;
	for (int64_t by = -7; by <= 7; by += 14) {
		begin();
		arrive();
		pass(HOUR);
		set_clock(by * DAY);
		pass(MINUTE);
		check();
		arrive();
		pass(HOUR);
		set_clock(-by * DAY);
		pass(MINUTE);
		check();
		arrive();
		pass(10 * DAY);
		arrive();
		check();
		start();
		check();
	}
}

static void ck05_a_boot_in_another_year(void **state)
{
	static const int64_t YEARS[] = { -56, -7, 0, 10 };

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(YEARS); i++) {
		begin();
		arrive();
		pass(10 * DAY); /* nothing came since: the next id is far behind the clock, if it only counts on */
		arrive();
		pass(MINUTE);
		reboot(2 * DAY, YEARS[i] * 365 * DAY);
		check();
		arrive();
		pass(5 * MINUTE);
		arrive();
		check();
		set_clock(-wall_off_ms);
		pass(S);
		arrive();
		check();
		pass(DAY);
		check();
		start();
		check();
		reboot(HOUR, 0);
		check();
	}
}

static void a_step_while_no_scheduler_ran(void **state)
{
	(void)state;
	for (int64_t by = -7; by <= 7; by += 14) {
		begin();
		arrive();
		pass(HOUR);
		set_clock(by * DAY);
		real_ms += DAY; /* that it did not run is age */
		start();
		check();
		assert_int_equal(age_of(s, mail[0].id, mail[0].known) / MINUTE, (DAY + HOUR) / MINUTE);
		start();
		assert_int_equal(age_of(s, mail[0].id, mail[0].known) / MINUTE, (DAY + HOUR) / MINUTE);
	}
}

/* Without a name of the boot nothing is known of what was before, and nothing is made up. */
static void an_unnamed_boot(void **state)
{
	(void)state;
	begin();
	boot_id[0] = '\0';
	start();
	arrive();
	pass(HOUR);
	start();
	assert_int_equal(age_of(s, mail[0].id, mail[0].known), HOUR);
}

static void any_history(void **state)
{
	(void)state;
	for (unsigned life = 0; life < 300; life++) {
		begin();
		for (unsigned i = 0; i < 25; i++) {
			switch (random_below(5)) {
			case 0:
				set_clock(((int64_t)random_below(41) - 20) * DAY);
				turn();
				break;
			case 1:
				start();
				break;
			case 2:
				if (random_below(3) == 0)
					reboot((int64_t)random_below(5) * DAY, ((int64_t)random_below(41) - 20) * DAY);
				break;
			default:
				arrive();
			}
			pass((int64_t)random_below(3) * DAY + (int64_t)random_below(100) * MINUTE + S);
			check();
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_week_back_and_forth),
		cmocka_unit_test(ck05_a_boot_in_another_year),
		cmocka_unit_test(a_step_while_no_scheduler_ran),
		cmocka_unit_test(an_unnamed_boot),
		cmocka_unit_test(any_history),
	};
	int failed = cmocka_run_group_tests_name("scheduler_age", tests, NULL, NULL);

	free(s);
	return failed;
}
