/* lib_sts_test.c - MTA-STS: records, policy files, the line that keeps a policy, which hosts it names.  TL13, TL14 */
#include "lib/sts.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static void test_record(void **state UNUSED)
{
	static const struct {
		const char *text, *id; /* NULL: not one */
	} ROWS[] = {
		{ "v=STSv1; id=20160831085700Z;", "20160831085700Z" },
		{ "v=STSv1;id=1", "1" },
		{ "v=STSv1 ; id=1 ; ", "1" },
		{ "v=STSv1; id=1; a.b-c_d=x:y; e=/", "1" },
		{ "v=STSv1; x=y; id=aZ9", "aZ9" },
		{ "v=STSv1; id=12345678901234567890123456789012", "12345678901234567890123456789012" },
		{ "v=STSv1; id=123456789012345678901234567890123", NULL },
		{ "v=STSv1; id=", NULL },
		{ "v=STSv1; id=a-b", NULL },
		{ "v=STSv1; id=1; id=2", NULL },
		{ "v=STSv1; id=1;; x=y", NULL },
		{ "v=STSv1; id=1; x", NULL },
		{ "v=STSv1; id=1; =x", NULL },
		{ "v=STSv1; id=1; x=", NULL },
		{ "v=STSv1; id=1; x=a b", NULL },
		{ "v=STSv1", NULL },
		{ "v=STSv1;", NULL },
		{ "v=STSv2; id=1", NULL },
		{ "v=stsv1; id=1", NULL },
		{ " v=STSv1; id=1", NULL },
		{ "id=1; v=STSv1", NULL },
		{ "", NULL },
	};
	char id[STS_ID_MAX + 1];

	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		print_message("%s\n", ROWS[i].text);
		assert_int_equal(sts_read_record(slice_of(ROWS[i].text), id), ROWS[i].id != NULL);
		if (ROWS[i].id)
			assert_string_equal(id, ROWS[i].id);
	}
}

static const char HEAD[] = "version: STSv1\nmode: enforce\nmax_age: 60\n";

static void test_file(void **state UNUSED)
{
	static const struct {
		const char *head, *rest, *mx, *why; /* why NULL: a policy */
	} ROWS[] = {
		{ HEAD, "mx: a.example\nmx: *.B.example\n", "a.example,*.b.example", NULL },
		{ "", "version: STSv1\r\nmode:enforce \r\nmax_age\t: 60\r\nmx: a.example", "a.example", NULL },
		{ HEAD, "mx: a.example\nmode: none\nx: y: z\n\n", "a.example",
		  NULL }, /* first counts, unknown ignored */
		{ HEAD, "", "", "no mx" },
		{ "", "version: STSv1\nmode: none\nmax_age: 60\n", "", NULL },
		{ HEAD, "mx: a..example\n", "", "names no host" },
		{ HEAD, "mx: *\n", "", "names no host" },
		{ HEAD, "mx: a.*.example\n", "", "names no host" },
		{ HEAD, "mx: -a.example\n", "", "names no host" },
		{ HEAD, "mx: a.example,b.example\n", "", "names no host" },
		{ HEAD, "mx a.example\n", "", "no colon" },
		{ "", "version: STSv1\nmode: enforced\nmax_age: 60\nmx: a\n", "", "mode" },
		{ "", "version: STSv2\nmode: enforce\nmax_age: 60\nmx: a\n", "", "version" },
		{ "", "version: STSv1\nmode: enforce\nmax_age: -1\nmx: a\n", "", "max_age" },
		{ "", "version: STSv1\nmode: enforce\nmax_age: 60000000000\nmx: a\n", "", "max_age" },
		{ "", "version: STSv1\nmode: enforce\nmx: a\n", "", "lacks" },
		{ "", "mode: enforce\nmax_age: 60\nmx: a\n", "", "lacks" },
		{ "", "", "", "lacks" },
	};

	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct sts_policy p = { .mode = STS_TESTING };
		char *file = xasprintf("%s%s", ROWS[i].head, ROWS[i].rest);
		const char *why = NULL;

		print_message("%s\n", file);
		assert_int_equal(sts_read_file(slice_of(file), &p, &why), ROWS[i].why == NULL);
		if (ROWS[i].why)
			assert_non_null(strstr(why, ROWS[i].why));
		else
			assert_string_equal(p.mx, ROWS[i].mx);
		free(file);
	}
}

