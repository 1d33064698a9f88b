/* Domains are stored once; their servers are those of `servers` that do not exclude them. */
#include "lib/base.h"
#include "scheduler/domain.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char aol[] = "aol.example", hot[] = ".hot.example", all[] = "*", isp[] = "isp", direct[] = "direct",
	    never[] = "never";
static char *excluded[] = { aol, hot };
static char *everybody[] = { all };
static struct conf_server servers[] = {
	{ .name = isp, .method = METHOD_RELAY },
	{ .name = direct, .method = METHOD_DIRECT, .exclude_domains = { .count = 2, .item = excluded } },
	{ .name = never, .method = METHOD_RELAY, .exclude_domains = { .count = 1, .item = everybody } },
};
static unsigned primary[] = { 1, 2, 0 };
static struct conf conf = { .server = servers, .server_count = 3, .primary = primary, .primary_count = 3 };

static void test_plans(void **state)
{
	static const struct {
		const char *domain;
		unsigned count;
		uint16_t server[2];
	} ROWS[] = {
		{ "there.example", 2, { 1, 0 } }, /* in the order of `servers`, without the one for nobody */
		{ "aol.example", 1, { 0 } },
		{ "sub.aol.example", 2, { 1, 0 } }, /* a domain does not cover its subdomains */
		{ "sub.hot.example", 1, { 0 } },    /* .domain does */
		{ "deep.sub.hot.example", 1, { 0 } },
		{ "hot.example", 2, { 1, 0 } }, /* and not the domain itself */
		{ "", 2, { 1, 0 } },
	};
	struct plan plan;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		plan_make_for_domain(&plan, &conf, slice_of(ROWS[i].domain));
		if (plan.count != ROWS[i].count ||
		    memcmp(plan.server, ROWS[i].server, plan.count * sizeof(uint16_t)) != 0)
			fail_msg("%s: %u servers, the first %u", ROWS[i].domain, plan.count, plan.server[0]);
		assert_int_equal(plan_has_direct(&plan, &conf), plan.server[0] == 1);
	}
}

static void test_a_domain_without_any_server(void **state)
{
	struct plan plan;

	(void)state;
	conf.primary_count = 2;
	plan_make_for_domain(&plan, &conf, slice_of("aol.example"));
	assert_int_equal(plan.count, 0);
	assert_false(plan_has_direct(&plan, &conf));
	conf.primary_count = 3;
}

static void test_each_is_stored_once(void **state)
{
	enum { COUNT = 2000 };
	struct domains d;
	uint32_t index[COUNT], limit;
	struct plan plan, other;
	char name[32];

	(void)state;
	domains_init(&d, &conf);
	plan_make_for_domain(&plan, &conf, slice_of("there.example"));
	plan_make_for_domain(&other, &conf, slice_of("aol.example"));
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < COUNT; i++) {
			struct domain *domain;

			snprintf(name, sizeof(name), "d%u.example", i);
			domain = domain_ref(&d, slice_of(name), &plan);
			assert_true(round == 0 || domain->index == index[i]);
			assert_int_equal(domain->refs, round + 1);
			assert_string_equal(domain_get(&d, domain->index)->name, name);
			index[i] = domain->index;
		}
	}
	assert_int_equal(domain_ref(&d, slice_of("d1.example"), &plan)->index, index[1]);
	domain_unref(&d, index[1]);
	limit = domain_ref(&d, slice_of("d1.example"), &other)->index; /* another way to go: another pair */
	assert_int_not_equal(limit, index[1]);
	domain_unref(&d, limit);
	limit = d.limit;
	for (unsigned i = 0; i < COUNT; i += 2) {
		domain_unref(&d, index[i]);
		domain_unref(&d, index[i]);
	}
	assert_int_equal(d.by_name.count, COUNT / 2);
	for (unsigned i = 0; i < COUNT / 2; i++) { /* places are used again, nobody else's is touched */
		snprintf(name, sizeof(name), "new%u.example", i);
		domain_ref(&d, slice_of(name), &plan);
	}
	assert_int_equal(d.limit, limit);
	for (unsigned i = 1; i < COUNT; i += 2) {
		snprintf(name, sizeof(name), "d%u.example", i);
		assert_string_equal(domain_get(&d, index[i])->name, name);
	}
	domains_release(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plans),
		cmocka_unit_test(test_a_domain_without_any_server),
		cmocka_unit_test(test_each_is_stored_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
