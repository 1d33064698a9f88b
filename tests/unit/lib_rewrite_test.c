/* From, Sender and Reply-To for a server that insists on a sender: many shapes of header, byte for byte. */
#include "lib/field.h"
#include "lib/rewrite.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka last: it needs setjmp.h and others above */
#include <cmocka.h>

#define SENDER "news@here.example"
#define NEW    "me@isp.example"

static char *ALLOWED[] = { (char *)"ok.example", (char *)"boss@here.example" };

static struct conf_server server_of(int rewrite)
{
	struct conf_server s = { .rewrite_sender = (char *)NEW, .allowed_senders = { 2, ALLOWED } };

	s.rewrite = rewrite;
	return s;
}

static const struct {
	const char *address;
	bool unless_allowed, always;
} APPLIES[] = {
	{ "a@here.example", true, true },
	{ "", false, false }, /* the null sender */
	{ NEW, false, false },
	{ "ME@ISP.Example", false, false },
	{ "a@ok.example", false, true },
	{ "a@OK.example", false, true },
	{ "a@sub.ok.example", true, true },
	{ "boss@here.example", false, true },
};

static void test_applies(void **state)
{
	struct conf_server unless = server_of(REWRITE_UNLESS_ALLOWED), always = server_of(REWRITE_ALWAYS);
	struct conf_server never = server_of(REWRITE_NEVER), without = { 0 };

	without.rewrite = REWRITE_ALWAYS;
	for (unsigned i = 0; i < ARRAY_LEN(APPLIES); i++) {
		struct slice address = slice_of(APPLIES[i].address);

		assert_int_equal(rewrite_applies(&unless, address), APPLIES[i].unless_allowed);
		assert_int_equal(rewrite_applies(&always, address), APPLIES[i].always);
		assert_false(rewrite_applies(&never, address));
		assert_false(rewrite_applies(&without, address));
	}
	unless.allowed_senders.count = 0;
	assert_true(rewrite_applies(&unless, slice_of("a@ok.example")));
}

#define NAME_60 "123456789 123456789 123456789 123456789 123456789 1234567890"
#define NAME_960                                                                                                \
	NAME_60 NAME_60 NAME_60 NAME_60 NAME_60 NAME_60 NAME_60 NAME_60 NAME_60 NAME_60 NAME_60 NAME_60 NAME_60 \
		NAME_60 NAME_60 NAME_60
#define NAME_976 NAME_960 "1234567890123456"

