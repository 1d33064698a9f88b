/* lib_conf_test.c - postern.conf: what is taken, what is refused, and in which words. */
#include "lib/deny.h"
#include "tests/unit/conf_from_text.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define FINGERPRINT "00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff"
#define OK          "server \"a\" { host = \"h\" }\n"

struct bad_row {
	const char *text;
	const char *want[6]; /* without PATH; in order */
};

static void expect_mistakes(const struct bad_row *row)
{
	struct conf_errors errors;
	struct conf *c = read_as(row->text, &errors);
	unsigned i;

	assert_null(c);
	for (i = 0; i < ARRAY_LEN(row->want) && row->want[i]; i++) {
		char *want = xasprintf("%s%s", PATH, row->want[i]);

		if (i >= errors.count || strcmp(errors.text[i], want) != 0)
			print_error("for:\n%s\nwant: %s\ngot:  %s\n", row->text, want,
				    i < errors.count ? errors.text[i] : "nothing");
		assert_true(i < errors.count);
		assert_string_equal(errors.text[i], want);
		free(want);
	}
	if (errors.count != i)
		print_error("for:\n%s\nunexpected: %s\n", row->text, errors.text[i]);
	assert_int_equal(errors.count, i);
	conf_errors_release(&errors);
}

#define EXPECT(rows)                                                           \
	for (unsigned row_index = 0; row_index < ARRAY_LEN(rows); row_index++) \
	expect_mistakes(&(rows)[row_index])

static void test_syntax(void **state UNUSED)
{
	static const struct bad_row ROWS[] = {
		{ "hostnam = \"x\"\n" OK, { ":1: hostnam: unknown option; did you mean \"hostname\"?" } },
		{ "Workers = 1\n" OK, { ":1: Workers: unknown option; did you mean \"workers\"?" } },
		{ OK "\nzzzzzz = 1\n", { ":3: zzzzzz: unknown option" } },
		{ "port = 25\n" OK, { ":1: port: unknown option; it belongs inside a section server \"NAME\" { }" } },
		{ "server \"a\" { host = \"h\" spool = \"/x\" }",
		  { ":1: spool: unknown option; it belongs outside of all sections" } },
		{ "server \"a\" { host = \"h\" max_connections = 3 }",
		  { ":1: max_connections: unknown option; did you mean \"max-connections\"?" } },
		{ "include(\"/etc/passwd\")\n" OK, { ":1: include: unknown option" } },
		{ "foo = bar baz, quux\n" OK, { ":1: foo: unknown option" } },
		{ "foo \"x\" { host = 1 y { z = 2 } }\n" OK, { ":1: foo: unknown option" } },
		{ "server \"a\" { host = \"h\"\nfoo(1) }\nbar = 1\n",
		  { ":2: foo: unknown option", ":3: bar: unknown option" } },
		{ "workers = 1, spool = \"/x\"\n" OK,
		  { ":1: workers: something stands behind its value; a value with blanks or signs needs quotes" } },
		{ "servers = \"a\", \"a\"\n" OK,
		  { ":1: servers: something stands behind its value; several values go into braces: { \"a\", \"b\" "
		    "}" } },
		{ "workers = 1\nworkers = 2\n" OK, { ":2: workers: given twice; the first is in line 1" } },
		{ "dns { }\ndns { }\n" OK, { ":2: dns: given twice; the first is in line 1" } },
		{ OK OK, { ":2: server: \"a\" is defined twice; the first is in line 1" } },
		{ "server \"costarring\" { host = \"h\" }\nserver \"liquid\" { host = \"h\" }\n",
		  { ":2: server: \"liquid\" cannot be told from \"costarring\" inside Postern; give it another "
		    "name" } },
		{ "server { host = \"h\" }\n", { ":1: server: needs a title: server \"NAME\" { }" } },
		{ "server \"a b\" { host = \"h\" }\n",
		  { ":1: server: a title is 1 to 64 characters: letters, digits, \"-\", \"_\" and \".\"" } },
		{ "dns \"x\" { }\n" OK, { ":1: dns: takes no title: dns { }" } },
		{ "dns = 1\n" OK, { ":1: dns: is a section: dns { }" } },
		{ "workers 1\n" OK, { ":1: workers: an equals sign is missing: workers = VALUE" } },
		{ "workers =\nspool = \"/x\"\n" OK, { ":1: workers: its value is missing" } },
		{ "workers = { \"1\" }\n" OK, { ":1: workers: takes one value, not a list" } },
		{ "workers += 1\n" OK, { ":1: workers: takes one value: use \"=\" instead of \"+=\"" } },
		{ "workers = 1 2\n" OK,
		  { ":1: workers: something stands behind its value; a value with blanks or signs needs quotes" } },
		{ "servers = { \"a\" \"a\" }\n" OK,
		  { ":1: servers: a comma is missing between two values of the list" } },
		{ "servers = { \"a\"\nworkers = 1\n" OK, { ":1: servers: closing brace of the list is missing" } },
		{ "servers = { }\n" OK, { ":1: servers: needs at least one value" } },
		{ "server \"a\" { host = \"h\"\n", { ":1: server: its closing brace is missing" } },
		{ "server \"a\" { host = \"h\"\nserver \"b\" { host = \"h\" }\n",
		  { ":1: server: its closing brace is missing before line 2" } },
		{ OK "}\n", { ":2: syntax: unexpected \"}\"; the name of an option belongs here" } },
		{ "spool = \"/x\nworkers = 1\n" OK, { ":1: spool: the closing quote (\") is missing on this line" } },
		{ "spool = ${HOME}\n" OK,
		  { ":1: spool: \"${\": environment variables are not expanded; quote the text if it is meant "
		    "literally" } },
		{ "spool = \"\\0\"\n" OK,
		  { ":1: spool: bad escape in a quoted text; write \"\\\\\" for a backslash, or use single quotes" } },
		{ "spool = \"\\777\"\n" OK,
		  { ":1: spool: bad escape in a quoted text; write \"\\\\\" for a backslash, or use single quotes" } },
		{ "spool = \"/a\\nb\"\n" OK,
		  { ":1: spool: \"/a\\012b\" holds a control character; only text may stand here" } },
		{ "# \001\n" OK, { ":1: syntax: control byte 0x01; only text may stand here" } },
		{ "/* \n" OK, { ":1: syntax: the comment that begins here has no end" } },
		{ "", { ":1: server: none is defined; add one, such as: server \"direct\" { method = direct }" } },
	};

	EXPECT(ROWS);
}

