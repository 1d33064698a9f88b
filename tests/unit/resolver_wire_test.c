/* resolver_wire_test.c - answers, and what only looks like one.  DN09, DN10, DN11, DN12 */
#include "resolver/wire.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

/* A packet under construction. */
static struct {
	uint8_t bytes[65536];
	size_t len;
} packet;

static void put(const void *bytes, size_t len)
{
	assert_true(packet.len + len <= sizeof(packet.bytes));
	memcpy(packet.bytes + packet.len, bytes, len);
	packet.len += len;
}

static void put_u16(unsigned value)
{
	put(((uint8_t[]){ (uint8_t)(value >> 8), (uint8_t)value }), 2);
}

static void put_name(const char *name)
{
	while (*name) {
		size_t len = strcspn(name, ".");
		uint8_t byte = (uint8_t)len;

		put(&byte, 1);
		put(name, len);
		name += len + (name[len] == '.');
	}
	put("", 1);
}

static void begin(unsigned rcode, unsigned answers, unsigned authorities, const char *name, unsigned type)
{
	packet.len = 0;
	put("\x12\x34\x81", 3);
	put(((uint8_t[]){ (uint8_t)(0x80 | rcode) }), 1);
	put_u16(1);
	put_u16(answers);
	put_u16(authorities);
	put_u16(0);
	put_name(name);
	put_u16(type);
	put_u16(1);
}

static void put_frame(const char *owner, unsigned type, unsigned ttl_s, size_t rdata_len)
{
	if (owner)
		put_name(owner);
	else
		put_u16(0xc00c); /* the question's name */
	put_u16(type);
	put_u16(1);
	put_u16(0);
	put_u16(ttl_s);
	put_u16((unsigned)rdata_len);
}

static void put_mx(const char *owner, unsigned ttl_s, unsigned preference, const char *host)
{
	put_frame(owner, WIRE_TYPE_MX, ttl_s, 2 + strlen(host) + (*host ? 2 : 1));
	put_u16(preference);
	put_name(host);
}

static struct wire_answer answer;

static void parse(const char *name, unsigned type)
{
	/* an exact copy on the heap: a read past the end is seen by the sanitizer */
	uint8_t *copy = malloc(packet.len ? packet.len : 1);

	assert_non_null(copy);
	memcpy(copy, packet.bytes, packet.len);
	wire_parse(&answer, copy, packet.len, name, (uint16_t)type);
	free(copy);
}

static void test_mx(void **state UNUSED)
{
	begin(0, 3, 0, "Example.COM", WIRE_TYPE_MX);
	put_mx(NULL, 300, 20, "b.example.com");
	put_mx("example.com", 200, 10, "A.Example.com");
	put_mx("other.com", 1, 1, "evil.example.com");
	parse("example.com", WIRE_TYPE_MX);
	assert_int_equal(answer.status, WIRE_RECORDS);
	assert_int_equal(answer.count, 2);
	assert_int_equal(answer.ttl_s, 200);
	assert_int_equal(answer.record[0].preference, 20);
	assert_string_equal(answer.record[1].host, "a.example.com");
	assert_true(answer.record[1].is_hostname);
	assert_false(answer.is_secure);
}

static void test_addresses_behind_aliases(void **state UNUSED)
{
	begin(0, 4, 0, "www.example", WIRE_TYPE_A);
	put_frame("c.example", WIRE_TYPE_A, 60, 4);
	put("\xc0\x00\x02\x01", 4);
	put_frame("b.example", WIRE_TYPE_CNAME, 50, 11);
	put_name("c.example");
	put_frame(NULL, WIRE_TYPE_CNAME, 70, 11);
	put_name("B.example");
	put_frame("www.example", WIRE_TYPE_A, 60, 4); /* beside a CNAME: not ours */
	put("\xc0\x00\x02\x02", 4);
	parse("www.example", WIRE_TYPE_A);
	assert_int_equal(answer.status, WIRE_RECORDS);
	assert_int_equal(answer.count, 1);
	assert_memory_equal(answer.record[0].address, "\xc0\x00\x02\x01", 4);
	assert_int_equal(answer.ttl_s, 50);
}

