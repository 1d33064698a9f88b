/* From a dropped header to envelope, options and the header that is sent. */
#include "lib/text.h"
#include "pickup/header.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static struct conf_server servers[] = { { .name = (char *)"isp" }, { .name = (char *)"other" } };
static struct conf conf = { .hostname = (char *)"mail.test",
			    .postmaster = (char *)"postmaster@mail.test",
			    .recipient_limit = 5,
			    .server_count = 2,
			    .server = servers };

#define ID      1795307043448000ull << 12
#define ACCOUNT "joe@mail.test"

static bool convert(struct header *h, const char *message)
{
	struct header_range range;
	struct slice all = slice_of(message);
	struct header_source source = {
		.id = ID, .arrival = { 1795307043448 }, .uid = 1000, .account = { ACCOUNT, 13 }, .conf = &conf
	};

	assert_int_equal(header_measure(all, true, &range), HEADER_WHOLE);
	source.fields = (struct slice){ all.ptr + range.begin, range.end - range.begin };
	if (range.has_no_blank)
		source.behind = (struct slice){ all.ptr + range.body, all.len - range.body };
	return header_convert(h, &source);
}

/* "SENDER>RCPT,RCPT" or "!" and the reason */
static void outcome(struct header *h, const char *message, struct buf *out)
{
	struct queuefile qf = { 0 };

	buf_clear(out);
	if (!convert(h, message)) {
		buf_printf(out, "!%s", buf_text(&h->reason));
		return;
	}
	envelope_export(&h->envelope, &qf);
	buf_put_slice(out, qf.sender);
	buf_put_char(out, '>');
	for (uint32_t i = 0; i < qf.rcpt_count; i++) {
		buf_put_str(out, i ? "," : "");
		buf_put_slice(out, qf.rcpt[i].address);
	}
	free(qf.rcpt);
}