static void test_values(void **state UNUSED)
{
	static const struct bad_row ROWS[] = {
		{ "workers = 65\n" OK, { ":1: workers: \"65\" is out of bounds; use 0 to 64" } },
		{ "workers = 010\n" OK, { ":1: workers: \"010\" is not a plain decimal number; use 0 to 64" } },
		{ "workers = 0x1\n" OK, { ":1: workers: \"0x1\" is not a plain decimal number; use 0 to 64" } },
		{ "workers = -1\n" OK, { ":1: workers: \"-1\" is not a plain decimal number; use 0 to 64" } },
		{ "workers = 99999999999999999999\n" OK,
		  { ":1: workers: \"99999999999999999999\" is not a plain decimal number; use 0 to 64" } },
		{ "history = 7\n" OK,
		  { ":1: history: \"7\" has no unit; write \"7s\" for seconds, or use m, h, d or w" } },
		{ "history = \"7 d\"\n" OK,
		  { ":1: history: \"7 d\" is not a duration; use numbers with s, m, h, d or w, such as \"90s\" or "
		    "\"1h30m\"" } },
		{ "history = \"999w\"\n" OK, { ":1: history: \"999w\" is out of bounds; use 0s to 3650d" } },
		{ "dns { timeout = 0 }\n" OK, { ":1: timeout: \"0\" is out of bounds; use 1s to 10m" } },
		{ "message-size-limit = \"1t\"\n" OK,
		  { ":1: message-size-limit: \"1t\" is not a size; use a number with k, m or g, such as \"50m\"" } },
		{ "message-size-limit = 1\n" OK,
		  { ":1: message-size-limit: \"1\" is out of bounds; use 1k to 2147483647" } },
		{ "log-format = xml\n" OK, { ":1: log-format: \"xml\" is not one of its values; use text or json" } },
		{ "log = file\n" OK,
		  { ":1: log: \"file\" is not a place for the log; use syslog, stderr or a file's path with a "
		    "\"/\"" } },
		{ "hostname = \"192.0.2.1\"\n" OK,
		  { ":1: hostname: \"192.0.2.1\" is an address; use a name such as \"mail.example.com\", or "
		    "\"[192.0.2.1]\"" } },
		{ "hostname = \"a b\"\n" OK,
		  { ":1: hostname: \"a b\" is not a host name; use one such as \"mail.example.com\"" } },
		{ "user = \"a:b\"\n" OK,
		  { ":1: user: \"a:b\" is not a name of a user or group; use one such as \"postern\"" } },
		{ "servers = { \"b\" }\n" OK, { ":1: servers: \"b\" is not the name of a server in this file" } },
		{ "servers = { \"a\", \"a\" }\n" OK, { ":1: servers: \"a\" is named twice" } },
		{ "dns { servers = { \"localhost\" } }\n" OK,
		  { ":1: servers: \"localhost\" is not an address; use \"192.0.2.53\" or, with a port, "
		    "\"192.0.2.53@5353\"" } },
		{ "dns { servers = { \"::1@0\" } }\n" OK,
		  { ":1: servers: \"::1@0\" has no right port behind \"@\"; use 1 to 65535" } },
		{ "retry { after = { \"0s\" } }\n" OK, { ":1: after: \"0s\" is out of bounds; use 1s to 30d" } },
		{ "server \"a\" { host = \"h:25\" }",
		  { ":1: host: \"h:25\" is not a host; give the name alone, and the port with the option port" } },
		{ "server \"a\" { host = \"300.1.1.1\" }",
		  { ":1: host: \"300.1.1.1\" is not a host; use a name such as \"smtp.example.com\" or an address "
		    "without brackets" } },
		{ "server \"a\" { host = \"h\" port = 0 }", { ":1: port: \"0\" is out of bounds; use 1 to 65535" } },
		{ "server \"a\" { host = \"h\" tls = always }",
		  { ":1: tls: \"always\" is not one of its values; use none, opportunistic, require, verify or "
		    "dane" } },
		{ "server \"a\" { host = \"h\" tls-min-version = 1.4 }",
		  { ":1: tls-min-version: \"1.4\" is not one of its values; use 1.0, 1.1, 1.2 or 1.3" } },
		{ "server \"a\" { host = \"h\" tls-wrapper = maybe }",
		  { ":1: tls-wrapper: \"maybe\" is neither true nor false; use one of these" } },
		{ "server \"a\" { host = \"h\" exclude-domains = { \"a b\" } }",
		  { ":1: exclude-domains: \"a b\" is not a pattern; use an address, a domain, \".domain\" for its "
		    "subdomains, or \"*\"" } },
		{ "server \"a\" { host = \"h\" source-addresses = { \"eth0\" } }",
		  { ":1: source-addresses: \"eth0\" is not an IP address; use one of this host's, such as "
		    "\"192.0.2.1\" or \"2001:db8::1\"" } },
		{ "server \"a\" { host = \"h\" deny-addresses = { \"10.0.0.1/8\" } }",
		  { ":1: deny-addresses: \"10.0.0.1/8\" is not an address block; use CIDR such as \"10.0.0.0/8\" or "
		    "\"fc00::/7\", no bits set behind the prefix" } },
		/* All in one go, in order of line, whatever their kind. */
		{ "server \"a\" {\n host = \"h\"\n timeout = 5\n portt = 1\n}\nworkers = x\nretry { max-age = \"\" }\n",
		  { ":3: timeout: \"5\" has no unit; write \"5s\" for seconds, or use m, h, d or w",
		    ":4: portt: unknown option; did you mean \"port\"?",
		    ":6: workers: \"x\" is not a plain decimal number; use 0 to 64",
		    ":7: max-age: \"\" is not a duration; use numbers with s, m, h, d or w, such as \"90s\" or "
		    "\"1h30m\"" } },
	};

	EXPECT(ROWS);
}

