/* smtpout_tls_need_test.c - the server's level and the host's records: what TLS has to be.  TL01, TL11, TL12 */
#include "smtpout/tls_need.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static void test_every_level(void **state UNUSED)
{
	static const struct {
		const char *label;
		enum conf_tls level;
		unsigned pins;
		enum tls_need need[3]; /* by enum host_dane: none, unusable, usable */
	} ROWS[] = {
		{ "none", TLS_NONE, 0, { TLS_NEED_NONE, TLS_NEED_NONE, TLS_NEED_NONE } },
		{ "opportunistic", TLS_OPPORTUNISTIC, 0, { TLS_NEED_MAY, TLS_NEED_ENCRYPTED, TLS_NEED_DANE } },
		{ "require", TLS_REQUIRE, 0, { TLS_NEED_ENCRYPTED, TLS_NEED_ENCRYPTED, TLS_NEED_ENCRYPTED } },
		{ "require, pinned", TLS_REQUIRE, 2, { TLS_NEED_PINNED, TLS_NEED_PINNED, TLS_NEED_PINNED } },
		{ "verify", TLS_VERIFY, 0, { TLS_NEED_VERIFIED, TLS_NEED_VERIFIED, TLS_NEED_VERIFIED } },
		{ "verify, pinned", TLS_VERIFY, 1, { TLS_NEED_PINNED, TLS_NEED_PINNED, TLS_NEED_PINNED } },
		{ "dane", TLS_DANE, 0, { TLS_NEED_DENIED, TLS_NEED_DENIED, TLS_NEED_DANE } },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct conf_server server = { .tls = ROWS[i].level, .tls_fingerprints = { .count = ROWS[i].pins } };

		print_message("%s\n", ROWS[i].label);
		for (unsigned dane = HOST_DANE_NONE; dane <= HOST_DANE_USABLE; dane++)
			assert_int_equal(tls_need(&server, (enum host_dane)dane), ROWS[i].need[dane]);
	}
}

/* MTA-STS counts at the opportunistic level alone, and DANE before it. */
static void test_sts(void **state UNUSED)
{
	static const struct {
		enum conf_tls level;
		enum host_dane dane;
		enum tls_need need;
	} ROWS[] = {
		{ TLS_OPPORTUNISTIC, HOST_DANE_NONE, TLS_NEED_STS },
		{ TLS_OPPORTUNISTIC, HOST_DANE_UNUSABLE, TLS_NEED_STS },
		{ TLS_OPPORTUNISTIC, HOST_DANE_USABLE, TLS_NEED_DANE },
		{ TLS_NONE, HOST_DANE_NONE, TLS_NEED_NONE },
		{ TLS_REQUIRE, HOST_DANE_NONE, TLS_NEED_ENCRYPTED },
		{ TLS_VERIFY, HOST_DANE_NONE, TLS_NEED_VERIFIED },
		{ TLS_DANE, HOST_DANE_NONE, TLS_NEED_DENIED },
	};
	static const struct conf_server SERVER = { .tls = TLS_OPPORTUNISTIC };
	static struct host host = { .is_sts = true };

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		host.dane = (uint8_t)ROWS[i].dane;
		assert_int_equal(tls_need_at(&SERVER, ROWS[i].level, &host), ROWS[i].need);
	}
	host.is_sts = false;
	host.dane = HOST_DANE_NONE;
	assert_int_equal(tls_need_at(&SERVER, TLS_OPPORTUNISTIC, &host), TLS_NEED_MAY);
}

static void test_why(void **state UNUSED)
{
	static const struct {
		bool is_secure;
		enum host_dane dane;
		const char *words;
	} ROWS[] = {
		{ false, HOST_DANE_NONE, "not signed" },
		{ true, HOST_DANE_NONE, "no signed TLSA record" },
		{ true, HOST_DANE_UNUSABLE, "can be used" },
		{ false, HOST_DANE_UNUSABLE, "can be used" },
	};
	static struct host host;

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		host.is_secure = ROWS[i].is_secure;
		host.dane = (uint8_t)ROWS[i].dane;
		assert_non_null(strstr(tls_need_why(&host), ROWS[i].words));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_level), cmocka_unit_test(test_sts),
					    cmocka_unit_test(test_why) };

	return cmocka_run_group_tests_name("smtpout_tls_need", tests, NULL, NULL);
}
