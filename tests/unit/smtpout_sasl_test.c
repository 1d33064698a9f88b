/* Logins by the RFCs' own examples, what servers may try, and which mechanism is taken. */
#include "lib/text.h"
#include "smtpout/sasl.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
/* cmocka last: it needs setjmp.h and others above */
#include <cmocka.h>

/* The client's nonce of RFC 5802's example: 18 bytes, which libgsasl takes from here. */
static const char *nonce = "";

ssize_t getrandom(void *bytes, size_t len, unsigned flags UNUSED)
{
	memset(bytes, 0, len);
	for (size_t i = 0; i + 3 < strlen(nonce) + 1 && i / 4 * 3 + 3 <= len; i += 4) {
		static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
		uint32_t value = 0;

		for (unsigned k = 0; k < 4; k++)
			value = value << 6 | (uint32_t)(strchr(LETTERS, nonce[i + k]) - LETTERS);
		for (unsigned k = 0; k < 3; k++)
			((uint8_t *)bytes)[i / 4 * 3 + k] = (uint8_t)(value >> (16 - 8 * k));
	}
	return (ssize_t)len;
}

static void put_base64(struct buf *out, const char *bytes, size_t len)
{
	static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3) {
		uint32_t value = 0;

		for (unsigned k = 0; k < 3; k++)
			value = value << 8 | (i + k < len ? (uint8_t)bytes[i + k] : 0);
		for (unsigned k = 0; k < 4; k++)
			buf_put_char(out, i + k <= len ? LETTERS[value >> (18 - 6 * k) & 63] : '=');
	}
}

#define SCRAM_NONCE "fyko+d2lbbFgONRv9qkxdawL"
#define SHA256_R    "rOprNGfwEbeRWgbNEkqOAAAA%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"