static void test_limits(void **state UNUSED)
{
	struct sts_policy p;
	const char *why;
	struct buf file;

	buf_init(&file, STS_FILE_MAX + 100);
	buf_put_str(&file, "version: STSv1\nmode: enforce\nmax_age: 9999999999\n");
	while (file.len < 3000)
		buf_put_str(&file, "mx: a.example\n");
	assert_true(sts_read_file(buf_slice(&file), &p, &why));
	assert_int_equal(p.max_age_s, STS_AGE_MAX_S);
	while (file.len < 8000)
		buf_put_str(&file, "mx: a.example\n");
	assert_false(sts_read_file(buf_slice(&file), &p, &why));
	assert_non_null(strstr(why, "too long"));
	buf_clear(&file);
	while (file.len <= STS_FILE_MAX)
		buf_put_char(&file, '\n');
	assert_false(sts_read_file(buf_slice(&file), &p, &why));
	assert_non_null(strstr(why, "too large"));
	buf_release(&file);
}

static void test_line(void **state UNUSED)
{
	static const char *const GOOD[] = { "a.example 1 1700000000 60 enforce mx.a.example,*.b.example",
					    "a.example 2Z 0 0 none -", "a.example 2Z 5 31557600 testing m.x" };
	static const char *const BAD[] = { "",
					   "a.example",
					   "a.example 1 1 60 enforce",
					   "a.example 1 1 60 enforce ",
					   "a.example 1 1 60 enforce -",
					   "a.example 1 1 60 enforce mx.a,",
					   "a.example 1 1 60 enforce mx.a,,b",
					   "a.example 1 1 60 enforce mx.a b",
					   "a.example 1 1 60 enforced mx.a",
					   "a.example 1 1 31557601 enforce mx.a",
					   "a.example 1 x 60 enforce mx.a",
					   "a.example 1 18446744073709551615 60 enforce mx.a",
					   "a.example ! 1 60 enforce mx.a",
					   "A.example 1 1 60 enforce mx.a",
					   "a/b 1 1 60 enforce mx.a" };
	struct sts_policy p;
	struct buf out;

	buf_init(&out, STS_LINE_MAX);
	for (size_t i = 0; i < ARRAY_LEN(GOOD); i++) {
		assert_true(sts_read_line(slice_of(GOOD[i]), &p));
		buf_clear(&out);
		sts_put_line(&out, &p);
		assert_string_equal(buf_text(&out), GOOD[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
		print_message("%s\n", BAD[i]);
		assert_false(sts_read_line(slice_of(BAD[i]), &p));
	}
	buf_release(&out);
}

static void test_allows(void **state UNUSED)
{
	static const struct sts_policy P = { .mx = "mx.a.example,*.b.example" };
	static const struct {
		const char *host;
		bool is_named;
	} ROWS[] = {
		{ "mx.a.example", true },      { "MX.A.example", true },       { "a.example", false },
		{ "mx2.a.example", false },    { "x.mx.a.example", false },    { "mx.b.example", true },
		{ "mx.B.EXAMPLE", true },      { "b.example", false },         { "x.mx.b.example", false },
		{ ".b.example", false },       { "mxb.example", false },       { "mx.a.example,", false },
		{ "mx.b.example.org", false }, { "mx.a.example.evil", false }, { "", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		print_message("%s\n", ROWS[i].host);
		assert_int_equal(sts_allows(&P, ROWS[i].host), ROWS[i].is_named);
	}
}

static void test_age(void **state UNUSED)
{
	static const struct sts_policy P = { .fetched_s = 1000, .max_age_s = 60 };

	assert_int_equal(sts_left_s(&P, 1000), 60);
	assert_int_equal(sts_left_s(&P, 1059), 1);
	assert_int_equal(sts_left_s(&P, 1060), 0);
	assert_int_equal(sts_left_s(&P, 5000), 0);
	assert_int_equal(sts_left_s(&P, 10), 60); /* the clock was set back */
}

static void test_domain(void **state UNUSED)
{
	static const char *const BAD[] = { "",     ".",    "a.",  ".a",  "a..b", "-a.b",
					   "a-.b", "a.b-", "a_b", "a/b", "A.b",  "a b" };

	assert_true(sts_is_domain(slice_of("xn--e1afmkfd.example")));
	assert_true(sts_is_domain(slice_of("a-b.c9")));
	for (size_t i = 0; i < ARRAY_LEN(BAD); i++)
		assert_false(sts_is_domain(slice_of(BAD[i])));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_record), cmocka_unit_test(test_file),   cmocka_unit_test(test_limits),
		cmocka_unit_test(test_line),   cmocka_unit_test(test_allows), cmocka_unit_test(test_age),
		cmocka_unit_test(test_domain),
	};

	return cmocka_run_group_tests_name("lib_sts", tests, NULL, NULL);
}
