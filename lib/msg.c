/* msg.c - encoders and decoders made from lib/msg.def. */
#include "lib/msg.h"
#include "lib/text.h"

enum { MSG_MAGIC = 0x504e, MSG_VERSION = 1 }; /* "PN" */

const char *role_name(enum proc_role role)
{
	static const char *const NAMES[] = {
		[ROLE_MASTER] = "master",     [ROLE_PICKUP] = "pickup",   [ROLE_SCHEDULER] = "scheduler",
		[ROLE_RESOLVER] = "resolver", [ROLE_LIMITER] = "limiter", [ROLE_SMTPOUT] = "smtpout",
	};
	_Static_assert(ARRAY_LEN(NAMES) == ROLE_COUNT, "role names out of step");
	return role < ROLE_COUNT ? NAMES[role] : "?";
}

uint32_t msg_u32(const struct msg_u32v *v, unsigned index)
{
	return v->values ? v->values[index] : (uint32_t)buf_get_be(v->ptr + index * 4u, 4);
}

uint64_t msg_u64(const struct msg_u64v *v, unsigned index)
{
	return v->values ? v->values[index] : buf_get_be(v->ptr + index * 8u, 8);
}

/* --- encoding: a cursor that cannot pass the packet --- */

static void put_be(struct packet *p, uint64_t value, unsigned bytes)
{
	if (p->len + bytes > MSG_PACKET_MAX)
		BUG("message does not fit a packet");
	for (unsigned i = 0; i < bytes; i++)
		p->bytes[p->len++] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

static void put_u8(struct packet *p, uint8_t value, unsigned max UNUSED)
{
	put_be(p, value, 1);
}

static void put_u16(struct packet *p, uint16_t value, unsigned max UNUSED)
{
	put_be(p, value, 2);
}

static void put_u32(struct packet *p, uint32_t value, unsigned max UNUSED)
{
	put_be(p, value, 4);
}

static void put_u64(struct packet *p, uint64_t value, unsigned max UNUSED)
{
	put_be(p, value, 8);
}

static void put_bytes(struct packet *p, struct slice s, unsigned max)
{
	if (s.len > max || p->len + 2 + s.len > MSG_PACKET_MAX)
		BUG("field of %zu bytes, at most %u", s.len, max);
	put_be(p, s.len, 2);
	if (s.len > 0)
		memcpy(p->bytes + p->len, s.ptr, s.len);
	p->len = (uint16_t)(p->len + s.len);
}

static void put_str(struct packet *p, struct slice s, unsigned max)
{
	put_bytes(p, s, max);
}

static void put_u32v(struct packet *p, struct msg_u32v v, unsigned max)
{
	if (v.count > max)
		BUG("vector of %u elements, at most %u", v.count, max);
	put_be(p, v.count, 2);
	for (unsigned i = 0; i < v.count; i++)
		put_be(p, msg_u32(&v, i), 4);
}

static void put_u64v(struct packet *p, struct msg_u64v v, unsigned max)
{
	if (v.count > max)
		BUG("vector of %u elements, at most %u", v.count, max);
	put_be(p, v.count, 2);
	for (unsigned i = 0; i < v.count; i++)
		put_be(p, msg_u64(&v, i), 8);
}

static void begin(struct packet *p, const struct msg_head *head, uint8_t type)
{
	p->len = 0;
	put_be(p, MSG_MAGIC, 2);
	put_be(p, MSG_VERSION, 1);
	put_be(p, type, 1);
	put_be(p, 0, 4); /* length: set by finish() */
	put_be(p, head->from_generation, 4);
	put_be(p, head->to_generation, 4);
	put_be(p, 0, 4);
}

static void finish(struct packet *p)
{
	uint16_t len = p->len;

	p->len = 4;
	put_be(p, len, 4);
	p->len = len;
}

#define PUT_FIELD(type, name, max) put_##type(p, m->name, max);
#define ENCODE(id, NAME, name, from, to, purpose)                                                         \
	void msg_encode_##name(struct packet *p, const struct msg_head *head, const struct msg_##name *m) \
	{                                                                                                 \
		(void)m;                                                                                  \
		begin(p, head, MSG_##NAME);                                                               \
		MSG_FIELDS_##NAME(PUT_FIELD) finish(p);                                                   \
	}
MSG_LIST(ENCODE)

/* --- decoding: a checked cursor with a sticky failure --- */

struct cursor {
	const uint8_t *at, *end;
	bool failed;
};

static const uint8_t *take(struct cursor *c, size_t bytes)
{
	const uint8_t *at = c->at;

	if (c->failed || (size_t)(c->end - c->at) < bytes) {
		c->failed = true;
		return NULL;
	}
	c->at += bytes;
	return at;
}

static uint64_t take_be(struct cursor *c, unsigned bytes)
{
	const uint8_t *at = take(c, bytes);

	return at ? buf_get_be(at, bytes) : 0;
}

static void get_u8(struct cursor *c, uint8_t *out, unsigned max UNUSED)
{
	*out = (uint8_t)take_be(c, 1);
}

static void get_u16(struct cursor *c, uint16_t *out, unsigned max UNUSED)
{
	*out = (uint16_t)take_be(c, 2);
}

static void get_u32(struct cursor *c, uint32_t *out, unsigned max UNUSED)
{
	*out = (uint32_t)take_be(c, 4);
}

static void get_u64(struct cursor *c, uint64_t *out, unsigned max UNUSED)
{
	*out = take_be(c, 8);
}

static void get_bytes(struct cursor *c, struct slice *out, unsigned max)
{
	size_t len = (size_t)take_be(c, 2);
	const uint8_t *at = take(c, len);

	if (len > max)
		c->failed = true;
	*out = at ? (struct slice){ (const char *)at, len } : (struct slice){ "", 0 };
}

static void get_str(struct cursor *c, struct slice *out, unsigned max)
{
	get_bytes(c, out, max);
	if (out->len > 0 && memchr(out->ptr, 0, out->len))
		c->failed = true;
}

static void get_u32v(struct cursor *c, struct msg_u32v *out, unsigned max)
{
	uint16_t count = (uint16_t)take_be(c, 2);
	const uint8_t *at = take(c, count * (size_t)4);

	if (count > max)
		c->failed = true;
	*out = (struct msg_u32v){ at, NULL, at ? count : 0 };
}

static void get_u64v(struct cursor *c, struct msg_u64v *out, unsigned max)
{
	uint16_t count = (uint16_t)take_be(c, 2);
	const uint8_t *at = take(c, count * (size_t)8);

	if (count > max)
		c->failed = true;
	*out = (struct msg_u64v){ at, NULL, at ? count : 0 };
}

#define GET_FIELD(type, name, max) get_##type(&c, &m->name, max);
#define DECODE(id, NAME, name, from, to, purpose)                                                            \
	bool msg_decode_##name(const struct packet *p, struct msg_##name *m)                                 \
	{                                                                                                    \
		struct cursor c = { p->bytes + MSG_HEAD_BYTES, p->bytes + p->len, p->len < MSG_HEAD_BYTES }; \
                                                                                                             \
		(void)m;                                                                                     \
		MSG_FIELDS_##NAME(GET_FIELD) return !c.failed && c.at == c.end;                              \
	}
MSG_LIST(DECODE)

const char *msg_name(uint8_t type)
{
	switch (type) {
#define NAME_CASE(id, NAME, name, from, to, purpose) \
	case id:                                     \
		return #NAME;
		MSG_LIST(NAME_CASE)
	default:
		return "?";
	}
}

bool msg_decode_head(const struct packet *p, struct msg_head *head)
{
	struct cursor c = { p->bytes, p->bytes + p->len, p->len < MSG_HEAD_BYTES };
	uint64_t magic = take_be(&c, 2), version = take_be(&c, 1), type = take_be(&c, 1), len = take_be(&c, 4);

	head->type = (uint8_t)type;
	head->from_generation = (uint32_t)take_be(&c, 4);
	head->to_generation = (uint32_t)take_be(&c, 4);
	return !c.failed && magic == MSG_MAGIC && version == MSG_VERSION && len == p->len &&
	       strcmp(msg_name(head->type), "?") != 0;
}

bool msg_decode_any(const struct packet *p)
{
	struct msg_head head;

	if (!msg_decode_head(p, &head))
		return false;
	switch (head.type) {
#define DECODE_CASE(id, NAME, name, from, to, purpose) \
	case id: {                                     \
		struct msg_##name m;                   \
		return msg_decode_##name(p, &m);       \
	}
		MSG_LIST(DECODE_CASE)
	default:
		return false;
	}
}
