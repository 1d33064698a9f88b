/* Addresses: alone, in header fields, as patterns. */
#include "lib/address.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

#define L64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void one_address(void **state UNUSED)
{
	static const struct {
		const char *text;
		enum address_result result;
		const char *local, *domain;
	} ROWS[] = {
		{ "a@b.example", ADDRESS_OK, "a", "b.example" },
		{ "<a@b.example>", ADDRESS_OK, "a", "b.example" },
		{ "<>", ADDRESS_EMPTY, NULL, NULL },
		{ "", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "<", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "<<a@b>>", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "user", ADDRESS_NO_DOMAIN, NULL, NULL },
		{ "user@", ADDRESS_NO_DOMAIN, NULL, NULL },
		{ "@b", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "@a,@b:c@d", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a@b@c", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a b@c", ADDRESS_BAD_CHARACTER, NULL, NULL },
		{ "a@b c", ADDRESS_BAD_CHARACTER, NULL, NULL },
		{ "\"a b\"@c", ADDRESS_OK, "\"a b\"", "c" },
		{ "\"a b\"@c d", ADDRESS_BAD_CHARACTER, NULL, NULL },
		{ "\"a\\\"b@c\"@d", ADDRESS_OK, "\"a\\\"b@c\"", "d" },
		{ "\"a@b", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "\"a\"b@c", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "\"\\", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a\r\nb@c", ADDRESS_BAD_CHARACTER, NULL, NULL },
		{ "\"a\tb\"@c", ADDRESS_BAD_CHARACTER, NULL, NULL },
		{ "a@b\n", ADDRESS_BAD_CHARACTER, NULL, NULL },
		{ "a@b> SIZE=1", ADDRESS_BAD_CHARACTER, NULL, NULL },
		{ "a@b>", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a..b@c", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ ".a@c", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a.@c", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a.b+c=d/e@c.d", ADDRESS_OK, "a.b+c=d/e", "c.d" },
		{ "a@-b", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a@b-", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a@b-.c", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a@b..c", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a@.b", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a@.", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a@b.", ADDRESS_OK, "a", "b." },
		{ "a@b_c", ADDRESS_OK, "a", "b_c" },
		{ "a@b!c", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a@[192.0.2.1]", ADDRESS_OK, "a", "[192.0.2.1]" },
		{ "a@[IPv6:2001:db8::1]", ADDRESS_OK, "a", "[IPv6:2001:db8::1]" },
		{ "a@[ipv6:::]", ADDRESS_OK, "a", "[ipv6:::]" },
		{ "a@[192.0.2]", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a@[2001:db8::1]", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a@[x:y]", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a@[192.0.2.1", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "a@[]", ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "j\xc3\xb6rg@b\xc3\xbc"
		  "cher.example",
		  ADDRESS_OK, "j\xc3\xb6rg",
		  "b\xc3\xbc"
		  "cher.example" },
		{ "j\xf6rg@b", ADDRESS_BAD_CHARACTER, NULL, NULL },
		{ "j\xc2\x85@b", ADDRESS_BAD_CHARACTER, NULL, NULL },
		{ L64 L64 "@b", ADDRESS_OK, L64 L64, "b" },
		{ L64 L64 L64 L64 L64 L64 "@b", ADDRESS_TOO_LONG, NULL, NULL },
		{ "a@" L64, ADDRESS_BAD_SYNTAX, NULL, NULL },
		{ "%n%s@b", ADDRESS_OK, "%n%s", "b" },
	};

	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct address_parts parts;
		enum address_result result = address_parse(slice_of(ROWS[i].text), &parts);

		if (result != ROWS[i].result)
			fail_msg("%s: %d, not %d", ROWS[i].text, result, ROWS[i].result);
		if (result == ADDRESS_OK &&
		    (!slice_is(parts.local, ROWS[i].local) || !slice_is(parts.domain, ROWS[i].domain)))
			fail_msg("%s: wrong parts", ROWS[i].text);
	}
}

static void a_nul_is_a_bad_character(void **state UNUSED)
{
	struct address_parts parts;

	assert_int_equal(address_parse((struct slice){ "a\0@b", 4 }, &parts), ADDRESS_BAD_CHARACTER);
}

static void kinds(void **state UNUSED)
{
	struct address_parts parts;

	assert_int_equal(address_parse(slice_of("j\xc3\xb6@b"), &parts), ADDRESS_OK);
	assert_true(parts.is_utf8);
	assert_int_equal(address_parse(slice_of("j@b\xc3\xbc"), &parts), ADDRESS_OK);
	assert_false(parts.is_utf8);
	assert_int_equal(address_parse(slice_of("j@[127.0.0.1]"), &parts), ADDRESS_OK);
	assert_true(parts.is_literal);
}

static void put_address(void *arg, struct slice address)
{
	struct buf *out = arg;

	buf_put_slice(out, address);
	buf_put_char(out, '|');
}

static void lists(void **state UNUSED)
{
	static const struct {
		const char *value;
		enum address_result result;
		const char *expected;
	} ROWS[] = {
		{ "a@b", ADDRESS_OK, "a@b|" },
		{ " a@b , c@d ", ADDRESS_OK, "a@b|c@d|" },
		{ "", ADDRESS_OK, "" },
		{ ",,a@b,,", ADDRESS_OK, "a@b|" },
		{ "A B <a@b>", ADDRESS_OK, "a@b|" },
		{ "\"B, A\" <a@b>, C D. E <c@d>", ADDRESS_OK, "a@b|c@d|" },
		{ "\"a \\\" <x@y>\" <a@b>", ADDRESS_OK, "a@b|" },
		{ "x@y <a@b>", ADDRESS_OK, "a@b|" },
		{ "J\xf6rg <a@b>", ADDRESS_OK, "a@b|" },
		{ "a@b (c@d, e@f)", ADDRESS_OK, "a@b|" },
		{ "(x (y \\) z) ) a@b", ADDRESS_OK, "a@b|" },
		{ "a (comment) @ (another) b . c", ADDRESS_OK, "a@b.c|" },
		{ "john . doe @ example . com", ADDRESS_OK, "john.doe@example.com|" },
		{ "A <a@b>,\r\n\tC <c@d>", ADDRESS_OK, "a@b|c@d|" },
		{ "A <\n a@b\n >", ADDRESS_OK, "a@b|" },
		{ "friends: a@b, C <c@d>;", ADDRESS_OK, "a@b|c@d|" },
		{ "x@y, friends: a@b;, c@d", ADDRESS_OK, "x@y|a@b|c@d|" },
		{ "undisclosed-recipients:;", ADDRESS_OK, "" },
		{ "undisclosed-recipients:", ADDRESS_OK, "" },
		{ "Empty:;, a@b", ADDRESS_OK, "a@b|" },
		{ "a@b; c@d", ADDRESS_OK, "a@b|c@d|" },
		{ "<@r.example,@s.example:a@b>", ADDRESS_OK, "a@b|" },
		{ "\"a b\"@c, \"d,e\"@f", ADDRESS_OK, "\"a b\"@c|\"d,e\"@f|" },
		{ "\"a,b\"@[192.0.2.1]", ADDRESS_OK, "\"a,b\"@[192.0.2.1]|" },
		{ "a@[IPv6:2001:db8::1], b@c", ADDRESS_OK, "a@[IPv6:2001:db8::1]|b@c|" },
		{ "root", ADDRESS_NO_DOMAIN, "" },
		{ "a@b, root, c@d", ADDRESS_NO_DOMAIN, "a@b|" },
		{ "a b@c", ADDRESS_BAD_CHARACTER, "" },
		{ "<a@b", ADDRESS_BAD_SYNTAX, "" },
		{ "a@b>", ADDRESS_BAD_SYNTAX, "" },
		{ "<a@b> c", ADDRESS_BAD_SYNTAX, "" },
		{ "<<a@b>>", ADDRESS_BAD_SYNTAX, "" },
		{ "\"a@b", ADDRESS_BAD_SYNTAX, "" },
		{ "(a@b", ADDRESS_BAD_SYNTAX, "" },
		{ "a@[b", ADDRESS_BAD_SYNTAX, "" },
		{ "g: h: a@b;;", ADDRESS_BAD_SYNTAX, "" },
		{ "<>", ADDRESS_EMPTY, "" },
		{ "MAILER-DAEMON <>", ADDRESS_EMPTY, "" },
		{ L64 L64 L64 L64 L64 L64 " <a@b>", ADDRESS_OK, "a@b|" },
		{ L64 L64 L64 L64 L64 L64 "@b", ADDRESS_TOO_LONG, "" },
	};
	struct buf out;

	buf_init(&out, 10000);
	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct slice where;
		enum address_result result;

		buf_clear(&out);
		result = address_list_parse(slice_of(ROWS[i].value), 100, put_address, &out, &where);
		if (result != ROWS[i].result || strcmp(buf_text(&out), ROWS[i].expected) != 0)
			fail_msg("%s: %d %s", ROWS[i].value, result, buf_text(&out));
	}
	buf_release(&out);
}

static void the_culprit_is_shown_and_the_number_bounded(void **state UNUSED)
{
	struct slice where;
	struct buf out;

	buf_init(&out, 1000);
	assert_int_equal(address_list_parse(slice_of("a@b, root , c@d"), 9, put_address, &out, &where),
			 ADDRESS_NO_DOMAIN);
	assert_memory_equal(where.ptr, "root", 4);
	assert_int_equal(address_list_parse(slice_of("a@b, c@d, e@f"), 2, put_address, &out, &where), ADDRESS_TOO_LONG);
	buf_release(&out);
}

static void domain_keys(void **state UNUSED)
{
	struct address_parts parts;
	struct buf out;

	buf_init(&out, 1000);
	assert_int_equal(address_parse(slice_of("A@B.ExAmple."), &parts), ADDRESS_OK);
	address_domain_key(&out, &parts);
	assert_string_equal(buf_text(&out), "b.example");
	buf_release(&out);
}

static void patterns(void **state UNUSED)
{
	static const struct {
		const char *pattern, *address;
		bool expected;
	} ROWS[] = {
		{ "*", "a@b.c", true },      { "*", "", true },           { "a@b.c", "A@B.C", true },
		{ "a@b.c", "a@b.c.", true }, { "a@b.c", "x@b.c", false }, { "b.c", "a@B.C", true },
		{ "b.c", "a@x.b.c", false }, { ".b.c", "a@x.b.c", true }, { ".b.c", "a@b.c", false },
		{ ".b.c", "a@xb.c", false }, { "b.c", "", false },        { "b.c", "\"x@b.c\"@d", false },
		{ "", "a@b.c", false },
	};
	static const char *const VALID[] = { "*", "a@b", "b.example", ".b.example", "[192.0.2.1]", "localhost" },
				 *const INVALID[] = { "",    ".",  "..",    "a b", "a@", "@b",
						      "*.b", "b.", "<a@b>", "a,b", "-b" };

	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		if (address_matches(slice_of(ROWS[i].pattern), slice_of(ROWS[i].address)) != ROWS[i].expected)
			fail_msg("%s against %s", ROWS[i].pattern, ROWS[i].address);
	}
	for (size_t i = 0; i < ARRAY_LEN(VALID); i++) {
		if (!address_pattern_is_valid(slice_of(VALID[i])))
			fail_msg("%s is no pattern", VALID[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(INVALID); i++) {
		if (address_pattern_is_valid(slice_of(INVALID[i])))
			fail_msg("%s is a pattern", INVALID[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_address),
		cmocka_unit_test(a_nul_is_a_bad_character),
		cmocka_unit_test(kinds),
		cmocka_unit_test(lists),
		cmocka_unit_test(the_culprit_is_shown_and_the_number_bounded),
		cmocka_unit_test(domain_keys),
		cmocka_unit_test(patterns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
