/* Which addresses a server's deny-addresses forbid, whatever form they come in. DN05, DN06, DN07 */
#include "smtpout/dial.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka last: it needs setjmp.h and others above */
#include <cmocka.h>

static struct conf_cidr block(const char *address, uint8_t prefix)
{
	struct conf_cidr c = { .family = strchr(address, ':') ? AF_INET6 : AF_INET, .prefix = prefix };

	assert_int_equal(inet_pton(c.family, address, c.bytes), 1);
	return c;
}

static void test_denied(void **state)
{
	const struct conf_cidr deny[] = { block("127.0.0.0", 8), block("169.254.0.0", 16), block("192.0.2.128", 25),
					  block("fe80::", 10), block("::1", 128) };
	static const struct {
		const char *address;
		bool is_denied;
	} ROWS[] = {
		{ "127.0.0.1", true },
		{ "127.255.255.255", true },
		{ "126.255.255.255", false },
		{ "128.0.0.0", false },
		{ "169.254.169.254", true },
		{ "192.0.2.127", false },
		{ "192.0.2.128", true },
		{ "::1", true },
		{ "::2", false },
		{ "fe80::1", true },
		{ "febf::1", true },
		{ "fec0::1", false },
		{ "::ffff:127.0.0.1", true },
		{ "::ffff:192.0.2.1", false },
		{ "64:ff9b::a9fe:a9fe", true },
		{ "64:ff9b::c000:201", false },
		{ "64:ff9c::7f00:1", false },
		{ "2001:db8::7f00:1", false },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct host_address a = { .family = strchr(ROWS[i].address, ':') ? AF_INET6 : AF_INET };

		assert_int_equal(inet_pton(a.family, ROWS[i].address, a.bytes), 1);
		if (dial_is_denied(&a, deny, ARRAY_LEN(deny)) != ROWS[i].is_denied)
			fail_msg("%s", ROWS[i].address);
		assert_false(dial_is_denied(&a, deny, 0));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_denied) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