/* Pairs: what the server says (NULL: our side begins), what we must answer. NULL as answer: we must give up. */
static const struct login {
	const char *label;
	enum mechanism mechanism;
	const char *user, *secret;
	const char *turn[8];
	bool is_complete;
	const char *error;
} LOGINS[] = {
	{ "PLAIN, RFC 4616", MECHANISM_PLAIN, "tim", "tanstaaftanstaaf", { "", "|tim|tanstaaftanstaaf" }, true, "" },
	{ "PLAIN keeps UTF-8",
	  MECHANISM_PLAIN,
	  "k\303\244the",
	  "gr\303\274n",
	  { "", "|k\303\244the|gr\303\274n" },
	  true,
	  "" },
	{ "LOGIN", MECHANISM_LOGIN, "bob", "pa ss", { "Username:", "bob", "Password:", "pa ss" }, true, "" },
	{ "LOGIN, a server that goes on asking",
	  MECHANISM_LOGIN,
	  "bob",
	  "x",
	  { "Username:", "bob", "Password:", "x", "Password:", NULL },
	  false,
	  "the server's challenge makes no sense" },
	{ "CRAM-MD5, RFC 2195",
	  MECHANISM_CRAM_MD5,
	  "tim",
	  "tanstaaftanstaaf",
	  { "<1896.697170952@postoffice.reston.mci.net>", "tim b913a602c7eda7a495b4e6e7334d3890" },
	  true,
	  "" },
	{ "SCRAM-SHA-1, RFC 5802",
	  MECHANISM_SCRAM_SHA_1,
	  "user",
	  "pencil",
	  { "", "n,,n=user,r=" SCRAM_NONCE, "r=" SCRAM_NONCE "3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
	    "c=biws,r=" SCRAM_NONCE "3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
	    "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "" },
	  true,
	  "" },
	{ "SCRAM-SHA-256, RFC 7677 with a longer nonce",
	  MECHANISM_SCRAM_SHA_256,
	  "user",
	  "pencil",
	  { "", "n,,n=user,r=rOprNGfwEbeRWgbNEkqOAAAA", "r=" SHA256_R ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
	    "c=biws,r=" SHA256_R ",p=Xfne3MtVK++JaGoF7TO43YhBOQ5y0vVxLsYZHKXqUus=",
	    "v=Cwe39nJVzmRPHkssPGBJqIOZfCgk3UUklA5txzlL+TQ=", "" },
	  true,
	  "" },
	{ "SCRAM, success before the server proved itself",
	  MECHANISM_SCRAM_SHA_1,
	  "user",
	  "pencil",
	  { "", "n,,n=user,r=" SCRAM_NONCE, "r=" SCRAM_NONCE "3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
	    "c=biws,r=" SCRAM_NONCE "3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=" },
	  false,
	  "" },
	{ "SCRAM, a server that does not know the password",
	  MECHANISM_SCRAM_SHA_1,
	  "user",
	  "pencil",
	  { "", "n,,n=user,r=" SCRAM_NONCE, "r=" SCRAM_NONCE "3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
	    "c=biws,r=" SCRAM_NONCE "3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
	    "v=rmF9pqV8S7suAoZWja4dJRkFsKR=", NULL },
	  false,
	  "the server does not prove that it knows the password: it may not be the one it should be" },
	{ "SCRAM, somebody else's nonce",
	  MECHANISM_SCRAM_SHA_1,
	  "user",
	  "pencil",
	  { "", "n,,n=user,r=" SCRAM_NONCE, "r=abc3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096", NULL },
	  false,
	  NULL },
	{ "SCRAM, work without end",
	  MECHANISM_SCRAM_SHA_1,
	  "user",
	  "pencil",
	  { "", "n,,n=user,r=" SCRAM_NONCE, "r=" SCRAM_NONCE "3rfc,s=QSXCR+Q6sek8bf92,i=2000000000", NULL },
	  false,
	  "the server asks for more computing than is reasonable" },
	{ "SCRAM, a count that overflows",
	  MECHANISM_SCRAM_SHA_1,
	  "user",
	  "pencil",
	  { "", "n,,n=user,r=" SCRAM_NONCE, "r=" SCRAM_NONCE "3rfc,s=QSXCR+Q6sek8bf92,i=99999999999999999999999",
	    NULL },
	  false,
	  "the server asks for more computing than is reasonable" },
	{ "XOAUTH2",
	  MECHANISM_XOAUTH2,
	  "me@x.example",
	  "ya29.vF9",
	  { "", "user=me@x.example\001auth=Bearer ya29.vF9\001\001" },
	  true,
	  "" },
	{ "XOAUTH2 refused",
	  MECHANISM_XOAUTH2,
	  "me",
	  "t",
	  { "", "user=me\001auth=Bearer t\001\001", "{\"status\":\"401\"}", "" },
	  false,
	  "" },
	{ "OAUTHBEARER, RFC 7628",
	  MECHANISM_OAUTHBEARER,
	  "u=s,er@example.com",
	  "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==",
	  { "", "n,a=u=3Ds=2Cer@example.com,\001host=smtp.example.com\001port=587\001auth=Bearer "
		"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\001\001" },
	  true,
	  "" },
	{ "OAUTHBEARER refused",
	  MECHANISM_OAUTHBEARER,
	  "me",
	  "t",
	  { "", "n,a=me,\001host=smtp.example.com\001port=587\001auth=Bearer t\001\001",
	    "{\"status\":\"invalid_token\"}", "\001" },
	  false,
	  "" },
};

/* One turn of a login; "|" stands for NUL where the mechanism has it. */
static void run_turn(const struct login *l, struct sasl *s, const char *says, const char *answer)
{
	struct buf in, got, want;
	bool is_right;

	buf_init(&in, 100000);
	buf_init(&got, 100000);
	buf_init(&want, 100000);
	put_base64(&in, says, strlen(says));
	is_right = sasl_step(s, buf_slice(&in), &got);
	if (is_right != (answer != NULL))
		fail_msg("%s: at \"%s\" %s: %s", l->label, says, is_right ? "goes on" : "gives up", sasl_error(s));
	if (answer) {
		char *bytes = xstrdup(answer);

		for (char *at = bytes; *at && l->mechanism == MECHANISM_PLAIN; at++)
			*at = *at == '|' ? '\0' : *at;
		put_base64(&want, bytes, strlen(answer));
		free(bytes);
		if (strcmp(buf_text(&want), buf_text(&got)) != 0)
			fail_msg("%s: at \"%s\" we say %s, not %s (%s)", l->label, says, buf_text(&got),
				 buf_text(&want), answer);
	}
	buf_release(&in);
	buf_release(&got);
	buf_release(&want);
}

static void run_login(const struct login *l, struct sasl_account *a)
{
	struct sasl *s;

	nonce = l->mechanism == MECHANISM_SCRAM_SHA_256 ? "rOprNGfwEbeRWgbNEkqOAAAA" : SCRAM_NONCE;
	s = sasl_new(a, l->mechanism);
	assert_non_null(s);
	assert_int_equal(sasl_is_first(s), l->turn[0][0] == '\0');
	for (unsigned i = 0; i + 1 < ARRAY_LEN(l->turn) && l->turn[i]; i += 2)
		run_turn(l, s, l->turn[i], l->turn[i + 1]);
	if (sasl_is_complete(s) != l->is_complete)
		fail_msg("%s: %s complete", l->label, l->is_complete ? "not" : "is");
	if (l->error)
		assert_string_equal(sasl_error(s), l->error);
	sasl_free(&s);
	assert_null(s);
}

static void test_logins(void **state)
{
	assert_true(sasl_init());
	for (unsigned i = 0; i < ARRAY_LEN(LOGINS); i++) {
		const struct login *l = &LOGINS[i];
		struct sasl_account *a = sasl_account_new(l->user, slice_of(l->secret), "smtp.example.com", 587);

		/* The second time SCRAM's stretched password is at hand, and all else is as before. */
		run_login(l, a);
		run_login(l, a);
		sasl_account_free(&a);
	}
}

static void test_new_secret_forgets_the_old(void **state)
{
	struct sasl_account *a = sasl_account_new("user", slice_of("wrong"), "smtp.example.com", 587);
	const struct login *scram = &LOGINS[5];
	struct login wrong = *scram;

	wrong.turn[3] = "c=biws,r=" SCRAM_NONCE "3rfcNHYJY1ZVvWVs7j,p=GEGNAnqQMyjrGvb9q0apYc30afQ=";
	wrong.turn[4] = "v=3irrMEvsj0P4NHu3iTSN1CUgGpc=";
	run_login(&wrong, a);
	sasl_account_set_secret(a, slice_of("pencil"));
	run_login(scram, a);
	sasl_account_free(&a);
}

/* A server's text never brings the secret into the log. */
/* A refusal of what has been replaced in the meantime says nothing about what we have now. */
static void test_a_token_is_outdated_by_the_next(void **state)
{
	struct sasl_account *a = sasl_account_new("bob", slice_of(""), "smtp.example.com", 587);
	struct sasl *s;
	struct buf out;

	buf_init(&out, 1000);
	assert_false(sasl_account_has_token(a));
	sasl_account_set_token(a, slice_of("one"));
	assert_true(sasl_account_has_token(a));
	assert_false(sasl_account_has_password(a));
	s = sasl_new(a, MECHANISM_XOAUTH2);
	assert_true(sasl_step(s, slice_of(""), &out));
	assert_false(sasl_is_outdated(s));
	sasl_account_set_token(a, slice_of("two"));
	assert_true(sasl_is_outdated(s));
	sasl_free(&s);
	s = sasl_new(a, MECHANISM_XOAUTH2);
	buf_clear(&out);
	assert_true(sasl_step(s, slice_of(""), &out));
	assert_string_equal(buf_text(&out), "dXNlcj1ib2IBYXV0aD1CZWFyZXIgdHdvAQE=");
	assert_false(sasl_is_outdated(s));
	sasl_free(&s);
	buf_release(&out);
	sasl_account_free(&a);
}

static void test_secrets_are_covered(void **state)
{
	static const struct {
		const char *text, *covered;
	} CASES[] = {
		{ "535 bad password bob+pass/2= for bob", "535 bad password *********** for bob" },
		{ "535 you said AGJvYgBib2IrcGFzcy8yPQ==", "535 you said **********************==" },
		{ "535 you said Ym9iK3Bhc3MvMj0=", "535 you said ***************=" },
		{ "535 bob+pass/2=bob+pass/2=", "535 **********************" },
		{ "535 no", "535 no" },
		{ "500 what is AGJvYgBib2IrcGF...", "500 what is ***************..." }, /* it cuts what it quotes */
		/* XOAUTH2, OAUTHBEARER: inside their messages a token's base64 is another one than by itself */
		{ "500 AUTH XOAUTH2 dXNlcj1ib2IBYXV0aD1CZWFyZXIgeWEyOS50b2tlbi90aGF0LWlzLWxvbmcBAQ==",
		  "500 AUTH XOAUTH2 **************************************************************==" },
		{ "500 what is IgeWEyOS50b2tlbi ...", "500 what is **************** ..." },
		{ "500 what is dGg9QmVhcmVyIHlhMjkudG9rZW4vdGhhdC1p",
		  "500 what is ************************************" },
		{ "500 bad token ya29.token/that-is-long for bob", "500 bad token *********************** for bob" },
		{ "500 bad token ya29.token/that-is...", "500 bad token ******************..." },
	};
	struct sasl_account *a = sasl_account_new("bob", slice_of("bob+pass/2="), "smtp.example.com", 587);

	sasl_account_set_token(a, slice_of("ya29.token/that-is-long"));
	for (unsigned i = 0; i < ARRAY_LEN(CASES); i++) {
		char *text = xstrdup(CASES[i].text);

		sasl_account_mask(a, text);
		assert_string_equal(text, CASES[i].covered);
		free(text);
	}
	sasl_account_free(&a);
}

static void test_nonsense_is_refused(void **state)
{
	struct sasl_account *a = sasl_account_new("user", slice_of("pencil"), "h", 1);
	struct buf out, big;

	buf_init(&out, 1000);
	buf_init(&big, 100000);
	while (big.len <= SASL_CHALLENGE_MAX)
		buf_put_str(&big, "AAAA");
	for (unsigned m = MECHANISM_SCRAM_SHA_256; m <= MECHANISM_CRAM_MD5; m++) {
		struct sasl *s = sasl_new(a, (enum mechanism)m);

		if (sasl_is_first(s))
			assert_true(sasl_step(s, slice_of(""), &out));
		assert_false(sasl_step(s, slice_of("!!! not base64"), &out));
		sasl_free(&s);
		s = sasl_new(a, (enum mechanism)m);
		assert_false(sasl_step(s, buf_slice(&big), &out));
		sasl_free(&s);
	}
	buf_release(&out);
	buf_release(&big);
	sasl_account_free(&a);
}

static void test_apop(void **state)
{
	struct sasl_account *a = sasl_account_new("mrose", slice_of("tanstaaf"), "h", 110); /* RFC 1939 7 */
	struct buf out;

	buf_init(&out, 100);
	sasl_apop(a, slice_of("<1896.697170952@dbc.mtview.ca.us>"), &out);
	assert_string_equal(buf_text(&out), "c4c9334bac560ecc979e58001b3e22fb");
	buf_clear(&out);
	assert_true(sasl_account_put_secret(a, &out));
	assert_string_equal(buf_text(&out), "tanstaaf");
	sasl_account_set_secret(a, slice_of("a\r\nDELE 1"));
	assert_false(sasl_account_put_secret(a, &out));
	buf_release(&out);
	sasl_account_free(&a);
}

/* --- which one --- */

#define ALL "PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256 XOAUTH2 OAUTHBEARER GSSAPI"

static const struct {
	const char *offered, *preference, *options, *taken;
} CHOICES[] = {
	{ ALL, "auto", "tls", "SCRAM-SHA-256" },
	{ "LOGIN PLAIN CRAM-MD5 SCRAM-SHA-1", "auto", "tls", "SCRAM-SHA-1" },
	{ "login plain cram-md5", "auto", "tls", "CRAM-MD5" },
	{ "LOGIN PLAIN", "auto", "tls", "PLAIN" },
	{ "LOGIN", "auto", "tls", "LOGIN" },
	{ "LOGIN PLAIN", "auto", "clear",
	  "the password would go over the line in clear (no TLS, and no auth-without-tls)" },
	{ "LOGIN PLAIN CRAM-MD5", "auto", "clear", "CRAM-MD5" },
	{ "LOGIN PLAIN", "auto", "clear allowed", "PLAIN" },
	{ ALL, "login plain", "tls", "LOGIN" },
	{ ALL, "plain scram-sha-1", "clear", "SCRAM-SHA-1" },
	{ "GSSAPI NTLM", "auto", "tls", "it offers no way to log in that option auth allows" },
	{ "", "auto", "tls", "it offers no way to log in that option auth allows" },
	{ "PLAIN", "cram-md5", "tls", "it offers no way to log in that option auth allows" },
	{ ALL, "auto", "tls token", "OAUTHBEARER" },
	{ "PLAIN XOAUTH2", "auto", "tls token", "XOAUTH2" },
	{ ALL, "auto", "tls token password", "OAUTHBEARER" },
	{ "PLAIN LOGIN", "auto", "tls token password", "PLAIN" },
	{ "PLAIN LOGIN", "auto", "tls token", "it offers no way to log in that option auth allows" },
	{ "XOAUTH2", "auto", "clear token",
	  "the password would go over the line in clear (no TLS, and no auth-without-tls)" },
	{ ALL, "xoauth2", "tls", "XOAUTH2" },
	{ "PLAIN XOAUTH2", "auto", "tls", "PLAIN" },
	{ ALL, "auto", "tls spent", "SCRAM-SHA-1" },
	{ "SCRAM-SHA-256", "auto", "tls spent", "it takes none of the ways to log in that it offers" },
	{ ALL, "plain auto", "tls", "PLAIN" },
};

static void test_choice(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(CHOICES); i++) {
		char *words = xstrdup(CHOICES[i].preference), *item[8], *rest = words, *word;
		struct conf_list list = { .item = item };
		struct mechanism_wish wish = { .preference = &list };
		const char *why = NULL;
		enum mechanism m;

		while ((word = strsep(&rest, " ")))
			item[list.count++] = word;
		wish.has_token = strstr(CHOICES[i].options, "token");
		wish.has_password = strstr(CHOICES[i].options, "password");
		wish.may_show = strstr(CHOICES[i].options, "tls") || strstr(CHOICES[i].options, "allowed");
		wish.spent = strstr(CHOICES[i].options, "spent") ? 1u << MECHANISM_SCRAM_SHA_256 : 0;
		m = mechanism_choose(mechanism_parse(slice_of(CHOICES[i].offered)), &wish, &why);
		assert_string_equal(m == MECHANISM_NONE ? why : mechanism_name(m), CHOICES[i].taken);
		free(words);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_logins),
		cmocka_unit_test(test_new_secret_forgets_the_old),
		cmocka_unit_test(test_a_token_is_outdated_by_the_next),
		cmocka_unit_test(test_secrets_are_covered),
		cmocka_unit_test(test_nonsense_is_refused),
		cmocka_unit_test(test_apop),
		cmocka_unit_test(test_choice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
