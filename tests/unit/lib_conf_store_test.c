/* lib_conf_store_test.c - the URL of the store that a fleet's limits share. */
#include "lib/conf_store.h"
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static void test_right(void **state)
{
	static const struct {
		const char *url, *user, *host;
		unsigned port, database;
	} ROWS[] = {
		{ "redis://10.0.0.5:6400/2", "", "10.0.0.5", 6400, 2 },
		{ "redis://10.0.0.5", "", "10.0.0.5", 6379, 0 },
		{ "redis://store.example:1/0", "", "store.example", 1, 0 },
		{ "redis://[2001:db8::1]:7000/15", "", "2001:db8::1", 7000, 15 },
		{ "redis://[::1]", "", "::1", 6379, 0 },
		{ "redis://postern@10.0.0.5/1", "postern", "10.0.0.5", 6379, 1 },
	};

	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct conf_store s;

		assert_null(conf_store_parse(slice_of(ROWS[i].url), &s));
		assert_string_equal(s.user, ROWS[i].user);
		assert_string_equal(s.host, ROWS[i].host);
		assert_int_equal(s.port, ROWS[i].port);
		assert_int_equal(s.database, ROWS[i].database);
	}
}

static void test_wrong(void **state)
{
	static const struct {
		const char *url, *says;
	} ROWS[] = {
		{ "", "not a store" },
		{ "redis://", "not a store" },
		{ "redis://:6379/0", "not a store" },
		{ "redis://h:0/0", "not a store" },
		{ "redis://h:65536/0", "not a store" },
		{ "redis://h:6379/-1", "not a store" },
		{ "redis://h:6379/1/2", "not a store" },
		{ "redis://2001:db8::1/0", "not a store" },
		{ "redis://[h]x:1/0", "not a store" },
		{ "redis://@h", "not a store" },
		{ "redis://u:p@h", "holds a password" },
		{ "redis://:p@ss/word@h:1/0", "holds a password" },
		{ "rediss://h", "asks for TLS" },
		{ "redis+unix:///run/redis.sock", "socket's path" },
		{ "https://h", "not a store" },
	};

	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct conf_store s;
		const char *why = conf_store_parse(slice_of(ROWS[i].url), &s);

		if (!why || !strstr(why, ROWS[i].says))
			fail_msg("%s: %s", ROWS[i].url, why ? why : "taken");
	}
}

static void test_hosts(void **state)
{
	struct conf_store s = { .port = 6379, .host = "::1" };
	struct sockaddr_storage address;
	socklen_t len = 0;

	assert_true(conf_store_find_host(&s, &address, &len));
	assert_int_equal(address.ss_family, AF_INET6);
	assert_int_equal(len, sizeof(struct sockaddr_in6));
	assert_int_equal(ntohs(((struct sockaddr_in6 *)&address)->sin6_port), 6379);
	(void)snprintf(s.host, sizeof(s.host), "LocalHost"); /* in everybody's /etc/hosts */
	assert_true(conf_store_find_host(&s, &address, &len));
	(void)snprintf(s.host, sizeof(s.host), "nowhere.invalid");
	assert_false(conf_store_find_host(&s, &address, &len));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_right),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
