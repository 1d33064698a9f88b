/* lib_buf_test.c - growth, the hard maximum, the sticky failure. */
#include "lib/buf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static void test_grows_and_ends_with_nul(void **state UNUSED)
{
	struct buf b;

	buf_init(&b, 100000);
	assert_string_equal(buf_text(&b), "");
	assert_int_equal(buf_slice(&b).len, 0);
	for (int i = 0; i < 5000; i++) {
		buf_printf(&b, "%d,", i);
		assert_int_equal(b.ptr[b.len], '\0');
		assert_true(b.len <= b.cap && b.cap <= b.max);
	}
	assert_false(b.failed);
	assert_memory_equal(b.ptr, "0,1,2,3,", 8);
	assert_string_equal(b.ptr + b.len - 10, "4998,4999,");
	buf_release(&b);
	buf_put_str(&b, "again");
	assert_string_equal(buf_text(&b), "again");
	buf_release(&b);
}

/* Every way of putting something must stop at max and change nothing. */
static void test_maximum_is_hard(void **state UNUSED)
{
	static const struct {
		const char *label, *first, *second, *want;
		bool fails;
	} ROWS[] = {
		{ "exactly full", "12345", "678", "12345678", false },
		{ "one over", "12345", "6789", "12345", true },
		{ "alone too long", "", "123456789", "", true },
		{ "nothing into full", "12345678", "", "12345678", false },
		{ "one into full", "12345678", "9", "12345678", true },
	};
	struct buf b;

	for (unsigned i = 0; i < 2 * ARRAY_LEN(ROWS); i++) {
		unsigned row = i / 2;
		bool by_printf = i % 2;

		print_message("%s%s\n", ROWS[row].label, by_printf ? " (printf)" : "");
		buf_init(&b, 8);
		buf_put_str(&b, ROWS[row].first);
		if (by_printf)
			buf_printf(&b, "%s", ROWS[row].second);
		else
			buf_put_str(&b, ROWS[row].second);
		assert_int_equal(b.failed, ROWS[row].fails);
		assert_string_equal(buf_text(&b), ROWS[row].want);
		assert_int_equal(b.len, strlen(ROWS[row].want));
		buf_release(&b);
	}
}

static void test_failure_sticks_until_clear(void **state UNUSED)
{
	struct buf b;

	buf_init(&b, 4);
	buf_put_str(&b, "12345");
	buf_put_str(&b, "1");
	buf_printf(&b, "%d", 1);
	assert_true(b.failed);
	assert_int_equal(b.len, 0);
	assert_null(buf_reserve(&b, 1));
	buf_clear(&b);
	assert_false(b.failed);
	buf_put_str(&b, "1234");
	assert_string_equal(buf_text(&b), "1234");
	buf_release(&b);
}

static void test_reserve_and_commit(void **state UNUSED)
{
	struct buf b;
	char *at;

	buf_init(&b, 1000);
	at = buf_reserve(&b, 300);
	assert_non_null(at);
	memset(at, 'x', 300);
	b.len += 300;
	assert_int_equal(strlen(buf_text(&b)), 300);
	assert_non_null(buf_reserve(&b, 700));
	assert_null(buf_reserve(&b, 701));
	buf_release(&b);
}

static void test_consume(void **state UNUSED)
{
	struct buf b;

	buf_init(&b, 100);
	buf_put_str(&b, "one two");
	buf_consume(&b, 0);
	buf_consume(&b, 4);
	assert_string_equal(buf_text(&b), "two");
	buf_consume(&b, 3);
	assert_string_equal(buf_text(&b), "");
	buf_release(&b);
}

static void test_detach_gives_text_away(void **state UNUSED)
{
	struct buf b;
	char *text;

	buf_init(&b, 100);
	text = buf_detach(&b);
	assert_string_equal(text, "");
	free(text);
	buf_put(&b, "a\0b", 3);
	text = buf_detach(&b);
	assert_memory_equal(text, "a\0b", 4);
	free(text);
	assert_int_equal(b.len, 0);
	assert_null(b.ptr);
}

static void test_network_order(void **state UNUSED)
{
	struct buf b;

	buf_init(&b, 12);
	buf_put_be(&b, 0x80, 1);
	buf_put_be(&b, 0x102, 2);
	buf_put_be(&b, UINT64_MAX - 1, 8);
	assert_memory_equal(b.ptr, "\x80\x01\x02\xff\xff\xff\xff\xff\xff\xff\xfe", 11);
	assert_int_equal(buf_get_be(b.ptr, 1), 0x80);
	assert_int_equal(buf_get_be(b.ptr + 1, 2), 0x102);
	assert_true(buf_get_be(b.ptr + 3, 8) == UINT64_MAX - 1);
	buf_put_be(&b, 1, 2);
	assert_true(b.failed && b.len == 11);
	buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grows_and_ends_with_nul),
		cmocka_unit_test(test_maximum_is_hard),
		cmocka_unit_test(test_failure_sticks_until_clear),
		cmocka_unit_test(test_reserve_and_commit),
		cmocka_unit_test(test_consume),
		cmocka_unit_test(test_detach_gives_text_away),
		cmocka_unit_test(test_network_order),
	};

	return cmocka_run_group_tests_name("lib_buf", tests, NULL, NULL);
}
