/* resolver_dane_test.c - a whole search for hosts with their TLSA records, answers fed by hand.  TL11, TL12, RFC 7672
 */
#include "resolver/mx.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

/*
 * A zone in lines of "NAME TYPE DATA": MX "10 mx", A an address, CNAME a target, TLSA "3 1 1 x" (digest of x) or
 * "3 1 1 0" (no data). DATA "!": the lookup fails. A "-" before the line: not signed. Names that have no line of a type
 * are empty, and signed like "NAME - ".
 */
struct row {
	const char *label;
	const char *zone[9];
	const char *expected; /* hosts in order: NAME:none|unusable|BASE=records, or "temporary NAME" */
};

#define MX "d.example MX 10 mx.example"
#define A  "mx.example A 192.0.2.1"
#define T  "_25._tcp.mx.example TLSA "

static const struct row ROWS[] = {
	{ "3 1 1", { MX, A, T "3 1 1 x" }, "mx.example:mx.example=311x" },
	{ "rollover, in a fixed order",
	  { MX, A, T "3 1 1 y", T "2 0 1 b", T "3 1 1 x" },
	  "mx.example:mx.example=311x,311y,201b" },
	{ "bad ones beside a good one",
	  { MX, A, T "0 0 1 x", T "3 1 9 x", T "3 1 1 0", T "3 1 2 z" },
	  "mx.example:mx.example=312z" },
	{ "PKIX usages only", { MX, A, T "0 0 1 x", T "1 1 1 x" }, "mx.example:unusable" },
	{ "TL12 no data", { MX, A, T "3 1 1 0" }, "mx.example:unusable" },
	{ "none published", { MX, A }, "mx.example:none" },
	{ "not signed", { MX, A, "-" T "3 1 1 x" }, "mx.example:none" },
	{ "MX not signed", { "-" MX, A, T "3 1 1 x" }, "mx.example:none" },
	{ "address not signed", { MX, "-" A, T "3 1 1 x" }, "mx.example:none" },
	{ "TL11 TLSA lookup fails", { MX, A, T "!" }, "temporary _25._tcp.mx.example" },
	{ "TL11 the other host remains",
	  { MX, A, T "!", "d.example MX 20 two.example", "two.example A 192.0.2.2" },
	  "two.example:none" },
	{ "TL11 unsigned host beside a signed one",
	  { MX, A, T "3 1 1 x", "d.example MX 20 two.example", "-two.example A 192.0.2.2" },
	  "mx.example:mx.example=311x two.example:none" },
	{ "AAAA fails: still signed", { MX, A, "mx.example AAAA !", T "3 1 1 x" }, "mx.example:mx.example=311x" },
	{ "alias, records at its end",
	  { MX, "mx.example CNAME end.example", "end.example A 192.0.2.1", "_25._tcp.end.example TLSA 3 1 1 e",
	    T "3 1 1 x" },
	  "mx.example:end.example=311e" },
	{ "alias, records at its beginning",
	  { MX, "mx.example CNAME end.example", "end.example A 192.0.2.1", T "3 1 1 x" },
	  "mx.example:mx.example=311x" },
	{ "alias, lookup at its end fails",
	  { MX, "mx.example CNAME end.example", "end.example A 192.0.2.1", "_25._tcp.end.example TLSA !", T "3 1 1 x" },
	  "temporary _25._tcp.end.example" },
	{ "signed alias of an unsigned name",
	  { MX, "mx.example CNAME end.example", "-end.example A 192.0.2.1", "_25._tcp.end.example TLSA 3 1 1 e",
	    T "3 1 1 x" },
	  "mx.example:mx.example=311x" },
	{ "unsigned alias",
	  { MX, "-mx.example CNAME end.example", "-end.example A 192.0.2.1", T "3 1 1 x" },
	  "mx.example:none" },
	{ "alias whose CNAME lookup fails",
	  { MX, "mx.example CNAME end.example", "-end.example A 192.0.2.1", "mx.example CNAME !" },
	  "temporary mx.example" },
};

