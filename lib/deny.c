/* deny.c - addresses that must never be connected to. */
#include "lib/deny.h"

static bool is_in_block(const struct conf_cidr *block, const struct host_address *a)
{
	unsigned whole = block->prefix / 8, bits = block->prefix % 8;

	if (block->family != a->family || block->prefix > (a->family == AF_INET ? 32 : 128))
		return false;
	if (memcmp(block->bytes, a->bytes, whole) != 0)
		return false;
	return bits == 0 || (block->bytes[whole] ^ a->bytes[whole]) >> (8 - bits) == 0;
}

static bool is_in_list(const struct conf_cidr *deny, unsigned count, const struct host_address *a)
{
	for (unsigned i = 0; i < count; i++)
		if (is_in_block(&deny[i], a))
			return true;
	return false;
}

/* The IPv4 address inside an IPv6 one. */
static bool embedded_ipv4(const struct host_address *a, struct host_address *v4)
{
	static const struct {
		uint8_t prefix[12], prefix_len, at;
	} FORMS[] = {
		{ { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff }, 12, 12 }, /* mapped */
		{ { 0 }, 12, 12 },                                        /* compatible */
		{ { 0x00, 0x64, 0xff, 0x9b }, 12, 12 },                   /* NAT64 */
		{ { 0x20, 0x02 }, 2, 2 },                                 /* 6to4 */
	};

	if (a->family != AF_INET6)
		return false;
	for (unsigned i = 0; i < ARRAY_LEN(FORMS); i++) {
		if (memcmp(a->bytes, FORMS[i].prefix, FORMS[i].prefix_len) != 0)
			continue;
		*v4 = (struct host_address){ .family = AF_INET };
		memcpy(v4->bytes, a->bytes + FORMS[i].at, 4);
		return true;
	}
	return false;
}

bool deny_matches(const struct conf_cidr *deny, unsigned count, const struct host_address *address)
{
	struct host_address v4;

	return is_in_list(deny, count, address) || (embedded_ipv4(address, &v4) && is_in_list(deny, count, &v4));
}
