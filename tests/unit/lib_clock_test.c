/* lib_clock_test.c - written forms of time, and reading the date of a message. */
#include "lib/clock.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static void use_zone(const char *zone)
{
	assert_int_equal(setenv("TZ", zone, 1), 0);
	tzset();
}

static void test_formats(void **state UNUSED)
{
	static const struct {
		int64_t ms;
		const char *zone, *rfc3339, *rfc3339_ms, *rfc5322, *syslog;
	} ROWS[] = {
		{ 1795273445123, "UTC", "2026-11-21T15:04:05Z", "2026-11-21T15:04:05.123Z",
		  "Sat, 21 Nov 2026 15:04:05 +0000", "Nov 21 15:04:05" },
		{ 1795273445123, "XXX+3:30", "2026-11-21T15:04:05Z", "2026-11-21T15:04:05.123Z",
		  "Sat, 21 Nov 2026 11:34:05 -0330", "Nov 21 11:34:05" },
		{ 0, "UTC", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z", "Thu, 1 Jan 1970 00:00:00 +0000",
		  "Jan  1 00:00:00" },
		{ -1, "UTC", "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.999Z", "Wed, 31 Dec 1969 23:59:59 +0000",
		  "Dec 31 23:59:59" },
		{ INT64_MAX, "UTC", "9999-12-31T23:59:59Z", NULL, "Fri, 31 Dec 9999 23:59:59 +0000",
		  "Dec 31 23:59:59" },
	};
	struct buf b;

	buf_init(&b, 100);
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct wall t = { ROWS[i].ms };

		use_zone(ROWS[i].zone);
		buf_clear(&b);
		clock_format_rfc3339(&b, t);
		assert_string_equal(buf_text(&b), ROWS[i].rfc3339);
		buf_clear(&b);
		clock_format_rfc3339_ms(&b, t);
		if (ROWS[i].rfc3339_ms)
			assert_string_equal(buf_text(&b), ROWS[i].rfc3339_ms);
		buf_clear(&b);
		clock_format_rfc5322(&b, t);
		assert_string_equal(buf_text(&b), ROWS[i].rfc5322);
		buf_clear(&b);
		clock_format_syslog(&b, t);
		assert_string_equal(buf_text(&b), ROWS[i].syslog);
	}
	buf_release(&b);
	use_zone("UTC");
}

static void test_parse(void **state UNUSED)
{
	static const int64_t T = 1795273445000;
	static const struct {
		const char *text;
		int64_t want; /* -1: refused */
	} ROWS[] = {
		{ "Sat, 21 Nov 2026 15:04:05 +0000", T },
		{ "21 Nov 2026 15:04:05 GMT", T },
		{ "sat, 21 nov 2026 17:04:05 +0200", T },
		{ "Mon, 21 Nov 2026 15:04:05 +0000", T },
		{ " Sat , 21 (day) Nov (month (nested \\) )) 2026\r\n 15 : 04 : 05 -0000 (UTC)", T },
		{ "21 Nov 26 10:04:05 EST", T },
		{ "21 Nov 126 15:04:05 Z", T },
		{ "21 Nov 2026 08:04:05 PDT", T },
		{ "21 Nov 2026 15:04 UT", T - 5000 },
		{ "21 Nov 2026 15:04:05 XYZZY", T },
		{ "1 Jan 70 00:00:00 +0000", 0 },
		{ "29 Feb 2024 00:00:00 +0000", 1709164800000 },
		{ "31 Dec 2016 23:59:60 +0000", 1483228800000 },
		{ "", -1 },
		{ "tomorrow", -1 },
		{ "Sat 21 Nov 2026 15:04:05 +0000", -1 },
		{ "21 Nov 2026 15:04:05", -1 },
		{ "21 Nov 2026 24:04:05 +0000", -1 },
		{ "21 Nov 2026 15:60:05 +0000", -1 },
		{ "29 Feb 2026 15:04:05 +0000", -1 },
		{ "29 Feb 2100 15:04:05 +0000", -1 },
		{ "31 Apr 2026 15:04:05 +0000", -1 },
		{ "0 Apr 2026 15:04:05 +0000", -1 },
		{ "21 Nov 2026 15:04:05 +000", -1 },
		{ "21 Nov 2026 15:04:05 +00000", -1 },
		{ "21 Nov 2026 15:04:05 +0060", -1 },
		{ "21 Nov 2026 15:04:05 + 0000", -1 },
		{ "21 Nov 2026 15:04:05 +0000 x", -1 },
		{ "21 Nov 2026 15:04:05 +0000 (open", -1 },
		{ "2026-11-21T15:04:05Z", -1 },
		{ "121 Nov 2026 15:04:05 +0000", -1 },
		{ "21 Nov 20260 15:04:05 +0000", -1 },
		{ "21 Nov 6 15:04:05 +0000", -1 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct wall got = { -1 };
		bool is_good = clock_parse_rfc5322(slice_of(ROWS[i].text), &got);

		print_message("%s\n", ROWS[i].text);
		assert_int_equal(is_good, ROWS[i].want != -1);
		assert_int_equal(got.ms, ROWS[i].want);
	}
}

static void test_what_is_written_can_be_read(void **state UNUSED)
{
	struct wall t = { 951782399000 }, got; /* the last second before a leap day */
	struct buf b;

	buf_init(&b, 100);
	for (int i = 0; i < 400; i++, t.ms += 86400000ll * 37 + 3661000) {
		buf_clear(&b);
		clock_format_rfc5322(&b, t);
		assert_true(clock_parse_rfc5322(buf_slice(&b), &got));
		assert_int_equal(got.ms, t.ms);
	}
	buf_release(&b);
}

static void test_clocks_advance(void **state UNUSED)
{
	struct mono m = clock_mono();
	uint64_t us = clock_wall_us();
	struct wall w = clock_wall();

	assert_true(w.ms - (int64_t)(us / 1000) >= 0 && w.ms - (int64_t)(us / 1000) < 10000);
	assert_true(clock_mono().ms >= m.ms);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_what_is_written_can_be_read),
		cmocka_unit_test(test_clocks_advance),
	};

	return cmocka_run_group_tests_name("lib_clock", tests, NULL, NULL);
}
