/* Headers taken apart, field by field, and written. */
#include "lib/field.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
/* cmocka last: it needs setjmp.h and others above */
#include <cmocka.h>

#define NAME_64  "Xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define NAME_256 NAME_64 NAME_64 NAME_64 NAME_64

static void test_names(void **state UNUSED)
{
	static const struct {
		const char *line;
		size_t len;
		enum field_kind kind;
	} ROWS[] = {
		{ "From: a@b.example", 4, FIELD_FROM },
		{ "fROM:a@b.example", 4, FIELD_FROM },
		{ "From \t: a@b.example", 4, FIELD_FROM },
		{ "From a@b.example Thu Jan  1", 0, FIELD_OTHER },
		{ "From", 0, FIELD_OTHER },
		{ " From: a@b.example", 0, FIELD_OTHER },
		{ ": a@b.example", 0, FIELD_OTHER },
		{ "", 0, FIELD_OTHER },
		{ "Fro\xc3\xa4: x", 0, FIELD_OTHER },
		{ "Fro\x7f: x", 0, FIELD_OTHER },
		{ "From\r: x", 0, FIELD_OTHER },
		{ "Fromage: x", 7, FIELD_OTHER },
		{ "X-Receiver: x", 10, FIELD_X_RECEIVER },
		{ "MIME-Version: 1.0", 12, FIELD_MIME_VERSION },
		{ NAME_256 ":", 0, FIELD_OTHER },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		size_t len = field_name_length(slice_of(ROWS[i].line));

		if (len != ROWS[i].len || field_kind_of((struct slice){ ROWS[i].line, len }) != ROWS[i].kind)
			fail_msg("%s: a name of %zu", ROWS[i].line, len);
	}
	assert_int_equal(field_name_length(slice_of(&(NAME_256 ":")[1])), FIELD_NAME_MAX);
}

/* Every kind has a name of its own. */
static void test_kinds(void **state UNUSED)
{
	assert_int_equal(field_kind_of((struct slice){ "", 0 }), FIELD_OTHER);
	assert_int_equal(field_kind_of(slice_of("Bcc")), FIELD_OTHER + 1);
	assert_int_equal(field_kind_of(slice_of("X-Sender")), FIELD_KIND_COUNT - 1);
	assert_int_equal(field_kind_of(slice_of("Content-Transfer-Encoding")), FIELD_CONTENT_TRANSFER_ENCODING);
}

static void test_take(void **state UNUSED)
{
	static const char HEADER[] = "To : a@b,\r\n\tc@d\r\nX:\n\r y\nSubject: a: b\r";
	static const struct {
		const char *raw, *name, *value;
	} FIELDS[] = {
		{ "To : a@b,\r\n\tc@d\r\n", "To", " a@b,\r\n\tc@d" },
		{ "X:\n\r y\n", "X", "\n\r y" },
		{ "Subject: a: b\r", "Subject", " a: b\r" },
	};
	struct slice rest = slice_of(HEADER);
	struct field f;

	for (unsigned i = 0; i < ARRAY_LEN(FIELDS); i++) {
		assert_true(field_take(&rest, &f));
		assert_true(slice_is(f.raw, FIELDS[i].raw));
		assert_true(slice_is(f.name, FIELDS[i].name));
		assert_true(slice_is(f.value, FIELDS[i].value));
	}
	assert_false(field_take(&rest, &f));
}

static void test_measure(void **state)
{
	static const struct {
		const char *in;
		size_t len;
	} ROWS[] = {
		{ "\r\nbody\r\n", 0 },         { "A: b\r\n\r\nC: d\r\n", 6 }, { "A: b\r\n c\r\n\r\n", 10 },
		{ "A: b\r\nno field\r\n", 6 }, { " x\r\nA: b\r\n", 0 },       { ": b\r\n\r\n", 0 },
	};
	size_t len = 99;

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		assert_true(field_measure(slice_of(ROWS[i].in), false, &len));
		assert_int_equal(len, ROWS[i].len);
	}
	assert_false(field_measure(slice_of("A: b\r\n"), false, &len));
	assert_false(field_measure(slice_of("A: b\r\n\r"), false, &len));
	assert_true(field_measure(slice_of("A: b\r\n"), true, &len));
	assert_int_equal(len, 6);
}

static void test_unfold(void **state UNUSED)
{
	struct buf out;

	buf_init(&out, 100);
	field_unfold(&out, slice_of("\r\n  a,\r\n\tb\rc \t"));
	assert_string_equal(buf_text(&out), "a,\tb c");
	buf_clear(&out);
	field_unfold(&out, slice_of(" \r\n "));
	assert_int_equal(out.len, 0);
	buf_release(&out);
}

/* HS40: Folding: no line over the limit, none of blanks only, and unfolded it is what it was. */
static void test_folding(void **state UNUSED)
{
	static const size_t WORDS[] = { 1, 5, 80, 900, 990, 991, 997, 998, 2000, 5000 };
	struct buf value, out;

	buf_init(&value, 100000);
	buf_init(&out, 200000);
	for (size_t i = 0; i < ARRAY_LEN(WORDS); i++) {
		struct field f = { .name = { "Subject", 7 } };
		size_t column = 0, longest = 0, words = 0;

		buf_clear(&value);
		buf_clear(&out);
		for (size_t k = 0; k < 20000 / (WORDS[i] + 1); k++) {
			buf_put_char(&value, ' ');
			for (size_t c = 0; c < WORDS[i]; c++)
				buf_put_char(&value, 'x');
		}
		buf_put_str(&value, "      ");
		f.value = buf_slice(&value);
		field_put(&out, &f);
		for (size_t k = 8; k < out.len; k++) {
			words += out.ptr[k] == 'x';
			column = out.ptr[k] == '\n' ? 0 : column + 1;
			longest = column > longest ? column : longest;
			if (out.ptr[k] == '\n' && k + 1 < out.len)
				assert_true(out.ptr[k + 1] == ' ' && out.ptr[k + 2] == 'x');
		}
		assert_true(longest <= FIELD_LINE_MAX + 1); /* CR counted */
		assert_int_equal(words, 20000 / (WORDS[i] + 1) * WORDS[i]);
	}
	buf_release(&value);
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),   cmocka_unit_test(test_kinds),  cmocka_unit_test(test_take),
		cmocka_unit_test(test_measure), cmocka_unit_test(test_unfold), cmocka_unit_test(test_folding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
