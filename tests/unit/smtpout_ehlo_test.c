/* What servers say they can do, rightly and wrongly. */
#include "smtpout/ehlo.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka last: it needs setjmp.h and others above */
#include <cmocka.h>

static const struct row {
	const char *text;
	unsigned features;
	uint64_t size;
	uint32_t rcpt, mail;
	const char *auth;
} ROWS[] = {
	{ "", 0, 0, 0, 0 },
	{ "mx.example", 0, 0, 0, 0 },
	{ "PIPELINING", 0, 0, 0, 0 }, /* the first line greets */
	{ "mx\nPIPELINING\n8BITMIME\nENHANCEDSTATUSCODES\nSTARTTLS\nSMTPUTF8\nDSN\nCHUNKING",
	  EHLO_PIPELINING | EHLO_8BITMIME | EHLO_ENHANCEDSTATUSCODES | EHLO_STARTTLS | EHLO_SMTPUTF8 | EHLO_DSN |
		  EHLO_CHUNKING,
	  0, 0, 0 },
	{ "mx\npipelining\nSiZe 10", EHLO_PIPELINING | EHLO_SIZE, 10, 0, 0 },
	{ "mx\nSIZE", EHLO_SIZE, 0, 0, 0 },
	{ "mx\nSIZE 0", EHLO_SIZE, 0, 0, 0 },
	{ "mx\nSIZE\t 52428800 ", EHLO_SIZE, 52428800, 0, 0 },
	{ "mx\nSIZE 99999999999999999999", EHLO_SIZE, 0, 0, 0 }, /* HS31, down to AUTH=LOGIN */
	{ "mx\nSIZE 18446744073709551615", EHLO_SIZE, 0, 0, 0 },
	{ "mx\nSIZE -1", EHLO_SIZE, 0, 0, 0 },
	{ "mx\nSIZE 1x", EHLO_SIZE, 0, 0, 0 },
	{ "mx\nSIZE 5\nSIZE 7", EHLO_SIZE, 7, 0, 0 },
	{ "mx\nSIZE=5", 0, 0, 0, 0 },
	{ "mx\nAUTH PLAIN\nAUTH LOGIN", EHLO_AUTH, 0, 0, 0, "PLAIN LOGIN" },
	{ "mx\nAUTH=LOGIN", EHLO_AUTH, 0, 0, 0, "LOGIN" },
	{ "mx\nauth=login plain\nAUTH CRAM-MD5 GSSAPI", EHLO_AUTH, 0, 0, 0, "CRAM-MD5 LOGIN PLAIN" },
	{ "mx\nAUTH scram-sha-256\tSCRAM-SHA-1  xoauth2 OAUTHBEARER", EHLO_AUTH, 0, 0, 0,
	  "SCRAM-SHA-256 SCRAM-SHA-1 XOAUTH2 OAUTHBEARER" },
	{ "mx\nAUTH", EHLO_AUTH, 0, 0, 0 },
	{ "mx\nAUTH NTLM GSSAPI SCRAM-SHA-256-PLUS PLAINX", EHLO_AUTH, 0, 0, 0 },
	{ "mx\nAUTH=", 0, 0, 0, 0 },
	{ "mx\nLIMITS RCPTMAX=20 MAILMAX=5", EHLO_LIMITS, 0, 20, 5 },
	{ "mx\nLIMITS rcptmax=20 RCPTDOMAINMAX=1 MAILMAX=0", EHLO_LIMITS, 0, 20, 0 },
	{ "mx\nLIMITS RCPTMAX= MAILMAX=99999999999", EHLO_LIMITS, 0, 0, 0 },
	{ "mx\nLIMITS RCPTMAX", EHLO_LIMITS, 0, 0, 0 },
	{ "mx\n\n \n\t\nPIPELINING\n", EHLO_PIPELINING, 0, 0, 0 },
	{ "mx\nPIPELININGX\nXPIPELINING", 0, 0, 0, 0 },
	{ "mx\n PIPELINING", EHLO_PIPELINING, 0, 0, 0 },
};

/* HS31: as much as a reply may hold, 64 KiB in 512 lines, of keywords that nobody knows, long ones among them. */
static void test_a_flood_of_keywords(void **state)
{
	struct buf text;
	struct ehlo e;

	(void)state;
	buf_init(&text, 1 << 20);
	buf_put_str(&text, "mx");
	for (unsigned i = 0; i < 60; i++)
		buf_printf(&text, "\nX%01000u", i);
	for (unsigned i = 0; i < 450; i++)
		buf_put_str(&text, "\nSIZE 1\nAUTH PLAIN");
	buf_put_str(&text, "\nPIPELINING");
	ehlo_parse(buf_slice(&text), &e);
	assert_int_equal(e.features, EHLO_PIPELINING | EHLO_SIZE | EHLO_AUTH);
	assert_int_equal(e.size_limit_bytes, 1);
	buf_release(&text);
}

static void test_rows(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct ehlo e;

		memset(&e, 0xff, sizeof(e));
		ehlo_parse(slice_of(ROWS[i].text), &e);
		if (e.features != ROWS[i].features || e.size_limit_bytes != ROWS[i].size ||
		    e.rcpt_limit != ROWS[i].rcpt || e.mail_limit != ROWS[i].mail ||
		    e.auth != mechanism_parse(slice_of(ROWS[i].auth ? ROWS[i].auth : "")))
			fail_msg("\"%s\": features %#x size %llu limits %u %u", ROWS[i].text, e.features,
				 (unsigned long long)e.size_limit_bytes, e.rcpt_limit, e.mail_limit);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows), cmocka_unit_test(test_a_flood_of_keywords) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
