/* resolver_mx_test.c - from answers to hosts: the search fed by hand.  DN01, DN02, DN04, DN05, DN09, DN10, DN14 */
#include "resolver/mx.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

/*
 * A zone in a few words: "NAME TYPE DATA", in any order. DATA is "10 host" or an address, "!" a failure, "nx" that the
 * name does not exist; a trailing "s" as third word of flags makes the answer secure.
 */
struct row {
	const char *name;
	uint16_t type;
	const char *data;
	bool is_secure;
};

static const struct conf_cidr LOOPBACK = { .family = AF_INET, .prefix = 8, .bytes = { 127 } };

static void add_record(struct wire_answer *a, uint16_t type, const char *data)
{
	struct wire_record *r = &a->record[a->count++];

	memset(r, 0, sizeof(*r));
	if (type == WIRE_TYPE_MX) {
		char *end;

		r->preference = (uint16_t)strtoul(data, &end, 10);
		snprintf(r->host, sizeof(r->host), "%s", strcmp(end + 1, ".") == 0 ? "" : end + 1);
		r->is_hostname = wire_is_hostname(r->host);
	} else {
		assert_int_equal(inet_pton(type == WIRE_TYPE_A ? AF_INET : AF_INET6, data, r->address), 1);
	}
}

static void look_up(const struct row *zone, const char *name, uint16_t type, struct wire_answer *a)
{
	memset(a, 0, sizeof(*a));
	a->status = WIRE_NODATA;
	a->why = "";
	a->ttl_s = 50;
	a->is_secure = true;
	for (const struct row *r = zone; r->name; r++) {
		if (strcmp(r->name, name) != 0)
			continue;
		if (strcmp(r->data, "nx") == 0) {
			a->status = WIRE_NXDOMAIN;
			a->is_secure = r->is_secure;
		} else if (r->type != type) {
			a->is_secure = a->count > 0 ? a->is_secure : r->is_secure;
		} else if (r->data[0] == '!') {
			wire_fail(a, "test failure");
			return;
		} else {
			a->status = WIRE_RECORDS;
			a->ttl_s = 100;
			a->is_secure = r->is_secure;
			add_record(a, type, r->data);
		}
	}
}

static struct mx_search search;
static unsigned pauses, tlsa_port;

static bool answer_all(const struct row *zone)
{
	unsigned count = search.question_count;
	bool is_last = false;

	for (unsigned i = 0; i < count; i++) {
		struct wire_answer *a = malloc(sizeof(*a));

		assert_non_null(a);
		assert_false(is_last);
		look_up(zone, mx_question_name(&search, i), search.question[i].type, a);
		is_last = mx_answer(&search, i, a);
		free(a);
	}
	return is_last;
}

/* `second`: what the zone says in the second pass; NULL: the same. */
static enum resolve_status run(const struct row *zone, const struct row *second, enum resolve_kind kind,
			       const char *name)
{
	pauses = 0;
	mx_start(&search, kind, name, &LOOPBACK, 1, tlsa_port, 42);
	for (;;) {
		switch (mx_step(&search)) {
		case MX_STEP_ASK:
			assert_true(answer_all(search.is_fresh && second ? second : zone));
			break;
		case MX_STEP_PAUSE:
			assert_int_equal(pauses++, 0);
			mx_resume(&search);
			assert_true(search.is_fresh);
			break;
		case MX_STEP_DONE:
			assert_true(search.ttl_s >= MX_TTL_MIN_S && search.ttl_s <= MX_TTL_MAX_S);
			return search.status;
		}
	}
}

static const char *host_names(void)
{
	static char text[4096];
	struct hosts hosts;

	mx_hosts(&search, &hosts);
	text[0] = 0;
	for (unsigned i = 0; i < hosts.count; i++) {
		size_t used = strlen(text);

		snprintf(text + used, sizeof(text) - used, "%s%s", used ? " " : "", hosts.host[i].name);
	}
	return text;
}

#define D    "example.com"
#define MX   WIRE_TYPE_MX
#define A    WIRE_TYPE_A
#define AAAA WIRE_TYPE_AAAA
#define END                          \
	{                            \
		NULL, 0, NULL, false \
	}

static void test_order(void **state UNUSED)
{
	static const struct row ZONE[] = {
		{ D, MX, "30 c.example", false },       { D, MX, "10 a.example", false },
		{ D, MX, "20 b.example", false },       { D, MX, "40 a.example", false },
		{ "a.example", A, "192.0.2.1", false }, { "b.example", AAAA, "2001:db8::1", false },
		{ "c.example", A, "192.0.2.3", false }, END,
	};
	struct hosts hosts;

	assert_int_equal(run(ZONE, NULL, RESOLVE_MX, D), RESOLVE_OK);
	assert_string_equal(host_names(), "a.example b.example c.example");
	assert_int_equal(search.ttl_s, 100);
	assert_false(search.is_secure);
	assert_int_equal(pauses, 0);
	mx_hosts(&search, &hosts);
	assert_int_equal(hosts.host[0].preference, 10);
	assert_int_equal(hosts.host[1].address[0].family, AF_INET6);
}