static void test_rules(void **state UNUSED)
{
	static const struct bad_row ROWS[] = {
		{ "\nserver \"a\" { }\n",
		  { ":2: host: server \"a\" needs one; use host = \"smtp.example.com\", or method = direct" } },
		{ "server \"a\" { method = direct\nhost = \"h\" }",
		  { ":2: host: does not go with method = direct, which finds the hosts by MX; use method = relay" } },
		{ "server \"a\" { host = \"h\" port = 465\n tls = none }",
		  { ":2: tls: none contradicts TLS from the first byte (port 465); use require or verify" } },
		{ "server \"a\" { host = \"h\" tls-wrapper = true\n tls = none }",
		  { ":2: tls: none contradicts TLS from the first byte (tls-wrapper); use require or verify" } },
		{ "server \"a\" { host = \"h\" port = 465\n tls-wrapper = false }",
		  { ":2: tls-wrapper: port 465 means TLS from the first byte; leave the option out, or use another "
		    "port" } },
		{ "spool = \"/\"\n" OK, { ":1: spool: cannot be the root directory" } },
		{ "server \"a\" { host = \"h\" limits = { \"unlimited\", \"5/day\" } }",
		  { ":1: limits: \"unlimited\" lifts all limits; leave the others out" } },
		{ "server \"a\" { host = \"h\" username = \"u\" }",
		  { ":1: username: needs password-file (or password, or oauth2 { }) beside it" } },
		{ "server \"a\" { host = \"h\" password-file = \"f\" }",
		  { ":1: password-file: needs username beside it" } },
		{ "server \"a\" { host = \"h\" username = u password = p\n password-file = \"f\" }",
		  { ":1: password: and password-file exclude one another; keep password-file" } },
		{ "server \"a\" { method = direct username = u password = p }",
		  { ":1: username: has no use with method = direct: MX hosts take no login" } },
		{ "server \"a\" { method = ses username = u password = p }",
		  { ":1: host: the preset ses needs it: it depends on your account" } },
		{ "\nserver \"a\" { method = gmail }",
		  { ":2: username: server \"a\" uses the preset gmail, which needs one" } },
		{ "server \"a\" { host = h username = u\n oauth2 { client-id = i } }",
		  { ":1: token-url: oauth2 { } of server \"a\" needs it",
		    ":1: refresh-token-file: oauth2 { } of server \"a\" needs it" } },
		{ "server \"a\" { host = h oauth2 { client-id = i token-url = \"https://x\" refresh-token-file = r } }",
		  { ":1: username: oauth2 { } of server \"a\" needs it beside it" } },
		{ "server \"a\" { host = h username = u oauth2 { client-id = i token-url = \"http://x\" "
		  "refresh-token-file = r } }",
		  { ":1: token-url: \"http://x\" is not a URL; it begins with \"https://\"" } },
		{ "server \"a\" { host = h tls-client-key = \"k\" }",
		  { ":1: tls-client-key: needs tls-client-cert beside it" } },
		{ "server \"a\" { host = h tls = none tls-client-cert = \"c\" }",
		  { ":1: tls-client-cert: has no use with tls = none" } },
		{ "server \"a\" { host = h tls = opportunistic\n tls-fingerprints = { \"" FINGERPRINT "\" } }",
		  { ":2: tls-fingerprints: have no use with tls = opportunistic; use verify, or leave tls out" } },
		{ "server \"a\" { host = h tls = dane tls-fingerprints = { \"" FINGERPRINT "\" } }",
		  { ":1: tls-fingerprints: have no use with tls = dane; use verify, or leave tls out" } },
		{ "server \"a\" { host = h rewrite = always }", { ":1: rewrite: needs rewrite-sender beside it" } },
		{ "server \"a\" { host = h limits = { \"5/day\" } initial-used = { \"1/hour\" } }",
		  { ":1: initial-used: \"1/hour\" has no limit of the same window in limits" } },
		{ "server \"a\" { host = h ramp = { \"50/hour\" } }",
		  { ":1: ramp: \"50/hour\" is not a step for a day; use \"50/day\" and the like" } },
		{ "server \"a\" { host = h reserve = \"10\" }",
		  { ":1: reserve: \"10\" is not a reserve; use 1 to 99 percent, such as \"10% high\"" } },
		{ "server \"a\" { host = h username = u password = p auth = { \"auto\", \"plain\" } }",
		  { ":1: auth: \"plain\" does not go together with others; \"auto\" stands alone" } },
		{ "server \"a\" { host = h tls-fingerprints = { \"ab:cd\" } }",
		  { ":1: tls-fingerprints: \"ab:cd\" is not a fingerprint; use the 64 hex digits of SHA-256, with or "
		    "without colons" } },
		{ "server \"a\" { host = h pop-before-smtp { host = p } }",
		  { ":1: username: pop-before-smtp { } of server \"a\" needs it",
		    ":1: password-file: pop-before-smtp { } of server \"a\" needs it" } },
		{ "limits-store = \"redis://x/y\"\n" OK,
		  { ":1: limits-store: \"redis://x/y\" is not a store; use \"local\" or \"redis://HOST:PORT/DB\"" } },
		{ "limits-store = \"memcached://x\"\n" OK,
		  { ":1: limits-store: \"memcached://x\" is not a store; use \"local\" or "
		    "\"redis://HOST:PORT/DB\"" } },
		{ "limits-store = \"redis://h:70000/0\"\n" OK,
		  { ":1: limits-store: \"redis://h:70000/0\" is not a store; use \"local\" or "
		    "\"redis://HOST:PORT/DB\"" } },
		{ "limits-store = \"rediss://h:1/2\"\n" OK,
		  { ":1: limits-store: \"rediss://h:1/2\" asks for TLS, which is not available; use \"redis://\" "
		    "through a tunnel, or a network of your own" } },
		{ "limits-store = \"unix:/run/redis.sock\"\n" OK,
		  { ":1: limits-store: \"unix:/run/redis.sock\" is a socket's path, which is not available; use "
		    "\"redis://127.0.0.1:6379/0\"" } },
		{ "limits-store = \"redis://:hunter2@h:1/2\"\n" OK,
		  { ":1: limits-store: this URL holds a password; put it into a file, and the file into "
		    "limits-store-password-file" } },
		{ "limits-store-password-file = p\n" OK,
		  { ":1: limits-store-password-file: goes with a limits-store that is not \"local\"" } },
		{ OK "route \"r\" { sender = { \"*\" } }",
		  { ":2: servers: route \"r\" names no servers; add servers = { \"NAME\" }" } },
		{ OK "destination \"a b\" { }",
		  { ":2: destination: \"a b\" is not a domain; use one, or name the MX hosts with mx = { }" } },
	};

	EXPECT(ROWS);
}

