/* The lines that pflogsumm and its like read. */
#include "smtpout/outcome_log.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka last: it needs setjmp.h and others above */
#include <cmocka.h>

static void test_seconds(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} ROWS[] = {
		{ -5, "0" },     { 0, "0" },      { 4, "0" },        { 5, "0.01" },         { 20, "0.02" },
		{ 100, "0.1" },  { 129, "0.13" }, { 994, "0.99" },   { 996, "1" },          { 1000, "1" },
		{ 1049, "1" },   { 1051, "1.1" }, { 5500, "5.5" },   { 9940, "9.9" },       { 9960, "10" },
		{ 12400, "12" }, { 12600, "13" }, { 100000, "100" }, { 86400000, "86400" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct buf out;

		buf_init(&out, 100);
		outcome_log_seconds(&out, ROWS[i].ms);
		assert_string_equal(buf_text(&out), ROWS[i].text);
		buf_release(&out);
	}
}

static struct outcome_line sample(enum disposition disposition)
{
	return (struct outcome_line){
		.rcpt = slice_of("b@c.example"),
		.relay = "mx.c.example[192.0.2.1]:25",
		.dsn = "2.0.0",
		.text = "250 2.0.0 Ok: queued as 1A2B",
		.server = "isp",
		.arrived = { 1000 },
		.scheduled = { 1020 },
		.active = { 2220 },
		.begun = { 2270 },
		.done = { 2500 },
		.attempt = 1,
		.disposition = disposition,
	};
}

static void must_be(const struct outcome_line *line, bool is_outcome, const char *want)
{
	struct outcome_fields fields;
	struct buf out;

	buf_init(&out, OUTCOME_LOG_MAX);
	assert_int_equal(outcome_log_format(&out, line, &fields), is_outcome);
	assert_string_equal(buf_text(&out), want);
	buf_release(&out);
}

static void test_lines(void **state)
{
	struct outcome_line line = sample(DISPOSITION_SENT);

	must_be(&line, true,
		"to=<b@c.example>, relay=mx.c.example[192.0.2.1]:25, delay=1.5, delays=0.02/1.2/0.05/0.23, dsn=2.0.0, "
		"status=sent (250 2.0.0 Ok: queued as 1A2B), server=isp attempt=1");
	line = sample(DISPOSITION_DEFERRED);
	line.text = "host mx said: 450 x (in reply to RCPT TO command)";
	line.dsn = "4.0.0";
	line.attempt = 3;
	line.next.ms = 1795273445000;
	must_be(&line, true,
		"to=<b@c.example>, relay=mx.c.example[192.0.2.1]:25, delay=1.5, delays=0.02/1.2/0.05/0.23, dsn=4.0.0, "
		"status=deferred (host mx said: 450 x (in reply to RCPT TO command)), server=isp attempt=3 "
		"next=2026-11-21T15:04:05Z");
	line.may_repeat = true;
	must_be(&line, true,
		"to=<b@c.example>, relay=mx.c.example[192.0.2.1]:25, delay=1.5, delays=0.02/1.2/0.05/0.23, dsn=4.0.0, "
		"status=deferred (host mx said: 450 x (in reply to RCPT TO command)), server=isp attempt=3 "
		"next=2026-11-21T15:04:05Z dup=possible");
	line = sample(DISPOSITION_BOUNCED);
	line.server = "a (b) c\n"; /* no parenthesis, blank or line end behind the closing one */
	line.rcpt = slice_of("x\ny@c.example");
	must_be(&line, true,
		"to=<x\\012y@c.example>, relay=mx.c.example[192.0.2.1]:25, delay=1.5, delays=0.02/1.2/0.05/0.23, "
		"dsn=2.0.0, "
		"status=bounced (250 2.0.0 Ok: queued as 1A2B), server=a__b__c\\012 attempt=1");
	line = sample(DISPOSITION_PASSED_ON);
	line.text = "connect to mx: Connection refused";
	must_be(&line, false,
		"not sent to b@c.example through server isp, the next one is tried: connect to mx: Connection refused");
	line = sample(DISPOSITION_IGNORED);
	must_be(&line, false, "");
}

static void test_fields(void **state)
{
	struct outcome_line line = sample(DISPOSITION_DEFERRED);
	struct outcome_fields f;
	struct buf out;
	unsigned n = 0;

	line.next.ms = 1795273445000;
	line.may_repeat = true;
	buf_init(&out, OUTCOME_LOG_MAX);
	assert_true(outcome_log_format(&out, &line, &f));
	while (f.pairs[n])
		n += 2;
	assert_int_equal(n, 22);
	assert_string_equal(f.pairs[0], "to");
	assert_string_equal(f.pairs[1], "b@c.example");
	assert_string_equal(f.pairs[18], "next");
	assert_string_equal(f.pairs[19], "2026-11-21T15:04:05Z");
	assert_string_equal(f.pairs[20], "dup");
	assert_string_equal(f.pairs[21], "possible");
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seconds),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
