/* Line ends and line lengths, whole and in pieces of every size. */
#include "lib/queuefile.h"
#include "pickup/body.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static const struct {
	const char *label, *in, *out;
	unsigned flags;
} ROWS[] = {
	{ "empty", "", "", 0 },
	{ "LF", "a\nb\n", "a\r\nb\r\n", 0 },
	{ "CRLF", "a\r\nb\r\n", "a\r\nb\r\n", 0 },
	{ "no end", "a", "a\r\n", 0 },
	{ "blank lines", "\n\r\n\n", "\r\n\r\n\r\n", 0 },
	{ "lone CR", "a\rb\n", "a b\r\n", 0 },
	{ "CR CR LF", "a\r\r\nb\n", "a \r\nb\r\n", 0 },
	{ "CR at the end", "a\r", "a \r\n", 0 },
	{ "only CR", "\r", " \r\n", 0 },
	{ "CR LF CR", "\r\n\r", "\r\n \r\n", 0 },
	{ "smuggling LF . LF", "a\n.\nb\n", "a\r\n.\r\nb\r\n", QUEUEFILE_DOTS },
	{ "smuggling CR . CR", "a\r.\rb\n", "a . b\r\n", 0 },
	{ "smuggling LF . CR LF", "a\n.\r\n", "a\r\n.\r\n", QUEUEFILE_DOTS },
	{ "dot in the middle", "a.b\n", "a.b\r\n", 0 },
	{ "dot first", ".a", ".a\r\n", QUEUEFILE_DOTS },
	{ "eight bit", "j\xc3\xb6\n", "j\xc3\xb6\r\n", QUEUEFILE_8BIT },
	{ "latin 1 behind eight bytes", "0123456789\xf6", "0123456789\xf6\r\n", QUEUEFILE_8BIT },
};

static void feed_in_pieces(struct body_filter *f, const char *in, size_t len, size_t piece, struct buf *out)
{
	for (size_t at = 0; at < len; at += piece)
		body_feed(f, in + at, len - at < piece ? len - at : piece, out);
	body_finish(f, out);
}

static void table(void **state UNUSED)
{
	struct buf out;

	buf_init(&out, 1000);
	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		for (size_t piece = 1; piece <= strlen(ROWS[i].in) + 1; piece++) {
			struct body_filter f = { 0 };

			buf_clear(&out);
			feed_in_pieces(&f, ROWS[i].in, strlen(ROWS[i].in), piece, &out);
			if (strcmp(buf_text(&out), ROWS[i].out) != 0 || f.flags != ROWS[i].flags || f.has_nul)
				fail_msg("%s by %zu: \"%s\"", ROWS[i].label, piece, buf_text(&out));
		}
	}
	buf_release(&out);
}

static void nul_is_noticed(void **state UNUSED)
{
	struct body_filter f = { 0 };
	struct buf out;

	buf_init(&out, 100);
	body_feed(&f, "a\0b", 3, &out);
	assert_true(f.has_nul);
	buf_release(&out);
}

/* HS40: lines of each length around the limit, in pieces: none is longer, nothing is lost, continuations begin with a
 * blank.
 */
static void long_lines_are_broken(void **state UNUSED)
{
	static const size_t LENGTHS[] = { 997, 998, 999, 1995, 1996, 5000 }, PIECES[] = { 1, 7, 998, 999, 100000 };
	static const unsigned EXPECTED[] = { 1, 1, 2, 2, 3, 6 };
	struct buf in, out;

	buf_init(&in, 10000);
	buf_init(&out, 20000);
	for (size_t i = 0; i < ARRAY_LEN(LENGTHS); i++) {
		buf_clear(&in);
		for (size_t k = 0; k < LENGTHS[i]; k++)
			buf_put_char(&in, '.');
		buf_put_char(&in, '\n');
		for (size_t j = 0; j < ARRAY_LEN(PIECES); j++) {
			struct body_filter f = { 0 };
			unsigned lines = 0;
			size_t dots = 0, column = 0;

			buf_clear(&out);
			feed_in_pieces(&f, in.ptr, in.len, PIECES[j], &out);
			for (size_t k = 0; k < out.len; k++) {
				dots += out.ptr[k] == '.';
				lines += out.ptr[k] == '\n';
				assert_true(column > 0 || lines == 0 || out.ptr[k] == ' ');
				column = out.ptr[k] == '\n' ? 0 : column + 1;
				assert_true(column <= BODY_LINE_MAX + 1); /* CR counted */
			}
			assert_int_equal(dots, LENGTHS[i]);
			assert_int_equal(lines, EXPECTED[i]);
		}
	}
	buf_release(&in);
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),
		cmocka_unit_test(nul_is_noticed),
		cmocka_unit_test(long_lines_are_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
