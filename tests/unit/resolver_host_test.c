/* resolver_host_test.c - address literals and the hosts file. */
#include "resolver/host.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static void test_literals(void **state UNUSED)
{
	static const struct {
		const char *text;
		bool may_be_bare;
		enum host_literal want;
		int family;
	} ROWS[] = {
		{ "[192.0.2.1]", false, HOST_LITERAL, AF_INET },
		{ "[IPv6:2001:db8::1]", false, HOST_LITERAL, AF_INET6 },
		{ "[ipv6:::1]", false, HOST_LITERAL, AF_INET6 },
		{ "[2001:db8::1]", false, HOST_BAD_LITERAL, 0 },
		{ "[IPv6:192.0.2.1]", false, HOST_BAD_LITERAL, 0 },
		{ "[192.0.2.1", false, HOST_BAD_LITERAL, 0 },
		{ "[]", false, HOST_BAD_LITERAL, 0 },
		{ "[192.0.2.256]", false, HOST_BAD_LITERAL, 0 },
		{ "[192.0.2]", false, HOST_BAD_LITERAL, 0 },
		{ "[mail.example]", false, HOST_BAD_LITERAL, 0 },
		{ "192.0.2.1", false, HOST_NO_LITERAL, 0 },
		{ "example.com", false, HOST_NO_LITERAL, 0 },
		{ "192.0.2.1", true, HOST_LITERAL, AF_INET },
		{ "2001:db8::1", true, HOST_LITERAL, AF_INET6 },
		{ "[2001:db8::1]", true, HOST_LITERAL, AF_INET6 },
		{ "[192.0.2.1]", true, HOST_LITERAL, AF_INET },
		{ "localhost", true, HOST_NO_LITERAL, 0 },
		{ "", true, HOST_NO_LITERAL, 0 },
		{ "[IPv6:2001:db8:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]", false, HOST_BAD_LITERAL,
		  0 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct host h;

		if (host_parse_literal(slice_of(ROWS[i].text), ROWS[i].may_be_bare, &h) != ROWS[i].want)
			fail_msg("%s", ROWS[i].text);
		if (ROWS[i].want != HOST_LITERAL)
			continue;
		assert_int_equal(h.address_count, 1);
		assert_int_equal(h.address[0].family, ROWS[i].family);
		assert_string_equal(h.name, ROWS[i].text);
	}
}

static void test_file(void **state UNUSED)
{
	static const char TEXT[] = "127.0.0.1\tlocalhost loghost # comment relay.example\n"
				   "::1 localhost\n"
				   "# 192.0.2.9 relay.example\n"
				   "192.0.2.1 other.example Relay.Example\r\n"
				   "junk relay.example\n"
				   "2001:db8::1%eth0 relay.example\n"
				   "\n"
				   "192.0.2.2";
	struct conf_server servers[] = {
		{ .method = METHOD_RELAY, .host = (char *)"relay.EXAMPLE" },
		{ .method = METHOD_RELAY, .host = (char *)"localhost" },
		{ .method = METHOD_DIRECT },
	};
	struct conf conf = { .server_count = 3, .server = servers };
	struct conf_cidr deny = { .family = AF_INET, .prefix = 8, .bytes = { 127 } };
	char path[] = "/tmp/hosts-test-XXXXXX";
	int fd = mkstemp(path);
	struct host_file *f;
	struct host h;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, TEXT, strlen(TEXT)), strlen(TEXT));
	close(fd);
	f = host_file_read(path, &conf);
	unlink(path);
	assert_true(host_file_find(f, "relay.example", &h));
	assert_int_equal(h.address_count, 1);
	assert_memory_equal(h.address[0].bytes, ((uint8_t[]){ 192, 0, 2, 1 }), 4);
	assert_true(host_file_find(f, "localhost", &h));
	assert_int_equal(h.address_count, 2);
	assert_int_equal(h.address[1].family, AF_INET6);
	assert_true(host_filter(&h, &deny, 1));
	assert_int_equal(h.address_count, 1);
	assert_int_equal(h.address[0].family, AF_INET6);
	assert_false(host_file_find(f, "other.example", &h)); /* nobody will ask for it */
	assert_false(host_file_find(f, "loghost", &h));
	host_file_free(&f);
	f = host_file_read("/nonexistent/hosts", &conf);
	assert_false(host_file_find(f, "localhost", &h));
	host_file_free(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_literals), cmocka_unit_test(test_file) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
