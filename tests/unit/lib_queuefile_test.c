/* What is written can be read, and nothing else can. */
#include "lib/queuefile.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static struct queuefile_rcpt two_rcpts[] = {
	{ { "a@b.example", 11 }, { "", 0 }, 0 },
	{ { "c@d.example", 11 }, { "rfc822;c+40d", 12 }, NOTIFY_FAILURE | NOTIFY_DELAY },
};

static struct queuefile full(void)
{
	return (struct queuefile){ .id = 12345678901234,
				   .arrival = { 1795307043448 },
				   .send_after = { 1795307099000 },
				   .uid = 1000,
				   .size_bytes = 5,
				   .flags = QUEUEFILE_DOTS | QUEUEFILE_UTF8,
				   .priority = PRIORITY_BULK,
				   .is_ret_full = true,
				   .server = { "isp", 3 },
				   .envid = { "x+2By", 5 },
				   .sender = { "me@b.example", 12 },
				   .rcpt_count = 2,
				   .rcpt = two_rcpts };
}

static void check_full(const struct queuefile *q)
{
	assert_int_equal(q->id, 12345678901234);
	assert_int_equal(q->arrival.ms, 1795307043448);
	assert_int_equal(q->send_after.ms, 1795307099000);
	assert_int_equal(q->uid, 1000);
	assert_int_equal(q->flags, QUEUEFILE_DOTS | QUEUEFILE_UTF8);
	assert_int_equal(q->priority, PRIORITY_BULK);
	assert_true(q->is_ret_full);
	assert_true(slice_is(q->server, "isp"));
	assert_true(slice_is(q->envid, "x+2By"));
	assert_true(slice_is(q->sender, "me@b.example"));
	assert_int_equal(q->rcpt_count, 2);
	assert_true(slice_is(q->rcpt[0].address, "a@b.example"));
	assert_int_equal(q->rcpt[0].notify, 0);
	assert_true(slice_is(q->rcpt[1].orcpt, "rfc822;c+40d"));
	assert_int_equal(q->rcpt[1].notify, NOTIFY_FAILURE | NOTIFY_DELAY);
}

static void head_comes_back(void **state UNUSED)
{
	struct queuefile q = full(), r;
	struct buf head;

	buf_init(&head, 10000);
	queuefile_format_head(&head, &q);
	assert_false(head.failed);
	assert_int_equal(queuefile_parse(buf_slice(&head), &r), QUEUEFILE_OK);
	check_full(&r);
	assert_int_equal(r.body_offset_bytes, head.len);
	queuefile_release(&r);
	buf_release(&head);
}

