/* Replies as servers send them, well-formed and not, in pieces of every size. */
#include "smtpout/reply.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka last: it needs setjmp.h and others above */
#include <cmocka.h>

struct row {
	const char *label, *bytes;
	unsigned code; /* 0: malformed */
	const char *dsn, *text;
};

static const struct row ROWS[] = {
	{ "one line", "250 ok\r\n", 250, "", "ok" },
	{ "no text", "250\r\n", 250, "", "" },
	{ "empty text", "250 \r\n", 250, "", "" },
	{ "HS09 LF alone", "250 ok\n", 250, "", "ok" },
	{ "HS06 control bytes stay in the text", "550 \001\033[1m\r x\r\n", 550, "", "\001\033[1m\r x" },
	{ "HS06 8-bit stays", "550 \377\344\r\n", 550, "", "\377\344" },
	{ "several lines", "250-a\r\n250-b\r\n250 c\r\n", 250, "", "a\nb\nc" },
	{ "an empty line among them", "250-a\r\n250-\r\n250\r\n", 250, "", "a\n\n" },
	{ "enhanced code", "550 5.1.1 unknown\r\n", 550, "5.1.1", "5.1.1 unknown" },
	{ "enhanced code alone", "250 2.0.0\r\n", 250, "2.0.0", "2.0.0" },
	{ "the first enhanced code of several lines", "550-5.7.1 a\r\n550 5.1.1 b\r\n", 550, "5.7.1",
	  "5.7.1 a\n5.1.1 b" },
	{ "an enhanced code of another class is not believed", "550 4.1.1 x\r\n", 550, "", "4.1.1 x" },
	{ "three digits each", "450 4.123.456 x\r\n", 450, "4.123.456", "4.123.456 x" },
	{ "four digits are none", "450 4.1234.5 x\r\n", 450, "", "4.1234.5 x" },
	{ "an address is no enhanced code", "550 5.1.1.2 x\r\n", 550, "", "5.1.1.2 x" },
	{ "cut short", "550 5.1.\r\n", 550, "", "5.1." },
	{ "cut shorter", "550 5.\r\n", 550, "", "5." },
	{ "571 is used in earnest", "571 no\r\n", 571, "", "no" },
	{ "HS07 two digits", "25\r\n", 0, NULL, NULL },
	{ "HS07 four digits", "2500 x\r\n", 0, NULL, NULL },
	{ "HS07 a letter", "2x0 x\r\n", 0, NULL, NULL },
	{ "HS07 words", "abc\r\n", 0, NULL, NULL },
	{ "HS07 an empty line", "\r\n", 0, NULL, NULL },
	{ "HS07 LF alone", "\n", 0, NULL, NULL },
	{ "HS07 first digit 0", "050 x\r\n", 0, NULL, NULL },
	{ "HS07 first digit 6", "650 x\r\n", 0, NULL, NULL },
	{ "a blank first", " 250 x\r\n", 0, NULL, NULL },
	{ "a NUL inside the code", "25\0 x\r\n", 0, NULL, NULL },
	{ "HS10 the code changes", "250-a\r\n550 b\r\n", 0, NULL, NULL },
};

/* Feeds `in` in pieces of `step` bytes, as a connection would deliver it. */
static enum reply_result feed(struct slice in, size_t step, struct reply_parser *p, struct buf *window,
			      struct reply *out)
{
	enum reply_result result = REPLY_MORE;
	size_t used;

	for (size_t at = 0; at < in.len && result == REPLY_MORE; at += step) {
		size_t n = in.len - at < step ? in.len - at : step;

		buf_put(window, in.ptr + at, n);
		result = reply_parse(p, buf_slice(window), &used, out);
		if (result == REPLY_MORE)
			buf_consume(window, used);
	}
	return result;
}

static void test_rows(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		size_t len = ROWS[i].label[0] == 'a' && strstr(ROWS[i].label, "NUL") ? 7 : strlen(ROWS[i].bytes);

		for (size_t step = 1; step <= len; step++) {
			struct reply_parser p;
			struct reply r;
			struct buf window;
			enum reply_result result;

			reply_parser_init(&p);
			buf_init(&window, 100000);
			result = feed((struct slice){ ROWS[i].bytes, len }, step, &p, &window, &r);
			if ((result == REPLY_DONE) != (ROWS[i].code != 0))
				fail_msg("%s, %zu bytes at a time: result %d", ROWS[i].label, step, result);
			if (result == REPLY_DONE) {
				assert_int_equal(r.code, ROWS[i].code);
				assert_string_equal(r.dsn, ROWS[i].dsn);
				if (!slice_is(r.text, ROWS[i].text))
					fail_msg("%s: text \"%.*s\"", ROWS[i].label, (int)r.text.len, r.text.ptr);
				assert_true(reply_parser_is_idle(&p));
			} else {
				assert_non_null(p.why);
			}
			buf_release(&window);
			reply_parser_release(&p);
		}
	}
}

/* What is taken is exactly one reply; the next stays. */
static void test_one_at_a_time(void **state)
{
	static const char TEXT[] = "250 a\r\n250-b\r\n250 c\r\n354 d\r\n55";
	const unsigned codes[] = { 250, 250, 354 };
	struct slice rest = { TEXT, sizeof(TEXT) - 1 };
	struct reply_parser p;
	struct reply r;
	size_t used;

	reply_parser_init(&p);
	for (unsigned i = 0; i < ARRAY_LEN(codes); i++) {
		assert_int_equal(reply_parse(&p, rest, &used, &r), REPLY_DONE);
		assert_int_equal(r.code, codes[i]);
		rest.ptr += used;
		rest.len -= used;
	}
	assert_int_equal(reply_parse(&p, rest, &used, &r), REPLY_MORE);
	assert_int_equal(used, 0);
	assert_int_equal(reply_parse(&p, (struct slice){ "", 0 }, &used, &r), REPLY_MORE);
	reply_parser_release(&p);
}

/* HS03 HS05: lines without end, lines without number */
static void test_caps(void **state)
{
	struct reply_parser p;
	struct reply r;
	struct buf in;
	size_t used;

	reply_parser_init(&p);
	buf_init(&in, 1 << 20);
	buf_put_str(&in, "250 ");
	while (in.len < REPLY_LINE_MAX)
		buf_put_char(&in, 'x');
	assert_int_equal(reply_parse(&p, buf_slice(&in), &used, &r), REPLY_MORE);
	buf_put_char(&in, 'x');
	assert_int_equal(reply_parse(&p, buf_slice(&in), &used, &r), REPLY_MALFORMED);

	reply_parser_release(&p);
	reply_parser_init(&p);
	buf_clear(&in);
	for (unsigned i = 0; i < REPLY_LINES_MAX; i++)
		buf_put_str(&in, "250-x\r\n");
	assert_int_equal(reply_parse(&p, buf_slice(&in), &used, &r), REPLY_MORE);
	assert_int_equal(used, in.len);
	assert_int_equal(reply_parse(&p, slice_of("250 x\r\n"), &used, &r), REPLY_MALFORMED);

	reply_parser_release(&p);
	reply_parser_init(&p);
	buf_clear(&in);
	for (unsigned i = 0; i < 20; i++) {
		buf_put_str(&in, "250-");
		for (unsigned n = 0; n < 4000; n++)
			buf_put_char(&in, 'y');
		buf_put_str(&in, "\r\n");
	}
	assert_int_equal(reply_parse(&p, buf_slice(&in), &used, &r), REPLY_MALFORMED);
	reply_parser_release(&p);
	buf_release(&in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_one_at_a_time),
		cmocka_unit_test(test_caps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
