/* lib_idn_test.c - which names reach DNS, and in which form. */
#include "lib/idn.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

#define LABEL_63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static bool convert(const char *text, char *out, size_t size)
{
	struct buf b;
	bool is_ok;

	buf_init(&b, 300);
	is_ok = idn_to_ascii(&b, slice_of(text));
	if (!is_ok)
		assert_int_equal(b.len, 0);
	snprintf(out, size, "%s", buf_text(&b));
	buf_release(&b);
	return is_ok;
}

static void test_good_names(void **state UNUSED)
{
	static const struct {
		const char *label, *text, *want;
	} ROWS[] = {
		{ "plain", "example.com", "example.com" },
		{ "case and dot", "Example.COM.", "example.com" },
		{ "underscore", "_dmarc.example", "_dmarc.example" },
		{ "already A-label", "xn--bcher-kva.example", "xn--bcher-kva.example" },
		{ "U-label", "bücher.example", "xn--bcher-kva.example" },
		{ "capital U-label", "BÜCHER.example", "xn--bcher-kva.example" },
		{ "not composed",
		  "bu\xcc\x88"
		  "cher.example",
		  "xn--bcher-kva.example" },
		{ "sharp s stays itself", "straße.example", "xn--strae-oqa.example" },
		{ "ideographic full stop", "例え。テスト", "xn--r8jz45g.xn--zckzah" },
		{ "single label", "localhost", "localhost" },
		{ "63", LABEL_63 ".example", LABEL_63 ".example" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		char got[300];

		if (!convert(ROWS[i].text, got, sizeof(got)))
			fail_msg("%s refused", ROWS[i].label);
		assert_string_equal(got, ROWS[i].want);
	}
}

static void test_bad_names(void **state UNUSED)
{
	static const char *const ROWS[] = {
		"",
		".",
		"a..b",
		".a",
		"a b",
		"a%b",
		"a\tb",
		"192.0.2.1",
		"[192.0.2.1]",
		"a." LABEL_63 "a",
		"1.2.3.4.",
		LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63,
		"\xff.example",
		"\xe2\x80\x8b",
		"a\xc3.example",
		"a/b",
		"a\\b",
		"xn--\xc3\xbc.example",
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		char got[300];

		if (convert(ROWS[i], got, sizeof(got)))
			fail_msg("row %u accepted as %s", i, got);
	}
}

static void test_nul(void **state UNUSED)
{
	struct buf b;

	buf_init(&b, 300);
	assert_false(idn_to_ascii(&b, (struct slice){ "a\0b.example", 11 }));
	assert_false(idn_to_ascii(&b, (struct slice){ "\xc3\xbc\0b.example", 12 }));
	buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_names),
		cmocka_unit_test(test_bad_names),
		cmocka_unit_test(test_nul),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