static const struct {
	const char *message, *expected;
} ENVELOPES[] = {
	/* from the header */
	{ "From: a@b\nTo: c@d\n\n", "a@b>c@d" },
	{ "From: A <a@b>\nTo: c@d, E <e@f>\nCc: g@h\nBcc: i@j\n\n", "a@b>c@d,e@f,g@h,i@j" },
	{ "From: a@b\nSender: s@t\nTo: c@d\n\n", "s@t>c@d" },
	{ "From: a@b, x@y\nTo: c@d\n\n", "a@b>c@d" },
	{ "From: Nobody:;\nTo: c@d\n\n", ACCOUNT ">c@d" },
	{ "To: c@d\n\n", ACCOUNT ">c@d" },
	{ "From:\nTo: c@d\n\n", ACCOUNT ">c@d" },
	{ "from: a@b\nTO: c@d\ncC: e@f\n\n", "a@b>c@d,e@f" },
	{ "From : a@b\nTo\t: c@d\n\n", "a@b>c@d" },
	{ "From: a@b\nTo: c@d", "a@b>c@d" },
	{ "From: a@b\r\nTo: c@d\r\n\r\nbody", "a@b>c@d" },
	{ "From a@b Sat Nov 21\nFrom: a@b\nTo: c@d\n\n", "a@b>c@d" },
	/* Bcc in every spelling */
	{ "From: a@b\nBCC: c@d\n\n", "a@b>c@d" },
	{ "From: a@b\nbcc: c@d\n\n", "a@b>c@d" },
	{ "From: a@b\nbCC :c@d\n\n", "a@b>c@d" },
	{ "From: a@b\nBcc:\n c@d,\n\te@f\n\n", "a@b>c@d,e@f" },
	{ "From: a@b\nBcc: c@d\nBcc: e@f\n\n", "a@b>c@d,e@f" },
	{ "From: a@b\nBcc:\nTo: c@d\n\n", "a@b>c@d" },
	/* folded, groups, quoted, literals */
	{ "From: a@b\nTo: \"D, C\" <c@d>,\n  (x) e @ f\n\n", "a@b>c@d,e@f" },
	{ "From: a@b\nTo: friends: c@d, e@f;\n\n", "a@b>c@d,e@f" },
	{ "From: a@b\nTo: undisclosed-recipients:;\nBcc: c@d\n\n", "a@b>c@d" },
	{ "From: a@b\nTo: \"c d\"@e\n\n", "a@b>\"c d\"@e" },
	{ "From: a@b\nTo: c@[192.0.2.1]\n\n", "a@b>c@[192.0.2.1]" },
	/* duplicates */
	{ "From: a@b\nTo: c@D.e, c@d.E.\nCc: c@d.e, C@d.e\n\n", "a@b>c@d.e,C@d.e" },
	/* resent */
	{ "Resent-To: n@o\nFrom: a@b\nTo: c@d\nBcc: x@y\n\n", "a@b>n@o" },
	{ "Resent-From: r@s\nResent-Bcc: n@o\nFrom: a@b\nTo: c@d\n\n", "r@s>n@o" },
	{ "Resent-Sender: q@s\nResent-From: r@s\nResent-Cc: n@o\nFrom: a@b\nTo: c@d\n\n", "q@s>n@o" },
	{ "Resent-From: new@s\nResent-To: new@o\nReceived: x\nResent-From: old@s\nResent-To: old@o\nFrom: "
	  "a@b\n\n",
	  "new@s>new@o" },
	{ "Resent-Date: x\nFrom: a@b\nTo: c@d\n\n", "a@b>c@d" },
	/* X-Sender and X-Receiver */
	{ "X-Sender: <s@t>\nX-Receiver: <r@u>\nX-Receiver: v@w\nFrom: a@b\nTo: c@d\n\n", "s@t>r@u,v@w" },
	{ "X-Receiver: <r@u>\nX-Sender: s@t\nFrom: a@b\nTo: c@d\n\n", "s@t>r@u" },
	{ "x-sender: <s@t>\nFrom: a@b\nTo: c@d\n\n", "s@t>c@d" },
	{ "X-Receiver: <r@u>\nFrom: a@b\nTo: c@d\n\n", "a@b>r@u" },
	{ "X-Sender: <>\nX-Receiver: <r@u>\nFrom: a@b\n\n", ">r@u" },
	{ "X-Sender: <s@t>\nX-Postern-Priority: high\nX-Receiver: <r@u>\n\n", "s@t>r@u" },
	{ "From: a@b\nX-Sender: <s@t>\nX-Receiver: <r@u>\nTo: c@d\n\n", "a@b>c@d" },
	{ "X-Sender: <s@t>\nX-Receiver: <r@u>\nTo: not an address\n\n", "s@t>r@u" },
	/* refused */
	{ "X-Sender: <s@t>\nX-Sender: <s@t>\nTo: c@d\n\n", "!there is more than one X-Sender line" },
	{ "X-Receiver: <>\n\n", "!X-Receiver: \"<>\" is empty" },
	{ "X-Receiver: <a@b> SIZE=1\n\n",
	  "!X-Receiver: \"<a@b> SIZE=1\" has a blank, a control character or broken UTF-8 in it" },
	{ "X-Receiver: <a@b>, <c@d>\n\n",
	  "!X-Receiver: \"<a@b>, <c@d>\" has a blank, a control character or broken UTF-8 in it" },
	{ "X-Receiver: root\n\n", "!X-Receiver: \"root\" the part after @ is missing" },
	{ "From: a@b\n\n", "!it has no recipients: To, Cc, Bcc and X-Receiver name nobody" },
	{ "Subject: x\n\n", "!it has no recipients: To, Cc, Bcc and X-Receiver name nobody" },
	{ "no header at all\n", "!it has no recipients: To, Cc, Bcc and X-Receiver name nobody" },
	{ " To: c@d\n\n", "!it has no recipients: To, Cc, Bcc and X-Receiver name nobody" },
	{ "From: a@b\nTo: root\n\n", "!To: \"root\" the part after @ is missing" },
	{ "From: <>\nTo: a@b\n\n", "!From: \"<>\" is empty" },
	{ "From: a@b\nTo: c@d, x\033[1m%n\n\n", "!To: \"x\\033[1m%n\" is not of the form user@domain" },
	{ "From: a@b\nTo: a@b,c@b,d@b,e@b,f@b,g@b\n\n", "!it has more than 5 recipients (recipient-limit)" },
	{ "From: a@b\nTo: a@b,c@b,d@b,e@b,f@b,f@B,f@b\n\n", "a@b>a@b,c@b,d@b,e@b,f@b" },
	{ "From: a@b\nTo: c@d\nrubbish\nBcc: e@f\n\n",
	  "!a line of its header is no header field, and a Bcc stands behind it" },
	{ "From: a@b\nTo: c@d\nHello without a blank line\nbody", "a@b>c@d" },
	/* options */
	{ "X-Postern-Server: nowhere\nTo: c@d\n\n",
	  "!X-Postern-Server: \"nowhere\" is no server of the configuration" },
	{ "X-Postern-Priority: urgent\nTo: c@d\n\n",
	  "!X-Postern-Priority: \"urgent\" is none of high, normal and bulk" },
	{ "X-Postern-Send-After: soon\nTo: c@d\n\n",
	  "!X-Postern-Send-After: \"soon\" is no date of RFC 5322, like \"Sat, 21 Nov 2026 15:04:05 +0000\"" },
};

