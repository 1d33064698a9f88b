/*
 * dropheaders_fuzz.c - a dropped message, header and body. What is accepted has no Bcc, no bare CR or LF, no line over
 * the limit, no line of blanks only in its header, and its queue file can be read.
 */
#include "lib/field.h"
#include "lib/queuefile.h"
#include "pickup/body.h"
#include "pickup/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static struct conf_server server = { .name = (char *)"isp" };
static struct conf conf = { .hostname = (char *)"mail.test",
			    .postmaster = (char *)"postmaster@mail.test",
			    .recipient_limit = 100,
			    .server_count = 1,
			    .server = &server };

static void check_lines(struct slice text, bool is_header)
{
	size_t column = 0;
	bool has_ink = false;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];

		if (c == '\r' && (i + 1 == text.len || text.ptr[i + 1] != '\n'))
			BUG("bare CR");
		if (c == '\n') {
			if (i == 0 || text.ptr[i - 1] != '\r')
				BUG("bare LF");
			if (is_header && !has_ink)
				BUG("the header ends early");
			column = 0;
			has_ink = false;
			continue;
		}
		has_ink |= c != ' ' && c != '\t' && c != '\r';
		if (c != '\r' && ++column > BODY_LINE_MAX)
			BUG("long line");
	}
	if (column > 0)
		BUG("unfinished line");
}

static void check_header(const struct header *h)
{
	struct slice rest = buf_slice(&h->text);
	struct field f;
	unsigned dates = 0;

	check_lines(rest, true);
	while (field_take(&rest, &f)) {
		if (f.kind == FIELD_BCC || f.kind == FIELD_RESENT_BCC || f.kind == FIELD_X_POSTERN_SERVER)
			BUG("a field that must not be sent");
		dates += f.kind == FIELD_DATE;
	}
	if (dates == 0)
		BUG("no Date");
}

static void check_queue_file(const struct header *h)
{
	struct queuefile qf = { .id = 1,
				.flags = h->flags,
				.priority = h->priority,
				.server = h->server,
				.send_after = h->send_after },
			 back;
	struct buf head;

	buf_init(&head, QUEUEFILE_HEAD_MAX);
	if (qf.send_after.ms < 0)
		qf.send_after.ms = 0;
	envelope_export(&h->envelope, &qf);
	queuefile_format_head(&head, &qf);
	if (queuefile_parse(buf_slice(&head), &back) != QUEUEFILE_OK || back.rcpt_count != qf.rcpt_count)
		BUG("a queue file that cannot be read");
	queuefile_release(&back);
	free(qf.rcpt);
	buf_release(&head);
}

static void check_body(const char *bytes, size_t len)
{
	struct body_filter f = { 0 };
	struct buf out;

	buf_init(&out, 2 * len + 64);
	body_feed(&f, bytes, len / 2, &out);
	body_feed(&f, bytes + len / 2, len - len / 2, &out);
	body_finish(&f, &out);
	if (out.failed)
		BUG("more came out than was promised");
	check_lines(buf_slice(&out), false);
	buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct slice all = { (const char *)bytes, len };
	struct header_source source = { .id = 1ull << 60, .conf = &conf };
	struct header_range range;
	struct header h;

	if (!conf.server_by_key)
		conf_index_servers(&conf);
	header_init(&h);
	(void)header_measure(all, false, &range);
	(void)header_measure(all, true, &range);
	source.fields = (struct slice){ all.ptr + range.begin, range.end - range.begin };
	if (range.has_no_blank)
		source.behind = (struct slice){ all.ptr + range.body, len - range.body };
	if (header_convert(&h, &source)) {
		check_header(&h);
		check_queue_file(&h);
	}
	check_body(all.ptr + range.body, len - range.body);
	header_release(&h);
	return 0;
}
