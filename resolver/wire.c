/* wire.c - read DNS answers as they come off the wire. */
#include "resolver/wire.h"
#include <strings.h>

enum { HEADER_BYTES = 12, RR_FIXED_BYTES = 10, LABEL_MAX = 63, CLASS_IN = 1 };
enum { RCODE_NOERROR = 0, RCODE_SERVFAIL = 2, RCODE_NXDOMAIN = 3, RCODE_REFUSED = 5 };

struct wire {
	const uint8_t *ptr;
	size_t len, at;
};

/* One record's frame; rdata is packet[rdata .. rdata + rdata_len). */
struct frame {
	char owner[WIRE_NAME_SIZE];
	uint16_t type, class;
	uint32_t ttl_s;
	size_t rdata, rdata_len;
};

struct alias {
	char owner[WIRE_NAME_SIZE], target[WIRE_NAME_SIZE];
	uint32_t ttl_s;
};

static unsigned get_u16(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static uint32_t get_u32(const uint8_t *at)
{
	return (uint32_t)get_u16(at) << 16 | get_u16(at + 2);
}

/* One byte of a label in presentation form; false when there is no room. */
static bool put_byte(char *name, size_t *used, uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		c = (uint8_t)(c + ('a' - 'A'));
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
		if (*used + 1 >= WIRE_NAME_SIZE)
			return false;
		name[(*used)++] = (char)c;
		return true;
	}
	if (*used + 4 >= WIRE_NAME_SIZE)
		return false;
	name[(*used)++] = '\\';
	name[(*used)++] = (char)('0' + c / 100);
	name[(*used)++] = (char)('0' + c / 10 % 10);
	name[(*used)++] = (char)('0' + c % 10);
	return true;
}

/*
 * A name at `at`, which moves behind it. Ends for certain: each compression pointer must lead to before the place
 * where the present run of labels began (RFC 1035 4.1.4: "a prior occurrence"). `end` bounds the uncompressed part.
 */
static bool get_name(const struct wire *w, size_t *at, size_t end, char name[WIRE_NAME_SIZE])
{
	size_t pos = *at, run = *at, limit = end, used = 0;
	bool has_jumped = false;

	for (;;) {
		uint8_t len;

		if (pos >= limit)
			return false;
		len = w->ptr[pos];
		if ((len & 0xc0) == 0xc0) {
			size_t target;

			if (pos + 2 > limit)
				return false;
			target = get_u16(w->ptr + pos) & 0x3fff;
			if (target < HEADER_BYTES || target >= run)
				return false;
			if (!has_jumped)
				*at = pos + 2;
			has_jumped = true;
			run = pos = target;
			limit = w->len;
			continue;
		}
		if (len > LABEL_MAX || pos + 1 + len > limit)
			return false;
		pos++;
		if (len == 0)
			break;
		if (used > 0) {
			if (used + 1 >= WIRE_NAME_SIZE)
				return false;
			name[used++] = '.';
		}
		for (unsigned i = 0; i < len; i++)
			if (!put_byte(name, &used, w->ptr[pos + i]))
				return false;
		pos += len;
	}
	if (!has_jumped)
		*at = pos;
	name[used] = 0;
	return true;
}

static bool get_frame(struct wire *w, struct frame *f)
{
	const uint8_t *p;

	if (!get_name(w, &w->at, w->len, f->owner) || w->len - w->at < RR_FIXED_BYTES)
		return false;
	p = w->ptr + w->at;
	f->type = (uint16_t)get_u16(p);
	f->class = (uint16_t)get_u16(p + 2);
	f->ttl_s = get_u32(p + 4);
	if (f->ttl_s > INT32_MAX) /* RFC 2181 8 */
		f->ttl_s = 0;
	f->rdata_len = get_u16(p + 8);
	f->rdata = w->at + RR_FIXED_BYTES;
	if (w->len - f->rdata < f->rdata_len)
		return false;
	w->at = f->rdata + f->rdata_len;
	return true;
}

bool wire_is_hostname(const char *name)
{
	size_t label = 0, len = strlen(name);
	bool is_numeric = true;

	if (len == 0 || len > 253)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = name[i], next = name[i + 1];
		bool is_digit = c >= '0' && c <= '9', is_alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		if (c == '.') {
			if (label == 0)
				return false;
			label = 0;
			is_numeric = true;
			continue;
		}
		if (!is_digit && !is_alpha && c != '-')
			return false;
		if (c == '-' && (label == 0 || next == '.' || next == 0))
			return false;
		if (++label > LABEL_MAX)
			return false;
		is_numeric = is_numeric && is_digit;
	}
	return label > 0 && !is_numeric;
}

