/* lib_hosts_test.c - host lists survive the way through a packet; nothing damaged does. */
#include "lib/hosts.h"
#include "lib/text.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static void add(struct hosts *h, unsigned preference, const char *name, const char *addresses)
{
	struct host *host = &h->host[h->count++];
	char copy[200], *rest = copy, *one;

	host->preference = (uint16_t)preference;
	(void)snprintf(host->name, sizeof(host->name), "%s", name);
	(void)snprintf(copy, sizeof(copy), "%s", addresses);
	while ((one = strsep(&rest, " ")) && *one) {
		struct host_address *a = &host->address[host->address_count++];

		a->family = strchr(one, ':') ? AF_INET6 : AF_INET;
		assert_int_equal(inet_pton(a->family, one, a->bytes), 1);
	}
}

static struct hosts sample(void)
{
	struct hosts h = { 0 };

	add(&h, 10, "mx1.example.com", "2001:db8::1 192.0.2.1");
	add(&h, 65535, "mx2.example.com", "");
	add(&h, 0, "[192.0.2.7]", "192.0.2.7");
	h.host[0].is_secure = true;
	h.host[0].is_sts = true;
	h.host[1].dane = HOST_DANE_UNUSABLE;
	return h;
}

static void add_tlsa(struct hosts *h, unsigned host, const char *base, const struct host_tlsa *r, unsigned count)
{
	struct buf b;

	buf_init(&b, HOST_TLSA_BYTES_MAX);
	for (unsigned i = 0; i < count; i++)
		host_tlsa_put(&b, &r[i]);
	assert_false(b.failed);
	h->host[host].dane = HOST_DANE_USABLE;
	(void)snprintf(h->host[host].tlsa_base, sizeof(h->host[host].tlsa_base), "%s", base);
	h->host[host].tlsa_at = h->tlsa_bytes;
	h->host[host].tlsa_bytes = (uint16_t)b.len;
	memcpy(h->tlsa + h->tlsa_bytes, b.ptr, b.len);
	h->tlsa_bytes = (uint16_t)(h->tlsa_bytes + b.len);
	buf_release(&b);
}

#define DIGEST "0123456789abcdef0123456789abcdef"

static const struct host_tlsa RECORDS[] = {
	{ 3, 1, 1, { DIGEST, 32 } },
	{ 2, 0, 2, { DIGEST DIGEST, 64 } },
	{ 3, 1, 0, { "a whole key, if you wish", 24 } },
};

static struct hosts sample_with_tlsa(void)
{
	struct hosts h = sample();

	add_tlsa(&h, 0, "real.example.net", RECORDS, 3);
	add_tlsa(&h, 2, "[192.0.2.7]", RECORDS + 1, 1);
	return h;
}

static void test_tlsa_round_trip(void **state UNUSED)
{
	struct hosts h = sample_with_tlsa(), back;
	struct host_tlsa r;
	struct slice rest;
	struct buf b;

	buf_init(&b, HOSTS_BYTES_MAX);
	hosts_encode(&b, &h);
	assert_true(hosts_decode(buf_slice(&b), &back));
	assert_memory_equal(&h, &back, sizeof(h));
	rest = hosts_tlsa(&back, &back.host[0]);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(host_tlsa_next(&rest, &r));
		assert_int_equal(r.usage, RECORDS[i].usage);
		assert_int_equal(r.selector, RECORDS[i].selector);
		assert_int_equal(r.matching, RECORDS[i].matching);
		assert_true(slice_equal(r.data, RECORDS[i].data));
	}
	assert_false(host_tlsa_next(&rest, &r));
	assert_int_equal(rest.len, 0);
	for (size_t len = 0; len < b.len; len++)
		assert_false(hosts_decode((struct slice){ b.ptr, len }, &back));
	buf_release(&b);
}

