/* Routes in the order of the file, exclude-domains, the submitter's choice. */
#include "lib/conf_private.h"
#include "lib/plan.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const char CONF[] =
	"server a { host = h exclude-domains = { x.example, boss@y.example } }\n"
	"server b { method = direct }\n"
	"server c { host = h exclude-domains = { \"*\" } }\n"
	"servers = { b, a, c }\n"
	"route one { sender = { s@z.example, .z.example } recipient = { y.example } servers = { a } }\n"
	"route two { sender = { .z.example } servers = { a, b } }\n"
	"route three { recipient = { \"*\" } sender = { all.example } servers = { c } }\n";

static const struct {
	const char *sender, *rcpt, *wanted;
	unsigned route;
	const char *servers;
} ROWS[] = {
	{ "", "r@y.example", "", 0, "ba" },
	{ "s@here.example", "r@x.example", "", 0, "b" },
	{ "s@here.example", "BOSS@Y.example", "", 0, "b" },
	{ "s@here.example", "r@sub.x.example", "", 0, "ba" },
	{ "s@z.example", "r@y.example", "", 1, "a" },
	{ "s@z.example", "r@q.example", "", 0, "ba" },
	{ "t@k.z.example", "r@y.example", "", 1, "a" }, /* the first that matches */
	{ "t@k.z.example", "r@q.example", "", 2, "ab" },
	{ "t@k.z.example", "r@x.example", "", 2, "b" },
	{ "t@all.example", "r@y.example", "", 3, "" },
	{ "s@z.example", "r@y.example", "b", 0, "b" }, /* the submitter's choice beats routes */
	{ "s@z.example", "r@x.example", "a", 0, "" },  /* and may be excluded */
	{ "s@z.example", "r@y.example", "gone", 1, "a" },
};

static void test_plans(void **state)
{
	struct conf_errors errors;
	struct conf *conf = conf_read_text("f", slice_of(CONF), &errors);

	(void)state;
	if (!conf)
		fail_msg("%s", errors.text[0]);
	assert_true(plan_needs_addresses(conf));
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		char servers[8] = "";
		struct plan plan;

		plan_make(&plan, conf, slice_of(ROWS[i].sender), slice_of(ROWS[i].rcpt), slice_of(ROWS[i].wanted));
		for (unsigned k = 0; k < plan.count; k++)
			servers[k] = conf->server[plan.server[k]].name[0];
		if (plan.route != ROWS[i].route || strcmp(servers, ROWS[i].servers) != 0)
			fail_msg("row %u: route %u, servers \"%s\"", i, plan.route, servers);
		assert_int_equal(plan_has_direct(&plan, conf), strchr(servers, 'b') != NULL);
	}
	conf_free(&conf);
}

static void test_domains_suffice(void **state)
{
	static const char DOMAINS[] = "server a { host = h exclude-domains = { x.example, .y.example } }\n";
	struct conf_errors errors;
	struct conf *conf = conf_read_text("f", slice_of(DOMAINS), &errors);
	struct plan one, other;

	(void)state;
	assert_non_null(conf);
	assert_false(plan_needs_addresses(conf));
	plan_make_for_domain(&one, conf, slice_of("x.example"));
	assert_int_equal(one.count, 0);
	plan_make_for_domain(&one, conf, slice_of("z.example"));
	plan_make(&other, conf, slice_of("a@b.example"), slice_of("c@z.example"), slice_of(""));
	assert_true(plan_equal(&one, &other));
	assert_int_equal(one.count, 1);
	conf_free(&conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plans),
		cmocka_unit_test(test_domains_suffice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
