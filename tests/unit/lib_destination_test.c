/* lib_destination_test.c - whose destination {} counts, and what the blocks ask of a server. */
#include "lib/destination.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static char google[] = "*.google.com", plain[] = "mx.plain.example", group[] = "group", own[] = "own.example",
	    later[] = "later";
static char *google_hosts[] = { google, plain };
static struct conf_destination blocks[] = {
	{ .name = group, .mx = { .count = 2, .item = google_hosts }, .tls = TLS_REQUIRE },
	{ .name = own, .tls = TLS_DANE },
	{ .name = later, .mx = { .count = 1, .item = google_hosts }, .tls = TLS_VERIFY },
};

static const struct {
	const char *domain, *host, *found;
} ROWS[] = {
	{ "own.example", "mx.own.example", "own.example" },
	{ "OWN.example", "aspmx.l.google.com", "own.example" }, /* beats the group, though that stands above */
	{ "a.example", "aspmx.l.google.com", "group" },
	{ "a.example", "ASPMX.L.Google.COM", "group" },
	{ "a.example", "mx.plain.example", "group" },
	{ "a.example", "google.com", NULL },
	{ "a.example", "mx.notgoogle.com", NULL },
	{ "sub.own.example", "mx.own.example", NULL },
	{ "group", "mx.own.example", NULL }, /* a group's title is no domain */
};

static void test_find(void **state UNUSED)
{
	const struct conf conf = { .destination = blocks, .destination_count = ARRAY_LEN(blocks) };

	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct hosts hosts = { .count = 2 };
		const struct conf_destination *d;

		(void)snprintf(hosts.host[0].name, sizeof(hosts.host[0].name), "first.example");
		(void)snprintf(hosts.host[1].name, sizeof(hosts.host[1].name), "%s", ROWS[i].host);
		d = destination_find(&conf, ROWS[i].domain, &hosts);
		if (!ROWS[i].found ? d != NULL : !d || strcmp(d->name, ROWS[i].found) != 0)
			fail_msg("%s at %s: %s", ROWS[i].domain, ROWS[i].host, d ? d->name : "none");
	}
}

static void test_what_a_server_needs(void **state UNUSED)
{
	const struct conf none = { 0 }, conf = { .destination = blocks, .destination_count = ARRAY_LEN(blocks) };
	struct conf_server direct = { .method = METHOD_DIRECT, .port = 25, .tls = TLS_NONE };
	struct conf_server relay = { .method = METHOD_RELAY, .port = 587, .tls = TLS_OPPORTUNISTIC };

	assert_int_equal(destination_highest_tls(&none, &direct), TLS_NONE);
	assert_int_equal(destination_highest_tls(&conf, &direct), TLS_VERIFY);
	assert_int_equal(destination_highest_tls(&conf, &relay), TLS_OPPORTUNISTIC);
	assert_int_equal(destination_tlsa_port(&none, &direct), 0);
	assert_int_equal(destination_tlsa_port(&conf, &direct), 25);
	assert_int_equal(destination_tlsa_port(&conf, &relay), 0);
	relay.tls = TLS_DANE;
	assert_int_equal(destination_tlsa_port(&none, &relay), 587);
	direct.tls = TLS_OPPORTUNISTIC;
	assert_int_equal(destination_tlsa_port(&none, &direct), 25);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_what_a_server_needs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
