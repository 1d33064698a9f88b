/* mx.c - from a domain to the hosts that take its mail. */
#include "resolver/mx.h"
#include "lib/deny.h"
#include <arpa/inet.h>
#include <stdarg.h>

/* splitmix64: spreads load, guards nothing */
static uint64_t next_random(struct mx_search *s)
{
	uint64_t z = s->random += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static unsigned random_below(struct mx_search *s, unsigned bound)
{
	return (unsigned)(next_random(s) % bound);
}

static void set_text(struct mx_search *s, const char *format, ...) PRINTF_LIKE(2, 3);
static void set_text(struct mx_search *s, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(s->text, sizeof(s->text), format, args); /* a long name is cut */
	va_end(args);
}

static void lower_ttl(struct mx_search *s, uint32_t ttl_s)
{
	if (ttl_s < s->ttl_s)
		s->ttl_s = ttl_s;
}

static void put_question(struct mx_search *s, uint16_t type, unsigned host)
{
	if (s->question_count == MX_QUESTIONS_MAX)
		BUG("more than %d questions", MX_QUESTIONS_MAX);
	s->question[s->question_count++] = (struct mx_question){ type, (uint8_t)host, true };
	s->open_count++;
}

static void ask_addresses(struct mx_search *s)
{
	s->stage = MX_ASKING_ADDRESSES;
	s->question_count = s->open_count = 0;
	for (unsigned i = 0; i < s->host_count; i++) {
		put_question(s, WIRE_TYPE_A, i);
		put_question(s, WIRE_TYPE_AAAA, i);
	}
}

/* The name itself is the only host: no MX (RFC 5321 5.1), or a relay. */
static void ask_name_itself(struct mx_search *s)
{
	struct mx_host *h = &s->host[0];

	memset(h, 0, sizeof(*h));
	memcpy(h->name, s->name, sizeof(h->name));
	h->is_secure = s->is_mx_secure;
	s->host_count = 1;
	s->is_implicit = true;
	ask_addresses(s);
}

static void begin_pass(struct mx_search *s)
{
	s->question_count = s->open_count = s->host_count = 0;
	s->ttl_s = MX_TTL_MAX_S;
	s->is_mx_secure = true; /* until an answer says otherwise */
	s->is_implicit = s->is_secure = false;
	s->why = NULL;
	s->tlsa_bytes = 0;
	s->text[0] = s->skipped[0] = s->untrusted[0] = s->failed[0] = 0;
	s->status = 0;
	s->stage = MX_ASKING_MX;
	if (s->kind == RESOLVE_HOST)
		ask_name_itself(s);
	else
		put_question(s, WIRE_TYPE_MX, 0);
}

void mx_start(struct mx_search *s, enum resolve_kind kind, const char *name, const struct conf_cidr *deny,
	      unsigned deny_count, unsigned tlsa_port, uint64_t seed)
{
	size_t len = strlen(name);

	if (len >= sizeof(s->name))
		BUG("name of %zu bytes", len);
	memset(s, 0, sizeof(*s));
	s->kind = kind;
	memcpy(s->name, name, len + 1);
	s->deny = deny;
	s->deny_count = deny_count;
	s->tlsa_port = tlsa_port;
	s->random = seed;
	begin_pass(s);
}

const char *mx_question_name(struct mx_search *s, unsigned question)
{
	const struct mx_host *h = &s->host[s->question[question].host];
	uint16_t type;

	if (s->stage == MX_ASKING_MX)
		return s->name;
	if (s->stage == MX_ASKING_ADDRESSES)
		return h->name;
	if (!dane_question(&h->dane, h->name, h->owner, s->tlsa_port, s->asked, &type))
		BUG("a question without a name");
	return s->asked;
}

/* --- the end of a search --- */

static void end_temporary(struct mx_search *s, const char *name, const char *why)
{
	s->status = RESOLVE_TEMPORARY;
	s->ttl_s = MX_TTL_MIN_S; /* nothing was learnt: the next one who asks may have more luck */
	set_text(s, "DNS lookup of %.100s failed: %s", name, why ? why : "no usable answer");
}

static void end_negative(struct mx_search *s, bool is_secure)
{
	s->status = RESOLVE_NO_DOMAIN;
	s->is_secure = is_secure;
	if (s->ttl_s == 0 || s->ttl_s == MX_TTL_MAX_S) /* DNS did not say */
		s->ttl_s = MX_TTL_NEGATIVE_S;
}

/* --- the MX set --- */

/* A host appears once, with its best preference. */
static void add_host(struct mx_search *s, const struct wire_record *r)
{
	struct mx_host *h = NULL;

	for (unsigned i = 0; i < s->host_count && !h; i++)
		if (strcmp(s->host[i].name, r->host) == 0)
			h = &s->host[i];
	if (h) {
		if (r->preference < h->preference)
			h->preference = r->preference;
		return;
	}
	if (s->host_count == HOSTS_MAX)
		return;
	h = &s->host[s->host_count++];
	memset(h, 0, sizeof(*h));
	memcpy(h->name, r->host, sizeof(h->name));
	h->preference = r->preference;
	h->is_secure = s->is_mx_secure;
}

/* The best HOSTS_MAX of at most WIRE_RECORDS_MAX, equal preferences in random order (RFC 5321 5.1). */
static void choose_hosts(struct mx_search *s, const struct wire_answer *a)
{
	uint64_t key[WIRE_RECORDS_MAX];
	unsigned order[WIRE_RECORDS_MAX], count = 0;

	for (unsigned i = 0; i < a->count; i++) {
		const struct wire_record *r = &a->record[i];
		uint64_t rank = (uint64_t)r->preference << 48 | next_random(s) >> 16;
		unsigned at = count;

		if (!r->is_hostname) {
			if (r->host[0])
				memcpy(s->skipped, r->host, sizeof(s->skipped));
			continue;
		}
		for (; at > 0 && key[at - 1] > rank; at--) {
			key[at] = key[at - 1];
			order[at] = order[at - 1];
		}
		key[at] = rank;
		order[at] = i;
		count++;
	}
	for (unsigned i = 0; i < count; i++)
		add_host(s, &a->record[order[i]]);
}

static bool is_null_mx(const struct wire_answer *a)
{
	for (unsigned i = 0; i < a->count; i++)
		if (a->record[i].host[0])
			return false;
	return a->count > 0 && a->dropped_count == 0;
}

static void take_mx(struct mx_search *s, const struct wire_answer *a)
{
	s->is_mx_secure = a->is_secure;
	switch (a->status) {
	case WIRE_FAILED:
		end_temporary(s, s->name, a->why);
		return;
	case WIRE_NXDOMAIN:
		lower_ttl(s, a->ttl_s);
		end_negative(s, a->is_secure);
		set_text(s, "no such domain: %.150s", s->name);
		return;
	case WIRE_NODATA:
		lower_ttl(s, a->ttl_s);
		ask_name_itself(s);
		return;
	case WIRE_RECORDS:
		break;
	}
	lower_ttl(s, a->ttl_s);
	if (is_null_mx(a)) {
		s->status = RESOLVE_NULL_MX;
		s->is_secure = a->is_secure;
		set_text(s, "%.120s does not accept mail (null MX, RFC 7505)", s->name);
		return;
	}
	choose_hosts(s, a);
	if (a->count == 0) {
		end_temporary(s, s->name, "malformed records");
		return;
	}
	if (s->host_count == 0) {
		end_negative(s, a->is_secure);
		set_text(s, "no MX record of %.120s names a host", s->name);
		return;
	}
	ask_addresses(s);
}

/* --- addresses --- */

/* A random sample of the addresses that may be connected to; never more than MX_FAMILY_MAX. */
static void take_addresses(struct mx_search *s, struct mx_host *h, uint16_t type, const struct wire_answer *a)
{
	bool is_v4 = type == WIRE_TYPE_A;
	unsigned *count = is_v4 ? &h->v4_count : &h->v6_count, seen = 0;

	for (unsigned i = 0; i < a->count; i++) {
		struct host_address address = { .family = is_v4 ? AF_INET : AF_INET6 };
		size_t len = is_v4 ? 4 : 16;
		unsigned at;

		memcpy(address.bytes, a->record[i].address, len);
		if (deny_matches(s->deny, s->deny_count, &address)) {
			h->is_denied = true;
			continue;
		}
		/* shuffle and sample in one go: the n-th goes to a random place, whoever sat there moves to the end */
		at = random_below(s, ++seen);
		if (*count < MX_FAMILY_MAX) {
			if (at != *count && is_v4)
				memcpy(h->v4[*count], h->v4[at], len);
			else if (at != *count)
				memcpy(h->v6[*count], h->v6[at], len);
			++*count;
		}
		if (at < MX_FAMILY_MAX)
			memcpy(is_v4 ? h->v4[at] : h->v6[at], address.bytes, len);
	}
}

static void note_failure(struct mx_search *s, const char *name, const char *why)
{
	if (s->why)
		return;
	s->why = why;
	snprintf(s->failed, sizeof(s->failed), "%s", name);
}

static void take_host_answer(struct mx_search *s, const struct mx_question *q, const struct wire_answer *a)
{
	struct mx_host *h = &s->host[q->host];

	if (a->status != WIRE_FAILED) {
		h->is_secure = h->is_secure && a->is_secure;
		if (!h->owner[0] && wire_is_hostname(a->owner))
			memcpy(h->owner, a->owner, sizeof(h->owner));
	}
	switch (a->status) {
	case WIRE_FAILED:
		h->has_failed = true;
		note_failure(s, h->name, a->why);
		break;
	case WIRE_RECORDS:
		/* none of its records could be read: not an answer one may act upon */
		if (a->count == 0)
			h->has_failed = true;
		else
			lower_ttl(s, a->ttl_s);
		take_addresses(s, h, q->type, a);
		break;
	case WIRE_NODATA:
	case WIRE_NXDOMAIN:
		/* how long an absence may be remembered matters only when nothing else was found */
		break;
	}
}

static bool is_usable(const struct mx_host *h)
{
	return h->v4_count + h->v6_count > 0 && !h->dane.has_failed;
}

static void end_without_address(struct mx_search *s, bool is_secure)
{
	end_negative(s, is_secure);
	if (!s->is_implicit)
		set_text(s, "no mail host of %.120s has an address", s->name);
	else if (s->kind == RESOLVE_HOST)
		set_text(s, "host %.150s has no address", s->name);
	else
		set_text(s, "%.120s has neither MX nor address", s->name);
}

static void judge_hosts(struct mx_search *s)
{
	bool has_usable = false, has_failed = false, has_denied = false, is_secure = true, all_secure = true;

	for (unsigned i = 0; i < s->host_count; i++) {
		const struct mx_host *h = &s->host[i];

		has_usable = has_usable || is_usable(h);
		has_failed = has_failed || h->has_failed || h->dane.has_failed;
		has_denied = has_denied || h->is_denied;
		all_secure = all_secure && h->is_secure;
		if (is_usable(h))
			is_secure = is_secure && h->is_secure;
	}
	if (has_usable) {
		s->status = RESOLVE_OK;
		s->is_secure = is_secure;
		if (has_failed) /* what is missing may be the best host, or its only address that works */
			lower_ttl(s, MX_TTL_NEGATIVE_S);
	} else if (has_failed) {
		end_temporary(s, s->failed[0] ? s->failed : s->name, s->why);
	} else if (has_denied) {
		s->status = RESOLVE_DENIED;
		s->is_secure = all_secure;
		set_text(s, "all mail hosts of %.100s have forbidden addresses (deny-addresses)", s->name);
	} else {
		end_without_address(s, all_secure);
	}
}

/* --- TLSA records --- */

/* Questions of the next round; false when there are none. */
static bool ask_tlsa(struct mx_search *s)
{
	s->stage = MX_ASKING_TLSA;
	s->question_count = s->open_count = 0;
	for (unsigned i = 0; i < s->host_count; i++) {
		struct mx_host *h = &s->host[i];
		uint16_t type = WIRE_TYPE_TLSA;

		/* a name too long to exist has no records */
		while (h->dane.step != DANE_OVER &&
		       !dane_question(&h->dane, h->name, h->owner, s->tlsa_port, s->asked, &type))
			h->dane.step = h->dane.step == DANE_AT_OWNER ? DANE_AT_NAME : DANE_OVER;
		if (h->dane.step != DANE_OVER)
			put_question(s, type, i);
	}
	return s->question_count > 0;
}

/* False: there is nothing to ask, the search is over. */
static bool begin_tlsa(struct mx_search *s)
{
	if (s->tlsa_port == 0)
		return false;
	for (unsigned i = 0; i < s->host_count; i++) {
		struct mx_host *h = &s->host[i];

		if (is_usable(h))
			dane_start(&h->dane, h->is_secure, s->is_mx_secure,
				   h->owner[0] && strcmp(h->owner, h->name) != 0);
	}
	return ask_tlsa(s);
}

static void take_tlsa(struct mx_search *s, unsigned question, const struct wire_answer *a)
{
	struct mx_host *h = &s->host[s->question[question].host];
	size_t room = sizeof(s->tlsa) - s->tlsa_bytes;
	const char *name = mx_question_name(s, question);
	struct buf records;

	buf_init(&records, room < HOST_TLSA_BYTES_MAX ? room : HOST_TLSA_BYTES_MAX);
	dane_answer(&h->dane, a, &records);
	if (h->dane.has_failed) {
		note_failure(s, name, h->dane.why);
		memcpy(s->untrusted, h->name, sizeof(s->untrusted));
	} else if (h->dane.ttl_s > 0) {
		lower_ttl(s, h->dane.ttl_s);
	}
	if (records.len > 0) {
		h->tlsa_at = s->tlsa_bytes;
		h->tlsa_bytes = (uint16_t)records.len;
		memcpy(s->tlsa + s->tlsa_bytes, records.ptr, records.len);
		s->tlsa_bytes = (uint16_t)(s->tlsa_bytes + records.len);
	}
	buf_release(&records);
}

bool mx_answer(struct mx_search *s, unsigned question, const struct wire_answer *answer)
{
	struct mx_question *q;

	if (question >= s->question_count || !s->question[question].is_open)
		BUG("answer to question %u that nobody asked", question);
	q = &s->question[question];
	q->is_open = false;
	s->open_count--;
	if (s->stage == MX_ASKING_MX) {
		take_mx(s, answer);
		return true;
	}
	if (s->stage == MX_ASKING_TLSA)
		take_tlsa(s, question, answer);
	else
		take_host_answer(s, q, answer);
	if (s->open_count > 0)
		return false;
	if (!(s->stage == MX_ASKING_TLSA ? ask_tlsa(s) : begin_tlsa(s)))
		judge_hosts(s);
	return true;
}

enum mx_step mx_step(struct mx_search *s)
{
	if (s->status == 0)
		return MX_STEP_ASK;
	if (s->status == RESOLVE_NO_DOMAIN && !s->is_fresh && !s->is_secure)
		return MX_STEP_PAUSE;
	if (s->ttl_s < MX_TTL_MIN_S)
		s->ttl_s = MX_TTL_MIN_S;
	return MX_STEP_DONE;
}

void mx_resume(struct mx_search *s)
{
	s->is_fresh = true;
	begin_pass(s);
}

static void put_dane(struct hosts *out, struct host *to, const struct mx_search *s, const struct mx_host *h)
{
	to->dane = (uint8_t)h->dane.result;
	if (h->dane.result != HOST_DANE_USABLE)
		return;
	memcpy(to->tlsa_base, h->dane.is_at_name ? h->name : h->owner, sizeof(to->tlsa_base));
	to->tlsa_at = out->tlsa_bytes;
	to->tlsa_bytes = h->tlsa_bytes;
	memcpy(out->tlsa + out->tlsa_bytes, s->tlsa + h->tlsa_at, h->tlsa_bytes);
	out->tlsa_bytes = (uint16_t)(out->tlsa_bytes + h->tlsa_bytes);
}

static void put_host(struct hosts *out, const struct mx_search *s, const struct mx_host *h)
{
	struct host *to = &out->host[out->count++];
	unsigned half = HOST_ADDRESSES_MAX / 2, v4 = h->v4_count, v6 = h->v6_count;

	/* each family may use the places that the other leaves */
	if (v4 + v6 > HOST_ADDRESSES_MAX) {
		v6 = v6 < half ? v6 : v4 < half ? HOST_ADDRESSES_MAX - v4 : half;
		v4 = HOST_ADDRESSES_MAX - v6;
	}
	memset(to, 0, sizeof(*to));
	to->preference = h->preference;
	to->is_secure = h->is_secure;
	memcpy(to->name, h->name, sizeof(to->name));
	for (unsigned i = 0; i < v6; i++) {
		struct host_address *a = &to->address[to->address_count++];

		a->family = AF_INET6;
		memcpy(a->bytes, h->v6[i], 16);
	}
	for (unsigned i = 0; i < v4; i++) {
		struct host_address *a = &to->address[to->address_count++];

		a->family = AF_INET;
		memcpy(a->bytes, h->v4[i], 4);
	}
	put_dane(out, to, s, h);
}

void mx_hosts(const struct mx_search *s, struct hosts *out)
{
	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < s->host_count; i++)
		if (is_usable(&s->host[i]))
			put_host(out, s, &s->host[i]);
}