static void test_secrets_are_never_shown(void **state UNUSED)
{
	static const char *const TEXTS[] = {
		"server \"a\" { host = h username = u password = hush hush2 }",
		"server \"a\" { host = h username = u password = hush=hush2 }",
		"server \"a\" { host = h username = u password = hush}hush2 }",
		"server \"a\" { host = h username = u password = \"hush\\n\" }",
		"server \"a\" { host = h username = u password = \"hush }",
		"server \"a\" { host = h username = u password = { \"hush\", \"hush2\" } }",
		"server \"a\" { host = h username = u password = hush = hush2 = hush3\n }",
		"server \"a\" { host = h username = u password hush\n }",
	};
	struct conf_errors errors;

	for (unsigned i = 0; i < ARRAY_LEN(TEXTS); i++) {
		assert_null(read_as(TEXTS[i], &errors));
		assert_true(errors.count > 0);
		for (unsigned k = 0; k < errors.count; k++)
			if (strstr(errors.text[k], "hush"))
				fail_msg("shown: %s", errors.text[k]);
		conf_errors_release(&errors);
	}
}

static void test_op04_limits(void **state UNUSED)
{
	static const struct {
		const char *text;
		uint64_t amount, window_ms;
		bool is_recipients, is_calendar;
		int hour, minute;
		const char *zone;
	} GOOD[] = {
		{ "200/hour", 200, 3600000, false, false, 0, 0, NULL },
		{ "0/second", 0, 1000, false, false, 0, 0, NULL },
		{ "10000/month", 10000, 2592000000ull, false, false, 0, 0, NULL },
		{ "5/90s", 5, 90000, false, false, 0, 0, NULL },
		{ "5/1h30m", 5, 5400000, false, false, 0, 0, NULL },
		{ " 2000/day  recipients ", 2000, 86400000, true, false, 0, 0, NULL },
		{ "500/day calendar", 500, 86400000, false, true, 0, 0, NULL },
		{ "500/day recipients calendar", 500, 86400000, true, true, 0, 0, NULL },
		{ "500/day calendar recipients", 500, 86400000, true, true, 0, 0, NULL },
		{ "500/week calendar 08:30 America/Los_Angeles", 500, 604800000, false, true, 8, 30,
		  "America/Los_Angeles" },
		{ "5/day calendar 23:59 UTC recipients", 5, 86400000, true, true, 23, 59, "UTC" },
	};
	static const char *const BAD[] = {
		"",
		" ",
		"200",
		"200/",
		"/hour",
		"-1/day",
		"1.5/day",
		"1e3/day",
		"5/fortnight",
		"5/days",
		"5/hour day",
		"5/0s",
		"5/10w recipients recipients",
		"5/day calendar calendar",
		"5/day calendar 24:00 UTC",
		"5/day calendar 00:60 UTC",
		"5/day calendar 00:00",
		"5/day calendar 00:00 ../etc/passwd",
		"5/90s calendar",
		"5/minute calendar",
		"unlimited recipients",
		"99999999999999999999/day",
		"9999999999999/day",
		"010/day",
		"5/400d",
		"5 /day",
		"5/day recipient",
	};
	struct conf_limit l;
	struct conf_limits all = { 0, NULL };
	struct buf wrong;

	buf_init(&wrong, 500);
	for (unsigned i = 0; i < ARRAY_LEN(GOOD); i++) {
		assert_true(conf_limit_parse(slice_of(GOOD[i].text), &l, &wrong));
		assert_string_equal(l.text, GOOD[i].text);
		assert_int_equal(l.amount, GOOD[i].amount);
		assert_int_equal(l.window_ms, GOOD[i].window_ms);
		assert_int_equal(l.is_recipients, GOOD[i].is_recipients);
		assert_int_equal(l.is_calendar, GOOD[i].is_calendar);
		assert_int_equal(l.calendar_hour, GOOD[i].hour);
		assert_int_equal(l.calendar_minute, GOOD[i].minute);
		assert_int_equal(l.calendar_zone != NULL, GOOD[i].zone != NULL);
		if (GOOD[i].zone)
			assert_string_equal(l.calendar_zone, GOOD[i].zone);
		conf_limits_add(&all, &l);
	}
	assert_true(conf_limit_parse(slice_of("unlimited"), &l, &wrong));
	assert_true(l.is_unlimited);
	conf_limits_add(&all, &l);
	conf_limits_release(&all);
	assert_int_equal(wrong.len, 0);
	for (unsigned i = 0; i < ARRAY_LEN(BAD); i++) {
		buf_clear(&wrong);
		if (conf_limit_parse(slice_of(BAD[i]), &l, &wrong))
			fail_msg("taken: \"%s\"", BAD[i]);
		assert_true(wrong.len > 0);
	}
	buf_release(&wrong);
}