/* One row per outcome. */
static void test_outcomes(void **state UNUSED)
{
	static const struct {
		const char *label;
		struct row zone[8];
		enum resolve_status want;
		const char *hosts;
		unsigned pauses;
		bool is_secure;
	} ROWS[] = {
		{ "nothing at all", { END }, RESOLVE_NO_DOMAIN, "", 0, true },
		{ "NXDOMAIN is asked twice", { { D, 0, "nx", false }, END }, RESOLVE_NO_DOMAIN, "", 1, false },
		{ "signed NXDOMAIN is believed", { { D, 0, "nx", true }, END }, RESOLVE_NO_DOMAIN, "", 0, true },
		{ "no MX, no address", { { D, 16, "txt", false }, END }, RESOLVE_NO_DOMAIN, "", 1, false },
		{ "MX fails", { { D, MX, "!", false }, END }, RESOLVE_TEMPORARY, "", 0, false },
		{ "MX fails though an address is there",
		  { { D, MX, "!", false }, { D, A, "192.0.2.1", false }, END },
		  RESOLVE_TEMPORARY,
		  "",
		  0,
		  false },
		{ "no MX, address", { { D, A, "192.0.2.1", false }, END }, RESOLVE_OK, D, 0, false },
		{ "no MX, address, signed", { { D, A, "192.0.2.1", true }, END }, RESOLVE_OK, D, 0, true },
		{ "no MX, address fails", { { D, A, "!", false }, END }, RESOLVE_TEMPORARY, "", 0, false },
		{ "no MX, one family fails",
		  { { D, A, "!", false }, { D, AAAA, "2001:db8::1", false }, END },
		  RESOLVE_OK,
		  D,
		  0,
		  false },
		{ "null MX", { { D, MX, "0 .", false }, END }, RESOLVE_NULL_MX, "", 0, false },
		{ "null MX, odd preference", { { D, MX, "10 .", true }, END }, RESOLVE_NULL_MX, "", 0, true },
		{ "null MX with address: not used",
		  { { D, MX, "0 .", false }, { D, A, "192.0.2.1", false }, END },
		  RESOLVE_NULL_MX,
		  "",
		  0,
		  false },
		{ "null MX beside another is ignored",
		  { { D, MX, "0 .", false },
		    { D, MX, "5 a.example", false },
		    { "a.example", A, "192.0.2.1", false },
		    END },
		  RESOLVE_OK,
		  "a.example",
		  0,
		  false },
		{ "host without address is dropped",
		  { { D, MX, "1 a.example", false },
		    { D, MX, "5 b.example", false },
		    { "b.example", A, "192.0.2.1", false },
		    END },
		  RESOLVE_OK,
		  "b.example",
		  0,
		  false },
		{ "failing host is dropped while another works",
		  { { D, MX, "1 a.example", false },
		    { "a.example", A, "!", false },
		    { D, MX, "5 b.example", false },
		    { "b.example", A, "192.0.2.1", false },
		    END },
		  RESOLVE_OK,
		  "b.example",
		  0,
		  false },
		{ "all fail",
		  { { D, MX, "1 a.example", false }, { "a.example", A, "!", false }, END },
		  RESOLVE_TEMPORARY,
		  "",
		  0,
		  false },
		{ "one fails, one is gone",
		  { { D, MX, "1 a.example", false },
		    { "a.example", A, "!", false },
		    { D, MX, "2 b.example", false },
		    { "b.example", 0, "nx", false },
		    END },
		  RESOLVE_TEMPORARY,
		  "",
		  0,
		  false },
		{ "all gone",
		  { { D, MX, "1 a.example", false }, { "a.example", 0, "nx", false }, END },
		  RESOLVE_NO_DOMAIN,
		  "",
		  1,
		  false },
		{ "MX without address never means the domain's own",
		  { { D, MX, "1 a.example", false },
		    { "a.example", 0, "nx", false },
		    { D, A, "192.0.2.1", false },
		    END },
		  RESOLVE_NO_DOMAIN,
		  "",
		  1,
		  false },
		{ "no MX is a host name",
		  { { D, MX, "1 192.0.2.1", false }, { D, MX, "1 a_b.example", false }, END },
		  RESOLVE_NO_DOMAIN,
		  "",
		  1,
		  false },
		{ "loopback",
		  { { D, MX, "1 a.example", false }, { "a.example", A, "127.0.0.1", false }, END },
		  RESOLVE_DENIED,
		  "",
		  0,
		  false },
		{ "loopback beside another",
		  { { D, MX, "1 a.example", false },
		    { "a.example", A, "127.0.0.1", false },
		    { "a.example", A, "192.0.2.1", false },
		    END },
		  RESOLVE_OK,
		  "a.example",
		  0,
		  false },
		{ "mapped loopback", { { D, AAAA, "::ffff:127.0.0.1", false }, END }, RESOLVE_DENIED, "", 0, false },
		{ "denied and failing: wait",
		  { { D, A, "127.0.0.1", false }, { D, AAAA, "!", false }, END },
		  RESOLVE_TEMPORARY,
		  "",
		  0,
		  false },
		{ "signed MX, unsigned address",
		  { { D, MX, "1 a.example", true }, { "a.example", A, "192.0.2.1", false }, END },
		  RESOLVE_OK,
		  "a.example",
		  0,
		  false },
		{ "unsigned MX, signed address",
		  { { D, MX, "1 a.example", false }, { "a.example", A, "192.0.2.1", true }, END },
		  RESOLVE_OK,
		  "a.example",
		  0,
		  false },
		{ "all signed",
		  { { D, MX, "1 a.example", true }, { "a.example", A, "192.0.2.1", true }, END },
		  RESOLVE_OK,
		  "a.example",
		  0,
		  true },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		enum resolve_status got = run(ROWS[i].zone, NULL, RESOLVE_MX, D);

		if (got != ROWS[i].want || pauses != ROWS[i].pauses || search.is_secure != ROWS[i].is_secure)
			fail_msg("%s: status %d pauses %u secure %d", ROWS[i].label, got, pauses, search.is_secure);
		if (got == RESOLVE_OK)
			assert_string_equal(host_names(), ROWS[i].hosts);
		else if (strlen(search.text) == 0)
			fail_msg("%s: no word why", ROWS[i].label);
	}
}

