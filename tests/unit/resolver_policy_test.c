/* resolver_policy_test.c - what a policy leaves of a domain's hosts, and for whom it counts.  TL14 */
#include "resolver/policy.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static struct hosts hosts;

static void set_hosts(void)
{
	memset(&hosts, 0, sizeof(hosts));
	hosts.count = 3;
	snprintf(hosts.host[0].name, sizeof(hosts.host[0].name), "stray.example");
	snprintf(hosts.host[1].name, sizeof(hosts.host[1].name), "mx.a.example");
	snprintf(hosts.host[2].name, sizeof(hosts.host[2].name), "dane.example");
	hosts.host[2].dane = HOST_DANE_USABLE;
}

static void test_enforce(void **state UNUSED)
{
	static const struct sts_policy P = { .domain = "a.example", .mode = STS_ENFORCE, .mx = "*.a.example" };

	set_hosts();
	assert_true(policy_apply(&P, &hosts));
	assert_int_equal(hosts.count, 2);
	assert_string_equal(hosts.host[0].name, "mx.a.example");
	assert_true(hosts.host[0].is_sts);
	assert_string_equal(hosts.host[1].name, "dane.example"); /* DANE says more */
	assert_false(hosts.host[1].is_sts);
	hosts.count = 1;
	snprintf(hosts.host[0].name, sizeof(hosts.host[0].name), "stray.example");
	assert_false(policy_apply(&P, &hosts));
}

static void test_other_modes(void **state UNUSED)
{
	struct sts_policy p = { .domain = "a.example", .mx = "*.a.example" };

	for (p.mode = STS_NONE; p.mode <= STS_TESTING; p.mode++) {
		set_hosts();
		assert_true(policy_apply(&p, &hosts));
		assert_int_equal(hosts.count, 3);
		for (unsigned i = 0; i < 3; i++)
			assert_false(hosts.host[i].is_sts);
	}
}

static void test_for_whom(void **state UNUSED)
{
	static char own[] = "own.example";
	struct conf_destination block = { .name = own, .tls = TLS_VERIFY };
	struct conf conf = { .destination = &block, .destination_count = 1 };
	struct conf_server server = { .method = METHOD_DIRECT, .tls = TLS_OPPORTUNISTIC };

	set_hosts();
	assert_true(policy_may_be_wanted(&conf, &server));
	assert_true(policy_is_wanted(&conf, &server, "a.example", &hosts));
	assert_false(policy_is_wanted(&conf, &server, "own.example", &hosts));
	server.tls = TLS_NONE;
	assert_false(policy_may_be_wanted(&conf, &server));
	assert_false(policy_is_wanted(&conf, &server, "a.example", &hosts));
	block.tls = TLS_OPPORTUNISTIC;
	assert_true(policy_may_be_wanted(&conf, &server));
	assert_true(policy_is_wanted(&conf, &server, "own.example", &hosts));
	server.method = METHOD_RELAY;
	assert_false(policy_may_be_wanted(&conf, &server));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_enforce), cmocka_unit_test(test_other_modes),
					    cmocka_unit_test(test_for_whom) };

	return cmocka_run_group_tests_name("resolver_policy", tests, NULL, NULL);
}