/* TL12: what may authenticate a server, and what counts as if it were not there. */
static void test_usable_tlsa(void **state UNUSED)
{
	static const struct {
		const char *label;
		uint8_t usage, selector, matching;
		size_t len;
		bool is_usable;
	} ROWS[] = {
		{ "3 1 1", 3, 1, 1, 32, true },
		{ "3 0 1", 3, 0, 1, 32, true },
		{ "2 0 1", 2, 0, 1, 32, true },
		{ "2 1 2", 2, 1, 2, 64, true },
		{ "whole key", 3, 1, 0, 91, true },
		{ "nothing at all", 3, 1, 0, 0, false },
		{ "PKIX-TA", 0, 0, 1, 32, false },
		{ "PKIX-EE", 1, 1, 1, 32, false },
		{ "usage 4", 4, 1, 1, 32, false },
		{ "private usage", 255, 1, 1, 32, false },
		{ "selector 2", 3, 2, 1, 32, false },
		{ "matching 3", 3, 1, 3, 48, false },
		{ "short digest", 3, 1, 1, 31, false },
		{ "long digest", 3, 1, 1, 33, false },
		{ "SHA-256 as SHA-512", 3, 1, 2, 32, false },
		{ "empty digest", 3, 1, 1, 0, false },
	};
	static const char data[128];

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct host_tlsa r = { ROWS[i].usage, ROWS[i].selector, ROWS[i].matching, { data, ROWS[i].len } };
		struct hosts h = { 0 }, back;
		struct buf b;

		print_message("%s\n", ROWS[i].label);
		assert_int_equal(host_tlsa_is_usable(&r), ROWS[i].is_usable);
		add(&h, 10, "mx.example.com", "192.0.2.1");
		add_tlsa(&h, 0, "mx.example.com", &r, 1);
		buf_init(&b, HOSTS_BYTES_MAX);
		hosts_encode(&b, &h);
		assert_int_equal(hosts_decode(buf_slice(&b), &back), ROWS[i].is_usable);
		buf_release(&b);
	}
}

static void test_round_trip(void **state UNUSED)
{
	struct hosts h = sample(), back;
	struct buf b, text;

	buf_init(&b, HOSTS_BYTES_MAX);
	buf_init(&text, 100);
	hosts_encode(&b, &h);
	assert_true(hosts_decode(buf_slice(&b), &back));
	assert_memory_equal(&h, &back, sizeof(h));
	host_address_format(&text, &back.host[0].address[0]);
	assert_string_equal(buf_text(&text), "2001:db8::1");
	buf_clear(&text);
	host_address_format(&text, &back.host[0].address[1]);
	assert_string_equal(buf_text(&text), "192.0.2.1");
	buf_release(&text);
	buf_release(&b);
}

/* The longest list is cut at a host, in order of preference, and what is left can be read. */
static void test_longest_list(void **state UNUSED)
{
	struct hosts h = { 0 }, back;
	struct buf b;

	for (unsigned i = 0; i < HOSTS_MAX; i++) {
		char name[256];

		memset(name, 'a' + (int)i, 255);
		name[255] = '\0';
		add(&h, i, name,
		    "2001:db8::1 2001:db8::2 2001:db8::3 2001:db8::4 2001:db8::5 2001:db8::6 2001:db8::7 2001:db8::8");
	}
	buf_init(&b, 65536);
	hosts_encode(&b, &h);
	assert_true(b.len <= HOSTS_BYTES_MAX);
	assert_true(hosts_decode(buf_slice(&b), &back));
	assert_true(back.count >= 8 && back.count < HOSTS_MAX);
	assert_memory_equal(&h.host[0], &back.host[0], back.count * sizeof(h.host[0]));
	buf_release(&b);
}

static void test_every_prefix_is_refused(void **state UNUSED)
{
	struct hosts h = sample(), back;
	struct buf b;

	buf_init(&b, HOSTS_BYTES_MAX);
	hosts_encode(&b, &h);
	for (size_t len = 0; len < b.len; len++)
		assert_false(hosts_decode((struct slice){ b.ptr, len }, &back));
	buf_put_char(&b, '\0');
	assert_false(hosts_decode(buf_slice(&b), &back));
	buf_release(&b);
}

