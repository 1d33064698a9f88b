/* Which refusals are final, what greylisting looks like, when to try again. */
#include "scheduler/verdict.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_final(void **state)
{
	static const struct {
		const char *label, *dsn;
		unsigned code;
		bool relay, direct;
	} ROWS[] = {
		{ "no such user", "5.1.1", 550, true, true },
		{ "bad address syntax", "5.1.3", 501, true, true },
		{ "moved", "5.1.6", 551, true, true },
		{ "null MX said by a relay", "5.1.10", 556, true, true },
		{ "sender's domain is refused", "5.1.8", 550, false, false },
		{ "sender's address is refused", "5.1.7", 550, false, false },
		{ "mailbox disabled", "5.2.1", 550, true, true },
		{ "mailbox full for good", "5.2.2", 552, true, true },
		{ "too large for the mailbox", "5.2.3", 552, true, true },
		{ "too large for the system", "5.3.4", 552, true, true },
		{ "system not capable", "5.3.5", 554, false, false },
		{ "quota of the sender", "5.4.5", 550, false, false },
		{ "loop", "5.4.6", 554, false, false },
		{ "content refused", "5.6.0", 554, true, true },
		{ "8-bit refused", "5.6.3", 554, true, true },
		{ "policy", "5.7.1", 550, false, false },
		{ "policy, unspecific", "5.7.0", 554, false, false },
		{ "550 alone", "", 550, true, false },
		{ "550 alone, as reported", "5.0.0", 550, true, false },
		{ "551 alone", "", 551, true, false },
		{ "553 alone", "", 553, true, false },
		{ "554 alone", "", 554, false, false },
		{ "552 alone", "", 552, true, true },
		{ "nonsense for a code", "5.x.1", 550, true, false },
		{ "class does not fit", "4.1.1", 550, true, false },
		{ "too many digits", "5.1.1000", 554, false, false },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		if (verdict_is_final(true, ROWS[i].code, slice_of(ROWS[i].dsn)) != ROWS[i].relay)
			fail_msg("%s, through a relay", ROWS[i].label);
		if (verdict_is_final(false, ROWS[i].code, slice_of(ROWS[i].dsn)) != ROWS[i].direct)
			fail_msg("%s, direct", ROWS[i].label);
	}
}

static void test_retry_times(void **state)
{
	uint64_t after[] = { 3600000, 3600000, 7200000, 14400000 };
	struct conf conf = { .retry = { .after_count = 4, .after_ms = after, .max_age_ms = 432000000 } };

	(void)state;
	assert_int_equal(retry_wait_ms(&conf, 1, false), 3600000);
	assert_int_equal(retry_wait_ms(&conf, 3, false), 7200000);
	assert_int_equal(retry_wait_ms(&conf, 4, false), 14400000);
	assert_int_equal(retry_wait_ms(&conf, 400, false), 14400000);
	/* HS43: 4yz after the dot for ever, and each time it was delivered: a dozen copies in 5 days, not 30 */
	assert_int_equal(retry_wait_ms(&conf, 1, true), 3600000);
	assert_int_equal(retry_wait_ms(&conf, 3, true), 4 * 3600000);
	assert_int_equal(retry_wait_ms(&conf, 5, true), 16 * 3600000);
	assert_int_equal(retry_wait_ms(&conf, 6, true), 86400000);
	assert_int_equal(retry_wait_ms(&conf, 400, true), 86400000);
	assert_int_equal(lane_backoff_ms(&conf, 1), 30000); /* HS41 */
	assert_int_equal(lane_backoff_ms(&conf, 3), 120000);
	assert_int_equal(lane_backoff_ms(&conf, 1000), 3600000);
	after[2] = 1000; /* the operator wants quick retries: probes follow */
	assert_int_equal(lane_backoff_ms(&conf, 5), 1000);
	assert_false(retry_is_over(&conf, 1000, 431999999));
	assert_true(retry_is_over(&conf, 0, 432000000));
	assert_false(retry_is_over(&conf, 3, -5000)); /* the clock was set back */
	conf.retry.max_retries = 3;
	assert_false(retry_is_over(&conf, 3, 0)); /* the first attempt is no retry */
	assert_true(retry_is_over(&conf, 4, 0));
}

/* OP16: what speaks of the message says nothing of us. */
static void about_the_message(void **state UNUSED)
{
	assert_true(verdict_is_about_message(552, slice_of("5.0.0")));
	assert_true(verdict_is_about_message(554, slice_of("5.6.0")));
	assert_true(verdict_is_about_message(554, slice_of("5.2.3")));
	assert_true(verdict_is_about_message(550, slice_of("5.3.4")));
	assert_false(verdict_is_about_message(554, slice_of("5.7.1")));
	assert_false(verdict_is_about_message(550, slice_of("5.2.1")));
	assert_false(verdict_is_about_message(550, slice_of("5.0.0")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(about_the_message),
		cmocka_unit_test(test_final),
		cmocka_unit_test(test_retry_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
