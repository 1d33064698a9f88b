/* queuefile_fuzz.c - the queue file parser: what it takes must come back the same when written again. */
#include "lib/queuefile.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct queuefile first, second;
	struct buf head;

	buf_init(&head, QUEUEFILE_HEAD_MAX);
	if (queuefile_parse((struct slice){ (const char *)bytes, len }, &first) == QUEUEFILE_OK) {
		queuefile_format_head(&head, &first);
		if (queuefile_parse(buf_slice(&head), &second) != QUEUEFILE_OK ||
		    second.rcpt_count != first.rcpt_count || second.size_bytes != first.size_bytes ||
		    !slice_equal(second.sender, first.sender))
			BUG("a queue file changes when it is written again");
		queuefile_release(&second);
	}
	queuefile_release(&first);
	buf_release(&head);
	return 0;
}