/* --- rdata: false when it is not exactly what its type says --- */

static bool read_mx(const struct wire *w, const struct frame *f, struct wire_record *r)
{
	size_t at = f->rdata + 2, end = f->rdata + f->rdata_len;

	if (f->rdata_len < 3)
		return false;
	r->preference = (uint16_t)get_u16(w->ptr + f->rdata);
	if (!get_name(w, &at, end, r->host) || at != end)
		return false;
	r->is_hostname = wire_is_hostname(r->host);
	return true;
}

static bool read_address(const struct wire *w, const struct frame *f, struct wire_record *r)
{
	size_t want = f->type == WIRE_TYPE_A ? 4 : 16;

	if (f->rdata_len != want)
		return false;
	memcpy(r->address, w->ptr + f->rdata, want);
	return true;
}

static bool read_tlsa(const struct wire *w, const struct frame *f, struct wire_answer *out, struct wire_record *r)
{
	const uint8_t *p = w->ptr + f->rdata;

	if (f->rdata_len < 4 || f->rdata_len - 3 > (size_t)(WIRE_DATA_BYTES_MAX - out->data_bytes))
		return false;
	r->usage = p[0];
	r->selector = p[1];
	r->matching = p[2];
	r->data_at = out->data_bytes;
	r->data_len = (uint16_t)(f->rdata_len - 3);
	memcpy(out->data + out->data_bytes, p + 3, r->data_len);
	out->data_bytes = (uint16_t)(out->data_bytes + r->data_len);
	return true;
}

static bool read_txt(const struct wire *w, const struct frame *f, struct wire_answer *out, struct wire_record *r)
{
	const uint8_t *p = w->ptr + f->rdata, *end = p + f->rdata_len;
	size_t used = out->data_bytes;

	if (p == end)
		return false;
	for (; p < end; p += 1 + *p) {
		if ((size_t)(end - p) < 1u + *p || *p > WIRE_DATA_BYTES_MAX - used)
			return false;
		memcpy(out->data + used, p + 1, *p);
		used += *p;
	}
	r->data_at = out->data_bytes;
	r->data_len = (uint16_t)(used - out->data_bytes);
	out->data_bytes = (uint16_t)used;
	return true;
}

static bool read_record(const struct wire *w, const struct frame *f, struct wire_answer *out, struct wire_record *r)
{
	switch (f->type) {
	case WIRE_TYPE_MX:
		return read_mx(w, f, r);
	case WIRE_TYPE_A:
	case WIRE_TYPE_AAAA:
		return read_address(w, f, r);
	case WIRE_TYPE_TLSA:
		return read_tlsa(w, f, out, r);
	case WIRE_TYPE_TXT:
		return read_txt(w, f, out, r);
	default:
		return false;
	}
}

/* --- the packet --- */

static void lower_ttl(struct wire_answer *out, uint32_t ttl_s)
{
	if (ttl_s < out->ttl_s)
		out->ttl_s = ttl_s;
}

/* First pass: the aliases of the answer section, wherever they stand. False: malformed. */
static bool read_aliases(struct wire w, unsigned answers, struct alias *alias, unsigned *count)
{
	*count = 0;
	for (unsigned i = 0; i < answers; i++) {
		struct frame f;
		size_t at;

		if (!get_frame(&w, &f))
			return false;
		if (f.type != WIRE_TYPE_CNAME || f.class != CLASS_IN || *count == WIRE_CNAMES_MAX)
			continue;
		at = f.rdata;
		if (!get_name(&w, &at, f.rdata + f.rdata_len, alias[*count].target) || at != f.rdata + f.rdata_len)
			continue;
		memcpy(alias[*count].owner, f.owner, sizeof(f.owner));
		alias[(*count)++].ttl_s = f.ttl_s;
	}
	return true;
}

