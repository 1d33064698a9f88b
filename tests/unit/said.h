/* said.h - what a client under test has said, against a vector in which | ends a line (CRLF). */
#ifndef TESTS_UNIT_SAID_H
#define TESTS_UNIT_SAID_H
#include "lib/buf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static inline void put_lines(struct buf *out, const char *text)
{
	for (const char *at = text; *at; at++)
		buf_put(out, *at == '|' ? "\r\n" : at, *at == '|' ? 2 : 1);
}

/* Exactly `text` since the last time. */
static inline void must_have_said(struct buf *said, const char *text, const char *label)
{
	struct buf want;

	buf_init(&want, 100000);
	put_lines(&want, text);
	if (!slice_equal(buf_slice(&want), buf_slice(said)))
		fail_msg("%s: we should say \"%s\", not \"%s\"", label, buf_text(&want), buf_text(said));
	buf_release(&want);
	buf_clear(said);
}

/* enum failure_cause in the words of the vectors. */
static const char *const CAUSES[] = { "none",  "dns",      "connect", "tls",     "auth",       "greeting",
				      "reply", "protocol", "lost",    "unknown", "capability", "local" };
#endif
