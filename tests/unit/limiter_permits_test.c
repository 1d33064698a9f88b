/* limiter_permits_test.c - whatever happens, no span of any window holds more than its limit. */
#include "limiter/permits.h"
#include "tests/unit/folder.h"
#include "tests/unit/random_below.h"
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

enum { HOUR = 3600000, DAY = 24 * HOUR };
static const int64_t START = 1700000000000;
static const struct slice ISP = { "isp", 3 };

static char dir[64];
static struct ledger *ledger;
static struct permits *permits;
static uint32_t next_request;

static struct permit ask_for(struct permits *p, int64_t now, uint32_t request, struct slice scope, uint32_t messages,
			     uint32_t recipients)
{
	struct permit_wish wish = { scope, CLASS_USUAL, messages, recipients, messages == 1 ? recipients : 1 };

	return permits_ask(p, now, request, &wish);
}

static void adopt_all(struct permits *p, int64_t now, uint32_t request, struct slice scope, uint32_t messages,
		      uint32_t recipients)
{
	permits_adopt(p, now, request, scope, CLASS_USUAL, messages, recipients);
}

static void open_at(const struct limit_spec *limit, unsigned count, const char *boot_id, int64_t boot_ms,
		    int64_t wall_ms)
{
	struct account_spec spec[] = { { .name = "isp", .limit_count = count, .limit = limit }, { .name = "free" } };
	struct ledger_options o = {
		.dir = dir,
		.account_count = ARRAY_LEN(spec),
		.account = spec,
		.boot_id = boot_id,
		.boot_ms = boot_ms,
		.wall_ms = wall_ms,
	};
	const char *why = "";

	if (ledger_open(&ledger, &o, &why) > STORE_CREATED)
		fail_msg("ledger_open: %s", why);
	permits = permits_new(ledger);
}

static void close_all(void)
{
	permits_free(&permits);
	ledger_close(&ledger);
}

static int set_up(void **state)
{
	/* in memory where possible: what a sync costs is not the question here */
	next_request = 0;
	return folder_make(dir, sizeof(dir), folder_in_memory());
}

static int tear_down(void **state)
{
	close_all();
	return folder_remove(dir);
}

static struct permit ask(int64_t now, uint32_t messages, uint32_t recipients)
{
	return ask_for(permits, now, ++next_request, ISP, messages, recipients);
}

static void settle(int64_t now, uint32_t used, uint32_t used_recipients, uint32_t refunded,
		   uint32_t refunded_recipients)
{
	struct settlement s = { { used, used_recipients }, { refunded, refunded_recipients } };

	permits_settle(permits, now, ++next_request, ISP, CLASS_USUAL, &s);
}

static void expect(struct permit got, uint32_t messages, uint32_t recipients, int64_t free_at, const char *limit)
{
	assert_int_equal(got.messages, messages);
	assert_int_equal(got.recipients, recipients);
	assert_int_equal(got.free_at, free_at);
	assert_string_equal(got.limit, limit);
}

static void limits_are_debited_together(void **state)
{
	static const struct limit_spec LIMITS[] = { { "5/hour", UNIT_MESSAGES, 5, HOUR },
						    { "8/day", UNIT_MESSAGES, 8, DAY },
						    { "20/hour recipients", UNIT_RECIPIENTS, 20, HOUR } };

	open_at(LIMITS, 3, "boot", 0, START);
	expect(ask(START, 3, 6), 3, 6, 0, "");
	expect(ask(START, 4, 4), 2, 4, 0, ""); /* as many as fit */
	expect(ask(START, 1, 1), 0, 0, START + HOUR + 1, "5/hour");
	settle(START + 1000, 5, 10, 0, 0);
	expect(ask(START + 2000, 1, 1), 0, 0, START + 1000 + HOUR + 1, "5/hour");
	expect(ask(START + 1000 + HOUR, 1, 1), 0, 0, START + 1000 + HOUR + 1, "5/hour");
	expect(ask(START + 1001 + HOUR, 9, 30), 3, 20, 0, "");
	settle(START + 1002 + HOUR, 3, 3, 0, 17);
	expect(ask(START + 1003 + HOUR, 1, 1), 0, 0, START + 1000 + DAY + 1, "8/day"); /* the day is used up */
}