/* The name at the end of the chain. Each alias is used at most once, so a loop ends too. */
static const char *follow_aliases(struct alias *alias, unsigned count, const char *name, struct wire_answer *out)
{
	for (unsigned step = 0; step < count; step++) {
		unsigned i;

		for (i = 0; i < count; i++)
			if (strcasecmp(alias[i].owner, name) == 0)
				break;
		if (i == count)
			break;
		lower_ttl(out, alias[i].ttl_s);
		name = alias[i].target;
	}
	return name;
}

/* Second pass: the records of that name; w ends up behind the answer section. */
static bool read_answers(struct wire *w, unsigned answers, const char *name, uint16_t type, struct wire_answer *out)
{
	for (unsigned i = 0; i < answers; i++) {
		struct frame f;

		if (!get_frame(w, &f))
			return false;
		if (f.type != type || f.class != CLASS_IN || strcasecmp(f.owner, name) != 0 ||
		    out->count == WIRE_RECORDS_MAX)
			continue;
		memset(&out->record[out->count], 0, sizeof(out->record[0]));
		if (!read_record(w, &f, out, &out->record[out->count])) {
			out->dropped_count++;
			continue;
		}
		out->count++;
		lower_ttl(out, f.ttl_s);
	}
	return true;
}

/* RFC 2308 5: the smaller of the SOA's TTL and its MINIMUM says how long a negative answer may be kept. */
static void read_negative_ttl(struct wire *w, unsigned authorities, struct wire_answer *out)
{
	for (unsigned i = 0; i < authorities; i++) {
		struct frame f;
		uint32_t minimum;

		if (!get_frame(w, &f))
			break;
		if (f.type != WIRE_TYPE_SOA || f.rdata_len < 20)
			continue;
		minimum = get_u32(w->ptr + f.rdata + f.rdata_len - 4);
		lower_ttl(out, f.ttl_s < minimum ? f.ttl_s : minimum);
		return;
	}
	out->ttl_s = 0;
}

void wire_fail(struct wire_answer *out, const char *why)
{
	out->status = WIRE_FAILED;
	out->why = why;
	out->is_secure = false;
	out->ttl_s = 0;
	out->count = out->dropped_count = 0;
	out->data_bytes = 0;
	out->owner[0] = 0;
}

static const char *rcode_text(unsigned rcode)
{
	static const char *const TEXTS[] = { "no error",       "format error",    "server failure (SERVFAIL)",
					     "no such domain", "not implemented", "refused (REFUSED)" };

	return rcode < ARRAY_LEN(TEXTS) ? TEXTS[rcode] : "unusual response code";
}

void wire_parse(struct wire_answer *out, const uint8_t *packet, size_t len, const char *name, uint16_t type)
{
	struct wire w = { packet, len, HEADER_BYTES };
	struct alias alias[WIRE_CNAMES_MAX];
	const char *owner = name;
	unsigned rcode, alias_count, questions, answers;
	char qname[WIRE_NAME_SIZE];
	bool is_good;

	wire_fail(out, "malformed answer");
	if (len < HEADER_BYTES)
		return;
	rcode = packet[3] & 15;
	questions = get_u16(packet + 4);
	answers = get_u16(packet + 6);
	if (packet[2] & 2) { /* TC: never act on a part */
		out->why = "truncated answer";
		return;
	}
	if (rcode != RCODE_NOERROR && rcode != RCODE_NXDOMAIN) {
		out->why = rcode_text(rcode);
		return;
	}
	for (unsigned i = 0; i < questions; i++) {
		if (!get_name(&w, &w.at, w.len, qname) || w.len - w.at < 4)
			return;
		w.at += 4;
	}
	out->ttl_s = INT32_MAX;
	is_good = read_aliases(w, answers, alias, &alias_count);
	if (is_good) {
		owner = follow_aliases(alias, alias_count, name, out);
		is_good = read_answers(&w, answers, owner, type, out);
	}
	if (!is_good) {
		wire_fail(out, "malformed answer");
		return;
	}
	snprintf(out->owner, sizeof(out->owner), "%s", owner);
	if (out->count + out->dropped_count > 0 && rcode == RCODE_NOERROR) {
		out->status = WIRE_RECORDS;
		if (out->count == 0)
			out->ttl_s = 0;
	} else {
		out->status = rcode == RCODE_NXDOMAIN ? WIRE_NXDOMAIN : WIRE_NODATA;
		out->count = 0;
		read_negative_ttl(&w, get_u16(packet + 8), out);
	}
	out->why = "";
}
