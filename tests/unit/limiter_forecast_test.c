/* limiter_forecast_test.c - what is foretold is what then happens, on a virtual clock. */
#include "limiter/forecast.h"
#include "tests/unit/folder.h"
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

enum { HOUR = 3600000, DAY = 24 * HOUR };
static const int64_t START = 1700000000000;
static char dir[64];
static uint32_t next_request;

static int set_up(void **state)
{
	next_request = 0;
	return folder_make(dir, sizeof(dir), folder_in_memory());
}

static int tear_down(void **state)
{
	return folder_remove(dir);
}

static struct zone *utc;
static struct calendar day;

struct mail {
	const char *scopes;
	uint32_t messages, each;
};

static const struct {
	const char *label;
	struct limit_spec server[3], sender[2];
	bool is_paced;
	struct mail mail[3];
	const char *limit, *scope;
} CASES[] = {
	{ "nothing in the way",
	  { { "500/hour", UNIT_MESSAGES, 500, HOUR, NULL } },
	  { { 0 } },
	  false,
	  { { "isp", 100, 1 } },
	  "",
	  "" },
	{ "an hourly limit",
	  { { "200/hour", UNIT_MESSAGES, 200, HOUR, NULL } },
	  { { 0 } },
	  false,
	  { { "isp", 1500, 1 } },
	  "200/hour",
	  "isp" },
	{ "the day decides",
	  { { "200/hour", UNIT_MESSAGES, 200, HOUR, NULL }, { "1000/day", UNIT_MESSAGES, 1000, DAY, NULL } },
	  { { 0 } },
	  false,
	  { { "isp", 2500, 1 } },
	  "1000/day",
	  "isp" },
	{ "recipients",
	  { { "200/hour", UNIT_MESSAGES, 200, HOUR, NULL },
	    { "300/hour recipients", UNIT_RECIPIENTS, 300, HOUR, NULL } },
	  { { 0 } },
	  false,
	  { { "isp", 900, 3 } },
	  "300/hour recipients",
	  "isp" },
	{ "a calendar's day",
	  { { "100/day calendar", UNIT_MESSAGES, 100, DAY, &day } },
	  { { 0 } },
	  false,
	  { { "isp", 350, 1 } },
	  "100/day calendar",
	  "isp" },
	{ "one sender",
	  { { "500/hour", UNIT_MESSAGES, 500, HOUR, NULL } },
	  { { "10/hour", UNIT_MESSAGES, 10, HOUR, NULL } },
	  false,
	  { { "isp\nsender:a@b", 75, 1 }, { "isp\nsender:c@d", 20, 1 } },
	  "10/hour",
	  "sender:a@b" },
	{ "paced",
	  { { "60/hour", UNIT_MESSAGES, 60, HOUR, NULL } },
	  { { 0 } },
	  true,
	  { { "isp", 100, 1 } },
	  "60/hour",
	  "isp" },
	{ "never",
	  { { "0/hour", UNIT_MESSAGES, 0, HOUR, NULL } },
	  { { 0 } },
	  false,
	  { { "isp", 3, 1 } },
	  "0/hour",
	  "isp" },
};

/* What the scheduler would do: ask for each purse, send at once, ask again when told. */
static int64_t live(struct ledger *ledger, struct permits *permits, const struct mail *mail, int64_t now)
{
	uint32_t left[3];
	int64_t last = now;

	for (unsigned i = 0; i < 3; i++)
		left[i] = mail[i].messages;
	while (left[0] + left[1] + left[2] > 0) {
		int64_t next = INT64_MAX;

		for (unsigned i = 0; i < 3; i++) {
			uint32_t messages = left[i] < 100 ? left[i] : 100;
			struct permit_wish wish = { slice_of(mail[i].scopes ? mail[i].scopes : ""), CLASS_USUAL,
						    messages, messages * mail[i].each, mail[i].each };
			struct settlement s = { { 0 }, { 0 } };
			struct permit permit;
			uint32_t sent;

			if (left[i] == 0)
				continue;
			permit = permits_ask(permits, now, ++next_request, &wish);
			if (permit.messages == 0 && permit.free_at == 0)
				return 0;
			if (permit.messages == 0) {
				next = permit.free_at < next ? permit.free_at : next;
				continue;
			}
			sent = permit.recipients / mail[i].each < permit.messages ? permit.recipients / mail[i].each
										  : permit.messages;
			s.used[UNIT_MESSAGES] = sent;
			s.used[UNIT_RECIPIENTS] = sent * mail[i].each;
			s.refunded[UNIT_MESSAGES] = permit.messages - sent;
			s.refunded[UNIT_RECIPIENTS] = permit.recipients - sent * mail[i].each;
			permits_settle(permits, now, ++next_request, wish.scopes, CLASS_USUAL, &s);
			left[i] -= sent;
			last = now;
			next = now;
		}
		now = next;
		assert_int_equal(ledger_now(ledger, now - START), now);
	}
	return last;
}

static void what_is_foretold_happens(void **state)
{
	utc = zone_new("UTC");
	day = (struct calendar){ CALENDAR_DAY, 0, 0, utc };
	for (unsigned i = 0; i < ARRAY_LEN(CASES); i++) {
		struct account_spec spec = { .name = "isp", .limit = CASES[i].server, .is_paced = CASES[i].is_paced };
		struct account_spec sender = { .name = "", .limit = CASES[i].sender };
		struct ledger_options o = {
			.dir = dir, .account_count = 1, .account = &spec, .boot_id = "boot", .wall_ms = START
		};
		struct forecast_result result;
		struct permits *permits;
		struct forecast *f;
		struct ledger *l;
		const char *why;
		int64_t done;

		while (spec.limit_count < 3 && CASES[i].server[spec.limit_count].text)
			spec.limit_count++;
		while (sender.limit_count < 2 && CASES[i].sender[sender.limit_count].text)
			sender.limit_count++;
		o.sender = sender.limit_count > 0 ? &sender : NULL;
		assert_true(ledger_open(&l, &o, &why) <= STORE_CREATED);
		permits = permits_new(l);
		f = forecast_new(l, START);
		for (unsigned k = 0; k < 3 && CASES[i].mail[k].scopes; k++)
			forecast_add(f, slice_of(CASES[i].mail[k].scopes), CLASS_USUAL, CASES[i].mail[k].messages,
				     CASES[i].mail[k].messages * CASES[i].mail[k].each);
		result = forecast_run(f);
		forecast_free(&f);
		done = live(l, permits, CASES[i].mail, START);
		if (result.done_at - done > 2 || done - result.done_at > 2)
			fail_msg("%s: foretold %lld, came %lld", CASES[i].label, (long long)(result.done_at - START),
				 (long long)(done - START));
		if (strcmp(result.limit, CASES[i].limit) != 0 || strcmp(result.scope, CASES[i].scope) != 0)
			fail_msg("%s: %s of %s", CASES[i].label, result.limit, result.scope);
		permits_free(&permits);
		ledger_close(&l);
		tear_down(NULL);
		set_up(NULL);
	}
	zone_free(&utc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_foretold_happens, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