static void one_message_gets_all_its_recipients(void **state)
{
	static const struct limit_spec LIMITS[] = { { "10/hour recipients", UNIT_RECIPIENTS, 10, HOUR } };

	open_at(LIMITS, 1, "boot", 0, START);
	expect(ask(START, 1, 7), 1, 7, 0, "");
	settle(START, 1, 7, 0, 0);
	expect(ask(START + 1, 1, 5), 0, 0, START + HOUR + 1, "10/hour recipients");
	expect(ask(START + 1, 2, 5), 2, 3, 0, ""); /* of several, some may be small */
	settle(START + 1, 0, 0, 2, 3);
	expect(ask(START + 2, 9, 9), 3, 3, 0, ""); /* never more messages than recipients */
	settle(START + 2, 0, 0, 3, 3);
	expect(ask(START + 3, 1, 50), 0, 0, START + HOUR + 1, "10/hour recipients");
	expect(ask(START + HOUR + 1, 1, 50), 1, 10, 0, ""); /* larger than the limit: all of it, to be sent in parts */
}

static void zero_lets_nothing_pass_and_says_never(void **state)
{
	static const struct limit_spec LIMITS[] = { { "5/hour", UNIT_MESSAGES, 5, HOUR },
						    { "0/day recipients", UNIT_RECIPIENTS, 0, DAY } };

	open_at(LIMITS, 2, "boot", 0, START);
	expect(ask(START, 1, 1), 0, 0, 0, "0/day recipients");
	expect(ask(START, 5, 5), 0, 0, 0, "0/day recipients");
}

static void servers_without_limits_are_free(void **state)
{
	static const struct limit_spec LIMITS[] = { { "1/hour", UNIT_MESSAGES, 1, HOUR } };

	open_at(LIMITS, 1, "boot", 0, START);
	for (unsigned i = 0; i < 5; i++)
		expect(ask_for(permits, START, ++next_request, slice_of("free"), 100, 200), 100, 200, 0, "");
}

static void repeated_requests_count_once(void **state)
{
	static const struct limit_spec LIMITS[] = { { "10/hour", UNIT_MESSAGES, 10, HOUR } };
	struct settlement s = { { 2, 2 }, { 1, 1 } };

	open_at(LIMITS, 1, "boot", 0, START);
	for (unsigned i = 0; i < 3; i++)
		expect(ask_for(permits, START + i, 1, ISP, 6, 6), 6, 6, 0, "");
	expect(ask_for(permits, START, 2, ISP, 6, 6), 4, 6, 0, "");
	for (unsigned i = 0; i < 3; i++)
		permits_settle(permits, START, 3, ISP, CLASS_USUAL, &s);
	expect(ask_for(permits, START, 4, ISP, 6, 6), 1, 6, 0, "");
	permits_change_partner(permits); /* a new scheduler counts from 1 */
	for (unsigned i = 0; i < 3; i++)
		adopt_all(permits, START, 1, ISP, 3, 3);
	expect(ask_for(permits, START, 1, ISP, 6, 6), 0, 0, START + HOUR + 1, "10/hour");
	/* 2 used, 5 taken as used when the scheduler adopted 3 of 8, 3 under way */
	s = (struct settlement){ { 0, 0 }, { 3, 3 } };
	permits_settle(permits, START + 5, 2, ISP, CLASS_USUAL, &s);
	expect(ask_for(permits, START + 6, 3, ISP, 6, 6), 3, 6, 0, "");
}

/* Until the scheduler has said what became of them, permits of its predecessor are neither free nor forgotten. */
static void what_was_under_way_counts_until_adopted(void **state)
{
	static const struct limit_spec LIMITS[] = { { "10/hour", UNIT_MESSAGES, 10, HOUR } };

	open_at(LIMITS, 1, "boot", 0, START);
	expect(ask(START, 7, 7), 7, 7, 0, "");
	assert_int_equal(ledger_commit(ledger, START), STORE_OK);
	permits_change_partner(permits);
	expect(ask(START + 5 * HOUR, 5, 5), 3, 5, 0, "");
	settle(START + 5 * HOUR, 0, 0, 3, 5);
	assert_int_equal(ledger_commit(ledger, START), STORE_OK);
	close_all();
	open_at(LIMITS, 1, "boot", 50 * HOUR, START);
	expect(ask(START + 50 * HOUR, 5, 5), 3, 5, 0, "");
	settle(START + 50 * HOUR, 0, 0, 3, 5);
	adopt_all(permits, START + 51 * HOUR, ++next_request, ISP, 2, 2);
	expect(ask(START + 51 * HOUR, 5, 5), 3, 5, 0, ""); /* 5 taken as used now, 2 under way */
	settle(START + 51 * HOUR, 2, 2, 3, 5);
	expect(ask(START + 52 * HOUR, 5, 5), 3, 5, 0, "");
	settle(START + 52 * HOUR, 0, 0, 3, 5);
	expect(ask(START + 52 * HOUR + 1, 10, 10), 10, 10, 0, "");
}