static int file_of(const void *bytes, size_t len)
{
	int fd = memfd_create("queuefile", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	return fd;
}

static enum queuefile_result read_bytes(const void *bytes, size_t len)
{
	int fd = file_of(bytes, len);
	struct queuefile r;
	enum queuefile_result result = queuefile_read(fd, &r);

	queuefile_release(&r);
	close(fd);
	return result;
}

static void any_changed_or_missing_byte_of_the_head_is_noticed(void **state UNUSED)
{
	struct queuefile q = full();
	struct buf file;
	size_t head;

	buf_init(&file, 10000);
	queuefile_format_head(&file, &q);
	head = file.len;
	buf_put_str(&file, "a\r\n\r\nend\n");
	assert_int_equal(read_bytes(file.ptr, file.len), QUEUEFILE_OK);
	for (size_t i = 0; i < head; i++) {
		char old = file.ptr[i];

		file.ptr[i] = (char)(old ^ 1);
		if (read_bytes(file.ptr, file.len) != QUEUEFILE_DAMAGED)
			fail_msg("byte %zu changed unnoticed", i);
		file.ptr[i] = old;
	}
	for (size_t len = 0; len < file.len; len++) {
		if (read_bytes(file.ptr, len) != QUEUEFILE_DAMAGED)
			fail_msg("cut at %zu unnoticed", len);
	}
	buf_put_str(&file, "x");
	assert_int_equal(read_bytes(file.ptr, file.len), QUEUEFILE_DAMAGED);
	file.ptr[file.len - 2] = 'X'; /* the END mark itself */
	assert_int_equal(read_bytes(file.ptr, file.len - 1), QUEUEFILE_DAMAGED);
	buf_release(&file);
}

/* Header and message of every size around the first read of 4 KiB. */
static void large_and_small(void **state UNUSED)
{
	static const size_t RCPTS[] = { 1, 100, 130, 131, 132, 133, 134, 135, 140, 1000, 100000 },
			    BODIES[] = { 0, 1, 3700, 3900, 4096, 100000 };
	struct queuefile_rcpt *rcpt = xcalloc(100001, sizeof(*rcpt));
	struct buf file;

	buf_init(&file, 64u << 20);
	for (size_t i = 0; i <= 100000; i++)
		rcpt[i].address = slice_of("someone.else@example.com");
	for (size_t i = 0; i < ARRAY_LEN(RCPTS); i++) {
		for (size_t j = 0; j < ARRAY_LEN(BODIES); j++) {
			struct queuefile q = full(), r;
			int fd;

			q.rcpt = rcpt;
			q.rcpt_count = (uint32_t)RCPTS[i];
			q.size_bytes = BODIES[j];
			buf_clear(&file);
			queuefile_format_head(&file, &q);
			for (size_t k = 0; k < BODIES[j]; k++)
				buf_put_char(&file, 'x');
			buf_put_str(&file, QUEUEFILE_END);
			fd = file_of(file.ptr, file.len);
			assert_int_equal(queuefile_read(fd, &r), QUEUEFILE_OK);
			assert_int_equal(r.rcpt_count, RCPTS[i]);
			assert_int_equal(r.body_offset_bytes + r.size_bytes + 4, file.len);
			queuefile_release(&r);
			close(fd);
		}
	}
	free(rcpt);
	buf_release(&file);
}

static uint64_t fnv(struct slice s)
{
	uint64_t sum = 0xcbf29ce484222325u;

	for (size_t i = 0; i < s.len; i++)
		sum = (sum ^ (uint8_t)s.ptr[i]) * 0x100000001b3u;
	return sum;
}

/* Headers with a right checksum whose content is wrong: somebody who can compute one wrote them. */
static void contents_that_are_refused(void **state UNUSED)
{
#define TOP "postern 1\nid=0000000000001\narrival=1\nuid=0\nsize=0\n"
	static const struct {
		const char *text;
		enum queuefile_result expected;
	} ROWS[] = {
		{ TOP "flags=\nsender=\nrcpt=a@b\n", QUEUEFILE_OK },
		{ TOP "flags=dots 8bit utf8\nsender=\nrcpt=a@b\n", QUEUEFILE_OK },
		{ TOP "flags=\nret=hdrs\nsender=\nrcpt=a@b\tnotify=never\n", QUEUEFILE_OK },
		{ TOP "flags=evil\nsender=\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nsender=\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ TOP "sender=\nflags=\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nunknown=1\nsender=\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nsender=<>\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nsender=a\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nsender=a@b> SIZE=1\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nsender=\nrcpt=<a@b>\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nsender=\nrcpt=\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nsender=\nrcpt=a@b\r\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nsender=\nrcpt=a@b\tnotify=never,success\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nsender=\nrcpt=a@b\tnotify=\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nsender=\nrcpt=a@b\torcpt=rfc822;a b\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nsender=\nrcpt=a@b\tother=1\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nsender=\nrcpt=a@b\nrcpt=\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\npriority=urgent\nsender=\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\npriority=high\npriority=high\nsender=\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nserver=\nsender=\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nsend-after=-1\nsender=\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nenvid=a b\nsender=\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ TOP "flags=\nret=all\nsender=\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ "postern 2\nid=0000000000001\narrival=1\nuid=0\nsize=0\nflags=\nsender=\nrcpt=a@b\n",
		  QUEUEFILE_DAMAGED },
		{ "postern 1\nid=1\narrival=1\nuid=0\nsize=0\nflags=\nsender=\nrcpt=a@b\n", QUEUEFILE_DAMAGED },
		{ "postern 1\nid=0000000000001\narrival=x\nuid=0\nsize=0\nflags=\nsender=\nrcpt=a@b\n",
		  QUEUEFILE_DAMAGED },
		{ "postern 1\nid=0000000000001\narrival=1\nuid=4294967296\nsize=0\nflags=\nsender=\nrcpt=a@b\n",
		  QUEUEFILE_DAMAGED },
		{ "postern "
		  "1\nid=0000000000001\narrival=1\nuid=0\nsize=99999999999999999999\nflags=\nsender=\nrcpt=a@b\n",
		  QUEUEFILE_DAMAGED },
	};
	struct queuefile r;
	struct buf text;

	buf_init(&text, 10000);
	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		buf_clear(&text);
		buf_put_str(&text, ROWS[i].text);
		buf_printf(&text, "sum=%016llx\n\n", (unsigned long long)fnv(slice_of(ROWS[i].text)));
		if (queuefile_parse(buf_slice(&text), &r) != ROWS[i].expected)
			fail_msg("row %zu: %s", i, ROWS[i].text);
		queuefile_release(&r);
	}
	buf_release(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(head_comes_back),
		cmocka_unit_test(any_changed_or_missing_byte_of_the_head_is_noticed),
		cmocka_unit_test(large_and_small),
		cmocka_unit_test(contents_that_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
