/* What senders are told: a notice that could not be written is not taken for one that was. */
#include "lib/queuefile.h"
#include "scheduler/report.h"
#include "tests/unit/scheduler_on_disk.h"
#include <stdio.h>

static const uint64_t ID = UINT64_C(1795307043448000) << 12;
static const char *const RCPTS[] = { "x@there.example", NULL };
static char hostname[] = "mail.example", postmaster[] = "postmaster@mail.example";

static void put_queue_file(struct scheduler *s)
{
	struct queuefile_rcpt rcpt = { .address = slice_of(RCPTS[0]) };
	struct queuefile qf = { .id = ID,
				.priority = PRIORITY_NORMAL,
				.sender = slice_of("a@here.example"),
				.rcpt_count = 1,
				.rcpt = &rcpt };
	static const char MESSAGE[] = "Subject: x\r\n\r\nx\r\n";
	char path[SPOOL_PATH_MAX];
	struct buf head;
	int fd;

	spool_queue_path(ID, path);
	fd = openat(s->spool_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	buf_init(&head, QUEUEFILE_HEAD_MAX);
	qf.size_bytes = strlen(MESSAGE);
	queuefile_format_head(&head, &qf);
	assert_true(dprintf(fd, "%s%s%s", buf_text(&head), MESSAGE, QUEUEFILE_END) > 0);
	buf_release(&head);
	close(fd);
}

static struct record *delayed(struct scheduler *s)
{
	struct record *r;

	((struct conf *)s->conf)->hostname = hostname;
	((struct conf *)s->conf)->postmaster = postmaster;
	put_queue_file(s);
	put_record(s, ID, RECORD_WAITING, RCPTS);
	r = journal_get(s->journal, ID, 1);
	assert_non_null(r);
	return r;
}

static void test_notice_is_written_and_taken_in(void **state)
{
	struct scheduler *s = *state;
	struct record *r = delayed(s);

	report_delay(s, r);
	assert_true(r->flags & RECORD_WARNED);
	assert_int_equal(s->admitted_count, 1);
	record_free(&r);
}

static void test_notice_that_finds_no_place_is_tried_again(void **state)
{
	struct scheduler *s = *state;
	struct record *r = delayed(s);

	assert_int_equal(unlinkat(s->spool_fd, "incoming", AT_REMOVEDIR), 0);
	report_delay(s, r);
	assert_false(r->flags & RECORD_WARNED);
	assert_int_equal(mkdirat(s->spool_fd, "incoming", 0700), 0);
	report_delay(s, r);
	assert_true(r->flags & RECORD_WARNED);
	record_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_notice_is_written_and_taken_in, setup_scheduler,
						teardown_scheduler),
		cmocka_unit_test_setup_teardown(test_notice_that_finds_no_place_is_tried_again, setup_scheduler,
						teardown_scheduler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
