/* tools_hints_test.c - which sentence goes with which failure of `postern test`, and how it exits. */
#include "tools/hints.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

/* What a row does not say. */
static struct hint_facts complete(struct hint_facts f)
{
	f.dsn = f.dsn ? f.dsn : "";
	f.words = f.words ? f.words : "";
	f.preset = f.preset ? f.preset : "";
	f.port = f.port ? f.port : 25;
	f.host = "mx.example";
	f.sender = "a@here.example";
	f.domain = "there.example";
	return f;
}

static const struct row {
	struct hint_facts facts;
	const char *want; /* occurs in the sentence */
	int status;
} ROWS[] = {
	{ { .step = HINT_TLS,
	    .cause = FAILURE_TLS,
	    .words = "certificate of mx is for other.example; expected mx",
	    .is_direct = true,
	    .is_bound = true },
	  "the MTA-STS policy of there.example demands",
	  69 },
	{ { .step = HINT_TLS,
	    .cause = FAILURE_TLS,
	    .words = "the MTA-STS policy of d names none of its MX hosts",
	    .is_direct = true,
	    .is_bound = true },
	  "until then its mail waits",
	  69 },
	{ { .step = HINT_DNS,
	    .cause = FAILURE_DNS,
	    .code = 550,
	    .words = "no such domain: there.example",
	    .is_direct = true },
	  "there.example does not exist",
	  65 },
	{ { .step = HINT_DNS, .cause = FAILURE_DNS, .code = 550, .words = "host mx.example has no address" },
	  "correct option host",
	  69 },
	{ { .step = HINT_DNS, .cause = FAILURE_DNS, .code = 450, .words = "DNS lookup failed: SERVFAIL" },
	  "name servers",
	  75 },
	{ { .step = HINT_DNS,
	    .cause = FAILURE_DNS,
	    .code = 550,
	    .words = "does not accept mail (null MX, RFC 7505)",
	    .is_direct = true },
	  "takes no mail at all",
	  65 },
	{ { .step = HINT_CONNECT,
	    .cause = FAILURE_CONNECT,
	    .words = "mx[192.0.2.1]:25: Connection timed out",
	    .is_direct = true },
	  "port 25 is blocked here: use your provider's server, port 587",
	  69 },
	{ { .step = HINT_CONNECT, .cause = FAILURE_CONNECT, .words = "Connection timed out" }, "port = 587", 69 },
	{ { .step = HINT_CONNECT, .cause = FAILURE_CONNECT, .words = "Connection refused", .port = 2525 },
	  "nothing listens on port 2525 of mx.example",
	  69 },
	{ { .step = HINT_CONNECT, .cause = FAILURE_CONNECT, .words = "Network is unreachable" }, "no way to that", 69 },
	{ { .step = HINT_CONNECT, .cause = FAILURE_LOCAL, .words = "Cannot assign requested address" },
	  "source-addresses",
	  69 },
	{ { .step = HINT_POP, .cause = FAILURE_AUTH, .words = "-ERR no" }, "pop-before-smtp", 77 },
	{ { .step = HINT_TLS,
	    .cause = FAILURE_TLS,
	    .words = "certificate of mx.example is for a.example, b.example; expected mx.example" },
	  "the certificate is for a.example, b.example: set host",
	  69 },
	{ { .step = HINT_TLS,
	    .cause = FAILURE_TLS,
	    .words = "certificate of mx.example is for a.example; expected mx.example",
	    .is_direct = true },
	  "only its owner",
	  69 },
	{ { .step = HINT_TLS, .cause = FAILURE_TLS, .words = "certificate of mx.example expired on 2026-01-01" },
	  "has expired",
	  69 },
	{ { .step = HINT_TLS, .cause = FAILURE_TLS, .words = "is not signed by a known authority: issuer X" },
	  "tls-ca-file",
	  69 },
	{ { .step = HINT_TLS, .cause = FAILURE_TLS, .words = "the server does not speak TLS here: x", .port = 587 },
	  "STARTTLS",
	  69 },
	{ { .step = HINT_TLS, .cause = FAILURE_TLS, .words = "TLS is required, but was not offered by host x" },
	  "offers no TLS",
	  69 },
	{ { .step = HINT_TLS, .cause = FAILURE_TLS, .words = "matches no TLSA record of _25._tcp.mx" },
	  "publishes in DNS",
	  69 },
	{ { .step = HINT_GREETING, .cause = FAILURE_GREETING, .code = 421, .words = "421 busy" },
	  "try again later",
	  75 },
	{ { .step = HINT_GREETING, .cause = FAILURE_GREETING, .code = 554, .words = "554 listed in a blocklist" },
	  "blocklist",
	  69 },
	{ { .step = HINT_GREETING, .cause = FAILURE_LOST, .words = "conversation timed out" }, "says nothing", 69 },
	{ { .step = HINT_GREETING, .cause = FAILURE_PROTOCOL, .words = "SSH-2.0" }, "no SMTP server", 69 },
	{ { .step = HINT_LOGIN, .cause = FAILURE_AUTH, .code = 535, .preset = "gmail", .has_login = true },
	  "the password was refused: Gmail wants an application password",
	  77 },
	{ { .step = HINT_LOGIN, .cause = FAILURE_AUTH, .code = 535, .has_login = true }, "password-file", 77 },
	{ { .step = HINT_LOGIN, .cause = FAILURE_AUTH, .code = 454, .has_login = true }, "try again later", 75 },
	{ { .step = HINT_LOGIN, .cause = FAILURE_AUTH, .words = "it offers no login without TLS" },
	  "tls = verify",
	  77 },
	{ { .step = HINT_MAIL, .cause = FAILURE_AUTH, .code = 530 }, "give username", 77 },
	{ { .step = HINT_MAIL, .cause = FAILURE_REPLY, .code = 553, .words = "5.7.1 not owned by user bob" },
	  "rewrite-sender",
	  65 },
	{ { .step = HINT_RCPT, .cause = FAILURE_REPLY, .code = 550, .dsn = "5.1.1" }, "--to", 65 },
	{ { .step = HINT_RCPT, .cause = FAILURE_REPLY, .code = 554, .words = "Relay access denied" }, "username", 65 },
	{ { .step = HINT_RCPT, .cause = FAILURE_REPLY, .code = 450, .words = "Greylisted, come back" },
	  "pass by itself",
	  75 },
	{ { .step = HINT_RCPT, .cause = FAILURE_REPLY, .code = 451 }, "try again later", 75 },
	{ { .step = HINT_DATA, .cause = FAILURE_REPLY, .code = 554, .words = "spam" },
	  "does not like the message",
	  65 },
	{ { .step = HINT_DATA, .cause = FAILURE_REPLY, .code = 550, .dsn = "5.4.5" }, "day's limit", 65 },
	{ { .step = HINT_DATA, .cause = FAILURE_UNKNOWN }, "look whether the message has arrived", 75 },
	{ { .step = HINT_MAIL, .cause = FAILURE_CAPABILITY, .dsn = "5.6.7" }, "beyond ASCII", 65 },
	{ { .step = HINT_MAIL, .cause = FAILURE_LOST, .words = "lost connection" }, "hung up", 69 },
};

