/* Logins at POP3 servers, by vectors: what the server says, what we must say, and how it ends. No socket anywhere. */
#include "smtpout/pop.h"
#include "tests/unit/said.h"
#include <stdio.h>
#include <stdlib.h>

enum { STEPS_MAX = 20 };

/*
 * S TEXT the server says, C TEXT we must have said; | ends a line; "S TEXT" without | at its end is half a line. "tls":
 * a handshake is wanted, and succeeds. "lost", "timeout". "close CAUSE": it is over.
 */
static const struct vector {
	const char *name;
	enum engine_tls tls;
	bool may_be_clear, is_wrapper;
	const char *step[STEPS_MAX];
	const char *text; /* stands in the failure's text */
} VECTORS[] = {
#define NEVER ENGINE_TLS_NEVER, false, false
#define OPEN  ENGINE_TLS_NEVER, true, false
#define MUST  ENGINE_TLS_MUST, false, false
#define APOP  "+OK POP3 <1896.697170952@dbc.mtview.ca.us>|"
#define STLS  "S +OK hi|", "C CAPA|", "S +OK|USER|STLS|.|", "C STLS|", "S +OK go|", "tls", "C CAPA|"
	{ "USER and PASS, where clear text is allowed",
	  OPEN,
	  { "S +OK hi|", "C CAPA|", "S -ERR what|", "C USER bob|", "S +OK|", "C PASS bob+pass/2=|", "S +OK 3 messages|",
	    "C QUIT|", "S +OK bye|", "close none" } },
	{ "clear text is not allowed",
	  NEVER,
	  { "S +OK hi|", "C CAPA|", "S +OK|USER|SASL PLAIN LOGIN|.|", "C", "close auth" },
	  "takes passwords in clear only" },
	{ "APOP, RFC 1939",
	  NEVER,
	  { "S " APOP, "C CAPA|", "S -ERR|", "C APOP bob 3bb215b323e2a995363722a30975f768|", "S +OK|", "C QUIT|",
	    "lost", "close none" } },
	{ "SASL before APOP",
	  NEVER,
	  { "S " APOP, "C CAPA|", "S +OK|SASL PLAIN CRAM-MD5|.|", "C AUTH CRAM-MD5|", "S + PD4=|",
	    "C Ym9iIDczYWExMjk5YWM0ZjNkOTgzYzc5YWQ2Mzk5NzIxMDJl|", "S +OK|", "C QUIT|", "S +OK|", "close none" } },
	{ "STLS, then PLAIN",
	  MUST,
	  { STLS, "S +OK|SASL PLAIN|.|", "C AUTH PLAIN AGJvYgBib2IrcGFzcy8yPQ==|", "S +OK|", "C QUIT|", "timeout",
	    "close none" } },
	{ "TLS from the first byte, USER",
	  ENGINE_TLS_NEVER,
	  false,
	  true,
	  { "S +OK hi|", "C CAPA|", "S +OK|TOP|.|", "C USER bob|", "S +OK|", "C PASS bob+pass/2=|", "S +OK|", "C QUIT|",
	    "S +OK|", "close none" } },
	{ "what was offered before TLS does not count",
	  MUST,
	  { "S " APOP, "C CAPA|", "S +OK|SASL CRAM-MD5|STLS|.|", "C STLS|", "S +OK|", "tls", "C CAPA|", "S +OK|.|",
	    "C USER bob|", "S +OK|", "C PASS bob+pass/2=|", "S +OK|", "C QUIT|", "S +OK|", "close none" } },
	{ "no STLS where TLS is a must",
	  MUST,
	  { "S " APOP, "C CAPA|", "S +OK|USER|.|", "C", "close tls" },
	  "does not offer TLS" },
	{ "STLS taken back: no password, opportunistic or not",
	  ENGINE_TLS_MAY,
	  true,
	  false,
	  { "S +OK hi|", "C CAPA|", "S +OK|STLS|.|", "C STLS|", "S -ERR not now|", "C", "close tls" } },
	{ "opportunistic without STLS: APOP",
	  ENGINE_TLS_MAY,
	  false,
	  false,
	  { "S " APOP, "C CAPA|", "S -ERR|", "C APOP bob 3bb215b323e2a995363722a30975f768|", "S +OK|", "C QUIT|",
	    "S +OK|", "close none" } },
	{ "TL19 STLS with more behind its answer",
	  MUST,
	  { "S +OK hi|", "C CAPA|", "S +OK|STLS|.|", "C STLS|", "S +OK go|+OK|.|", "close auth" },
	  "more than it was asked" },
	{ "TL19 STLS with half a line behind its answer",
	  MUST,
	  { "S +OK hi|", "C CAPA|", "S +OK|STLS|.|", "C STLS|", "S +OK go|+O", "close auth" } },
	{ "TL19 refused",
	  OPEN,
	  { "S +OK hi|", "C CAPA|", "S -ERR|", "C USER bob|", "S +OK|", "C PASS bob+pass/2=|",
	    "S -ERR [AUTH] bob+pass/2= is wrong|", "C", "close auth" },
	  "said: -ERR [AUTH] *********** is wrong (in reply to PASS command)" },
	{ "refused at USER",
	  OPEN,
	  { "S +OK hi|", "C CAPA|", "S -ERR|", "C USER bob|", "S -ERR never heard of|", "C", "close auth" },
	  "USER command" },
	{ "the mailbox is in use: no refusal",
	  OPEN,
	  { "S +OK hi|", "C CAPA|", "S -ERR|", "C USER bob|", "S +OK|", "C PASS bob+pass/2=|",
	    "S -ERR [IN-USE] locked|", "close greeting" } },
	{ "refused at once",
	  OPEN,
	  { "S -ERR too many|", "C", "close greeting" },
	  "too many (in reply to connect command)" },
	{ "not POP3", OPEN, { "S 220 mx ESMTP|", "C", "close auth" }, "does not speak POP3" },
	{ "TL19 a hang", OPEN, { "S +OK hi|", "C CAPA|", "timeout", "close lost" }, "does not answer in time" },
	{ "TL19 hung up",
	  OPEN,
	  { "S +OK hi|", "C CAPA|", "S -ERR|", "C USER bob|", "lost", "close lost" },
	  "lost connection" },
	{ "nonsense to CAPA", OPEN, { "S +OK hi|", "C CAPA|", "S yes|", "C", "close auth" } },
	{ "nonsense to PASS",
	  OPEN,
	  { "S +OK hi|", "C CAPA|", "S -ERR|", "C USER bob|", "S +OK|", "C PASS bob+pass/2=|", "S 250 ok|", "C",
	    "close auth" } },
	{ "+OKAY is not +OK", OPEN, { "S +OKAY|", "C", "close auth" } },
	{ "a success that proves nothing",
	  NEVER,
	  { "S +OK hi|", "C CAPA|", "S +OK|SASL CRAM-MD5|.|", "C AUTH CRAM-MD5|", "S +OK welcome|", "C", "close auth" },
	  "before it has proved" },
	{ "a challenge that is none",
	  NEVER,
	  { "S +OK hi|", "C CAPA|", "S +OK|SASL CRAM-MD5|.|", "C AUTH CRAM-MD5|", "S + %%%|", "C", "close auth" },
	  "makes no sense" },
	{ "a stamp that is none",
	  NEVER,
	  { "S +OK <no at sign>|", "C CAPA|", "S -ERR|", "C", "close auth" },
	  "in clear only" },
	{ "a stamp with control bytes",
	  NEVER,
	  { "S +OK <a\001b@c>|", "C CAPA|", "S -ERR|", "C", "close auth" },
	  "in clear only" },
};