/* out NULL: nothing changes. */
static const struct row {
	const char *label, *in, *out;
} UNLESS_ALLOWED[] = {
	{ "bare", "From: a@b.example\r\n", "From: me@isp.example\r\nReply-To: a@b.example\r\n" },
	{ "angle", "From: <a@b.example>\r\n", "From: <me@isp.example>\r\nReply-To: <a@b.example>\r\n" },
	{ "name", "From: Ann Bee <a@b.example>\r\n", "From: Ann Bee <me@isp.example>\r\nReply-To: Ann Bee <a@b.example>\r\n" },
	{ "no blank", "From:Ann<a@b.example>\r\n", "From: Ann<me@isp.example>\r\nReply-To: Ann<a@b.example>\r\n" },
	{ "blank before the colon", "from : a@b.example\r\n", "From: me@isp.example\r\nReply-To: a@b.example\r\n" },
	{ "quotes", "From: \"Bee, Ann <x@y>; \\\"A\\\"\" <a@b.example>\r\n",
	  "From: \"Bee, Ann <x@y>; \\\"A\\\"\" <me@isp.example>\r\n"
	  "Reply-To: \"Bee, Ann <x@y>; \\\"A\\\"\" <a@b.example>\r\n" },
	{ "encoded word", "From: =?utf-8?Q?J=C3=BCrgen?= <a@b.example>\r\n",
	  "From: =?utf-8?Q?J=C3=BCrgen?= <me@isp.example>\r\nReply-To: =?utf-8?Q?J=C3=BCrgen?= <a@b.example>\r\n" },
	{ "UTF-8", "From: J\xc3\xbcrgen <a@b.example>\r\n",
	  "From: J\xc3\xbcrgen <me@isp.example>\r\nReply-To: J\xc3\xbcrgen <a@b.example>\r\n" },
	{ "Latin-1", "From: J\xfcrgen <a@b.example>\r\n",
	  "From: J\xfcrgen <me@isp.example>\r\nReply-To: J\xfcrgen <a@b.example>\r\n" },
	{ "comments", "From: a@b.example (Ann, \\) <c@d> (of B))\r\n",
	  "From: me@isp.example (Ann, \\) <c@d> (of B))\r\nReply-To: a@b.example (Ann, \\) <c@d> (of B))\r\n" },
	{ "comments before", "From: (x) Ann (y) <a@b.example> (z)\r\n",
	  "From: (x) Ann (y) <me@isp.example> (z)\r\nReply-To: (x) Ann (y) <a@b.example> (z)\r\n" },
	{ "blanks in the address", "From: a . c @ b.example (x)\r\n",
	  "From: me@isp.example (x)\r\nReply-To: a . c @ b.example (x)\r\n" },
	{ "quoted local part", "From: \"a b\"@b.example\r\n", "From: me@isp.example\r\nReply-To: \"a b\"@b.example\r\n" },
	{ "literal", "From: A <a@[192.0.2.1]>\r\n", "From: A <me@isp.example>\r\nReply-To: A <a@[192.0.2.1]>\r\n" },
	{ "bare literal", "From: a@[IPv6:2001:db8::1]\r\n",
	  "From: me@isp.example\r\nReply-To: a@[IPv6:2001:db8::1]\r\n" },
	{ "route", "From: A <@x.example,@y.example:a@b.example>\r\n",
	  "From: A <me@isp.example>\r\nReply-To: A <@x.example,@y.example:a@b.example>\r\n" },
	{ "folded", "From: Ann\r\n Bee\r\n\t<a@b.example>\r\nTo: x@y\r\n",
	  "From: Ann\r\n Bee\r\n\t<me@isp.example>\r\nReply-To: Ann\r\n Bee\r\n\t<a@b.example>\r\nTo: x@y\r\n" },
	{ "folded at once", "From:\r\n a@b.example\r\n", "From: me@isp.example\r\nReply-To: a@b.example\r\n" },
	{ "two authors", "From: A <a@b.example>, C <c@d.example>\r\nSender: S <s@b.example>\r\n",
	  "From: A <me@isp.example>\r\nReply-To: A <a@b.example>, C <c@d.example>\r\n" },
	{ "the second is not allowed", "From: A <a@ok.example>,\r\n C <c@d.example>\r\nSender: a@ok.example\r\n",
	  "From: A <me@isp.example>\r\nReply-To: A <a@ok.example>,\r\n C <c@d.example>\r\nSender: a@ok.example\r\n" },
	{ "the new one among others", "From: A <a@b.example>, me@isp.example\r\nSender: me@isp.example\r\n",
	  "From: A <me@isp.example>\r\nReply-To: A <a@b.example>, me@isp.example\r\n" },
	{ "empty elements", "From: , ,A <a@b.example>,\r\n", "From: A <me@isp.example>\r\nReply-To: , ,A <a@b.example>,\r\n" },
	{ "group", "From: The Team: A <a@b.example>, c@d.example;\r\n",
	  "From: A <me@isp.example>\r\nReply-To: The Team: A <a@b.example>, c@d.example;\r\n" },
	{ "empty group", "From: Nobody:;\r\n", "From: me@isp.example\r\nReply-To: news@here.example\r\n" },
	{ "allowed", "From: A <a@ok.example>\r\nSender: boss@here.example\r\n", NULL },
	{ "already", "From: Me <ME@isp.example>\r\n", NULL },
	{ "allowed, two fields", "From: a@ok.example\r\nFrom: b@ok.example\r\n", NULL },
	{ "Reply-To stays", "Reply-To: R <r@b.example>\r\nFrom: A <a@b.example>\r\nX: y\r\n",
	  "Reply-To: R <r@b.example>\r\nFrom: A <me@isp.example>\r\nX: y\r\n" },
	{ "Reply-To below", "From: A <a@b.example>\r\nREPLY-TO: R <r@b.example>\r\n",
	  "From: A <me@isp.example>\r\nREPLY-TO: R <r@b.example>\r\n" },
	{ "Reply-To says nothing", "From: A <a@b.example>\r\nReply-To: \r\nX: y\r\n",
	  "From: A <me@isp.example>\r\nReply-To: A <a@b.example>\r\nX: y\r\n" },
	{ "two From fields", "From: A <a@b.example>\r\nX: y\r\nFrom: C <c@d.example>\r\n",
	  "From: A <me@isp.example>\r\nReply-To: A <a@b.example>,\r\n C <c@d.example>\r\nX: y\r\n" },
	{ "the first is broken", "From: nobody\r\nFrom: C <c@d.example>\r\n",
	  "From: C <me@isp.example>\r\nReply-To: C <c@d.example>\r\n" },
	{ "no From", "To: x@y\r\n", "To: x@y\r\nFrom: me@isp.example\r\nReply-To: news@here.example\r\n" },
	{ "no From, no line end", "To: x@y", "To: x@y\r\nFrom: me@isp.example\r\nReply-To: news@here.example\r\n" },
	{ "empty header", "", "From: me@isp.example\r\nReply-To: news@here.example\r\n" },
	{ "empty From", "From: \r\n", "From: me@isp.example\r\nReply-To: news@here.example\r\n" },
	{ "From without line end", "From: a@b.example", "From: me@isp.example\r\nReply-To: a@b.example\r\n" },
	{ "bare name", "From: root\r\n", "From: me@isp.example\r\nReply-To: news@here.example\r\n" },
	{ "comma without quotes", "From: Bee, Ann <a@b.example>\r\n",
	  "From: \"Bee, Ann\" <me@isp.example>\r\nReply-To: \"Bee, Ann\" <a@b.example>\r\n" },
	{ "at without quotes", "From: ann@work <a@b.example>, c\r\n",
	  "From: \"ann@work\" <me@isp.example>\r\nReply-To: \"ann@work\" <a@b.example>\r\n" },
	{ "quote without end", "From: \"Ann\\ <a@b.example>\r\n",
	  "From: \"Ann\" <me@isp.example>\r\nReply-To: \"Ann\" <a@b.example>\r\n" },
	{ "encoded word in a broken one", "From: =?utf-8?Q?a?=, b <a@b.example>\r\n",
	  "From: me@isp.example\r\nReply-To: a@b.example\r\n" },
	{ "broken, but allowed", "From: Bee, Ann <a@ok.example>\r\n", NULL },
	{ "nobody in angles", "From: Ann <>\r\n", "From: me@isp.example\r\nReply-To: news@here.example\r\n" },
	{ "Sender goes with the From", "From: me@isp.example\r\nSender: s@b.example\r\n", "From: me@isp.example\r\n" },
	{ "Sender changes", "From: A <a@ok.example>\r\nSender: S <s@b.example>\r\n",
	  "From: A <a@ok.example>\r\nSender: S <me@isp.example>\r\n" },
	{ "Sender of two authors changes", "Sender: s@b.example\r\nFrom: a@ok.example, c@ok.example\r\n",
	  "Sender: me@isp.example\r\nFrom: a@ok.example, c@ok.example\r\n" },
	{ "Sender the new one", "From: a@b.example\r\nSender: Me <me@isp.example>\r\n",
	  "From: me@isp.example\r\nReply-To: a@b.example\r\n" },
	{ "Sender is broken", "From: a@b.example\r\nSender: cron\r\n", "From: me@isp.example\r\nReply-To: a@b.example\r\n" },
	{ "Resent fields stay", "Resent-From: a@b.example\r\nResent-Sender: a@b.example\r\nFrom: a@ok.example\r\n", NULL },
	{ "names that begin alike", "From-X: a@b.example\r\nXFrom: a@b.example\r\nFrom: a@ok.example\r\n", NULL },
	{ "other bytes stay", "Received: by x\r\n\tid 1; now\r\n.Dots: x\r\nFrom: a@b.example\r\nX:\xff \t\r\nSubject: From: a@b\r\n",
	  "Received: by x\r\n\tid 1; now\r\n.Dots: x\r\nFrom: me@isp.example\r\nReply-To: a@b.example\r\nX:\xff \t\r\n"
	  "Subject: From: a@b\r\n" },
	{ "a longer line is folded", "From: \"" NAME_60 "\" <a@b.c>\r\n",
	  "From: \"" NAME_60 "\"\r\n <me@isp.example>\r\nReply-To: \"" NAME_60 "\" <a@b.c>\r\n" },
	{ "a lone CR ends no line", "From: (\r) \"" NAME_960 "123456789012\" <a@b.example>\r\n",
	  "From: (\r) \"" NAME_960 "123456789012\"\r\n <me@isp.example>\r\n"
	  "Reply-To:\r\n (\r) \"" NAME_960 "123456789012\" <a@b.example>\r\n" },
	{ "the longest line is folded", "From: \"" NAME_976 "\" <a@b.example>\r\n",
	  "From: \"" NAME_976 "\"\r\n <me@isp.example>\r\nReply-To:\r\n \"" NAME_976 "\" <a@b.example>\r\n" },
}, ALWAYS[] = {
	{ "allowed as well", "From: A <a@ok.example>\r\n", "From: A <me@isp.example>\r\nReply-To: A <a@ok.example>\r\n" },
	{ "already", "From: Me <me@isp.example>\r\n", NULL },
	{ "Sender", "From: me@isp.example\r\nSender: a@ok.example\r\n", "From: me@isp.example\r\n" },
};