static void settling_too_much_never_opens_a_window(void **state)
{
	static const struct limit_spec LIMITS[] = { { "4/hour", UNIT_MESSAGES, 4, HOUR } };

	open_at(LIMITS, 1, "boot", 0, START);
	expect(ask(START, 2, 2), 2, 2, 0, "");
	settle(START, 3, 3, 40, 40);
	expect(ask(START, 4, 4), 1, 4, 0, "");
}

/* --- random life, checked by one who knows only when something was sent --- */

struct send {
	int64_t at;
	uint32_t weight[UNIT_COUNT];
};

struct flight {
	int64_t granted;
	uint32_t recipients;
};

enum { FLIGHTS_MAX = 60000 };

struct life {
	const struct limit_spec *limit; /* as the checker knows them; in force may be less: see life_reconfigure() */
	struct limit_spec in_force[4];
	unsigned limit_count;
	int64_t real, boot_base, wall_offset; /* boot clock = real - boot_base */
	char boot_id[16];
	struct flight flight[FLIGHTS_MAX]; /* one message each, known to the scheduler */
	size_t flight_count;
	struct send *send;
	size_t send_count, send_cap;
	uint64_t told; /* permits */
	bool is_prompt;
};

static int64_t now_of(const struct life *life)
{
	return ledger_now(ledger, life->real - life->boot_base);
}

static void note_send(struct life *life, int64_t at, uint32_t recipients)
{
	if (life->send_count == life->send_cap) {
		life->send_cap = life->send_cap ? 2 * life->send_cap : 4096;
		life->send = xrealloc(life->send, life->send_cap, sizeof(*life->send));
	}
	life->send[life->send_count++] = (struct send){ at, { 1, recipients } };
}

/* The server saw it at some moment between grant and settlement, both included. */
static void sent_between(struct life *life, const struct flight *f)
{
	note_send(life, f->granted + (int64_t)random_below((uint64_t)(life->real - f->granted) + 1), f->recipients);
}

static int compare_sends(const void *a, const void *b)
{
	const struct send *x = a, *y = b;

	return (x->at > y->at) - (x->at < y->at);
}

static void check_no_span_over(struct life *life)
{
	qsort(life->send, life->send_count, sizeof(*life->send), compare_sends);
	for (unsigned i = 0; i < life->limit_count; i++) {
		const struct limit_spec *limit = &life->limit[i];
		uint64_t sum = 0;
		size_t first = 0;

		for (size_t k = 0; k < life->send_count; k++) {
			sum += life->send[k].weight[limit->unit];
			while (life->send[k].at - life->send[first].at > (int64_t)limit->width_ms)
				sum -= life->send[first++].weight[limit->unit];
			if (sum > limit->amount)
				fail_msg("%s: %llu within the span that ends at %lld", limit->text,
					 (unsigned long long)sum, (long long)life->send[k].at);
		}
	}
}

static void life_open(struct life *life)
{
	open_at(life->in_force, life->limit_count, life->boot_id, life->real - life->boot_base,
		life->real + life->wall_offset);
}

/* What the scheduler does when either side was started anew. It may have lost sight of some. */
static void life_adopt(struct life *life, size_t forgotten)
{
	uint32_t recipients = 0;

	while (forgotten-- > 0 && life->flight_count > 0)
		sent_between(life, &life->flight[--life->flight_count]);
	for (size_t i = 0; i < life->flight_count; i++)
		recipients += life->flight[i].recipients;
	adopt_all(permits, now_of(life), ++next_request, ISP, (uint32_t)life->flight_count, recipients);
	assert_int_equal(ledger_commit(ledger, life->real + life->wall_offset), STORE_OK);
}