static void test_defaults(void **state UNUSED)
{
	struct conf *c = read_right("server \"out\" { method = direct }\nserver \"in\" { host = \"h\" }");
	const struct conf_server *direct = &c->server[0], *relay = &c->server[1];

	assert_true(strlen(c->hostname) > 0);
	assert_memory_equal(c->postmaster, "postmaster@", 11);
	assert_string_equal(c->postmaster + 11, c->hostname);
	assert_string_equal(c->spool, "/var/spool/postern");
	assert_int_equal(c->log_target, LOG_TARGET_SYSLOG);
	assert_int_equal(c->log_format, LOG_FORMAT_TEXT);
	assert_true(c->workers >= 1);
	assert_string_equal(c->user, "postern");
	assert_string_equal(c->smtp_user, "postern-smtp");
	assert_string_equal(c->drop_group, "postern-drop");
	assert_int_equal(c->message_size_limit_bytes, 50 << 20);
	assert_int_equal(c->recipient_limit, 10000);
	assert_int_equal(c->history_ms, 7ull * 86400000);
	assert_int_equal(c->primary_count, 2);
	assert_int_equal(c->primary[0], 0);
	assert_int_equal(c->primary[1], 1);
	assert_int_equal(c->dns.servers.count, 0);
	assert_null(c->dns.trust_anchor_file);
	assert_int_equal(c->dns.timeout_ms, 10000);
	assert_int_equal(c->retry.after_count, 4);
	assert_int_equal(c->retry.after_ms[0], 3600000);
	assert_int_equal(c->retry.after_ms[3], 4 * 3600000);
	assert_int_equal(c->retry.max_retries, 0);
	assert_int_equal(c->retry.max_age_ms, 5ull * 86400000);
	assert_int_equal(c->retry.warn_after_ms, 4 * 3600000);
	assert_int_equal(c->retry.greylist_after_ms, 600000);
	assert_int_equal(direct->method, METHOD_DIRECT);
	assert_string_equal(direct->display_name, "out");
	assert_null(direct->host);
	assert_int_equal(direct->port, 25);
	assert_int_equal(direct->tls, TLS_OPPORTUNISTIC);
	assert_false(direct->is_tls_wrapper);
	assert_int_equal(direct->tls_min_version, 12);
	assert_int_equal(direct->timeout_ms, 300000);
	assert_int_equal(direct->connect_timeout_ms, 30000);
	assert_int_equal(direct->max_connections, 20);
	assert_int_equal(direct->max_connections_per_destination, 5);
	assert_int_equal(direct->reconnect_every, 999);
	assert_int_equal(direct->limits.count, 0);
	assert_int_equal(direct->on_limit, ON_LIMIT_WAIT);
	assert_int_equal(direct->auth.count, 1);
	assert_int_equal(direct->pop.port, 110);
	assert_true(direct->deny_count > 0);
	assert_int_equal(relay->method, METHOD_RELAY);
	assert_int_equal(relay->tls, TLS_OPPORTUNISTIC);
	assert_int_equal(relay->deny_count, 0);
	assert_int_equal(relay->line, 2);
	conf_free(&c);
	assert_null(c);
}

