/* lib_msg_test.c - every message survives the way there and back; nothing damaged is taken for one. */
#include "lib/msg.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

/* A message of each type with every field at a value that its neighbours do not have. */
static uint32_t u32s[1000];
static uint64_t u64s[1000];
static char text[4000];
static uint64_t next_value;

static void fill_u8(uint8_t *v, unsigned max UNUSED)
{
	*v = (uint8_t)++next_value;
}

static void fill_u16(uint16_t *v, unsigned max UNUSED)
{
	*v = (uint16_t)(++next_value * 0x101u);
}

static void fill_u32(uint32_t *v, unsigned max UNUSED)
{
	*v = (uint32_t)(++next_value * 0x1010101u);
}

static void fill_u64(uint64_t *v, unsigned max UNUSED)
{
	*v = ++next_value * 0x101010101010101ull;
}

static void fill_str(struct slice *v, unsigned max)
{
	*v = (struct slice){ text, ++next_value % (max + 1) };
}

static void fill_bytes(struct slice *v, unsigned max)
{
	fill_str(v, max);
}

static void fill_u32v(struct msg_u32v *v, unsigned max)
{
	*v = (struct msg_u32v){ NULL, u32s, (uint16_t)(++next_value % (max + 1)) };
}

static void fill_u64v(struct msg_u64v *v, unsigned max)
{
	*v = (struct msg_u64v){ NULL, u64s, (uint16_t)(++next_value % (max + 1)) };
}

static void same_u8(const uint8_t *a, const uint8_t *b)
{
	assert_int_equal(*a, *b);
}

static void same_u16(const uint16_t *a, const uint16_t *b)
{
	assert_int_equal(*a, *b);
}

static void same_u32(const uint32_t *a, const uint32_t *b)
{
	assert_int_equal(*a, *b);
}

static void same_u64(const uint64_t *a, const uint64_t *b)
{
	assert_int_equal(*a, *b);
}

static void same_str(const struct slice *a, const struct slice *b)
{
	assert_true(slice_equal(*a, *b));
}

static void same_bytes(const struct slice *a, const struct slice *b)
{
	assert_true(slice_equal(*a, *b));
}

static void same_u32v(const struct msg_u32v *a, const struct msg_u32v *b)
{
	assert_int_equal(a->count, b->count);
	for (unsigned i = 0; i < a->count; i++)
		assert_int_equal(msg_u32(a, i), msg_u32(b, i));
}

static void same_u64v(const struct msg_u64v *a, const struct msg_u64v *b)
{
	assert_int_equal(a->count, b->count);
	for (unsigned i = 0; i < a->count; i++)
		assert_int_equal(msg_u64(a, i), msg_u64(b, i));
}

/* Any byte too few or too many makes a message malformed. */
static void check_lengths(const struct packet *good)
{
	struct packet p = *good;

	assert_true(msg_decode_any(good));
	for (p.len = 0; p.len < good->len; p.len++) {
		assert_false(msg_decode_any(&p));
		if (p.len >= MSG_HEAD_BYTES) { /* the header agrees, the body is short */
			p.bytes[6] = (uint8_t)(p.len >> 8);
			p.bytes[7] = (uint8_t)p.len;
			assert_false(msg_decode_any(&p));
		}
	}
	p = *good;
	if (p.len == MSG_PACKET_MAX)
		return;
	p.bytes[p.len++] = 0;
	p.bytes[6] = (uint8_t)(p.len >> 8);
	p.bytes[7] = (uint8_t)p.len;
	assert_false(msg_decode_any(&p));
}