static const char *type_name(uint16_t type)
{
	switch (type) {
	case WIRE_TYPE_MX:
		return "MX";
	case WIRE_TYPE_A:
		return "A";
	case WIRE_TYPE_AAAA:
		return "AAAA";
	case WIRE_TYPE_CNAME:
		return "CNAME";
	case WIRE_TYPE_TLSA:
		return "TLSA";
	}
	return "?";
}

static void add_record(struct wire_answer *a, uint16_t type, const char *data)
{
	struct wire_record *r = &a->record[a->count++];
	unsigned usage, selector, matching;
	char filling;

	memset(r, 0, sizeof(*r));
	if (type == WIRE_TYPE_MX) {
		r->preference = 10;
		snprintf(r->host, sizeof(r->host), "%s", data + 3);
		r->preference = (uint16_t)(data[0] - '0');
		r->is_hostname = true;
	} else if (type == WIRE_TYPE_A) {
		assert_int_equal(inet_pton(AF_INET, data, r->address), 1);
	} else {
		assert_int_equal(sscanf(data, "%u %u %u %c", &usage, &selector, &matching, &filling), 4);
		r->usage = (uint8_t)usage;
		r->selector = (uint8_t)selector;
		r->matching = (uint8_t)matching;
		r->data_at = a->data_bytes;
		r->data_len = filling == '0' ? 0 : matching == 2 ? 64 : 32;
		memset(a->data + r->data_at, filling, r->data_len);
		a->data_bytes = (uint16_t)(a->data_bytes + r->data_len);
	}
}

/* Returns what follows "NAME TYPE " when the line is about that, or NULL. */
static const char *match(const char *line, const char *name, const char *type)
{
	size_t len = strlen(name), type_len = strlen(type);

	line += *line == '-';
	if (strncmp(line, name, len) != 0 || line[len] != ' ' || strncmp(line + len + 1, type, type_len) != 0 ||
	    line[len + 1 + type_len] != ' ')
		return NULL;
	return line + len + 1 + type_len + 1;
}

static void look_up(const struct row *row, const char *name, uint16_t type, struct wire_answer *a)
{
	memset(a, 0, sizeof(*a));
	a->status = WIRE_NODATA;
	a->why = "";
	a->ttl_s = 50;
	a->is_secure = true;
	snprintf(a->owner, sizeof(a->owner), "%s", name);
	for (unsigned i = 0; i < ARRAY_LEN(row->zone) && row->zone[i]; i++) {
		const char *line = row->zone[i], *data = match(line, name, type_name(type));
		const char *target = type == WIRE_TYPE_CNAME ? NULL : match(line, name, "CNAME");

		if (target && target[0] != '!') {
			look_up(row, target, type, a);
			a->is_secure = a->is_secure && line[0] != '-';
			return;
		}
		if (data && data[0] == '!') {
			wire_fail(a, "test failure");
			return;
		}
		if (data) {
			a->is_secure = line[0] != '-';
			if (type == WIRE_TYPE_CNAME)
				continue;
			a->status = WIRE_RECORDS;
			add_record(a, type, data);
		} else if (match(line, name, "A") && line[0] == '-') {
			a->is_secure = false;
		}
	}
}

static void run(const struct row *row, struct mx_search *s, struct wire_answer *a)
{
	mx_start(s, RESOLVE_MX, "d.example", NULL, 0, 25, 7);
	while (mx_step(s) == MX_STEP_ASK) {
		unsigned count = s->question_count;

		for (unsigned i = 0; i < count; i++) {
			const struct mx_question q = s->question[i];

			look_up(row, mx_question_name(s, i), q.type, a);
			assert_int_equal(mx_answer(s, i, a), i + 1 == count);
		}
	}
}

