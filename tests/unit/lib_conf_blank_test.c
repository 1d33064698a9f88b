/* The configuration's text without its passwords: as long as before, as many lines, and still right. */
#include "lib/conf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka last: it needs setjmp.h and others above */
#include <cmocka.h>

static const struct {
	const char *text, *blanked;
} ROWS[] = {
	{ "", "" },
	{ "server \"a\" { host = h username = u password = hush }",
	  "server \"a\" { host = h username = u password = xxxx }" },
	{ "password = \"hu sh\"\nport = 1", "password = \"xxxxx\"\nport = 1" },
	{ "password='it\\\\s'", "password='xxxxx'" },
	{ "password = \"a\\\"b\" host = h", "password = \"xxxx\" host = h" },
	{ "password /* hush */ = /* hush */ hush", "password /* hush */ = /* hush */ xxxx" },
	{ "password\n=\nhush # password = old", "password\n=\nxxxx # password = old" },
	{ "password = \"gr\303\274n\"", "password = \"xxxxx\"" },
	{ "password-file = \"hush\" display-name = \"password = hush\"",
	  "password-file = \"hush\" display-name = \"password = hush\"" },
	{ "display-name = password password = hush", "display-name = password password = xxxx" },
};

static void test_rows(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		char *text = xstrdup(ROWS[i].text);

		conf_blank_secrets(text, strlen(text));
		assert_string_equal(text, ROWS[i].blanked);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