/* Amounts go down and up again, in whatever kind of window that makes them. */
static void life_reconfigure(struct life *life)
{
	for (unsigned i = 0; i < life->limit_count; i++) {
		life->in_force[i] = life->limit[i];
		if (random_below(2))
			life->in_force[i].amount = 1 + random_below(life->limit[i].amount);
	}
}

/* Only the process: the wall clock may have jumped as it likes. */
static void life_restart_limiter(struct life *life)
{
	close_all();
	if (random_below(3) == 0)
		life_reconfigure(life);
	life->real += (int64_t)random_below(5000);
	life->wall_offset += (int64_t)random_below(60 * (uint64_t)DAY) - 30 * (int64_t)DAY;
	life_open(life);
	life_adopt(life, 0);
}

/* The whole machine: its clock may have lost time, but is not ahead. One that was behind had been set right before. */
static void life_reboot(struct life *life)
{
	if (life->wall_offset < 0) {
		life->wall_offset = 0;
		ledger_touch(ledger, ledger_find(ledger, ISP));
		assert_int_equal(ledger_commit(ledger, life->real), STORE_OK);
	}
	close_all();
	life->real += (int64_t)random_below(HOUR);
	life->boot_base = life->real;
	life->wall_offset = random_below(2) ? 0 : -(int64_t)random_below(40 * (uint64_t)DAY);
	snprintf(life->boot_id, sizeof(life->boot_id), "boot-%llu", (unsigned long long)random_below(1000000));
	life_open(life);
	life_adopt(life, 0);
}

static void life_ask(struct life *life)
{
	uint32_t messages = 1 + (uint32_t)random_below(random_below(4) ? 3 : 100);
	uint32_t each = 1 + (uint32_t)random_below(4), recipients = messages * each;
	struct permit permit = ask_for(permits, now_of(life), ++next_request, ISP, messages, recipients);
	uint32_t left = permit.recipients;

	if (permit.messages == 0 && permit.free_at > now_of(life) && random_below(3) == 0)
		life->real += permit.free_at - now_of(life); /* exactly when it was told to ask again */
	if (random_below(40) == 0) {
		/* killed before the commit: nobody was told, nothing was sent */
		life_restart_limiter(life);
		return;
	}
	assert_int_equal(ledger_commit(ledger, life->real + life->wall_offset), STORE_OK);
	for (uint32_t i = 0; i < permit.messages && life->flight_count < FLIGHTS_MAX; i++) {
		uint32_t mine = i + 1 == permit.messages ? left : each;

		mine = mine > left - (permit.messages - 1 - i) ? left - (permit.messages - 1 - i) : mine;
		life->flight[life->flight_count++] = (struct flight){ life->real, mine };
		left -= mine;
	}
	if (left > 0)
		settle(now_of(life), 0, 0, 0, left);
	life->told += permit.messages;
}

static void life_settle(struct life *life)
{
	uint32_t used[UNIT_COUNT] = { 0, 0 }, refunded[UNIT_COUNT] = { 0, 0 };
	size_t count = life->is_prompt ? life->flight_count : random_below(life->flight_count + 1);

	while (count-- > 0) {
		size_t pick = random_below(life->flight_count);
		struct flight f = life->flight[pick];

		life->flight[pick] = life->flight[--life->flight_count];
		if (random_below(10) == 0) {
			refunded[0]++;
			refunded[1] += f.recipients;
		} else {
			used[0]++;
			used[1] += f.recipients;
			sent_between(life, &f);
		}
	}
	settle(now_of(life), used[0], used[1], refunded[0], refunded[1]);
	assert_int_equal(ledger_commit(ledger, life->real + life->wall_offset), STORE_OK);
}

static void life_step(struct life *life, uint64_t narrowest)
{
	life->real += (int64_t)(random_below(5) ? random_below(narrowest / 20 + 2) : random_below(narrowest + 2));
	switch (random_below(400)) {
	case 0:
		life_restart_limiter(life);
		break;
	case 1:
		life_reboot(life);
		break;
	case 2: /* a new scheduler, which has lost sight of some */
		permits_change_partner(permits);
		next_request = 0;
		life_adopt(life, random_below(5));
		break;
	default:
		if (random_below(2))
			life_ask(life);
		else
			life_settle(life);
	}
}

