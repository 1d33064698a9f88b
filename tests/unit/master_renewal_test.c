/* master_renewal_test.c - when a token is fetched again. */
#include "master/renewal.h"
#include <setjmp.h>
#include <stdarg.h>

/* cmocka last: it needs the standard headers above */
#include <cmocka.h>

enum { MINUTE = 60 * 1000, HOUR = 60 * MINUTE };

static void test_due_before_the_end(void **state)
{
	static const struct {
		uint64_t life_ms, earliest_ms, latest_ms;
	} ROWS[] = {
		{ HOUR, HOUR - 5 * MINUTE - 75 * 1000, HOUR - 5 * MINUTE },
		{ 24 * HOUR, 24 * HOUR - 5 * MINUTE - 75 * 1000, 24 * HOUR - 5 * MINUTE },
		{ 10000, 7500, 8000 },
		{ 1000, 1000, 1000 }, /* not more often than once a second, whatever a server says */
		{ 0, 1000, 1000 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		for (uint64_t random = 0; random < 200000; random += 997)
			assert_in_range(renewal_due_ms(ROWS[i].life_ms, random), ROWS[i].earliest_ms,
					ROWS[i].latest_ms);
		assert_int_equal(renewal_due_ms(ROWS[i].life_ms, 0), ROWS[i].latest_ms);
	}
}

static void test_retries_grow(void **state)
{
	static const uint64_t MIDDLE[] = {
		2000, 4000, 8000, 16000, 32000, 64000, 128000, 256000, 512000, 900000, 900000
	};

	for (unsigned i = 0; i < ARRAY_LEN(MIDDLE); i++)
		for (uint64_t random = 0; random < 400000; random += 1009)
			assert_in_range(renewal_retry_ms(i + 1, random), MIDDLE[i] - MIDDLE[i] / 5,
					MIDDLE[i] + MIDDLE[i] / 5);
	assert_in_range(renewal_retry_ms(4000000, 7), 720000, 1080000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_due_before_the_end),
		cmocka_unit_test(test_retries_grow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