#define FILL(type, name, max) fill_##type(&m.name, max);
#define SAME(type, name, max) same_##type(&m.name, &back.name);
#define ROUND_TRIP(id, NAME, name, from, to, purpose)                                                             \
	static void round_trip_##name(void)                                                                       \
	{                                                                                                         \
		struct msg_head head = { .from_generation = 0x01020304, .to_generation = 0xfffefdfc }, head_back; \
		struct msg_##name m, back;                                                                        \
		struct packet p;                                                                                  \
                                                                                                                  \
		memset(&m, 0, sizeof(m));                                                                         \
		MSG_FIELDS_##NAME(FILL) msg_encode_##name(&p, &head, &m);                                         \
		assert_true(msg_decode_head(&p, &head_back));                                                     \
		assert_int_equal(head_back.type, id);                                                             \
		assert_int_equal(head_back.from_generation, head.from_generation);                                \
		assert_int_equal(head_back.to_generation, head.to_generation);                                    \
		assert_true(msg_decode_##name(&p, &back));                                                        \
		MSG_FIELDS_##NAME(SAME) check_lengths(&p);                                                        \
	}
MSG_LIST(ROUND_TRIP)

static void test_round_trips(void **state UNUSED)
{
	for (unsigned i = 0; i < ARRAY_LEN(u32s); i++) {
		u32s[i] = i * 0x10001u;
		u64s[i] = i * 0x1000100010001ull;
	}
	memset(text, 't', sizeof(text));
	for (int round = 0; round < 3; round++) {
#define CALL(id, NAME, name, from, to, purpose) round_trip_##name();
		MSG_LIST(CALL)
	}
}

/* The largest each may become must fit a packet: a message that cannot be sent is a mistake in msg.def. */
#define BYTES_u8(max)              1
#define BYTES_u16(max)             2
#define BYTES_u32(max)             4
#define BYTES_u64(max)             8
#define BYTES_str(max)             (2 + (max))
#define BYTES_bytes(max)           (2 + (max))
#define BYTES_u32v(max)            (2 + 4 * (max))
#define BYTES_u64v(max)            (2 + 8 * (max))
#define ADD_BYTES(type, name, max) +BYTES_##type(max)
#define CHECK_MAX(id, NAME, name, from, to, purpose) \
	_Static_assert(MSG_HEAD_BYTES MSG_FIELDS_##NAME(ADD_BYTES) <= MSG_PACKET_MAX, #NAME " does not fit a packet");
MSG_LIST(CHECK_MAX)

/* --- damage --- */

static void encode_reference(struct packet *p)
{
	static const uint32_t RCPTS[] = { 0, 1, 70000 };
	struct msg_head head = { .from_generation = 1, .to_generation = 2 };
	struct msg_report m = {
		.sequence = 5,
		.verdict = VERDICT_PERMANENT,
		.dsn = slice_of("5.1.1"),
		.text = slice_of("no such user"),
		.relay = slice_of("mx.example[192.0.2.1]:25"),
		.rcpts = { NULL, RCPTS, 3 },
	};

	msg_encode_report(p, &head, &m);
}

static void test_header_is_checked(void **state UNUSED)
{
	static const struct {
		const char *label;
		unsigned at;
		uint8_t value;
	} ROWS[] = {
		{ "magic", 0, 0 },  { "magic", 1, 0 },  { "version", 2, 2 }, { "unknown type", 3, 200 },
		{ "type 0", 3, 0 }, { "length", 7, 1 }, { "length", 4, 1 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct msg_head head;
		struct packet p;

		print_message("%s\n", ROWS[i].label);
		encode_reference(&p);
		assert_true(msg_decode_head(&p, &head));
		p.bytes[ROWS[i].at] = ROWS[i].value;
		assert_false(msg_decode_head(&p, &head));
	}
}

static void test_nul_in_a_string_is_refused(void **state UNUSED)
{
	struct packet p;
	uint8_t *at;

	encode_reference(&p);
	at = memmem(p.bytes, p.len, "such", 4);
	assert_non_null(at);
	*at = 0;
	assert_false(msg_decode_any(&p));
}

static void test_maximum_of_a_field(void **state UNUSED)
{
	struct packet p;
	uint8_t *at;

	encode_reference(&p);
	at = memmem(p.bytes, p.len, "5.1.1", 5);
	assert_non_null(at);
	at[-1] = 17; /* dsn: at most 16; the bytes for it are there */
	assert_false(msg_decode_any(&p));
}

/* No single damaged byte may make the decoder read outside; it may or may not notice. */
static void test_flipped_bytes(void **state UNUSED)
{
	struct packet p;

	encode_reference(&p);
	for (unsigned i = 0; i < p.len; i++) {
		for (int bit = 0; bit < 8; bit++) {
			p.bytes[i] ^= (uint8_t)(1u << bit);
			(void)msg_decode_any(&p);
			p.bytes[i] ^= (uint8_t)(1u << bit);
		}
	}
	assert_true(msg_decode_any(&p));
}

static void test_names(void **state UNUSED)
{
	assert_string_equal(msg_name(MSG_DELIVER), "DELIVER");
	assert_string_equal(msg_name(0), "?");
	assert_string_equal(role_name(ROLE_SMTPOUT), "smtpout");
	assert_string_equal(role_name(ROLE_COUNT), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trips),
		cmocka_unit_test(test_header_is_checked),
		cmocka_unit_test(test_nul_in_a_string_is_refused),
		cmocka_unit_test(test_maximum_of_a_field),
		cmocka_unit_test(test_flipped_bytes),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("lib_msg", tests, NULL, NULL);
}