static void envelopes(void **state UNUSED)
{
	struct header h;
	struct buf out;

	header_init(&h);
	buf_init(&out, 10000);
	for (size_t i = 0; i < ARRAY_LEN(ENVELOPES); i++) {
		outcome(&h, ENVELOPES[i].message, &out);
		if (strcmp(buf_text(&out), ENVELOPES[i].expected) != 0)
			fail_msg("%s\nis: %s\nnot: %s", ENVELOPES[i].message, buf_text(&out), ENVELOPES[i].expected);
	}
	buf_release(&out);
	header_release(&h);
}

/* What stands in the header that is sent, Received left out, CRLF shown as |. */
static void sent(struct header *h, const char *message, struct buf *out)
{
	const char *at;

	assert_true(convert(h, message));
	at = strstr(buf_text(&h->text), "\r\n\tid ");
	assert_non_null(at);
	at = strstr(at + 2, "\r\n");
	buf_clear(out);
	for (at += 2; *at; at++) {
		if (*at != '\r')
			buf_put_char(out, *at == '\n' ? '|' : *at);
	}
}

static void texts(void **state UNUSED)
{
#define HAS "Date: x\nMessage-ID: <m>\n"
#define OUT "Date: x|Message-ID: <m>|"
	static const struct {
		const char *message, *expected;
	} ROWS[] = {
		{ HAS "From: a@b\nTo: c@d\n\n", OUT "From: a@b|To: c@d|" },
		{ HAS "From: a@b\r\nTo: c@d\r\n\r\n", OUT "From: a@b|To: c@d|" },
		{ HAS "From: a@b\nTo: c@d\nBcc: e@f\nSubject: s\n\n", OUT "From: a@b|To: c@d|Subject: s|" },
		{ HAS "From: a@b\nTo: c@d\nbcC \t:\n e@f,\n g@h\nSubject: s\n\n", OUT "From: a@b|To: c@d|Subject: s|" },
		{ HAS "From: a@b\nResent-To: c@d\nRESENT-BCC: e@f\nBcc: g@h\n\n", OUT "From: a@b|Resent-To: c@d|" },
		{ HAS "From: a@b\nTo: c@d\nReturn-Path: <x@y>\nContent-Length: 7\n\n", OUT "From: a@b|To: c@d|" },
		{ "X-Sender: <s@t>\nX-Receiver: <r@u>\n" HAS "From: a@b\n\n", OUT "From: a@b|" },
		{ HAS "From: a@b\nTo: c@d\nX-Receiver: kept\n\n", OUT "From: a@b|To: c@d|X-Receiver: kept|" },
		{ HAS "From: a@b\nX-Postern-Server: isp\nTo: c@d\nx-postern-priority: bulk\n\n",
		  OUT "From: a@b|To: c@d|" },
		{ HAS "From: a@b\nTo: c@d,\n\te@f\nSubject: a\n b\n\tc\n\n",
		  OUT "From: a@b|To: c@d,|\te@f|Subject: a| b|\tc|" },
		{ HAS "From: a@b\nTo: c@d\nSubject: a\n \t\n b\n\n", OUT "From: a@b|To: c@d|Subject: a| b|" },
		{ HAS "From: a@b\nTo: c@d\nSubject: a\rb\n\n", OUT "From: a@b|To: c@d|Subject: a b|" },
		{ HAS "From: a@b\nTo: c@d\nSubject: a\n\rBcc: x\n\n", OUT "From: a@b|To: c@d|Subject: a| Bcc: x|" },
		{ HAS "From: a@b\nTo: c@d\nSubject :x\nX:\n\n", OUT "From: a@b|To: c@d|Subject:x|X:|" },
		{ HAS "From: a@b\nTo: c@d\nX:\n folded\n\n", OUT "From: a@b|To: c@d|X:| folded|" },
		/* what is missing */
		{ "To: c@d\n\n", "To: c@d|Date: Sun, 22 Nov 2026 00:24:03 +0000|From: joe@mail.test|Message-ID: "
				 "<6C397T5J4O000@mail.test>|" },
		{ "X-Sender: <>\nDate:\nmessage-id: <m>\nTo: c@d\n\n",
		  "message-id: <m>|To: c@d|Date: Sun, 22 Nov 2026 00:24:03 +0000|From: Mail Delivery System "
		  "<MAILER-DAEMON@mail.test>|" },
		{ "X-Sender: s@t\n" HAS "To: c@d\nFrom: \n\n", OUT "To: c@d|From: s@t|" },
		{ HAS "From: a@b\nFrom: c@d\nTo: e@f\nReceived: forged\n\n",
		  OUT "From: a@b|From: c@d|To: e@f|Received: forged|" },
	};
	struct header h;
	struct buf out;

	setenv("TZ", "UTC", 1);
	header_init(&h);
	buf_init(&out, 10000);
	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		sent(&h, ROWS[i].message, &out);
		if (strcmp(buf_text(&out), ROWS[i].expected) != 0)
			fail_msg("%s\nis: %s\nnot: %s", ROWS[i].message, buf_text(&out), ROWS[i].expected);
	}
	buf_release(&out);
	header_release(&h);
}