static void check(const struct row *row, int rewrite)
{
	struct conf_server server = server_of(rewrite);
	struct rewrite r = { &server, slice_of(SENDER), slice_of(NEW) };
	struct buf out;
	size_t len;

	buf_init(&out, 100000);
	assert_true(field_measure(slice_of(row->in), true, &len));
	assert_int_equal(len, strlen(row->in));
	if (rewrite_header(&out, &r, slice_of(row->in)) != (row->out != NULL))
		fail_msg("%s: %s\n%s", row->label, row->out ? "left as it is" : "changed", buf_text(&out));
	if (strcmp(buf_text(&out), row->out ? row->out : "") != 0)
		fail_msg("%s: wanted\n%sgot\n%s", row->label, row->out ? row->out : "", buf_text(&out));
	for (const char *line = buf_text(&out), *end; (end = strchr(line, '\n')); line = end + 1)
		if (end - line > FIELD_LINE_MAX + 1)
			fail_msg("%s: a line of %d bytes", row->label, (int)(end - line));
	buf_release(&out);
}

static void test_headers(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(UNLESS_ALLOWED); i++)
		check(&UNLESS_ALLOWED[i], REWRITE_UNLESS_ALLOWED);
	for (unsigned i = 0; i < ARRAY_LEN(ALWAYS); i++)
		check(&ALWAYS[i], REWRITE_ALWAYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_applies),
		cmocka_unit_test(test_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