struct run {
	const struct vector *v;
	const char *step;
	struct pop p;
	struct buf said;
	bool wants_tls, is_closed;
};

#define CHECK(r, condition)                                                                 \
	do {                                                                                \
		if (!(condition))                                                           \
			fail_msg("%s: at \"%s\": %s", (r)->v->name, (r)->step, #condition); \
	} while (0)

static void act(struct run *r)
{
	enum pop_action action;

	while ((action = pop_next(&r->p)) != POP_NONE) {
		if (action == POP_SEND) {
			buf_put_slice(&r->said, buf_slice(&r->p.out));
			pop_sent(&r->p);
		}
		r->wants_tls |= action == POP_START_TLS;
		r->is_closed |= action == POP_CLOSE;
	}
}

static void server_says(struct run *r, const char *text)
{
	const char *end;

	for (; (end = strchr(text, '|')) && r->p.state != POP_OVER && r->p.state != POP_HANDSHAKE; text = end + 1)
		pop_line(&r->p, (struct slice){ text, (size_t)(end - text) });
	pop_input_left(&r->p, *text != '\0');
}

static void must_close(struct run *r, const char *wanted)
{
	const char *text = r->p.failure.text ? r->p.failure.text : "";

	CHECK(r, r->is_closed);
	if (strcmp(CAUSES[r->p.failure.cause], wanted) != 0)
		fail_msg("%s: closed for %s (%s), not %s", r->v->name, CAUSES[r->p.failure.cause], text, wanted);
	if (r->v->text && !strstr(text, r->v->text))
		fail_msg("%s: says \"%s\", not \"%s\"", r->v->name, text, r->v->text);
	CHECK(r, !strstr(text, "pass/2"));
}

static void run_step(struct run *r, const char *step)
{
	r->step = step;
	if (step[0] == 'C')
		must_have_said(&r->said, step[1] ? step + 2 : "", r->v->name);
	else if (step[0] == 'S')
		server_says(r, step + 2);
	else if (strcmp(step, "lost") == 0 || strcmp(step, "timeout") == 0)
		pop_lost(&r->p, step[0] == 't', "");
	else if (strcmp(step, "tls") == 0) {
		CHECK(r, r->wants_tls);
		pop_secured(&r->p);
	} else
		must_close(r, step + strlen("close "));
	act(r);
}

static void run_vector(const struct vector *v)
{
	static char automatic[] = "auto", *item[] = { automatic };
	struct conf_list preference = { 1, item };
	struct run r = { .v = v };
	struct sasl_account *a = sasl_account_new("bob", slice_of("bob+pass/2="), "pop.example", 110);
	struct login *login = login_new(a, &preference, v->may_be_clear);

	pop_init(&r.p, "pop.example[192.0.2.1]:110", v->tls, a, login, v->may_be_clear);
	buf_init(&r.said, 100000);
	pop_connected(&r.p, v->is_wrapper);
	for (unsigned i = 0; i < STEPS_MAX && v->step[i]; i++)
		run_step(&r, v->step[i]);
	CHECK(&r, r.is_closed);
	pop_release(&r.p);
	login_free(&login);
	sasl_account_free(&a);
	buf_release(&r.said);
}

static void test_vectors(void **state)
{
	assert_true(sasl_init());
	for (unsigned i = 0; i < ARRAY_LEN(VECTORS); i++)
		run_vector(&VECTORS[i]);
}

/* TL19: a list of capabilities without end. */
static void test_endless_list(void **state)
{
	struct sasl_account *a = sasl_account_new("bob", slice_of("x"), "pop.example", 110);
	struct conf_list preference = { 0, NULL };
	struct login *login = login_new(a, &preference, true);
	struct pop p;
	unsigned lines = 0;

	pop_init(&p, "pop.example", ENGINE_TLS_NEVER, a, login, true);
	pop_connected(&p, false);
	pop_line(&p, slice_of("+OK"));
	pop_line(&p, slice_of("+OK"));
	for (; p.state != POP_OVER && lines < 1000; lines++)
		pop_line(&p, slice_of("X-MORE"));
	assert_int_equal(p.state, POP_OVER);
	assert_int_equal(p.failure.cause, FAILURE_AUTH);
	assert_int_equal(lines, POP_CAPA_LINES_MAX + 1);
	pop_release(&p);
	login_free(&login);
	sasl_account_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_endless_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
