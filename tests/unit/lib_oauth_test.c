/* lib_oauth_test.c - what a token server is asked, and what is made of its answers. */
#include "lib/oauth.h"
#include <setjmp.h>
#include <stdarg.h>

/* cmocka last: it needs the standard headers above */
#include <cmocka.h>

static struct conf CONF = { .dns.timeout_ms = 7000 };
static struct conf_server SERVER = { .name = (char *)"a",
				     .connect_timeout_ms = 30000,
				     .oauth2 = { .is_set = true,
						 .token_url = (char *)"https://t.example/token",
						 .device_url = (char *)"https://t.example/device",
						 .client_id = (char *)"me & you",
						 .scope = (char *)"mail.send offline" } };

/* The value of a record, "-" where there is none. Valid until the next call. */
static const char *record(const struct buf *records, const char *wanted)
{
	static char found[8192];
	struct slice rest = buf_slice(records), name, value;

	while (oauth_next_record(&rest, &name, &value)) {
		if (slice_is(name, wanted)) {
			(void)snprintf(found, sizeof(found), "%.*s", (int)value.len, value.ptr);
			return found;
		}
	}
	return "-";
}

static void test_requests(void **state)
{
	static const struct {
		enum oauth_kind kind;
		const char *secret, *token, *url, *form;
	} ROWS[] = {
		{ OAUTH_REFRESH, "s+cret/1=", "1//re fresh", "https://t.example/token",
		  "grant_type=refresh_token&refresh_token=1%2F%2Fre%20fresh&client_id=me%20%26%20you&client_secret=s%"
		  "2Bcret%2F1%3D" },
		{ OAUTH_REFRESH, NULL, "r", "https://t.example/token",
		  "grant_type=refresh_token&refresh_token=r&client_id=me%20%26%20you" },
		{ OAUTH_DEVICE, "s", NULL, "https://t.example/device",
		  "scope=mail.send%20offline&client_id=me%20%26%20you" },
		{ OAUTH_POLL, "s", "d~._-", "https://t.example/token",
		  "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=d~._-&client_id="
		  "me%20%26%20you&client_secret=s" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		const struct oauth_ask ask = { ROWS[i].kind, &CONF, &SERVER, ROWS[i].secret, ROWS[i].token };
		struct buf out;

		buf_init(&out, 10000);
		oauth_put_request(&out, &ask);
		assert_string_equal(record(&out, "url"), ROWS[i].url);
		assert_string_equal(record(&out, "form"), ROWS[i].form);
		assert_string_equal(record(&out, "deadline"), "30000");
		assert_string_equal(record(&out, "dns-timeout"), "7000");
		buf_release(&out);
	}
}

static void test_replies(void **state)
{
	static const struct {
		enum oauth_kind kind;
		unsigned status;
		const char *body;
		const char *access, *refresh, *error, *text;
	} ROWS[] = {
		{ OAUTH_REFRESH, 200, "{\"access_token\":\"a\",\"token_type\":\"Bearer\",\"expires_in\":3600}", "a",
		  NULL, NULL, NULL },
		{ OAUTH_REFRESH, 200, "{\"access_token\":\"a\",\"refresh_token\":\"n\",\"expires_in\":\"60\"}", "a",
		  "n", NULL, NULL },
		/* the one that was sent is no other */
		{ OAUTH_REFRESH, 200, "{\"access_token\":\"a\",\"refresh_token\":\"OLD\"}", "a", NULL, NULL, NULL },
		{ OAUTH_REFRESH, 400, "{\"error\":\"invalid_grant\",\"error_description\":\"OLD has\\nexpired\"}", NULL,
		  NULL, "invalid_grant", "the token server says invalid_grant: *** has\\012expired" },
		{ OAUTH_REFRESH, 401, "{\"error\":\"invalid_client\"}", NULL, NULL, "invalid_client",
		  "the token server says invalid_client" },
		/* its own trouble is no refusal */
		{ OAUTH_REFRESH, 503, "{\"error\":\"invalid_grant\"}", NULL, NULL, NULL,
		  "the token server says invalid_grant" },
		{ OAUTH_REFRESH, 429, "{\"error\":\"invalid_grant\"}", NULL, NULL, NULL,
		  "the token server says invalid_grant" },
		{ OAUTH_REFRESH, 502, "<html>", NULL, NULL, NULL, "the token server answers with HTTP status 502" },
		{ OAUTH_REFRESH, 302, "", NULL, NULL, NULL, "the token server answers with HTTP status 302" },
		{ OAUTH_REFRESH, 200, "[1]", NULL, NULL, NULL, "the token server's answer is no JSON object" },
		{ OAUTH_REFRESH, 200, "", NULL, NULL, NULL, "the token server's answer is no JSON object" },
		{ OAUTH_REFRESH, 200, "{\"access_token\":\"a\"} x", NULL, NULL, NULL,
		  "the token server's answer is no JSON object" },
		{ OAUTH_REFRESH, 200, "{}", NULL, NULL, NULL, "the token server's answer has no access_token" },
		{ OAUTH_REFRESH, 200, "{\"access_token\":7}", NULL, NULL, NULL,
		  "the token server's answer has no access_token" },
		{ OAUTH_REFRESH, 200, "{\"access_token\":\"a b\"}", NULL, NULL, NULL,
		  "the token server's answer has a token that is too long, or not printable" },
		{ OAUTH_REFRESH, 200, "{\"access_token\":\"a\",\"refresh_token\":\"\\n\"}", NULL, NULL, NULL,
		  "the token server's answer has a token that is too long, or not printable" },
		{ OAUTH_REFRESH, 200, "{\"access_token\":\"a\",\"token_type\":\"mac\"}", NULL, NULL, NULL,
		  "the token server's answer is no bearer token" },
		{ OAUTH_POLL, 400, "{\"error\":\"authorization_pending\"}", NULL, NULL, "authorization_pending",
		  "the token server says authorization_pending" },
		{ OAUTH_DEVICE, 200, "{\"device_code\":\"d\"}", NULL, NULL, NULL,
		  "the token server's answer has no user_code" },
	};
	static const char *const SECRETS[] = { "OLD", "" };

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct oauth_answer a;
		struct buf out;

		buf_init(&out, 10000);
		oauth_put_reply(&out, ROWS[i].kind, ROWS[i].status, slice_of(ROWS[i].body), SECRETS,
				ARRAY_LEN(SECRETS));
		oauth_read_answer(&a, buf_slice(&out));
		if (ROWS[i].text)
			assert_string_equal(a.text, ROWS[i].text);
		else
			assert_null(a.text);
		if (ROWS[i].access)
			assert_string_equal(a.access_token, ROWS[i].access);
		else
			assert_null(a.access_token);
		assert_true(!!a.refresh_token == !!ROWS[i].refresh);
		assert_true(!!a.error == !!ROWS[i].error);
		assert_true(oauth_is_final(&a) == (ROWS[i].error && ROWS[i].kind == OAUTH_REFRESH));
		oauth_answer_release(&a);
		buf_release(&out);
	}
}