static void describe(const struct mx_search *s, struct hosts *hosts, struct buf *out)
{
	struct host_tlsa r;

	if (s->status == RESOLVE_TEMPORARY) {
		const char *name = strstr(s->text, "of ") + 3;

		buf_printf(out, "temporary %.*s", (int)strcspn(name, " "), name);
		return;
	}
	assert_int_equal(s->status, RESOLVE_OK);
	mx_hosts(s, hosts);
	for (unsigned i = 0; i < hosts->count; i++) {
		const struct host *h = &hosts->host[i];
		struct slice rest = hosts_tlsa(hosts, h);
		const char *comma = "";

		buf_printf(out, "%s%s:", i ? " " : "", h->name);
		if (h->dane != HOST_DANE_USABLE)
			buf_put_str(out, h->dane == HOST_DANE_NONE ? "none" : "unusable");
		else
			buf_printf(out, "%s=", h->tlsa_base);
		while (host_tlsa_next(&rest, &r)) {
			buf_printf(out, "%s%u%u%u%c", comma, r.usage, r.selector, r.matching, r.data.ptr[0]);
			comma = ",";
		}
	}
}

static void test_rows(void **state UNUSED)
{
	struct mx_search *s = xmalloc(sizeof(*s));
	struct wire_answer *a = xmalloc(sizeof(*a));
	struct hosts *hosts = xmalloc(sizeof(*hosts));
	struct buf text, bytes;

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		buf_init(&text, 4096);
		buf_init(&bytes, HOSTS_BYTES_MAX);
		print_message("%s\n", ROWS[i].label);
		run(&ROWS[i], s, a);
		describe(s, hosts, &text);
		assert_string_equal(buf_text(&text), ROWS[i].expected);
		if (s->status == RESOLVE_OK) {
			hosts_encode(&bytes, hosts);
			assert_true(hosts_decode(buf_slice(&bytes), hosts));
		}
		buf_release(&text);
		buf_release(&bytes);
	}
	free(hosts);
	free(a);
	free(s);
}

/* As many records as DNS may bring, on as many hosts: bounded, and no host is thought to have none. */
static void test_too_many(void **state UNUSED)
{
	struct mx_search *s = xmalloc(sizeof(*s));
	struct wire_answer *a = xmalloc(sizeof(*a));
	struct hosts *hosts = xmalloc(sizeof(*hosts));
	char name[16], data[16];

	mx_start(s, RESOLVE_MX, "d.example", NULL, 0, 25, 7);
	while (mx_step(s) == MX_STEP_ASK) {
		unsigned count = s->question_count;

		for (unsigned i = 0; i < count; i++) {
			uint16_t type = s->question[i].type;

			memset(a, 0, sizeof(*a));
			a->status = WIRE_RECORDS;
			a->is_secure = true;
			a->ttl_s = 100;
			for (unsigned k = 0; k < HOSTS_MAX && type == WIRE_TYPE_MX; k++) {
				snprintf(name, sizeof(name), "10 m%u.example", k);
				add_record(a, type, name);
			}
			for (unsigned k = 0; k < WIRE_RECORDS_MAX && type == WIRE_TYPE_TLSA; k++) {
				snprintf(data, sizeof(data), "3 1 1 %c", 'a' + (char)(k % 26));
				add_record(a, type, data);
			}
			if (type == WIRE_TYPE_A || type == WIRE_TYPE_AAAA)
				a->count = 1;
			assert_int_equal(mx_answer(s, i, a), i + 1 == count);
		}
	}
	assert_int_equal(s->status, RESOLVE_OK);
	mx_hosts(s, hosts);
	assert_in_range(hosts->count, 1, 4);
	for (unsigned i = 0; i < hosts->count; i++) {
		assert_int_equal(hosts->host[i].dane, HOST_DANE_USABLE);
		assert_in_range(hosts->host[i].tlsa_bytes, 37, HOST_TLSA_BYTES_MAX);
	}
	free(hosts);
	free(a);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows), cmocka_unit_test(test_too_many) };

	return cmocka_run_group_tests_name("resolver_dane", tests, NULL, NULL);
}