static void one_received_line_and_the_same_text_each_time(void **state UNUSED)
{
	struct header h;
	char *first;

	header_init(&h);
	assert_true(convert(&h, "To: c@d\n\n"));
	first = xstrdup(buf_text(&h.text));
	assert_memory_equal(first, "Received: by mail.test (Postern, from userid 1000)\r\n\tid 6C397T5J4O000; ", 68);
	assert_null(strstr(first + 9, "Received:"));
	assert_true(convert(&h, "To: c@d\n\n"));
	assert_string_equal(buf_text(&h.text), first);
	free(first);
	header_release(&h);
}

static void options(void **state UNUSED)
{
	struct header h;

	header_init(&h);
	assert_true(convert(&h, "X-Postern-Server: isp\nX-Postern-Priority: HIGH\n"
				"X-Postern-Send-After: Sun, 22 Nov 2026 01:24:03 +0100\nTo: c@d\n\n"));
	assert_true(slice_is(h.server, "isp"));
	assert_int_equal(h.priority, PRIORITY_HIGH);
	assert_int_equal(h.send_after.ms, 1795307043000);
	assert_true(convert(&h, "To: c@d\n\n"));
	assert_int_equal(h.server.len, 0);
	assert_int_equal(h.priority, PRIORITY_NORMAL);
	assert_int_equal(h.send_after.ms, 0);
	header_release(&h);
}

