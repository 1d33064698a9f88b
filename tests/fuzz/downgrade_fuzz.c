/* A message for a server without 8BITMIME: any bytes, in pieces whose size the first byte says. */
#include "lib/text.h"
#include "smtpout/downgrade.h"
#include <strings.h>

enum { OUT_MAX = 64 * 1024 * 1024 };

/* A multipart that calls itself 8bit or binary is labelled anew, though there may be no such byte in it. */
static bool has_label(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((s.len - i >= 4 && strncasecmp(s.ptr + i, "8bit", 4) == 0) ||
		    (s.len - i >= 6 && strncasecmp(s.ptr + i, "binary", 6) == 0))
			return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct downgrade *d = downgrade_new();
	size_t piece = size > 0 ? data[0] + 1u : 1;
	struct slice all = { (const char *)data, size };
	struct buf out;

	buf_init(&out, OUT_MAX);
	for (size_t at = 0; at < size; at += piece)
		downgrade_look(d, (struct slice){ all.ptr + at, size - at < piece ? size - at : piece });
	downgrade_turn(d);
	for (size_t at = 0; at < size; at += piece) {
		size_t len = size - at < piece ? size - at : piece, before = out.len;

		downgrade_put(d, (struct slice){ all.ptr + at, len }, &out);
		if (out.len - before > DOWNGRADE_GROWTH * len + DOWNGRADE_SLACK)
			BUG("%zu bytes became %zu", len, out.len - before);
	}
	downgrade_end(d, &out);
	if (out.failed)
		BUG("%zu bytes became more than %d", size, OUT_MAX);
	if (text_is_ascii(all) && !has_label(all) &&
	    (out.len != size || (size > 0 && memcmp(out.ptr, all.ptr, size) != 0)))
		BUG("a message that needed no change was changed");
	downgrade_free(&d);
	buf_release(&out);
	return 0;
}