static void test_device_code(void **state)
{
	static const char BODY[] =
		"{\"device_code\":\"d\",\"user_code\":\"WDJB-\\u001bMJHT\",\"verification_url\":\"https://"
		"x/y\",\"expires_in\":1800,\"interval\":0,\"verification_uri_complete\":\"https://x/y?z\"}";
	struct oauth_answer a;
	struct buf out;

	buf_init(&out, 10000);
	oauth_put_reply(&out, OAUTH_DEVICE, 200, slice_of(BODY), NULL, 0);
	oauth_read_answer(&a, buf_slice(&out));
	assert_string_equal(a.device_code, "d");
	assert_string_equal(a.user_code, "WDJB-\\033MJHT"); /* goes to a terminal */
	assert_string_equal(a.url, "https://x/y");
	assert_string_equal(a.full_url, "https://x/y?z");
	assert_int_equal(a.expires_s, 1800);
	assert_int_equal(a.interval_s, 1);
	oauth_answer_release(&a);
	buf_release(&out);
}

/* Whatever a broken program sends, something sensible is made of it. */
static void test_answers_that_are_none(void **state)
{
	static const struct slice ROWS[] = {
		{ "", 0 },
		{ "x", 1 },
		{ "text\0", 5 },
		{ "text\0a", 6 },
		{ "expires\0x", 10 },
		{ "access_token\0a\tb", 17 },
		{ "expires\0"
		  "7\0",
		  10 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct oauth_answer a;

		oauth_read_answer(&a, ROWS[i]);
		assert_null(a.access_token);
		assert_string_equal(a.text, "the program that fetches tokens has ended without an answer");
		assert_false(oauth_is_final(&a));
		oauth_answer_release(&a);
	}
}

static void test_life_is_bounded(void **state)
{
	static const struct {
		const char *body;
		uint64_t expires_s;
	} ROWS[] = {
		{ "{\"access_token\":\"a\"}", 3600 },
		{ "{\"access_token\":\"a\",\"expires_in\":0}", 3600 },
		{ "{\"access_token\":\"a\",\"expires_in\":-5}", 3600 },
		{ "{\"access_token\":\"a\",\"expires_in\":9000000000000}", OAUTH_LIFE_MAX_S },
		{ "{\"access_token\":\"a\",\"expires_in\":5}", 5 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct oauth_answer a;
		struct buf out;

		buf_init(&out, 1000);
		oauth_put_reply(&out, OAUTH_REFRESH, 200, slice_of(ROWS[i].body), NULL, 0);
		oauth_read_answer(&a, buf_slice(&out));
		assert_int_equal(a.expires_s, ROWS[i].expires_s);
		oauth_answer_release(&a);
		buf_release(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),        cmocka_unit_test(test_replies),
		cmocka_unit_test(test_device_code),     cmocka_unit_test(test_answers_that_are_none),
		cmocka_unit_test(test_life_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