static void test_alias_loop(void **state UNUSED)
{
	begin(0, 2, 0, "a.example", WIRE_TYPE_A);
	put_frame("a.example", WIRE_TYPE_CNAME, 50, 11);
	put_name("b.example");
	put_frame("b.example", WIRE_TYPE_CNAME, 50, 11);
	put_name("a.example");
	parse("a.example", WIRE_TYPE_A);
	assert_int_equal(answer.status, WIRE_NODATA);
	assert_int_equal(answer.count, 0);
}

static void test_negative(void **state UNUSED)
{
	begin(3, 0, 1, "none.example", WIRE_TYPE_MX);
	put_frame("example", WIRE_TYPE_SOA, 900, 2 + 20);
	put("\0\0", 2);
	put("\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\x2a", 20);
	parse("none.example", WIRE_TYPE_MX);
	assert_int_equal(answer.status, WIRE_NXDOMAIN);
	assert_int_equal(answer.ttl_s, 42);
	begin(0, 0, 0, "none.example", WIRE_TYPE_MX);
	parse("none.example", WIRE_TYPE_MX);
	assert_int_equal(answer.status, WIRE_NODATA);
	assert_int_equal(answer.ttl_s, 0);
}

static void test_failures(void **state UNUSED)
{
	static const unsigned RCODES[] = { 1, 2, 4, 5, 9, 15 };

	for (unsigned i = 0; i < ARRAY_LEN(RCODES); i++) {
		begin(RCODES[i], 1, 0, "example.com", WIRE_TYPE_MX);
		put_mx(NULL, 300, 20, "b.example.com");
		parse("example.com", WIRE_TYPE_MX);
		assert_int_equal(answer.status, WIRE_FAILED);
		assert_int_equal(answer.count, 0);
		assert_true(strlen(answer.why) > 0);
	}
	begin(0, 1, 0, "example.com", WIRE_TYPE_MX);
	packet.bytes[2] |= 2;
	put_mx(NULL, 300, 20, "b.example.com");
	parse("example.com", WIRE_TYPE_MX);
	assert_int_equal(answer.status, WIRE_FAILED);
	assert_string_equal(answer.why, "truncated answer");
}

static void test_every_cut(void **state UNUSED)
{
	size_t whole;

	begin(0, 2, 0, "example.com", WIRE_TYPE_MX);
	put_mx(NULL, 300, 20, "b.example.com");
	put_mx(NULL, 300, 10, "a.example.com");
	whole = packet.len;
	for (size_t len = 0; len < whole; len++) {
		packet.len = len;
		parse("example.com", WIRE_TYPE_MX);
		assert_int_equal(answer.status, WIRE_FAILED);
	}
}

