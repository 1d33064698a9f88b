/* lib_deny_test.c - forbidden addresses in every dress.  DN05, DN06 */
#include "lib/deny.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static struct host_address address(const char *text)
{
	struct host_address a = { .family = strchr(text, ':') ? AF_INET6 : AF_INET };

	assert_int_equal(inet_pton(a.family, text, a.bytes), 1);
	return a;
}

static struct conf_cidr block(const char *text, unsigned prefix)
{
	struct host_address a = address(text);
	struct conf_cidr c = { .family = a.family, .prefix = (uint8_t)prefix };

	memcpy(c.bytes, a.bytes, sizeof(c.bytes));
	return c;
}

static void test_blocks(void **state UNUSED)
{
	static const struct {
		const char *block;
		unsigned prefix;
		const char *address;
		bool want;
	} ROWS[] = {
		{ "127.0.0.0", 8, "127.0.0.1", true },
		{ "127.0.0.0", 8, "127.255.255.255", true },
		{ "127.0.0.0", 8, "128.0.0.1", false },
		{ "127.0.0.0", 8, "::ffff:127.0.0.1", true },
		{ "127.0.0.0", 8, "64:ff9b::7f00:1", true },
		{ "127.0.0.0", 8, "::7f00:1", true },
		{ "127.0.0.0", 8, "2002:7f00:1::1", true },
		{ "127.0.0.0", 8, "64:ff9b::c000:201", false },
		{ "127.0.0.0", 8, "64:ff9c::7f00:1", false },
		{ "127.0.0.0", 8, "2001:db8::7f00:1", false },
		{ "169.254.0.0", 16, "169.254.169.254", true },
		{ "169.254.0.0", 16, "::ffff:169.254.169.254", true },
		{ "0.0.0.0", 8, "0.0.0.0", true },
		{ "0.0.0.0", 8, "0.1.2.3", true },
		{ "224.0.0.0", 4, "239.1.1.1", true },
		{ "224.0.0.0", 4, "240.0.0.1", false },
		{ "::1", 128, "::1", true },
		{ "::1", 128, "::2", false },
		{ "::", 128, "::", true },
		{ "fe80::", 10, "fe80::1", true },
		{ "fe80::", 10, "febf::1", true },
		{ "fe80::", 10, "fec0::1", false },
		{ "ff00::", 8, "ff02::1", true },
		{ "0.0.0.0", 0, "192.0.2.1", true },
		{ "0.0.0.0", 0, "2001:db8::1", false },
		{ "::", 0, "2001:db8::1", true },
		{ "::", 0, "192.0.2.1", false },
		{ "192.0.2.128", 25, "192.0.2.127", false },
		{ "192.0.2.128", 25, "192.0.2.129", true },
		{ "192.0.2.1", 32, "192.0.2.1", true },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct conf_cidr c = block(ROWS[i].block, ROWS[i].prefix);
		struct host_address a = address(ROWS[i].address);

		if (deny_matches(&c, 1, &a) != ROWS[i].want)
			fail_msg("%s/%u %s", ROWS[i].block, ROWS[i].prefix, ROWS[i].address);
	}
}

static void test_lists(void **state UNUSED)
{
	struct conf_cidr list[] = { block("10.0.0.0", 8), block("::1", 128) };
	struct host_address a = address("::1"), b = address("192.0.2.1");

	assert_true(deny_matches(list, 2, &a));
	assert_false(deny_matches(list, 1, &a));
	assert_false(deny_matches(list, 2, &b));
	assert_false(deny_matches(NULL, 0, &a));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_blocks), cmocka_unit_test(test_lists) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
