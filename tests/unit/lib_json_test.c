/* lib_json_test.c - whatever goes into the writer, a parser gets it back. */
#include "lib/json.h"
#include "lib/text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static void test_strings(void **state UNUSED)
{
	static const struct {
		const char *label, *text, *want;
	} ROWS[] = {
		{ "plain", "abc", "\"abc\"" },
		{ "empty", "", "\"\"" },
		{ "quotes", "a\"b\\c/d", "\"a\\\"b\\\\c/d\"" },
		{ "line ends", "a\r\n\tb", "\"a\\r\\n\\tb\"" },
		{ "controls", "\001\033\177", "\"\\u0001\\u001b\\u007f\"" },
		{ "UTF-8", "Grüße ✓ 𝄞", "\"Grüße ✓ 𝄞\"" },
		{ "latin-1",
		  "Gr\xfc\xdf"
		  "e",
		  "\"Gr\\ufffd\\ufffde\"" },
		{ "overlong", "\xc0\xaf", "\"\\ufffd\\ufffd\"" },
		{ "cut off", "x\xe2\x9c", "\"x\\ufffd\\ufffd\"" },
		{ "surrogate", "\xed\xa0\x80!", "\"\\ufffd\\ufffd\\ufffd!\"" },
	};
	struct buf b;

	buf_init(&b, 1000);
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		print_message("%s\n", ROWS[i].label);
		buf_clear(&b);
		json_put_string(&b, slice_of(ROWS[i].text));
		assert_string_equal(buf_text(&b), ROWS[i].want);
	}
	buf_release(&b);
}

/* Every byte, and pairs of them, against a real parser. */
static void test_a_parser_reads_it_back(void **state UNUSED)
{
	struct buf b;
	char bytes[2];

	buf_init(&b, 1000);
	for (int i = 0; i < 65536; i++) {
		json_t *value;

		bytes[0] = (char)(i >> 8);
		bytes[1] = (char)i;
		buf_clear(&b);
		json_put_string(&b, (struct slice){ bytes, 2 });
		value = json_loadb(b.ptr, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		assert_non_null(value);
		if (text_is_utf8((struct slice){ bytes, 2 }))
			assert_memory_equal(json_string_value(value), bytes, 2);
		json_decref(value);
	}
	buf_release(&b);
}

static void test_members(void **state UNUSED)
{
	struct buf b;

	buf_init(&b, 1000);
	buf_put_char(&b, '{');
	json_put_member(&b, "a", slice_of("{"));
	json_put_member_u64(&b, "b", UINT64_MAX);
	json_put_member_bool(&b, "c", true);
	json_put_key(&b, "d");
	buf_put_char(&b, '[');
	json_put_string(&b, slice_of("x"));
	buf_put_str(&b, ",{");
	json_put_member_bool(&b, "e", false);
	buf_put_str(&b, "}]}");
	assert_string_equal(buf_text(&b),
			    "{\"a\":\"{\",\"b\":18446744073709551615,\"c\":true,\"d\":[\"x\",{\"e\":false}]}");
	buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_a_parser_reads_it_back),
		cmocka_unit_test(test_members),
	};

	return cmocka_run_group_tests_name("lib_json", tests, NULL, NULL);
}
