/* resolver_doubt_test.c - when name servers that find nothing are believed.  DN01, DN19 */
#include "resolver/doubt.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static bool deny(struct doubt *d, unsigned number, uint64_t found)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "d%u.example", number);
	return doubt_denied(d, name, found);
}

static void test_dn01_not_before_anything_was_found(void **state UNUSED)
{
	struct doubt d = { 0 };

	assert_true(doubt_is_on(&d, 0));
	assert_false(deny(&d, 1, 0));
	assert_true(doubt_is_on(&d, 0));
	assert_false(doubt_is_on(&d, 1));
}

static void test_dn19_too_many_in_a_row(void **state UNUSED)
{
	struct doubt d = { 0 };

	for (unsigned i = 1; i < DOUBT_DENIALS_MAX; i++) {
		assert_false(deny(&d, i, 7));
		assert_false(deny(&d, i, 7)); /* the same name again is no other */
	}
	assert_false(doubt_is_on(&d, 7));
	assert_true(deny(&d, 0, 7));
	assert_true(doubt_is_on(&d, 7));
	assert_false(deny(&d, 100, 7)); /* told once */
	assert_false(doubt_is_over(&d, 7));
	assert_true(doubt_is_over(&d, 8)); /* likewise */
	assert_false(doubt_is_over(&d, 8));
	assert_false(doubt_is_on(&d, 8));
}

static void test_dn19_found_ones_between(void **state UNUSED)
{
	struct doubt d = { 0 };

	for (unsigned i = 0; i < 10 * DOUBT_DENIALS_MAX; i++)
		assert_false(deny(&d, i, 1 + i / (DOUBT_DENIALS_MAX - 1)));
	assert_false(doubt_is_on(&d, 1000));
	assert_false(doubt_is_over(&d, 1000)); /* it never was on */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dn01_not_before_anything_was_found),
		cmocka_unit_test(test_dn19_too_many_in_a_row),
		cmocka_unit_test(test_dn19_found_ones_between),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
