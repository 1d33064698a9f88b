/* Logins through the engine, by vectors: what the server says, what we must say, and how it ends. No socket anywhere.
 */
#include "smtpout/engine.h"
#include "smtpout/secrets.h"
#include "tests/unit/said.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { STEPS_MAX = 16 };

/*
 * S TEXT the server says, C TEXT we must have said; | ends a line. "up": mails can go; "tls": a handshake is wanted,
 * and succeeds; "mail": one is given; "unsent": it came back untouched; "close CAUSE CODE": the session is over.
 */
static const struct vector {
	const char *name, *auth;
	enum engine_tls tls;
	bool may_be_clear, has_token;
	const char *step[STEPS_MAX];
	const char *text; /* stands in the failure's text */
} VECTORS[] = {
#define GREET  "S 220 mx ESMTP|", "C EHLO me.example|"
#define SECURE GREET, "S 250-mx|250-AUTH NTLM|250 STARTTLS|", "C STARTTLS|", "S 220 go|", "tls", "C EHLO me.example|"
#define MUST   ENGINE_TLS_MUST, false, false
#define CLEAR  ENGINE_TLS_NEVER, false, false
	{ "PLAIN with an initial response",
	  "auto",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH PLAIN LOGIN|", "C AUTH PLAIN AGJvYgBib2IrcGFzcy8yPQ==|", "S 235 2.7.0 welcome|",
	    "up" } },
	{ "LOGIN",
	  "login",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH PLAIN LOGIN|", "C AUTH LOGIN|", "S 334 VXNlcm5hbWU6|", "C Ym9i|",
	    "S 334 UGFzc3dvcmQ6|", "C Ym9iK3Bhc3MvMj0=|", "S 235 ok|", "up" } },
	{ "CRAM-MD5 in clear",
	  "auto",
	  CLEAR,
	  { GREET, "S 250-mx|250 AUTH=LOGIN PLAIN CRAM-MD5|", "C AUTH CRAM-MD5|",
	    "S 334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+|",
	    "C Ym9iIGMzNWQxYWEwNTE0OTE4YmJkYTZhZjY0NDhmNmU1Mzg5|", "S 235 ok|", "up" } },
	{ "TL01 no STARTTLS where it is a must: no secret is sent",
	  "auto",
	  MUST,
	  { GREET, "S 250-mx|250 AUTH PLAIN LOGIN CRAM-MD5|", "C QUIT|", "close tls 0" } },
	{ "TL16 only PLAIN, in clear",
	  "auto",
	  CLEAR,
	  { GREET, "S 250-mx|250 AUTH PLAIN LOGIN|", "C", "close auth 0" },
	  "the password would go over the line in clear" },
	{ "PLAIN in clear where the operator wants it",
	  "auto",
	  ENGINE_TLS_NEVER,
	  true,
	  false,
	  { GREET, "S 250-mx|250 AUTH PLAIN|", "C AUTH PLAIN AGJvYgBib2IrcGFzcy8yPQ==|", "S 235 ok|", "up" } },
	{ "TL16 no AUTH in EHLO", "auto", MUST, { SECURE, "S 250 mx|", "C", "close auth 0" }, "it offers no login" },
	{ "TL16 HS30 EHLO is not known",
	  "auto",
	  CLEAR,
	  { GREET, "S 502 what|", "C HELO me.example|", "S 250 mx|", "C", "close auth 0" },
	  "it offers no login without TLS" },
	{ "TL16 only weaker ones than allowed",
	  "scram-sha-256",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH PLAIN LOGIN|", "C", "close auth 0" },
	  "no way to log in that option auth allows" },
	{ "TL03 what was offered in clear does not count",
	  "auto",
	  MUST,
	  { GREET, "S 250-mx|250-AUTH CRAM-MD5|250 STARTTLS|", "C STARTTLS|", "S 220 go|", "tls", "C EHLO me.example|",
	    "S 250 mx|", "C", "close auth 0" } },
	{ "TL06 STARTTLS refused: opportunistic does not hold for logins",
	  "auto",
	  ENGINE_TLS_MAY,
	  false,
	  false,
	  { GREET, "S 250-mx|250-AUTH CRAM-MD5|250 STARTTLS|", "C STARTTLS|", "S 454 later|", "C QUIT|",
	    "close tls 454" } },
	{ "TL15 refused",
	  "auto",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH PLAIN|", "C AUTH PLAIN AGJvYgBib2IrcGFzcy8yPQ==|", "S 535 5.7.8 no|", "C QUIT|",
	    "close auth 535" },
	  "said: 535 5.7.8 no (in reply to AUTH command)" },
	{ "TL15 a refusal tries no other mechanism: accounts get locked",
	  "auto",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH PLAIN LOGIN CRAM-MD5|", "C AUTH CRAM-MD5|", "S 334 PD4=|",
	    "C Ym9iIDczYWExMjk5YWM0ZjNkOTgzYzc5YWQ2Mzk5NzIxMDJl|", "S 535 no|", "C QUIT|", "close auth 535" } },
	{ "a refusal for now",
	  "auto",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH PLAIN|", "C AUTH PLAIN AGJvYgBib2IrcGFzcy8yPQ==|", "S 454 4.7.0 later|",
	    "close auth 454" } },
	{ "504: the next mechanism",
	  "auto",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH PLAIN CRAM-MD5|", "C AUTH CRAM-MD5|", "S 504 5.5.4 not this|",
	    "C AUTH PLAIN AGJvYgBib2IrcGFzcy8yPQ==|", "S 235 ok|", "up" } },
	{ "538 to all of them",
	  "auto",
	  ENGINE_TLS_NEVER,
	  true,
	  false,
	  { GREET, "S 250-mx|250 AUTH PLAIN LOGIN|", "C AUTH PLAIN AGJvYgBib2IrcGFzcy8yPQ==|", "S 538 TLS first|",
	    "C AUTH LOGIN|", "S 538 TLS first|", "C", "close auth 0" },
	  "takes none of the ways" },
	{ "421",
	  "auto",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH PLAIN|", "C AUTH PLAIN AGJvYgBib2IrcGFzcy8yPQ==|", "S 421 bye|",
	    "close greeting 421" } },
	{ "421 that quotes",
	  "auto",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH PLAIN|", "C AUTH PLAIN AGJvYgBib2IrcGFzcy8yPQ==|",
	    "S 421 not bob+pass/2=, not AGJvYgBib2IrcGFzcy8yPQ|", "close greeting 421" },
	  "421 not ***********, not **********************" },
	{ "nonsense that quotes",
	  "auto",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH PLAIN|", "C AUTH PLAIN AGJvYgBib2IrcGFzcy8yPQ==|",
	    "S 250 hello AGJvYgBib2IrcGFzcy8yPQ|", "close protocol 0" },
	  "250 hello **********************" },
	{ "success before it was proved",
	  "scram-sha-256",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH SCRAM-SHA-256|", "auth", "S 235 welcome|", "C", "close auth 0" },
	  "before it has proved to know the password" },
	{ "success in mid-login",
	  "login",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH LOGIN|", "C AUTH LOGIN|", "S 235 welcome|", "close auth 0" } },
	{ "nonsense as challenge",
	  "cram-md5",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH CRAM-MD5|", "C AUTH CRAM-MD5|", "S 334 %%%|", "C", "close auth 0" },
	  "makes no sense" },
	{ "challenges without end",
	  "login",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH LOGIN|", "C AUTH LOGIN|", "S 334 |", "C Ym9i|", "S 334 |", "C Ym9iK3Bhc3MvMj0=|",
	    "S 334 |", "C", "close auth 0" } },
	{ "250 to AUTH",
	  "auto",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH PLAIN|", "C AUTH PLAIN AGJvYgBib2IrcGFzcy8yPQ==|", "S 250 ok|",
	    "close protocol 0" } },
	{ "the password in the server's words",
	  "auto",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH PLAIN|", "C AUTH PLAIN AGJvYgBib2IrcGFzcy8yPQ==|",
	    "S 535 bob+pass/2= or AGJvYgBib2IrcGFzcy8yPQ== is wrong|", "close auth 535" },
	  "said: 535 *********** or **********************== is wrong" },
	{ "XOAUTH2 refused",
	  "xoauth2",
	  MUST,
	  { SECURE, "S 250-mx|250 AUTH XOAUTH2|", "C AUTH XOAUTH2 dXNlcj1ib2IBYXV0aD1CZWFyZXIgYm9iK3Bhc3MvMj0BAQ==|",
	    "S 334 eyJzdGF0dXMiOiI0MDEifQ==|", "C |", "S 535 5.7.8 no|", "C QUIT|", "close auth 535" } },
	{ "TL18 530 to MAIL: the mail goes back untouched",
	  NULL,
	  CLEAR,
	  { GREET, "S 250 mx|", "up", "mail", "C MAIL FROM:<a@b.example>|", "S 530 5.7.0 authenticate first|", "unsent",
	    "C", "close auth 530" },
	  "530 5.7.0 authenticate first (in reply to MAIL FROM command)" },
	{ "TL18 530 to RCPT, pipelined",
	  NULL,
	  CLEAR,
	  { GREET, "S 250-mx|250 PIPELINING|", "up", "mail", "C MAIL FROM:<a@b.example>|RCPT TO:<r@c.example>|DATA|",
	    "S 250 ok|530 5.7.0 no|", "unsent", "C", "close auth 530" } },
};