static void test_what_is_written_arrives(void **state UNUSED)
{
	static const char TEXT[] =
		"// C++ comment\n/* two\nlines */ hostname = mail.example.com. # bare words are fine\n"
		"spool = 'sp${HOME}ool'\nlog = \"./l.log\"\nworkers = \"3\"\n"
		"servers = { b, }\n"
		"dns { servers = { \"::1\", \"127.0.0.1@5353\" } }\n"
		"retry { after = \"90s\" max-age = 0 }\n"
		"server b { host = smtp.example.com port = 465 tls-min-version = \"1.3\" on-limit = next\n"
		"  display-name = \"a ${HOME} \\${X} \\\"q\\\" \\x41\"\n"
		"  exclude-domains = { \"AOL.com, hotmail.com\", \".example.org\" }\n"
		"  limits = { \"200/hour\" }\n  limits += { \"2000/day recipients\" }\n"
		"  deny-addresses = { \"10.0.0.0/8\" } }\n"
		"server a { method = direct tls = require deny-addresses = { } tls-wrapper = off }\n";
	struct conf *c;
	const struct conf_server *b;

	setenv("X", "expanded", 1);
	c = read_right(TEXT);
	b = &c->server[0];
	assert_string_equal(c->hostname, "mail.example.com");
	assert_string_equal(c->postmaster, "postmaster@mail.example.com");
	assert_string_equal(c->spool, "/etc/sp${HOME}ool");
	assert_int_equal(conf_line(c, &c->spool), 4);
	assert_string_equal(c->log_file, "/etc/./l.log");
	assert_int_equal(c->workers, 3);
	assert_int_equal(conf_line(c, &c->workers), 6);
	assert_int_equal(conf_line(c, &c->user), 0);
	assert_int_equal(c->primary_count, 1);
	assert_int_equal(c->primary[0], 0);
	assert_string_equal(c->dns.servers.item[1], "127.0.0.1@5353");
	assert_int_equal(c->retry.after_count, 1);
	assert_int_equal(c->retry.after_ms[0], 90000);
	assert_int_equal(c->retry.max_age_ms, 0);
	assert_string_equal(b->display_name, "a ${HOME} ${X} \"q\" A");
	assert_true(b->is_tls_wrapper);
	assert_int_equal(b->tls, TLS_REQUIRE); /* opportunistic from the first byte */
	assert_int_equal(b->tls_min_version, 13);
	assert_int_equal(b->on_limit, ON_LIMIT_NEXT);
	assert_int_equal(b->exclude_domains.count, 3);
	assert_string_equal(b->exclude_domains.item[0], "aol.com");
	assert_string_equal(b->exclude_domains.item[1], "hotmail.com");
	assert_int_equal(b->limits.count, 2);
	assert_true(b->limits.limit[1].is_recipients);
	assert_int_equal(b->deny_count, 1);
	assert_int_equal(b->line, 10);
	assert_int_equal(conf_line(c, &b->limits), 13);
	assert_int_equal(c->server[1].deny_count, 0);
	assert_int_equal(c->server[1].tls, TLS_REQUIRE);
	conf_free(&c);
}

/* As editors of other systems leave it, and as tight as it goes. */
static void test_forms(void **state UNUSED)
{
	static const char *const TEXTS[] = {
		"\xef\xbb\xbfworkers = 2\r\nserver \"a\" {\r\n\thost = \"h\" # x\r\n}\r\n",
		"workers=2 server a{host=h}",
		"workers=\"2\"server'a'{host='h'limits={'5/day'}}",
		"server a\n{\nhost\n=\n\"h\"\n}\nworkers\n=\n2",
		"#\n//\n/**/workers=2/* x */server a{host=h}#",
	};

	for (unsigned i = 0; i < ARRAY_LEN(TEXTS); i++) {
		struct conf *c = read_right(TEXTS[i]);

		assert_int_equal(c->workers, 2);
		assert_string_equal(c->server[0].name, "a");
		assert_string_equal(c->server[0].host, "h");
		conf_free(&c);
	}
}