static void test_damage(void **state UNUSED)
{
	static const struct {
		const char *label, *bytes;
		size_t len;
		bool is_good;
	} ROWS[] = {
		{ "empty list", "\0", 1, true },
		{ "one host", "\1\0\12\0\1a\0", 7, true },
		{ "one address", "\1\0\12\1\1a\1\4\1\2\3\4", 12, true },
		{ "too many hosts", "\25", 1, false },
		{ "unknown flag", "\1\0\12\20\1a\0", 7, false },
		{ "MTA-STS", "\1\0\12\10\1a\0", 7, true },
		{ "TLSA records of no use", "\1\0\12\3\1a\0", 7, true },
		{ "both kinds of TLSA records", "\1\0\12\6\1a\0\0\0\6\3\1\0\0\1x", 16, false },
		{ "a TLSA record", "\1\0\12\4\1a\0\0\0\6\3\1\0\0\1x", 16, true },
		{ "a TLSA base that is the name", "\1\0\12\4\1a\0\1a\0\6\3\1\0\0\1x", 17, false },
		{ "no TLSA record", "\1\0\12\4\1a\0\0\0\0", 10, false },
		{ "a TLSA record that ends early", "\1\0\12\4\1a\0\0\0\6\3\1\0\0\2x", 16, false },
		{ "a TLSA record and half a one", "\1\0\12\4\1a\0\0\0\10\3\1\0\0\1x\3\1", 18, false },
		{ "no name", "\1\0\12\0\0\0", 6, false },
		{ "blank in the name", "\1\0\12\0\1 \0", 7, false },
		{ "NUL in the name", "\1\0\12\0\1\0\0", 7, false },
		{ "eight-bit name", "\1\0\12\0\1\377\0", 7, false },
		{ "family 5", "\1\0\12\0\1a\1\5\1\2\3\4", 12, false },
		{ "nine addresses", "\1\0\12\0\1a\11", 7, false },
		{ "v6 address cut", "\1\0\12\0\1a\1\6\1\2\3\4", 12, false },
	};
	struct hosts back;

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		print_message("%s\n", ROWS[i].label);
		assert_int_equal(hosts_decode((struct slice){ ROWS[i].bytes, ROWS[i].len }, &back), ROWS[i].is_good);
	}
}

static void test_site_hash(void **state UNUSED)
{
	struct hosts a = { 0 }, b = { 0 }, c = { 0 }, joined = { 0 };

	text_seed(3);
	add(&a, 10, "mx1.example.com", "192.0.2.1");
	add(&a, 20, "MX2.example.com", "");
	add(&b, 5, "mx2.EXAMPLE.com", "192.0.2.9");
	add(&b, 5, "mx1.example.com", "");
	add(&c, 10, "mx1.example.com", "192.0.2.1");
	add(&joined, 10, "mx1.example.commx2.example.com", "");
	assert_int_equal(hosts_site_hash(&a), hosts_site_hash(&b));
	assert_int_not_equal(hosts_site_hash(&a), hosts_site_hash(&c));
	assert_int_not_equal(hosts_site_hash(&a), hosts_site_hash(&joined));
	a.host[0].is_secure = true;
	assert_int_not_equal(hosts_site_hash(&a), hosts_site_hash(&b)); /* not even when it is one of two */
	a.host[0].is_sts = true;
	b.host[1].is_secure = true;
	assert_int_not_equal(hosts_site_hash(&a), hosts_site_hash(&b)); /* nor without the same policy */
	a.host[0].is_sts = b.host[1].is_secure = false;
	b.host[1].is_secure = true;
	assert_int_equal(hosts_site_hash(&a), hosts_site_hash(&b));
	a.host[0].dane = HOST_DANE_USABLE;
	assert_int_not_equal(hosts_site_hash(&a), hosts_site_hash(&b));
	b.host[1].dane = HOST_DANE_UNUSABLE;
	assert_int_not_equal(hosts_site_hash(&a), hosts_site_hash(&b));
}

static void test_sockaddr(void **state UNUSED)
{
	struct hosts h = sample();
	struct sockaddr_storage ss;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&ss;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&ss;

	assert_int_equal(host_address_sockaddr(&h.host[0].address[0], 25, &ss), sizeof(*v6));
	assert_int_equal(v6->sin6_family, AF_INET6);
	assert_int_equal(ntohs(v6->sin6_port), 25);
	assert_memory_equal(&v6->sin6_addr, h.host[0].address[0].bytes, 16);
	assert_int_equal(host_address_sockaddr(&h.host[0].address[1], 587, &ss), sizeof(*v4));
	assert_int_equal(v4->sin_family, AF_INET);
	assert_int_equal(ntohs(v4->sin_port), 587);
	assert_memory_equal(&v4->sin_addr, h.host[0].address[1].bytes, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_tlsa_round_trip),
		cmocka_unit_test(test_usable_tlsa),
		cmocka_unit_test(test_longest_list),
		cmocka_unit_test(test_every_prefix_is_refused),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_site_hash),
		cmocka_unit_test(test_sockaddr),
	};

	return cmocka_run_group_tests_name("lib_hosts", tests, NULL, NULL);
}
