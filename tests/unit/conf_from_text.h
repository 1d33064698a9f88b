/* conf_from_text.h - a configuration out of a test's own text, without a file. */
#ifndef TESTS_UNIT_CONF_FROM_TEXT_H
#define TESTS_UNIT_CONF_FROM_TEXT_H
#include "lib/conf_private.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

#define PATH "/etc/t.conf"

static inline struct conf *read_as(const char *text, struct conf_errors *errors)
{
	return conf_read_text(PATH, slice_of(text), errors);
}

/* Reads what must be right; the caller frees. */
static inline struct conf *read_right(const char *text)
{
	struct conf_errors errors;
	struct conf *c = read_as(text, &errors);

	for (unsigned i = 0; i < errors.count; i++)
		print_error("%s\n", errors.text[i]);
	assert_int_equal(errors.count, 0);
	assert_non_null(c);
	return c;
}
#endif