/* The first answer after a boot may be wrong: what the second says counts. */
static void test_second_opinion(void **state UNUSED)
{
	static const struct row GONE[] = { { D, 0, "nx", false }, END };
	static const struct row BACK[] = { { D, MX, "1 a.example", false },
					   { "a.example", A, "192.0.2.1", false },
					   END };
	static const struct row FAILS[] = { { D, MX, "!", false }, END };

	assert_int_equal(run(GONE, BACK, RESOLVE_MX, D), RESOLVE_OK);
	assert_int_equal(pauses, 1);
	assert_string_equal(host_names(), "a.example");
	assert_int_equal(run(GONE, FAILS, RESOLVE_MX, D), RESOLVE_TEMPORARY);
	assert_int_equal(run(GONE, GONE, RESOLVE_MX, D), RESOLVE_NO_DOMAIN);
}

static void test_host(void **state UNUSED)
{
	static const struct row ZONE[] = {
		{ "smtp.example", A, "192.0.2.1", true },
		{ "smtp.example", AAAA, "2001:db8::1", true },
		{ "smtp.example", MX, "1 elsewhere.example", true },
		END,
	};
	static const struct row GONE[] = { { "smtp.example", 0, "nx", false }, END };

	assert_int_equal(run(ZONE, NULL, RESOLVE_HOST, "smtp.example"), RESOLVE_OK);
	assert_string_equal(host_names(), "smtp.example");
	assert_true(search.is_secure);
	assert_int_equal(run(GONE, NULL, RESOLVE_HOST, "smtp.example"), RESOLVE_NO_DOMAIN);
	assert_int_equal(pauses, 1);
	assert_string_equal(search.text, "host smtp.example has no address");
}

/* DN14: a thousand of the same preference; DN10: never more than what is bounded. */
static void test_many_hosts(void **state UNUSED)
{
	struct wire_answer *a = malloc(sizeof(*a));
	unsigned first_seen = 0;
	char first[2][WIRE_NAME_SIZE];

	assert_non_null(a);
	for (unsigned turn = 0; turn < 8; turn++) {
		memset(a, 0, sizeof(*a));
		a->status = WIRE_RECORDS;
		a->ttl_s = 10;
		for (unsigned i = 0; i < WIRE_RECORDS_MAX; i++) {
			char text[64];

			snprintf(text, sizeof(text), "10 h%u.example", i);
			add_record(a, MX, text);
		}
		mx_start(&search, RESOLVE_MX, D, NULL, 0, 0, turn * 7919);
		assert_int_equal(mx_step(&search), MX_STEP_ASK);
		assert_true(mx_answer(&search, 0, a));
		assert_int_equal(mx_step(&search), MX_STEP_ASK);
		assert_int_equal(search.question_count, 2 * HOSTS_MAX);
		snprintf(first[turn > 0], sizeof(first[0]), "%s", mx_question_name(&search, 0));
		first_seen += turn > 0 && strcmp(first[0], first[1]) != 0;
	}
	assert_true(first_seen > 0);
	free(a);
}