static void test_later_options(void **state UNUSED)
{
	static const char TEXT[] =
		"limits = { \"1/day\" } limit-per-sender = { \"1/hour recipients\" } limits-store = \"redis://h:1/2\"\n"
		"limits-store-down = share reply-rules = \"r\"\n"
		"server \"g\" { method = gmail username = \"u\" password-file = \"p\" }\n"
		"server \"o\" { method = outlook365 username = \"u\" limits = { \"5/day calendar 00:00 UTC\" } port = "
		"25\n"
		"  oauth2 { token-url = \"https://x/y\" client-id = i client-secret-file = s refresh-token-file = t }\n"
		"  auth = { xoauth2, oauthbearer } auth-without-tls = yes pace = true reserve = \"10% high\"\n"
		"  pop-before-smtp { host = p port = 995 tls = opportunistic username = u password-file = f }\n"
		"  rewrite-sender = \"a@b.c\" rewrite = always allowed-senders = { \"*\" } initial-used = { \"3/day\" "
		"}\n"
		"  ramp = { \"50/day\", \"100/day\" } tls-client-cert = c tls-client-key = k tls = require\n"
		"  tls-fingerprints = { \"00112233445566778899AABBCCDDEEFF:00112233445566778899aabbccddeeff\" } }\n"
		"route \"r 1\" { sender = { \"*\" } recipient = { } servers = { o, g } limits = { \"1/day\" } }\n"
		"destination \"gg\" { mx = { \"*.Google.com\" } max-connections = 3 tls = dane }\n";
	struct conf *c = read_right(TEXT);
	const struct conf_server *g = &c->server[0], *o = &c->server[1];

	assert_string_equal(c->limits_store, "redis://h:1/2");
	assert_true(c->may_share_when_down);
	assert_string_equal(c->reply_rules, "/etc/r");
	assert_string_equal(g->preset, "gmail");
	assert_string_equal(g->host, "smtp.gmail.com");
	assert_int_equal(g->port, 587);
	assert_int_equal(g->tls, TLS_VERIFY);
	assert_int_equal(g->limits.count, 2);
	assert_int_equal(g->limits.limit[0].amount, 500);
	assert_true(g->limits.limit[1].is_recipients);
	assert_string_equal(g->password_file, "/etc/p");
	assert_int_equal(o->port, 25);
	assert_int_equal(o->limits.count, 1);
	assert_int_equal(o->tls, TLS_REQUIRE);
	assert_string_equal(o->oauth2.token_url, "https://x/y");
	assert_int_equal(o->auth.count, 2);
	assert_true(o->may_auth_without_tls && o->is_paced);
	assert_int_equal(o->reserve_percent, 10);
	assert_true(o->pop.is_set);
	assert_int_equal(o->pop.tls, TLS_REQUIRE);
	assert_int_equal(o->rewrite, REWRITE_ALWAYS);
	assert_int_equal(o->ramp.count, 2);
	assert_string_equal(o->tls_fingerprints.item[0],
			    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
	assert_string_equal(c->route[0].name, "r 1");
	assert_int_equal(c->route[0].server_count, 2);
	assert_int_equal(c->route[0].server[0], 1);
	assert_string_equal(c->destination[0].mx.item[0], "*.google.com");
	assert_int_equal(c->destination[0].tls, TLS_DANE);
	assert_int_equal(c->destination[0].reconnect_every, 0);
	conf_free(&c);
}

static void test_defaults_may_be_written(void **state UNUSED)
{
	struct conf *c = read_right("limits = { } limits-store = local limits-store-down = hold\n"
				    "server \"a\" { host = h pace = false auth = auto initial-used = { } }");

	conf_free(&c);
}

/* What a preset knows need not be said, and may be said otherwise. */
static void test_oauth2_of_presets(void **state UNUSED)
{
	struct conf *c = read_right("server \"a\" { method = outlook365 username = u oauth2 { client-id = i "
				    "refresh-token-file = \"/r\" } }\n"
				    "server \"b\" { method = gmail username = u oauth2 { client-id = i scope = other "
				    "refresh-token-file = \"/r\" token-url = \"http://127.0.0.1:8080/t\" } }\n"
				    "server \"c\" { method = gmail username = u password = p }");
	const struct conf_oauth2 *o = &c->server[0].oauth2;

	assert_true(o->is_set);
	assert_string_equal(o->token_url, "https://login.microsoftonline.com/common/oauth2/v2.0/token");
	assert_string_equal(o->device_url, "https://login.microsoftonline.com/common/oauth2/v2.0/devicecode");
	assert_non_null(strstr(o->scope, "offline_access"));
	assert_null(o->client_secret_file);
	o = &c->server[1].oauth2;
	assert_string_equal(o->token_url, "http://127.0.0.1:8080/t");
	assert_string_equal(o->scope, "other");
	assert_false(c->server[2].oauth2.is_set);
	assert_null(c->server[2].oauth2.token_url);
	conf_free(&c);
}

static void test_deny(void **state UNUSED)
{
	static const struct {
		const char *address;
		bool is_denied;
	} ROWS[] = {
		{ "127.0.0.1", true },
		{ "127.255.255.255", true },
		{ "0.0.0.0", true },
		{ "169.254.1.1", true },
		{ "224.0.0.1", true },
		{ "239.1.1.1", true },
		{ "10.0.0.1", false },
		{ "192.0.2.1", false },
		{ "126.255.255.255", false },
		{ "::1", true },
		{ "::", true },
		{ "::0.0.0.2", true },
		{ "::8.8.8.8", false },
		{ "fe80::1", true },
		{ "febf::1", true },
		{ "fec0::1", false },
		{ "ff02::1", true },
		{ "::ffff:127.0.0.1", true },
		{ "::ffff:192.0.2.1", false },
		{ "64:ff9b::127.0.0.1", true },
		{ "64:ff9b::192.0.2.1", false },
		{ "2001:db8::1", false },
	};
	struct conf *c = read_right("server \"d\" { method = direct }");

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct host_address a = { .family = strchr(ROWS[i].address, ':') ? AF_INET6 : AF_INET };

		assert_int_equal(inet_pton(a.family, ROWS[i].address, a.bytes), 1);
		if (deny_matches(c->server[0].deny, c->server[0].deny_count, &a) != ROWS[i].is_denied)
			fail_msg("%s", ROWS[i].address);
	}
	conf_free(&c);
}

