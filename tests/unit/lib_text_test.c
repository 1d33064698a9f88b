/* lib_text_test.c - strict numbers, durations, sizes; what foreign bytes become. */
#include "lib/text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static const uint64_t BAD = UINT64_MAX - 4711;

static void test_u64(void **state UNUSED)
{
	static const struct {
		const char *text;
		uint64_t want;
	} ROWS[] = {
		{ "0", 0 },
		{ "7", 7 },
		{ "007", 7 },
		{ "18446744073709551615", UINT64_MAX },
	};
	static const char *const WRONG[] = { "", " 1", "1 ", "+1", "-1", "0x10", "1.0", "18446744073709551616", "a" };

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		uint64_t got = BAD;

		assert_true(text_parse_u64(slice_of(ROWS[i].text), &got));
		assert_int_equal(got, ROWS[i].want);
	}
	for (unsigned i = 0; i < ARRAY_LEN(WRONG); i++) {
		uint64_t got = BAD;

		assert_false(text_parse_u64(slice_of(WRONG[i]), &got));
		assert_int_equal(got, BAD);
	}
	assert_false(text_parse_u64((struct slice){ "1\0", 2 }, &(uint64_t){ 0 }));
}

static void test_duration(void **state UNUSED)
{
	static const struct {
		const char *text;
		uint64_t want;
	} ROWS[] = {
		{ "0", 0 },
		{ "0s", 0 },
		{ "90s", 90000 },
		{ "1h30m", 5400000 },
		{ "5d", 432000000 },
		{ "2w", 1209600000 },
		{ "1w1d1h1m1s", 694861000 },
		{ "36h", 129600000 },
		{ "00", BAD },
		{ "5", BAD },
		{ "", BAD },
		{ "s", BAD },
		{ "1h1h", BAD },
		{ "1m1h", BAD },
		{ "1 h", BAD },
		{ "-1s", BAD },
		{ "1H", BAD },
		{ "1.5h", BAD },
		{ "1h30", BAD },
		{ "99999999999999999w", BAD },
		{ "1ms", BAD },
		{ "0x1s", BAD },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		uint64_t got = BAD;
		bool is_good = text_parse_duration(slice_of(ROWS[i].text), &got);

		print_message("%s\n", ROWS[i].text);
		assert_int_equal(is_good, ROWS[i].want != BAD);
		assert_int_equal(got, ROWS[i].want);
	}
}

static void test_size(void **state UNUSED)
{
	static const struct {
		const char *text;
		uint64_t want;
	} ROWS[] = {
		{ "10", 10 },
		{ "50k", 51200 },
		{ "50M", 52428800 },
		{ "2g", 2147483648ull },
		{ "0", 0 },
		{ "", BAD },
		{ "k", BAD },
		{ "1kb", BAD },
		{ "1t", BAD },
		{ "1 k", BAD },
		{ "99999999999999g", BAD },
		{ "1.5m", BAD },
		{ "-1", BAD },
		{ "1\x0b", BAD },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		uint64_t got = BAD;
		bool is_good = text_parse_size(slice_of(ROWS[i].text), &got);

		print_message("%s\n", ROWS[i].text);
		assert_int_equal(is_good, ROWS[i].want != BAD);
		assert_int_equal(got, ROWS[i].want);
	}
}

static void test_format_duration(void **state UNUSED)
{
	static const struct {
		uint64_t ms;
		const char *want;
	} ROWS[] = {
		{ 0, "0s" },          { 250, "250ms" },     { 1000, "1s" },      { 1500, "1s500ms" },
		{ 90000, "1m30s" },   { 5400000, "1h30m" }, { 432000000, "5d" }, { 90061001, "1d1h" },
		{ 86460000, "1d1m" }, { 604800000, "7d" },
	};
	struct buf b;

	buf_init(&b, 100);
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		buf_clear(&b);
		text_format_duration(&b, ROWS[i].ms);
		assert_string_equal(buf_text(&b), ROWS[i].want);
	}
	buf_release(&b);
}