static void flags(void **state UNUSED)
{
	static const struct {
		const char *message;
		unsigned flags;
	} ROWS[] = {
		{ "To: c@d\n\n", 0 },
		{ "To: c@d\n.x: y\n\n", QUEUEFILE_DOTS },
		{ "To: c@d\nSubject: j\xf6\n\n", QUEUEFILE_8BIT },
		{ "X-Receiver: c@b\xc3\xbc.example\nTo: x@y\n\n", 0 }, /* goes out as an A-label */
		{ "X-Receiver: j\xc3\xb6@d\nTo: x@y\n\n", QUEUEFILE_UTF8 },
		{ "X-Sender: j\xc3\xb6@d\nFrom: x@y\nTo: c@d\n\n", QUEUEFILE_UTF8 },
	};
	struct header h;

	header_init(&h);
	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		assert_true(convert(&h, ROWS[i].message));
		if (h.flags != ROWS[i].flags)
			fail_msg("%s: %u", ROWS[i].message, h.flags);
	}
	header_release(&h);
}

static void hops_and_nul(void **state UNUSED)
{
	struct header_source source = { .conf = &conf, .fields = { "To: a@b\nX: \0\n", 13 } };
	struct header h;
	struct buf text;

	header_init(&h);
	assert_false(header_convert(&h, &source));
	assert_string_equal(buf_text(&h.reason), "there is a NUL byte in its header");
	buf_init(&text, 10000);
	buf_put_str(&text, "To: c@d\n");
	for (int i = 0; i < HEADER_HOPS_MAX; i++)
		buf_put_str(&text, "Received: x\n");
	assert_true(convert(&h, text.ptr));
	buf_put_str(&text, "RECEIVED: x\n");
	assert_false(convert(&h, text.ptr));
	buf_release(&text);
	header_release(&h);
}

static void where_the_header_ends(void **state UNUSED)
{
	static const struct {
		const char *text;
		size_t begin, end, body;
		bool has_no_blank;
	} ROWS[] = {
		{ "A: b\n\nc", 0, 5, 6, false },
		{ "A: b\r\n\r\nc", 0, 6, 8, false },
		{ "A: b", 0, 4, 4, false },
		{ "A: b\nc\n", 0, 5, 5, true },
		{ "A: b\n c\n\n", 0, 8, 9, false },
		{ "\nA: b\n", 0, 0, 1, false },
		{ "", 0, 0, 0, false },
		{ " A: b\n", 0, 0, 0, true },
		{ "From x\nA: b\n\n", 7, 12, 13, false },
		{ "From x\n c\n\n", 7, 7, 7, true },
		{ "A b: c\n", 0, 0, 0, true },
		{ ": c\n", 0, 0, 0, true },
		{ "\xc3\xa4: c\n", 0, 0, 0, true },
	};
	struct header_range r;

	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		assert_int_equal(header_measure(slice_of(ROWS[i].text), true, &r), HEADER_WHOLE);
		if (r.begin != ROWS[i].begin || r.end != ROWS[i].end || r.body != ROWS[i].body ||
		    r.has_no_blank != ROWS[i].has_no_blank)
			fail_msg("%s: %zu %zu %zu", ROWS[i].text, r.begin, r.end, r.body);
	}
	for (size_t len = 255; len <= 256; len++) { /* a name that long could not be sent in one line */
		char name[300];

		memset(name, 'n', sizeof(name));
		memcpy(name + len, ": x\n", 5);
		assert_int_equal(header_measure(slice_of(name), true, &r), HEADER_WHOLE);
		assert_int_equal(r.has_no_blank, len == 256);
	}
	assert_int_equal(header_measure(slice_of("A: b\nC: d"), false, &r), HEADER_NEEDS_MORE);
	assert_int_equal(header_measure(slice_of("A: b\n"), false, &r), HEADER_NEEDS_MORE);
	assert_int_equal(header_measure(slice_of("A: b\n\n"), false, &r), HEADER_WHOLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(envelopes),
		cmocka_unit_test(texts),
		cmocka_unit_test(one_received_line_and_the_same_text_each_time),
		cmocka_unit_test(options),
		cmocka_unit_test(flags),
		cmocka_unit_test(hops_and_nul),
		cmocka_unit_test(where_the_header_ends),
	};

	conf_index_servers(&conf);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