/* As many as are promised; reading them takes time in proportion, `make bench-limits` shows it. */
static void test_many_servers(void **state UNUSED)
{
	enum { MANY = 10000 };
	struct buf text;
	struct conf *c;

	buf_init(&text, 1 << 20);
	for (unsigned i = 0; i < MANY; i++)
		buf_printf(&text, "server \"s%u\" { host = \"h%u.example.com\" port = %u limits = { \"%u/hour\" } }\n",
			   i, i, 1000 + i, i);
	c = read_right(buf_text(&text));
	assert_int_equal(c->server_count, MANY);
	assert_int_equal(c->server[999].port, 1999);
	assert_int_equal(c->server[999].line, 1000);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(conf_find_server(c, slice_of(c->server[i].name)), i);
		assert_int_equal(conf_find_server_key(c, conf_server_key(&c->server[i])), i);
	}
	assert_int_equal(conf_find_server(c, slice_of("s10000")), -1);
	assert_int_equal(conf_find_server_key(c, 0), -1);
	conf_free(&c);
	buf_release(&text);
}

/* Titles are kept as they are written; libconfuse, which would expand variables, never sees them. */
static void test_titles(void **state UNUSED)
{
	struct conf *c = read_right("server a { method = direct }\n"
				    "route \"${HOME} {1}\" { servers = { a } }\n"
				    "route '#2 = }' {\n"
				    "  servers = { a } } destination\n"
				    " \n"
				    "b.example { max-connections = 3 }\n");

	assert_string_equal(c->route[0].name, "${HOME} {1}");
	assert_string_equal(c->route[1].name, "#2 = }");
	assert_int_equal(conf_line(c, &c->route[1].name), 3);
	assert_int_equal(conf_line(c, &c->route[1].server_count), 4);
	assert_string_equal(c->destination[0].name, "b.example");
	assert_int_equal(conf_line(c, &c->destination[0].max_connections), 6);
	conf_free(&c);
}

static void test_mistakes_are_bounded(void **state UNUSED)
{
	struct conf_errors errors;
	struct buf text;

	buf_init(&text, 1 << 20);
	for (unsigned i = 0; i < 2 * CONF_MISTAKES_MAX; i++)
		buf_put_str(&text, "x = 1\n");
	assert_null(read_as(buf_text(&text), &errors));
	assert_int_equal(errors.count, CONF_MISTAKES_MAX + 1);
	assert_string_equal(errors.text[CONF_MISTAKES_MAX], PATH ": and 500 more mistakes");
	conf_errors_release(&errors);
	buf_release(&text);
}

/* Through descriptors: a sealed snapshot, whose offset other children share; and what is no file. */
static void test_descriptors(void **state UNUSED)
{
	int fd = memfd_create("conf", MFD_CLOEXEC);
	struct conf_errors errors;
	struct conf *c;
	size_t len;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, OK, strlen(OK)), (ssize_t)strlen(OK)); /* the offset stays at the end */
	for (unsigned i = 0; i < 2; i++) {
		c = conf_read("/x/y.conf", fd, &errors);
		assert_non_null(c);
		assert_string_equal(c->path, "/x/y.conf");
		conf_free(&c);
	}
	close(fd);
	assert_null(conf_read("/tmp", -1, &errors));
	assert_string_equal(errors.text[0], "/tmp: is not a regular file");
	conf_errors_release(&errors);
	assert_null(conf_slurp("/nonexistent/postern.conf", &len, &errors));
	assert_string_equal(errors.text[0], "/nonexistent/postern.conf: cannot be opened: No such file or directory");
	conf_errors_release(&errors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_syntax),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_secrets_are_never_shown),
		cmocka_unit_test(test_op04_limits),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_what_is_written_arrives),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_later_options),
		cmocka_unit_test(test_defaults_may_be_written),
		cmocka_unit_test(test_oauth2_of_presets),
		cmocka_unit_test(test_deny),
		cmocka_unit_test(test_many_servers),
		cmocka_unit_test(test_titles),
		cmocka_unit_test(test_mistakes_are_bounded),
		cmocka_unit_test(test_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