static void test_odd_mx(void **state UNUSED)
{
	static const struct {
		const char *label;
		uint8_t rdata[20];
		unsigned len;
		bool is_dropped;
		const char *host;
	} ROWS[] = {
		{ "two bytes", { 0, 10 }, 2, true, "" },
		{ "empty", { 0 }, 0, true, "" },
		{ "null MX", { 0, 0, 0 }, 3, false, "" },
		{ "bytes left over", { 0, 10, 1, 'a', 0, 0 }, 6, true, "" },
		{ "label longer than rdata", { 0, 10, 9, 'a', 0 }, 5, true, "" },
		{ "pointer to itself", { 0, 10, 0xc0, 0x2b }, 4, true, "" },
		{ "pointer forward", { 0, 10, 0xff, 0xff }, 4, true, "" },
		{ "half a pointer", { 0, 10, 0xc0 }, 3, true, "" },
		{ "pointer into the header", { 0, 10, 0xc0, 0x02 }, 4, true, "" },
		{ "reserved label type", { 0, 10, 0x41, 0 }, 4, true, "" },
		{ "dot in a label", { 0, 10, 3, 'a', '.', 'b', 0 }, 7, false, "a\\046b" },
		{ "NUL in a label", { 0, 10, 3, 'a', 0, 'b', 0 }, 7, false, "a\\000b" },
		{ "blank", { 0, 10, 3, 'a', ' ', 'b', 0 }, 7, false, "a\\032b" },
		{ "percent", { 0, 10, 3, 'a', '%', 'b', 0 }, 7, false, "a\\037b" },
		{ "underscore", { 0, 10, 3, 'a', '_', 'b', 0 }, 7, false, "a_b" },
		{ "number", { 0, 10, 3, '1', '2', '3', 0 }, 7, false, "123" },
		{ "address", { 0, 10, 2, '1', '0', 1, '0', 1, '0', 1, '1', 0 }, 12, false, "10.0.0.1" },
		{ "hyphen first", { 0, 10, 2, '-', 'a', 0 }, 6, false, "-a" },
		{ "hyphen last", { 0, 10, 2, 'a', '-', 0 }, 6, false, "a-" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		begin(0, 2, 0, "example.com", WIRE_TYPE_MX);
		put_frame(NULL, WIRE_TYPE_MX, 60, ROWS[i].len);
		put(ROWS[i].rdata, ROWS[i].len);
		put_mx(NULL, 300, 10, "good.example.com");
		parse("example.com", WIRE_TYPE_MX);
		assert_int_equal(answer.status, WIRE_RECORDS);
		if (answer.dropped_count != ROWS[i].is_dropped)
			fail_msg("%s", ROWS[i].label);
		assert_int_equal(answer.count, ROWS[i].is_dropped ? 1 : 2);
		assert_string_equal(answer.record[answer.count - 1].host, "good.example.com");
		if (!ROWS[i].is_dropped) {
			assert_string_equal(answer.record[0].host, ROWS[i].host);
			assert_false(answer.record[0].is_hostname);
		}
	}
}

/* Two names that point at one another, and a long chain of pointers. */
static void test_compression_loops(void **state UNUSED)
{
	unsigned at;

	begin(0, 1, 0, "example.com", WIRE_TYPE_MX);
	put_frame(NULL, WIRE_TYPE_MX, 60, 8);
	at = (unsigned)packet.len;
	put_u16(10);
	put("\1a", 2);
	put_u16(0xc000 | (at + 2)); /* to its own beginning */
	put_u16(0);
	parse("example.com", WIRE_TYPE_MX);
	assert_int_equal(answer.count, 0);
	assert_int_equal(answer.dropped_count, 1);
	begin(0, 1, 0, "example.com", WIRE_TYPE_MX);
	at = (unsigned)packet.len;
	put_u16(0xc000 | (at + 2));
	put_u16(0xc000 | at);
	put("\0\x0f\0\1\0\0\0\1\0\3\0\1\0", 13);
	parse("example.com", WIRE_TYPE_MX);
	assert_int_equal(answer.status, WIRE_FAILED);
}

static void test_many(void **state UNUSED)
{
	begin(0, 3000, 0, "example.com", WIRE_TYPE_A);
	for (unsigned i = 0; i < 3000; i++) {
		put_frame(NULL, WIRE_TYPE_A, 60, 4);
		put_u16(0x0a00);
		put_u16(i);
	}
	parse("example.com", WIRE_TYPE_A);
	assert_int_equal(answer.status, WIRE_RECORDS);
	assert_int_equal(answer.count, WIRE_RECORDS_MAX);
}

static void test_rdata_of_wrong_size(void **state UNUSED)
{
	begin(0, 1, 0, "example.com", WIRE_TYPE_AAAA);
	put_frame(NULL, WIRE_TYPE_AAAA, 60, 4);
	put("\xc0\0\2\1", 4);
	parse("example.com", WIRE_TYPE_AAAA);
	assert_int_equal(answer.status, WIRE_RECORDS);
	assert_int_equal(answer.count, 0);
	assert_int_equal(answer.dropped_count, 1);
	assert_int_equal(answer.ttl_s, 0);
}

static void test_tlsa(void **state UNUSED)
{
	begin(0, 1, 0, "_25._tcp.mx.example", WIRE_TYPE_TLSA);
	put_frame(NULL, WIRE_TYPE_TLSA, 60, 3 + 32);
	put("\3\1\1", 3);
	put("0123456789abcdef0123456789abcdef", 32);
	parse("_25._tcp.mx.example", WIRE_TYPE_TLSA);
	assert_int_equal(answer.count, 1);
	assert_int_equal(answer.record[0].usage, 3);
	assert_int_equal(answer.record[0].selector, 1);
	assert_int_equal(answer.record[0].matching, 1);
	assert_int_equal(answer.record[0].data_len, 32);
	assert_memory_equal(answer.data + answer.record[0].data_at, "0123456789abcdef0123456789abcdef", 32);
	assert_string_equal(answer.owner, "_25._tcp.mx.example");
}

/* Strings are joined; one that runs over the end drops the record, and the next is read. */
static void test_txt(void **state UNUSED)
{
	begin(0, 3, 0, "_mta-sts.a.example", WIRE_TYPE_TXT);
	put_frame(NULL, WIRE_TYPE_TXT, 60, 8);
	put("\3abc\0\2de", 8);
	put_frame(NULL, WIRE_TYPE_TXT, 60, 4);
	put("\4abc", 4);
	put_frame(NULL, WIRE_TYPE_TXT, 60, 2);
	put("\1f", 2);
	parse("_mta-sts.a.example", WIRE_TYPE_TXT);
	assert_int_equal(answer.count, 2);
	assert_int_equal(answer.dropped_count, 1);
	assert_int_equal(answer.record[0].data_len, 5);
	assert_memory_equal(answer.data + answer.record[0].data_at, "abcde", 5);
	assert_int_equal(answer.record[1].data_len, 1);
	assert_memory_equal(answer.data + answer.record[1].data_at, "f", 1);
}

static void put_tlsa(unsigned len, char filling)
{
	static char data[8192];

	memset(data, filling, sizeof(data));
	put_frame(NULL, WIRE_TYPE_TLSA, 60, len);
	if (len <= 3)
		put("\3\1\1", len);
	else
		put("\3\1", 2), put("\1", 1), put(data, len - 3);
}

/* TL12: rdata of 0 to 4 bytes, and more than there is room for: dropped, and the others stay whole. */
static void test_odd_tlsa(void **state UNUSED)
{
	static const struct {
		const char *label;
		unsigned len[3], count;
	} ROWS[] = {
		{ "nothing", { 0, 35, 0 }, 1 },
		{ "one byte", { 1, 35, 2 }, 1 },
		{ "no data", { 3, 35, 3 }, 1 },
		{ "one byte of data", { 4, 35, 4 }, 3 },
		{ "just fits", { 4, 35, 3 + WIRE_DATA_BYTES_MAX - 33 }, 3 },
		{ "one too many", { 4, 35, 4 + WIRE_DATA_BYTES_MAX - 33 }, 2 },
		{ "far too long first", { 8000, 35, 35 }, 2 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		begin(0, 3, 0, "_25._tcp.mx.example", WIRE_TYPE_TLSA);
		for (unsigned k = 0; k < 3; k++)
			put_tlsa(ROWS[i].len[k], (char)('a' + k));
		parse("_25._tcp.mx.example", WIRE_TYPE_TLSA);
		if (answer.status != WIRE_RECORDS || answer.count != ROWS[i].count ||
		    answer.count + answer.dropped_count != 3)
			fail_msg("%s: %u records", ROWS[i].label, answer.count);
		for (unsigned k = 0; k < answer.count; k++) {
			const struct wire_record *r = &answer.record[k];

			/* one filling from end to end: nothing of a neighbour */
			if (r->data_len > 0)
				assert_memory_equal(answer.data + r->data_at, answer.data + r->data_at + 1,
						    r->data_len - 1u);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mx),         cmocka_unit_test(test_addresses_behind_aliases),
		cmocka_unit_test(test_alias_loop), cmocka_unit_test(test_negative),
		cmocka_unit_test(test_failures),   cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_odd_mx),     cmocka_unit_test(test_compression_loops),
		cmocka_unit_test(test_many),       cmocka_unit_test(test_rdata_of_wrong_size),
		cmocka_unit_test(test_tlsa),       cmocka_unit_test(test_txt),
		cmocka_unit_test(test_odd_tlsa),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