static const char *random_limits(struct limit_spec limit[4], unsigned *count, uint64_t *narrowest)
{
	static const uint64_t WIDTHS[] = { 1000, 60000, HOUR, DAY, 7 * (uint64_t)DAY, 30 * (uint64_t)DAY };
	static char text[4][64];

	*count = 1 + (unsigned)random_below(4);
	*narrowest = UINT64_MAX;
	for (unsigned i = 0; i < *count; i++) {
		uint64_t amount = random_below(4) ? 1 + random_below(300) : 1 + random_below(30000);
		uint64_t width = WIDTHS[random_below(ARRAY_LEN(WIDTHS))];

		limit[i] = (struct limit_spec){ text[i], random_below(3) ? UNIT_MESSAGES : UNIT_RECIPIENTS, amount,
						width };
		snprintf(text[i], sizeof(text[i]), "%llu/%llums%s", (unsigned long long)amount,
			 (unsigned long long)width, limit[i].unit == UNIT_RECIPIENTS ? " recipients" : "");
		*narrowest = width < *narrowest ? width : *narrowest;
	}
	return text[0];
}

static void no_life_breaks_a_limit(void **state)
{
#ifdef POSTERN_SANITIZED
	const uint64_t enough = 100000;
#else
	const uint64_t enough = getenv("POSTERN_SOAK") ? 10000000 : 1000000;
#endif
	struct life *life = xcalloc(1, sizeof(*life));
	uint64_t told = 0, sent = 0;

	for (unsigned long round = 1; told < enough; round++) {
		struct limit_spec limit[4];
		uint64_t narrowest;

		random_state = round * 0x9e3779b97f4a7c15u;
		random_limits(limit, &life->limit_count, &narrowest);
		life->limit = limit;
		memcpy(life->in_force, limit, sizeof(limit));
		life->real = START;
		life->boot_base = START - (int64_t)random_below(DAY);
		life->wall_offset = 0;
		life->is_prompt = round % 3 == 0;
		snprintf(life->boot_id, sizeof(life->boot_id), "first");
		life_open(life);
		for (unsigned i = 0; i < 1500; i++)
			life_step(life, narrowest);
		while (life->flight_count > 0)
			sent_between(life, &life->flight[--life->flight_count]);
		check_no_span_over(life);
		told += life->told;
		sent += life->send_count;
		life->told = life->send_count = 0;
		tear_down(NULL);
		set_up(NULL);
	}
	print_message("%llu permits, %llu sent\n", (unsigned long long)told, (unsigned long long)sent);
	free(life->send);
	free(life);
}

/* Always more waiting than fits, asked at free_at, settled at once: an exact log would grant the amount per window. */
static void nearly_all_is_granted(void **state)
{
	static const struct limit_spec LIMITS[][1] = { { { "7/hour", UNIT_MESSAGES, 7, HOUR } },
						       { { "200/hour", UNIT_MESSAGES, 200, HOUR } },
						       { { "10000/day", UNIT_MESSAGES, 10000, DAY } },
						       { { "50000/day", UNIT_MESSAGES, 50000, DAY } } };

	for (unsigned i = 0; i < ARRAY_LEN(LIMITS); i++) {
		const struct limit_spec *limit = LIMITS[i];
		int64_t now = START, end = START + 20 * (int64_t)limit->width_ms;
		uint64_t granted = 0, ideal = 20 * limit->amount;

		open_at(limit, 1, "boot", 0, START);
		while (now < end) {
			struct permit permit = ask(now, 100, 100);

			granted += permit.messages;
			if (permit.messages > 0) {
				settle(now, permit.messages, permit.messages, 0, 0);
				now += (int64_t)limit->width_ms / 2000;
			} else {
				now = permit.free_at;
			}
		}
		print_message("%s: %.2f %%\n", limit->text, 100.0 * (double)granted / (double)ideal);
		assert_true((double)granted >= 0.99 * (double)ideal && granted <= ideal + limit->amount);
		tear_down(NULL);
		set_up(NULL);
	}
}

#define PERMITS_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PERMITS_TEST(limits_are_debited_together),
		PERMITS_TEST(one_message_gets_all_its_recipients),
		PERMITS_TEST(zero_lets_nothing_pass_and_says_never),
		PERMITS_TEST(servers_without_limits_are_free),
		PERMITS_TEST(repeated_requests_count_once),
		PERMITS_TEST(what_was_under_way_counts_until_adopted),
		PERMITS_TEST(settling_too_much_never_opens_a_window),
		PERMITS_TEST(no_life_breaks_a_limit),
		PERMITS_TEST(nearly_all_is_granted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