struct run {
	const struct vector *v;
	const char *step;
	struct engine e;
	struct buf said;
	struct engine_mail mail;
	struct slice rcpt;
	bool is_up, wants_tls, is_closed, is_back;
};

#define CHECK(r, condition)                                                                 \
	do {                                                                                \
		if (!(condition))                                                           \
			fail_msg("%s: at \"%s\": %s", (r)->v->name, (r)->step, #condition); \
	} while (0)

static void act(struct run *r)
{
	struct engine_mail *mail;

	for (;;) {
		switch (engine_next(&r->e, &mail)) {
		case ENGINE_UP:
			r->is_up = true;
			break;
		case ENGINE_SEND:
			buf_put_slice(&r->said, buf_slice(&r->e.out));
			engine_sent(&r->e);
			break;
		case ENGINE_START_TLS:
			r->wants_tls = true;
			break;
		case ENGINE_CLOSE:
			r->is_closed = true;
			break;
		case ENGINE_MAIL_DONE:
			r->is_back = true;
			break;
		case ENGINE_BODY:
			fail_msg("%s: a body is wanted", r->v->name);
		case ENGINE_NONE:
			return;
		}
	}
}

static void server_says(struct run *r, const char *text)
{
	struct reply_parser parser;
	struct reply reply;
	struct buf in;
	size_t used;

	buf_init(&in, 10000);
	reply_parser_init(&parser);
	put_lines(&in, text);
	while (reply_parse(&parser, buf_slice(&in), &used, &reply) == REPLY_DONE) {
		engine_reply(&r->e, &reply);
		buf_consume(&in, used);
	}
	reply_parser_release(&parser);
	buf_release(&in);
}

static void must_close(struct run *r, const char *wanted)
{
	struct buf got;

	CHECK(r, r->is_closed);
	buf_init(&got, 100);
	buf_printf(&got, "%s %u", CAUSES[r->e.failure.cause], r->e.failure.code);
	if (strcmp(buf_text(&got), wanted) != 0)
		fail_msg("%s: closed for %s (%s), not %s", r->v->name, buf_text(&got), r->e.failure.text, wanted);
	if (r->v->text && !strstr(r->e.failure.text, r->v->text))
		fail_msg("%s: says \"%s\", not \"%s\"", r->v->name, r->e.failure.text, r->v->text);
	CHECK(r, !strstr(r->e.failure.text, "pass/2"));
	buf_release(&got);
}

static void give_mail(struct run *r)
{
	r->rcpt = slice_of("r@c.example");
	r->mail = (struct engine_mail){ .sender = slice_of("a@b.example"), .rcpt = &r->rcpt, .rcpt_count = 1 };
	engine_take_mail(&r->e, &r->mail);
}

static void must_be_unsent(struct run *r)
{
	CHECK(r, r->is_back && r->mail.outcome_count == 1 && r->mail.outcome[0].verdict == VERDICT_UNSENT);
	engine_mail_release(&r->mail);
}

static void run_step(struct run *r, const char *step)
{
	r->step = step;
	if (step[0] == 'C') {
		must_have_said(&r->said, step[1] ? step + 2 : "", r->v->name);
	} else if (step[0] == 'S') {
		server_says(r, step + 2);
	} else if (strcmp(step, "tls") == 0) {
		CHECK(r, r->wants_tls);
		engine_secured(&r->e);
	} else if (strcmp(step, "auth") == 0) { /* with a nonce, so not to be foretold */
		CHECK(r, strncmp(buf_text(&r->said), "AUTH SCRAM-SHA-256 ", 19) == 0);
		buf_clear(&r->said);
	} else if (strcmp(step, "up") == 0) {
		CHECK(r, r->is_up);
	} else if (strcmp(step, "mail") == 0) {
		give_mail(r);
	} else if (strcmp(step, "unsent") == 0) {
		must_be_unsent(r);
	} else {
		must_close(r, step + strlen("close "));
	}
	act(r);
}

static void run_vector(const struct vector *v)
{
	struct run r = { .v = v };
	struct sasl_account *a =
		sasl_account_new("bob", slice_of(v->has_token ? "" : "bob+pass/2="), "mx.example", 587);
	char *item[] = { xstrdup(v->auth ? v->auth : "auto") };
	struct conf_list preference = { 1, item };
	struct login *login;

	if (v->has_token)
		sasl_account_set_token(a, slice_of("bob+pass/2="));
	login = v->auth ? login_new(a, &preference, v->may_be_clear) : NULL;

	engine_init(&r.e, "me.example", "mx.example[192.0.2.1]", v->tls);
	r.e.login = login;
	r.e.is_relay = true;
	buf_init(&r.said, 100000);
	engine_connected(&r.e, false);
	for (unsigned i = 0; i < STEPS_MAX && v->step[i]; i++)
		run_step(&r, v->step[i]);
	if (!r.is_closed)
		CHECK(&r, r.is_up && r.e.state == ENGINE_READY);
	engine_release(&r.e);
	login_free(&login);
	sasl_account_free(&a);
	buf_release(&r.said);
	free(item[0]);
}

static void test_vectors(void **state)
{
	assert_true(sasl_init());
	for (unsigned i = 0; i < ARRAY_LEN(VECTORS); i++)
		run_vector(&VECTORS[i]);
}

/* A token of 2 KiB does not fit into a command line: it waits until it is asked for. */
static void test_long_token(void **state)
{
	char token[2001] = "", *item[] = { xstrdup("auto") };
	struct conf_list preference = { 1, item };
	struct buf out;
	const char *why = "";

	memset(token, 't', sizeof(token) - 1);
	struct sasl_account *a = sasl_account_new("bob", slice_of(""), "mx.example", 587);
	struct login *l;

	sasl_account_set_token(a, slice_of(token));
	l = login_new(a, &preference, false);

	buf_init(&out, 10000);
	assert_true(l->begin(l, 1u << MECHANISM_XOAUTH2, true, &out, &why));
	assert_string_equal(buf_text(&out), "XOAUTH2");
	assert_false(l->is_complete(l));
	buf_clear(&out);
	assert_true(l->step(l, slice_of(""), &out, &why));
	assert_true(out.len > 2000 && l->is_complete(l));
	buf_release(&out);
	login_free(&l);
	sasl_account_free(&a);
	free(item[0]);
}

/* --- what master hands over --- */

struct found {
	struct buf text;
};

static void note(void *arg, unsigned index, struct slice name, struct slice value)
{
	struct found *f = arg;

	buf_printf(&f->text, "%u %.*s=%.*s;", index, (int)name.len, name.ptr, (int)value.len, value.ptr);
}

static void test_secrets(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *found;
		bool is_right;
	} CASES[] = {
		{ "", 0, "", true },
		{ "0\0password\0a b\0001\0password\0\0", 27, "0 password=a b;1 password=;", true },
		{ "0\0password\0abc", 14, "", false },
		{ "x\0password\0abc\0", 15, "", false },
		{ "70000\0password\0abc\0", 19, "", false },
	};

	for (unsigned i = 0; i < ARRAY_LEN(CASES); i++) {
		int fd = memfd_create("secrets", MFD_CLOEXEC);
		struct found f;

		buf_init(&f.text, 1000);
		assert_int_equal(write(fd, CASES[i].bytes, CASES[i].len), CASES[i].len);
		assert_int_equal(secrets_read(fd, note, &f), CASES[i].is_right);
		assert_string_equal(buf_text(&f.text), CASES[i].found);
		buf_release(&f.text);
		close(fd);
	}
	assert_false(secrets_read(-1, note, NULL));
	assert_int_equal(errno, EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_long_token),
		cmocka_unit_test(test_secrets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