static void test_escape(void **state UNUSED)
{
	static const struct {
		const char *label, *remote;
		size_t max;
		const char *want;
	} ROWS[] = {
		{ "plain", "550 no such user", 100, "550 no such user" },
		{ "line ends", "a\r\nb\tc", 100, "a\\015\\012b\\011c" },
		{ "backslash", "a\\b", 100, "a\\\\b" },
		{ "escape sequence", "\033[31mred", 100, "\\033[31mred" },
		{ "DEL", "\177", 100, "\\177" },
		{ "UTF-8 stays", "Grüße ✓", 100, "Grüße ✓" },
		{ "C1 control", "\xc2\x9b", 100, "\\302\\233" },
		{ "latin-1", "Gr\xfc\xdf", 100, "Gr\\374\\337" },
		{ "overlong slash", "\xc0\xaf", 100, "\\300\\257" },
		{ "surrogate", "\xed\xa0\x80", 100, "\\355\\240\\200" },
		{ "cut character", "\xe2\x9c", 100, "\\342\\234" },
		{ "exactly full", "12345678", 8, "12345678" },
		{ "one over", "123456789", 8, "12345..." },
		{ "no half character", "1234✓6789", 8, "1234..." },
		{ "no half escape", "123\n56789", 8, "123..." },
		{ "no room for dots", "1234", 2, "" },
	};
	struct buf b;

	buf_init(&b, 1000);
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		print_message("%s\n", ROWS[i].label);
		buf_clear(&b);
		buf_put_str(&b, "<");
		text_escape(&b, slice_of(ROWS[i].remote), ROWS[i].max);
		assert_string_equal(buf_text(&b) + 1, ROWS[i].want);
		assert_true(b.len - 1 <= ROWS[i].max);
		assert_true(text_is_utf8(buf_slice(&b)));
	}
	buf_clear(&b);
	text_escape(&b, (struct slice){ "a\0b", 3 }, 100);
	assert_string_equal(buf_text(&b), "a\\000b");
	buf_release(&b);
}

static void test_utf8(void **state UNUSED)
{
	static const char *const GOOD[] = { "",
					    "abc",
					    "\xc2\x80",
					    "\xdf\xbf",
					    "\xe0\xa0\x80",
					    "\xed\x9f\xbf",
					    "\xee\x80\x80",
					    "\xf0\x90\x80\x80",
					    "\xf4\x8f\xbf\xbf" };
	static const char *const WRONG[] = { "\x80",
					     "\xc1\xbf",
					     "\xe0\x9f\xbf",
					     "\xed\xa0\x80",
					     "\xf0\x8f\xbf\xbf",
					     "\xf4\x90\x80\x80",
					     "\xf5\x80\x80\x80",
					     "\xff",
					     "a\xc3",
					     "\xe2\x28\xa1" };

	for (unsigned i = 0; i < ARRAY_LEN(GOOD); i++)
		assert_true(text_is_utf8(slice_of(GOOD[i])));
	for (unsigned i = 0; i < ARRAY_LEN(WRONG); i++)
		assert_false(text_is_utf8(slice_of(WRONG[i])));
	assert_true(text_is_ascii(slice_of("abc\x7f")));
	assert_false(text_is_ascii(slice_of("ab\xc3\xa4")));
}

static void test_trim_and_lower(void **state UNUSED)
{
	char text[] = "MiXeD \xc3\x84 [Z@`{";

	assert_true(slice_is(text_trim(slice_of(" \t a b\t ")), "a b"));
	assert_true(slice_is(text_trim(slice_of(" \t")), ""));
	assert_true(slice_is(text_trim(slice_of("")), ""));
	text_lower(text, strlen(text));
	assert_string_equal(text, "mixed \xc3\x84 [z@`{");
}

/* Every byte, the length and the seed count. */
static void test_hash(void **state UNUSED)
{
	char bytes[64] = { 0 };
	uint64_t seen[64];

	text_seed(1);
	for (size_t len = 0; len < 64; len++) {
		seen[len] = text_hash(bytes, len);
		for (size_t i = 0; i < len; i++)
			assert_int_not_equal(seen[i], seen[len]);
	}
	assert_int_equal(text_hash(bytes, 20), seen[20]);
	for (size_t i = 0; i < 20; i++) {
		bytes[i] = 1;
		assert_int_not_equal(text_hash(bytes, 20), seen[20]);
		bytes[i] = 0;
	}
	text_seed(2);
	assert_int_not_equal(text_hash(bytes, 20), seen[20]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_u64),
		cmocka_unit_test(test_duration),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_format_duration),
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_trim_and_lower),
		cmocka_unit_test(test_hash),
	};

	return cmocka_run_group_tests_name("lib_text", tests, NULL, NULL);
}
