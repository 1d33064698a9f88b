/* limiter_calendar_test.c - the clock's periods: where they begin, DST, clock steps; never more than N in one. */
#include "limiter/permits.h"
#include "tests/unit/folder.h"
#include "tests/unit/random_below.h"
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

enum { HOUR = 3600000, DAY = 24 * HOUR };
static const struct slice ISP = { "isp", 3 };
static char dir[64];
static uint32_t next_request;

static int64_t at(const char *text)
{
	struct tm tm = { 0 };

	assert_int_equal(sscanf(text, "%d-%d-%d %d:%d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min),
			 5);
	tm.tm_year -= 1900;
	tm.tm_mon--;
	return (int64_t)timegm(&tm) * 1000;
}

static void periods_begin_where_the_clocks_say(void **state)
{
	static const struct {
		const char *label, *zone;
		enum calendar_period period;
		int hour, minute;
		const char *wall, *start, *end; /* UTC */
	} CASES[] = {
		{ "hour", "UTC", CALENDAR_HOUR, 0, 0, "2026-11-22 10:59", "2026-11-22 10:00", "2026-11-22 11:00" },
		{ "half an hour's zone", "Asia/Kolkata", CALENDAR_HOUR, 0, 0, "2026-11-22 10:15", "2026-11-22 09:30",
		  "2026-11-22 10:30" },
		{ "day", "America/Los_Angeles", CALENDAR_DAY, 0, 0, "2026-11-22 07:59", "2026-11-21 08:00",
		  "2026-11-22 08:00" },
		{ "day that begins later", "Europe/Paris", CALENDAR_DAY, 9, 30, "2026-11-22 08:00", "2026-11-21 08:30",
		  "2026-11-22 08:30" },
		{ "week from Monday", "UTC", CALENDAR_WEEK, 0, 0, "2026-11-22 23:59", "2026-11-16 00:00",
		  "2026-11-23 00:00" },
		{ "month", "Europe/Paris", CALENDAR_MONTH, 0, 0, "2026-11-22 12:00", "2026-10-31 23:00",
		  "2026-11-30 23:00" },
		{ "February of a leap year", "UTC", CALENDAR_MONTH, 0, 0, "2028-02-29 12:00", "2028-02-01 00:00",
		  "2028-03-01 00:00" },
		{ "December", "UTC", CALENDAR_MONTH, 0, 0, "2026-12-31 23:59", "2026-12-01 00:00", "2027-01-01 00:00" },
		{ "23 hours in spring", "Europe/Paris", CALENDAR_DAY, 0, 0, "2026-03-29 12:00", "2026-03-28 23:00",
		  "2026-03-29 22:00" },
		{ "25 hours in autumn", "Europe/Paris", CALENDAR_DAY, 0, 0, "2026-10-25 12:00", "2026-10-24 22:00",
		  "2026-10-25 23:00" },
		{ "begins within the gap", "Europe/Paris", CALENDAR_DAY, 2, 30, "2026-03-29 12:00", "2026-03-29 01:00",
		  "2026-03-30 00:30" },
		{ "begins in an hour that comes twice", "Europe/Paris", CALENDAR_DAY, 2, 30, "2026-10-25 01:10",
		  "2026-10-25 00:30", "2026-10-26 01:30" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(CASES); i++) {
		struct zone *zone = zone_new(CASES[i].zone);
		struct calendar c = { CASES[i].period, CASES[i].hour, CASES[i].minute, zone };

		if (!zone)
			fail_msg("no zone %s", CASES[i].zone);
		if (calendar_start_ms(&c, at(CASES[i].wall)) != at(CASES[i].start) ||
		    calendar_end_ms(&c, at(CASES[i].wall)) != at(CASES[i].end))
			fail_msg("%s: %lld to %lld", CASES[i].label,
				 (long long)calendar_start_ms(&c, at(CASES[i].wall)),
				 (long long)calendar_end_ms(&c, at(CASES[i].wall)));
		zone_free(&zone);
	}
	assert_null(zone_new("Mars/Olympus"));
}

/* "When does a day start?" - at the zone's midnight, and no step of the clock makes another one. */
static void a_clock_step_opens_no_day(void **state)
{
	struct zone *zone = zone_new("UTC");
	struct calendar day = { CALENDAR_DAY, 0, 0, zone };
	struct calendar_count k = { 0 };
	int64_t noon = at("2026-11-22 12:00");

	assert_false(calendar_count_advance(&k, &day, 1000, noon));
	k.count = 5;
	assert_false(calendar_count_advance(&k, &day, 2000, noon + 7 * (int64_t)DAY)); /* ahead by a week */
	assert_int_equal(k.count, 5);
	assert_false(calendar_count_advance(&k, &day, 3000, noon + 1000)); /* and back */
	assert_int_equal(k.count, 5);
	assert_true(calendar_count_advance(&k, &day, 3000 + 12 * HOUR, noon + 1000 + 12 * HOUR)); /* midnight */
	assert_int_equal(k.count, 0);
	k.count = 7;
	/* A jump over midnight when midnight has really passed, too. */
	assert_true(calendar_count_advance(&k, &day, 3000 + 40 * (int64_t)HOUR, noon + 5 * (int64_t)DAY));
	zone_free(&zone);
}

/* Not even one to the last minute of a month, near or far; and when the clock is set right the month just ends later.
 */
static void ck03_a_clock_step_to_the_end_of_a_month_opens_none(void **state)
{
	static const char *const TO[] = { "2026-11-30 23:59", "2027-02-28 23:59", "2026-10-31 23:59",
					  "2026-01-31 23:59" };
	struct zone *zone = zone_new("UTC");
	struct calendar month = { CALENDAR_MONTH, 0, 0, zone };
	const int64_t day = 24 * (int64_t)HOUR, begun = at("2026-11-10 12:00"), left = at("2026-12-01 00:00") - begun;

	for (unsigned i = 0; i < ARRAY_LEN(TO); i++) {
		for (unsigned is_set_right = 0; is_set_right < 2; is_set_right++) {
			struct calendar_count k = { 0 };
			int64_t now = 1000, by = at(TO[i]) - begun, opened = 0;

			assert_false(calendar_count_advance(&k, &month, now, begun));
			k.count = 5;
			for (int64_t real = 0; real < 100 * day && !opened; real += 30000) {
				int64_t wall = begun + real + (is_set_right && real > day ? 0 : by);

				if (calendar_count_advance(&k, &month, now + real, wall))
					opened = real;
				else
					assert_true(calendar_count_free_at(&k, now + real, wall) > now + real);
			}
			assert_true(opened >= left - 60000);
			assert_true(opened <= left + 31 * day);
			if (is_set_right)
				assert_true(opened <= left + 60000);
			assert_int_equal(k.count, 0);
		}
	}
	zone_free(&zone);
}

/* --- the ledger --- */

static int set_up(void **state)
{
	next_request = 0;
	return folder_make(dir, sizeof(dir), folder_in_memory());
}

static int tear_down(void **state)
{
	return folder_remove(dir);
}

struct pair {
	struct ledger *ledger;
	struct permits *permits;
};

static struct pair open_at(const struct account_spec *spec, const struct account_spec *sender, unsigned sender_max,
			   int64_t boot_ms, int64_t wall_ms)
{
	struct ledger_options o = {
		.dir = dir,
		.account_count = spec ? 1 : 0,
		.account = spec,
		.sender = sender,
		.sender_max = sender_max,
		.boot_id = "boot",
		.boot_ms = boot_ms,
		.wall_ms = wall_ms,
	};
	const char *why = "";
	struct pair p;

	if (ledger_open(&p.ledger, &o, &why) > STORE_CREATED)
		fail_msg("ledger_open: %s", why);
	p.permits = permits_new(p.ledger);
	return p;
}

static void close_pair(struct pair *p)
{
	permits_free(&p->permits);
	ledger_close(&p->ledger);
}

static struct permit ask_in(struct pair *p, int64_t now, struct slice scopes, enum mail_class class, uint32_t messages)
{
	struct permit_wish wish = { scopes, class, messages, messages, 1 };

	return permits_ask(p->permits, now, ++next_request, &wish);
}

static void settle_in(struct pair *p, int64_t now, struct slice scopes, enum mail_class class, uint32_t used)
{
	permits_settle(p->permits, now, ++next_request, scopes, class,
		       &(struct settlement){ { used, used }, { 0, 0 } });
}

static int day_in(const char *zone, int64_t wall_ms)
{
	time_t when = (time_t)(wall_ms / 1000);
	struct tm tm;

	setenv("TZ", zone, 1);
	tzset();
	localtime_r(&when, &tm);
	return tm.tm_year * 366 + tm.tm_yday;
}

/* A year of days with DST, restarts, mail under way over midnight. The checker asks the C library which day it was. */
static void no_day_has_more_than_its_limit(void **state)
{
	enum { DAYS = 366 * 200 };
	static const char ZONE[] = "America/Los_Angeles";
	struct zone *zone = zone_new(ZONE);
	struct calendar day = { CALENDAR_DAY, 0, 0, zone };
	struct limit_spec limit = { "500/day calendar 00:00 America/Los_Angeles", UNIT_MESSAGES, 500, DAY, &day };
	struct account_spec spec = { .name = "isp", .limit_count = 1, .limit = &limit };
	int64_t start = at("2026-01-01 08:00"), now = start, end = start + 365 * (int64_t)DAY, granted_at = start;
	static unsigned sent[DAYS];
	struct pair p = open_at(&spec, NULL, 0, now - start, now);
	unsigned flying = 0;
	uint64_t total = 0;

	random_state = 4711;
	while (now < end) {

		assert_int_equal(ledger_now(p.ledger, now - start), now);
		ledger_set_wall(p.ledger, now, now);
		if (flying > 0 && random_below(2)) {
			int64_t when = granted_at + (int64_t)random_below((uint64_t)(now - granted_at) + 1);

			sent[day_in(ZONE, when)] += flying;
			total += flying;
			settle_in(&p, now, ISP, CLASS_USUAL, flying);
			flying = 0;
		} else if (flying == 0) {
			flying = ask_in(&p, now, ISP, CLASS_USUAL, 1 + (uint32_t)random_below(200)).messages;
			granted_at = now;
		}
		if (random_below(200) == 0) {
			assert_int_equal(ledger_commit(p.ledger, now), STORE_OK);
			close_pair(&p);
			p = open_at(&spec, NULL, 0, now - start, now);
			next_request = 0;
			permits_adopt(p.permits, now, ++next_request, ISP, CLASS_USUAL, flying, flying);
			permits_adopt(p.permits, now, ++next_request, slice_of(""), CLASS_USUAL, 0, 0);
		}
		now += (int64_t)random_below(HOUR);
	}
	for (unsigned i = 0; i < DAYS; i++)
		if (sent[i] > 500)
			fail_msg("day %u: %u", i, sent[i]);
	assert_true(total >= 364 * 490);
	close_pair(&p);
	zone_free(&zone);
}

static void a_reserve_is_kept_for_high_priority(void **state)
{
	struct limit_spec limits[] = { { "100/hour", UNIT_MESSAGES, 100, HOUR, NULL },
				       { "1/day", UNIT_MESSAGES, 1, DAY, NULL } };
	struct account_spec spec = { .name = "isp", .limit_count = 1, .limit = limits, .reserve_percent = 10 };
	int64_t now = at("2026-11-22 12:00");
	struct pair p = open_at(&spec, NULL, 0, 0, now);

	assert_int_equal(ask_in(&p, now, ISP, CLASS_USUAL, 200).messages, 90);
	settle_in(&p, now, ISP, CLASS_USUAL, 90);
	assert_int_equal(ask_in(&p, now, ISP, CLASS_USUAL, 1).messages, 0);
	assert_int_equal(ask_in(&p, now, ISP, CLASS_HIGH, 200).messages, 10);
	settle_in(&p, now, ISP, CLASS_HIGH, 10);
	assert_int_equal(ledger_commit(p.ledger, now), STORE_OK);
	close_pair(&p);
	p = open_at(&spec, NULL, 0, HOUR, now + HOUR);
	/* High mail does not eat what the others may have: a full hour of it leaves them their share of the next. */
	assert_int_equal(ask_in(&p, now + HOUR + 1, ISP, CLASS_USUAL, 200).messages, 90);
	close_pair(&p);
	tear_down(NULL);
	set_up(NULL);
	spec.limit = &limits[1]; /* of one message nothing is reserved: bulk still moves */
	p = open_at(&spec, NULL, 0, 0, now);
	assert_int_equal(ask_in(&p, now, ISP, CLASS_USUAL, 2).messages, 1);
	close_pair(&p);
}

static void pace_never_bursts(void **state)
{
	struct limit_spec limits[] = { { "3600/day", UNIT_MESSAGES, 3600, DAY, NULL },
				       { "1000/hour", UNIT_MESSAGES, 1000, HOUR, NULL } };
	struct account_spec spec = { .name = "isp", .limit_count = 2, .limit = limits, .is_paced = true };
	int64_t start = at("2026-11-22 12:00"), now = start, last = 0;
	struct pair p = open_at(&spec, NULL, 0, 0, now);
	unsigned granted = 0;

	while (now < start + 10 * (int64_t)HOUR) {
		struct permit permit = ask_in(&p, now, ISP, CLASS_USUAL, 50);

		if (permit.messages == 0) {
			assert_string_equal(permit.limit, "3600/day");
			assert_true(permit.free_at > now);
			now = permit.free_at;
			continue;
		}
		assert_int_equal(permit.messages, 1);
		assert_true(last == 0 || now - last >= 24000 - 1);
		last = now;
		granted++;
		settle_in(&p, now + 500, ISP, CLASS_USUAL, 1);
	}
	assert_int_equal(granted, 1500);
	close_pair(&p);
}

static void ramp_advances_only_on_days_with_sending(void **state)
{
	struct zone *zone = zone_new("UTC");
	struct calendar day = { CALENDAR_DAY, 0, 0, zone };
	static const struct limit_spec RAMP[] = { { "50/day", UNIT_MESSAGES, 50, DAY, NULL },
						  { "100/day", UNIT_MESSAGES, 100, DAY, NULL } };
	static const struct limit_spec LIMIT[] = { { "1000/hour", UNIT_MESSAGES, 1000, HOUR, NULL } };
	struct account_spec spec = {
		.name = "isp", .limit_count = 1, .limit = LIMIT, .ramp_count = 2, .ramp = RAMP, .ramp_calendar = &day
	};
	static const unsigned SENT[] = { 50, 0, 0, 100, 1000, 1000 };
	int64_t start = at("2026-11-01 10:00");

	for (unsigned i = 0; i < ARRAY_LEN(SENT); i++) {
		int64_t now = start + i * (int64_t)(DAY + 1000);
		struct pair p = open_at(&spec, NULL, 0, now - start, now);

		if (SENT[i] > 0) {
			struct permit permit = ask_in(&p, now, ISP, CLASS_USUAL, 5000);

			if (permit.messages != SENT[i])
				fail_msg("day %u: %u, %s", i, permit.messages, permit.limit);
			settle_in(&p, now, ISP, CLASS_USUAL, permit.messages);
		}
		assert_int_equal(ledger_commit(p.ledger, now), STORE_OK);
		close_pair(&p);
		next_request = 0;
	}
	zone_free(&zone);
}

static void all_scopes_or_none(void **state)
{
	static const struct limit_spec SERVER[] = { { "10/hour", UNIT_MESSAGES, 10, HOUR, NULL } };
	static const struct limit_spec SENDER[] = { { "3/hour", UNIT_MESSAGES, 3, HOUR, NULL } };
	struct account_spec spec = { .name = "isp", .limit_count = 1, .limit = SERVER };
	struct account_spec sender = { .name = "", .limit_count = 1, .limit = SENDER };
	int64_t now = at("2026-11-22 12:00");
	struct pair p = open_at(&spec, &sender, 0, 0, now);
	struct permit permit;

	assert_int_equal(ask_in(&p, now, slice_of("isp\nsender:a@b"), CLASS_USUAL, 5).messages, 3);
	permit = ask_in(&p, now, slice_of("isp\nsender:a@b"), CLASS_USUAL, 5);
	assert_int_equal(permit.messages, 0);
	assert_string_equal(permit.limit, "3/hour");
	assert_int_equal(permit.scope_at, 1);
	assert_int_equal(ask_in(&p, now, slice_of("isp\nsender:c@d"), CLASS_USUAL, 5).messages, 3);
	assert_int_equal(ask_in(&p, now, slice_of("isp"), CLASS_USUAL, 9).messages, 4); /* a's refusal took none */
	permit = ask_in(&p, now, slice_of("isp\nsender:e@f"), CLASS_USUAL, 1);
	assert_string_equal(permit.limit, "10/hour");
	close_pair(&p);
}

/* DR34: ten million senders, or as many as a test has time for. */
static void senders_are_bounded(void **state)
{
	enum { MAX = 100, SENDERS = 5000 };
	static const struct limit_spec SENDER[] = { { "3/hour", UNIT_MESSAGES, 3, HOUR, NULL } };
	struct account_spec sender = { .name = "", .limit_count = 1, .limit = SENDER };
	int64_t start = at("2026-11-22 12:00"), now = start;
	struct pair p = open_at(NULL, &sender, MAX, 0, now);
	unsigned granted = 0;
	char name[64];

	for (unsigned i = 0; i < SENDERS; i++) { /* all at once: the newcomers share */
		snprintf(name, sizeof(name), "sender:u%u@x", i);
		if (ask_in(&p, now, slice_of(name), CLASS_USUAL, 1).messages > 0) {
			settle_in(&p, now, slice_of(name), CLASS_USUAL, 1);
			granted++;
		}
	}
	assert_true(ledger_account_count(p.ledger) <= MAX + 600);
	assert_true(granted < ledger_account_count(p.ledger) + 3);
	assert_int_equal(ledger_commit(p.ledger, now), STORE_OK);
	now += HOUR + 1;
	assert_int_equal(ledger_now(p.ledger, now - start), now);
	(void)ask_in(&p, now, slice_of("sender:u0@x"), CLASS_USUAL, 0);
	for (unsigned i = 0; i < SENDERS; i++) { /* one after the other: all are told apart */
		snprintf(name, sizeof(name), "sender:v%u@x", i);
		assert_int_equal(ledger_now(p.ledger, now - start), now);
		assert_int_equal(ask_in(&p, now, slice_of(name), CLASS_USUAL, 1).messages, 1);
		settle_in(&p, now, slice_of(name), CLASS_USUAL, 1);
		assert_int_equal(ledger_commit(p.ledger, now), STORE_OK);
		now += HOUR / 50;
	}
	assert_true(ledger_account_count(p.ledger) <= MAX + 600);
	close_pair(&p);
	p = open_at(NULL, &sender, MAX, now - start, now);
	assert_true(ledger_account_count(p.ledger) <= MAX + 600);
	close_pair(&p);
}

/* What version 1 wrote: outstanding by unit, no kinds. */
static void old_records_are_read(void **state)
{
	static const struct limit_spec LIMIT[] = { { "100/month", UNIT_MESSAGES, 100, 30 * (uint64_t)DAY, NULL } };
	struct account_spec spec = { .name = "isp", .limit_count = 1, .limit = LIMIT };
	const struct store_options options = { dir, 1 << 20, 10 << 20, 1 << 20 };
	static const uint8_t OLD[] = { 1, 0, 0, 0,    0, 0,    0,    0,    7, 0,
				       0, 0, 0, 0,    0, 0,    7,                /* version, outstanding */
				       0, 0, 1, 0x9a, 0, 0,    0,    0,    0, 1, /* touched, one limit */
				       0, 0, 0, 0,    0, 0x9a, 0x7e, 0xc8, 0, 0,
				       0, 0, 0, 0,    0, 0,    0 };
	struct store *store;
	int64_t now = at("2026-11-22 12:00");
	struct pair p;

	assert_int_equal(store_open(&store, &options), STORE_CREATED);
	assert_int_equal(
		store_put(store, (struct slice){ "sisp", 5 }, (struct slice){ (const char *)OLD, sizeof(OLD) }),
		STORE_OK);
	assert_int_equal(store_sync(store), STORE_OK);
	store_close(&store);
	p = open_at(&spec, NULL, 0, 0, now);
	assert_int_equal(ask_in(&p, now, ISP, CLASS_USUAL, 200).messages, 93);
	assert_int_equal(ledger_commit(p.ledger, now), STORE_OK);
	close_pair(&p);
	p = open_at(&spec, NULL, 0, 5, now);
	assert_int_equal(ask_in(&p, now, ISP, CLASS_USUAL, 1).messages, 0);
	close_pair(&p);
}

#define LEDGER_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(periods_begin_where_the_clocks_say),
		cmocka_unit_test(a_clock_step_opens_no_day),
		cmocka_unit_test(ck03_a_clock_step_to_the_end_of_a_month_opens_none),
		LEDGER_TEST(no_day_has_more_than_its_limit),
		LEDGER_TEST(a_reserve_is_kept_for_high_priority),
		LEDGER_TEST(pace_never_bursts),
		LEDGER_TEST(ramp_advances_only_on_days_with_sending),
		LEDGER_TEST(all_scopes_or_none),
		LEDGER_TEST(senders_are_bounded),
		LEDGER_TEST(old_records_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
