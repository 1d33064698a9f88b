/* text.c - strict parsing and safe printing of small values. */
#include "lib/text.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits at the front of *s, at least one; moves *s behind them. */
static bool take_number(struct slice *s, uint64_t *out)
{
	uint64_t value = 0;
	size_t i;

	for (i = 0; i < s->len && is_digit(s->ptr[i]); i++)
		if (__builtin_mul_overflow(value, 10u, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(s->ptr[i] - '0'), &value))
			return false;
	if (i == 0)
		return false;
	s->ptr += i;
	s->len -= i;
	*out = value;
	return true;
}

bool text_parse_u64(struct slice s, uint64_t *out)
{
	uint64_t value;

	if (!take_number(&s, &value) || s.len > 0)
		return false;
	*out = value;
	return true;
}

/* From the largest down: the order in which they may follow one another. */
static const struct {
	char letter;
	uint64_t ms;
} UNITS[] = {
	{ 'w', 7 * 86400000ull }, { 'd', 86400000 }, { 'h', 3600000 }, { 'm', 60000 }, { 's', 1000 },
};

bool text_parse_duration(struct slice s, uint64_t *ms)
{
	uint64_t sum = 0, number = 0;
	unsigned unit = 0;

	if (slice_is(s, "0")) {
		*ms = 0;
		return true;
	}
	if (s.len == 0)
		return false;
	while (s.len > 0) {
		if (!take_number(&s, &number) || s.len == 0)
			return false;
		while (unit < ARRAY_LEN(UNITS) && UNITS[unit].letter != s.ptr[0])
			unit++;
		if (unit == ARRAY_LEN(UNITS) || __builtin_mul_overflow(number, UNITS[unit].ms, &number) ||
		    __builtin_add_overflow(sum, number, &sum))
			return false;
		unit++; /* each unit once */
		s.ptr++;
		s.len--;
	}
	*ms = sum;
	return true;
}

bool text_parse_size(struct slice s, uint64_t *bytes)
{
	static const char LETTERS[] = "kmg";
	const char *letter;
	uint64_t value;

	if (!take_number(&s, &value) || s.len > 1)
		return false;
	if (s.len == 1) {
		letter = s.ptr[0] ? strchr(LETTERS, s.ptr[0] | 0x20) : NULL;
		if (!letter || __builtin_mul_overflow(value, 1ull << 10 * (letter - LETTERS + 1), &value))
			return false;
	}
	*bytes = value;
	return true;
}

void text_format_duration(struct buf *out, uint64_t ms)
{
	static const struct {
		const char *name;
		uint64_t ms;
	} PARTS[] = { { "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 } };
	unsigned shown = 0;

	for (unsigned i = 0; i < ARRAY_LEN(PARTS) && shown < 2; i++) {
		if (ms < PARTS[i].ms)
			continue;
		buf_printf(out, "%llu%s", (unsigned long long)(ms / PARTS[i].ms), PARTS[i].name);
		ms %= PARTS[i].ms;
		shown++;
	}
	if (shown == 0)
		buf_put_str(out, "0s");
}

/* Length of the well-formed UTF-8 character at the front (Unicode 3.9, table 3-7); 0 when there is none. */
static unsigned utf8_len(const unsigned char *p, size_t len)
{
	unsigned need = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

	if (need == 0 || len < need)
		return 0;
	for (unsigned i = 1; i < need; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return need;
}

/* One piece of escaped text at the front of s, into `piece`; how many bytes of s it stands for. */
static size_t escape_one(struct slice s, struct buf *piece)
{
	const unsigned char *p = (const unsigned char *)s.ptr;
	unsigned len = utf8_len(p, s.len);
	bool is_c1_control = len == 2 && p[0] == 0xc2 && p[1] < 0xa0;

	buf_clear(piece);
	if (p[0] == '\\')
		buf_put_str(piece, "\\\\");
	else if (len == 0 || is_c1_control || p[0] < 0x20 || p[0] == 0x7f)
		buf_printf(piece, "\\%03o", p[0]);
	else
		buf_put(piece, s.ptr, len);
	return is_c1_control || len == 0 ? 1 : len;
}

void text_escape(struct buf *out, struct slice remote, size_t max_bytes)
{
	static const char MORE[] = "...";
	size_t begin = out->len, cut = begin, used;
	struct buf piece;

	buf_init(&piece, 8);
	while (remote.len > 0 && !out->failed) {
		used = escape_one(remote, &piece);
		if (out->len + piece.len - begin > max_bytes) {
			out->len = cut;
			if (max_bytes >= sizeof(MORE) - 1)
				buf_put_str(out, MORE);
			break;
		}
		buf_put_slice(out, buf_slice(&piece));
		if (out->len - begin + sizeof(MORE) - 1 <= max_bytes)
			cut = out->len;
		remote.ptr += used;
		remote.len -= used;
	}
	buf_release(&piece);
}

bool text_is_utf8(struct slice s)
{
	unsigned len;

	for (size_t i = 0; i < s.len; i += len) {
		len = utf8_len((const unsigned char *)s.ptr + i, s.len - i);
		if (len == 0)
			return false;
	}
	return true;
}

bool text_is_ascii(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] > 0x7f)
			return false;
	return true;
}

void text_lower(char *ptr, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (ptr[i] >= 'A' && ptr[i] <= 'Z')
			ptr[i] = (char)(ptr[i] + ('a' - 'A'));
}

struct slice text_trim(struct slice s)
{
	while (s.len > 0 && text_is_blank(s.ptr[0])) {
		s.ptr++;
		s.len--;
	}
	while (s.len > 0 && text_is_blank(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

/* --- SipHash-1-3 (Aumasson, Bernstein 2012): keys that peers choose cannot be made to collide --- */

static uint64_t hash_key[2] = { 0x6c62272e07bb0142ull, 0x9ae16a3b2f90404full };

void text_seed(uint64_t seed)
{
	hash_key[0] = seed ^ 0x6c62272e07bb0142ull;
	hash_key[1] = (seed << 32 | seed >> 32) * 0x9ae16a3b2f90404full;
}

static uint64_t rotate(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
	v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
}

uint64_t text_hash(const void *bytes, size_t len)
{
	const unsigned char *p = bytes;
	uint64_t v[4] = { hash_key[0] ^ 0x736f6d6570736575ull, hash_key[1] ^ 0x646f72616e646f6dull,
			  hash_key[0] ^ 0x6c7967656e657261ull, hash_key[1] ^ 0x7465646279746573ull };
	uint64_t word;
	size_t left = len;

	for (; left >= 8; left -= 8, p += 8) {
		memcpy(&word, p, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	word = (uint64_t)len << 56;
	for (size_t i = 0; i < left; i++)
		word |= (uint64_t)p[i] << 8 * i;
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