static void test_rows(void **state UNUSED)
{
	struct buf out;

	buf_init(&out, 4096);
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		const struct hint_facts f = complete(ROWS[i].facts);

		buf_clear(&out);
		hint_put(&out, &f);
		if (!strstr(buf_text(&out), ROWS[i].want))
			fail_msg("row %u: \"%s\" has no \"%s\"", i, buf_text(&out), ROWS[i].want);
		if (hint_exit_status(&f) != ROWS[i].status)
			fail_msg("row %u: exits %d", i, hint_exit_status(&f));
	}
	buf_release(&out);
}

/* Whatever fails wherever, there is a sentence, on one line, and a status that is no success. */
static void test_all(void **state UNUSED)
{
	struct buf out;

	buf_init(&out, 4096);
	for (unsigned step = 0; step < HINT_STEP_COUNT; step++) {
		for (unsigned cause = FAILURE_DNS; cause <= FAILURE_LOCAL; cause++) {
			struct hint_facts f = complete((struct hint_facts){ .step = (enum hint_step)step,
									    .cause = (enum failure_cause)cause });

			buf_clear(&out);
			hint_put(&out, &f);
			assert_true(out.len > 20 && !out.failed);
			assert_null(strchr(buf_text(&out), '%'));
			assert_int_not_equal(hint_exit_status(&f), 0);
		}
	}
	buf_release(&out);
}

static void test_success(void **state UNUSED)
{
	const struct hint_facts f = complete((struct hint_facts){ 0 });

	assert_int_equal(hint_exit_status(&f), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_success),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
