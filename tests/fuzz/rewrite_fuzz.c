/* Rewriting any header: no crash; what comes out is a header again, with one From that the server takes, lines no
 * longer than they were or may be, and rewriting it once more changes nothing. The first byte chooses the setting. */
#include "lib/address.h"
#include "lib/field.h"
#include "lib/rewrite.h"

enum { OUT_MAX = 4 * 1024 * 1024 };

static char *ALLOWED[] = { (char *)"b.c" };

/* Without the line end. */
static size_t longest_line(struct slice s)
{
	size_t longest = 0;

	for (size_t at = 0; at < s.len;) {
		const char *end = memchr(s.ptr + at, '\n', s.len - at);
		size_t len = end ? (size_t)(end - s.ptr) - at : s.len - at;

		longest = len > longest ? len : longest;
		at += len + 1;
	}
	return longest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf_server server = { .rewrite_sender = (char *)"me@isp.example", .allowed_senders = { 1, ALLOWED } };
	struct rewrite r = { &server, { "s@b.c", 5 }, { "me@isp.example", 14 } };
	struct slice in = { (const char *)data + 1, size > 0 ? size - 1 : 0 };
	struct buf once, twice;
	size_t len, again;

	if (size == 0 || size > OUT_MAX / 16)
		return 0;
	server.rewrite = data[0] & 1 ? REWRITE_ALWAYS : REWRITE_UNLESS_ALLOWED;
	if (!field_measure(in, true, &len) || len > in.len)
		BUG("a whole header cannot be measured");
	buf_init(&once, OUT_MAX);
	buf_init(&twice, OUT_MAX);
	if (rewrite_header(&once, &r, (struct slice){ in.ptr, len })) {
		if (once.failed)
			BUG("a header grew without bounds");
		if (!field_measure(buf_slice(&once), true, &again) || again != once.len)
			BUG("what came out is no header");
		if (longest_line(buf_slice(&once)) > longest_line((struct slice){ in.ptr, len }) + 1 &&
		    longest_line(buf_slice(&once)) > FIELD_LINE_MAX + 1)
			BUG("a line of %zu bytes", longest_line(buf_slice(&once)));
		if (rewrite_header(&twice, &r, buf_slice(&once)))
			BUG("once more changes it again:\n%s\n--\n%s", buf_text(&once), buf_text(&twice));
	} else if (once.len > 0) {
		BUG("bytes for an unchanged header");
	}
	buf_release(&once);
	buf_release(&twice);
	return 0;
}