static void test_balance(void **state UNUSED)
{
	static const struct {
		unsigned v4, v6, want_v4, want_v6;
	} ROWS[] = { { 100, 100, 4, 4 }, { 100, 0, 8, 0 }, { 0, 100, 0, 8 },
		     { 100, 1, 7, 1 },   { 2, 100, 2, 6 }, { 3, 3, 3, 3 } };
	struct wire_answer *a = malloc(sizeof(*a));

	assert_non_null(a);
	for (unsigned row = 0; row < ARRAY_LEN(ROWS); row++) {
		struct hosts hosts;
		unsigned v4 = 0;

		mx_start(&search, RESOLVE_HOST, D, NULL, 0, 0, row);
		for (unsigned q = 0; q < 2; q++) {
			unsigned count = q == 0 ? ROWS[row].v4 : ROWS[row].v6;

			memset(a, 0, sizeof(*a));
			a->status = count ? WIRE_RECORDS : WIRE_NODATA;
			a->count = count;
			for (unsigned i = 0; i < count; i++)
				a->record[i].address[3] = (uint8_t)(i + 1);
			assert_int_equal(mx_answer(&search, q, a), q == 1);
		}
		assert_int_equal(search.status, RESOLVE_OK);
		mx_hosts(&search, &hosts);
		for (unsigned i = 0; i < hosts.host[0].address_count; i++) {
			v4 += hosts.host[0].address[i].family == AF_INET;
			assert_int_not_equal(hosts.host[0].address[i].bytes[3], 0);
			for (unsigned j = 0; j < i; j++) /* each once */
				assert_memory_not_equal(&hosts.host[0].address[i], &hosts.host[0].address[j],
							sizeof(hosts.host[0].address[i]));
		}
		assert_int_equal(v4, ROWS[row].want_v4);
		assert_int_equal(hosts.host[0].address_count - v4, ROWS[row].want_v6);
	}
	free(a);
}

/* What is left serves for now; an hour of it would be an hour without the best host. */
static void test_a_part_is_not_believed_for_long(void **state UNUSED)
{
	static const struct row PARTS[][6] = {
		{ { "d.example", WIRE_TYPE_MX, "10 a.example", false },
		  { "d.example", WIRE_TYPE_MX, "20 b.example", false },
		  { "a.example", WIRE_TYPE_A, "!", false },
		  { "b.example", WIRE_TYPE_A, "192.0.2.2", false } },
		{ { "d.example", WIRE_TYPE_MX, "10 b.example", false },
		  { "b.example", WIRE_TYPE_A, "192.0.2.2", false },
		  { "b.example", WIRE_TYPE_AAAA, "!", false } },
	};

	for (unsigned i = 0; i < ARRAY_LEN(PARTS); i++) {
		assert_int_equal(run(PARTS[i], NULL, RESOLVE_MX, "d.example"), RESOLVE_OK);
		assert_string_equal(host_names(), "b.example");
		assert_int_equal(search.ttl_s, MX_TTL_NEGATIVE_S);
	}
}

/* None of the records could be read: who knows what they say. */
static void test_malformed_records_are_no_answer(void **state UNUSED)
{
	struct wire_answer *a = calloc(1, sizeof(*a));

	a->status = WIRE_RECORDS;
	a->why = "";
	a->dropped_count = 2;
	mx_start(&search, RESOLVE_MX, "d.example", &LOOPBACK, 1, 0, 42);
	assert_int_equal(mx_step(&search), MX_STEP_ASK);
	assert_true(mx_answer(&search, 0, a));
	assert_int_equal(mx_step(&search), MX_STEP_DONE);
	assert_int_equal(search.status, RESOLVE_TEMPORARY);
	free(a);
}

static void test_skipped_is_named(void **state UNUSED)
{
	static const struct row ZONE[] = {
		{ D, MX, "1 192.0.2.1", false },
		{ D, MX, "2 a.example", false },
		{ "a.example", A, "192.0.2.1", false },
		END,
	};

	assert_int_equal(run(ZONE, NULL, RESOLVE_MX, D), RESOLVE_OK);
	assert_string_equal(search.skipped, "192.0.2.1");
	assert_string_equal(host_names(), "a.example");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_second_opinion),
		cmocka_unit_test(test_host),
		cmocka_unit_test(test_many_hosts),
		cmocka_unit_test(test_balance),
		cmocka_unit_test(test_skipped_is_named),
		cmocka_unit_test(test_a_part_is_not_believed_for_long),
		cmocka_unit_test(test_malformed_records_are_no_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
