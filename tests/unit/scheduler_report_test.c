/* What senders are told: each report once, whenever the process dies, and none taken for written that is not. */
#include "lib/queuefile.h"
#include "scheduler/load.h"
#include "scheduler/report.h"
#include "tests/unit/scheduler_on_disk.h"
#include <dirent.h>
#include <stdio.h>
#include <sys/wait.h>

static const uint64_t ID = UINT64_C(1795307043448000) << 12;
static const char *const RCPTS[] = { "x@there.example", "y@there.example", NULL };
static char hostname[] = "mail.example", postmaster[] = "postmaster@mail.example";

static void put_queue_file(struct scheduler *s)
{
	struct queuefile_rcpt rcpts[] = { { .address = slice_of(RCPTS[0]) }, { .address = slice_of(RCPTS[1]) } };
	struct queuefile qf = { .id = ID,
				.priority = PRIORITY_NORMAL,
				.sender = slice_of("a@here.example"),
				.rcpt_count = ARRAY_LEN(rcpts),
				.rcpt = rcpts };
	static const char MESSAGE[] = "Subject: x\r\n\r\nx\r\n";
	char path[SPOOL_PATH_MAX];
	struct buf head;
	int fd;

	spool_queue_path(ID, path);
	fd = openat(s->spool_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, SPOOL_COMPLETE_MODE);
	assert_true(fd >= 0);
	buf_init(&head, QUEUEFILE_HEAD_MAX);
	qf.size_bytes = strlen(MESSAGE);
	queuefile_format_head(&head, &qf);
	assert_true(dprintf(fd, "%s%s%s", buf_text(&head), MESSAGE, QUEUEFILE_END) > 0);
	buf_release(&head);
	close(fd);
}

/* The second recipient has failed for good, the first waits. */
static void put_message(struct scheduler *s)
{
	struct record *r;

	((struct conf *)s->conf)->hostname = hostname;
	((struct conf *)s->conf)->postmaster = postmaster;
	put_queue_file(s);
	put_record(s, ID, RECORD_WAITING, RCPTS);
	r = journal_get(s->journal, ID, 1);
	assert_non_null(r);
	r->rcpt[1].state = RCPT_BOUNCED;
	assert_int_equal(journal_put(s->journal, r), STORE_OK);
	record_free(&r);
}

static unsigned count_in(const struct scheduler *s, const char *path)
{
	DIR *dir = fdopendir(openat(s->spool_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	unsigned count = 0;

	assert_non_null(dir);
	for (const struct dirent *at; (at = readdir(dir));)
		count += at->d_name[0] != '.';
	closedir(dir);
	return count;
}

static unsigned count_reports(const struct scheduler *s)
{
	char path[SPOOL_PATH_MAX];
	unsigned count = count_in(s, "incoming");

	for (unsigned shard = 0; shard < SPOOL_SHARDS; shard++) {
		(void)snprintf(path, sizeof(path), "queue/%02X", shard);
		count += count_in(s, path);
	}
	return count - 1;
}

/* The end of an attempt after which it waits. */
static void wait_on(struct scheduler *s, bool is_failure)
{
	struct record *r = journal_get(s->journal, ID, 1);

	assert_non_null(r);
	if (is_failure)
		report_failed(s, r);
	else if (!(r->flags & (RECORD_WARNED | RECORD_DELAY_DUE)))
		report_delay(s, r);
	assert_int_equal(journal_put(s->journal, r), STORE_OK);
	record_free(&r);
}

static void after_sync(struct scheduler *s)
{
	s->report_again.ms = 0;
	assert_int_equal(journal_sync(s->journal), STORE_OK);
	report_after_sync(s);
}

static bool is_told(struct scheduler *s, bool is_failure)
{
	struct record *r = journal_get(s->journal, ID, 1);
	bool is = is_failure ? r->rcpt[1].state == RCPT_TOLD : r->flags & RECORD_WARNED;

	record_free(&r);
	return is;
}

static void test_report_is_written_and_taken_in(void **state)
{
	struct scheduler *s = *state;

	put_message(s);
	for (int is_failure = 0; is_failure < 2; is_failure++) {
		wait_on(s, is_failure);
		after_sync(s);
		assert_true(is_told(s, is_failure));
		assert_int_equal(s->admitted_count, is_failure + 1);
		wait_on(s, is_failure);
		after_sync(s);
		assert_int_equal(s->admitted_count, is_failure + 1);
	}
	assert_int_equal(count_reports(s), 2);
}

static void test_both_at_once(void **state)
{
	struct scheduler *s = *state;

	put_message(s);
	wait_on(s, true);
	wait_on(s, false);
	for (unsigned i = 0; i < 3; i++)
		after_sync(s);
	assert_true(is_told(s, true) && is_told(s, false));
	assert_int_equal(count_reports(s), 2);
}

static void test_report_that_finds_no_place_is_tried_again(void **state)
{
	struct scheduler *s = *state;

	put_message(s);
	for (int is_failure = 0; is_failure < 2; is_failure++) {
		assert_int_equal(renameat(s->spool_fd, "incoming", s->spool_fd, "elsewhere"), 0);
		wait_on(s, is_failure);
		after_sync(s);
		assert_false(is_told(s, is_failure));
		assert_int_equal(renameat(s->spool_fd, "elsewhere", s->spool_fd, "incoming"), 0);
		after_sync(s);
		assert_true(is_told(s, is_failure));
	}
	assert_int_equal(count_reports(s), 2);
}

/* A process that dies there: what the journal did not sync is lost, files are not. */
static void die_at(struct scheduler *s, unsigned point, bool is_failure)
{
	pid_t pid;
	int status;

	journal_close(&s->journal);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		open_journal(s);
		wait_on(s, is_failure);
		if (point > 0)
			assert_int_equal(journal_sync(s->journal), STORE_OK);
		if (point > 1)
			report_after_sync(s);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	open_journal(s);
}

static void die_and_start(struct scheduler *s, unsigned point, bool is_failure)
{
	put_message(s);
	die_at(s, point, is_failure);
	assert_int_equal(load_spool(s), LOAD_OK);
	after_sync(s);
	wait_on(s, is_failure);
	after_sync(s);
	assert_true(is_told(s, is_failure));
	assert_int_equal(count_reports(s), 1);
}

static void test_cr12_delay_notice_is_written_once(void **state)
{
	for (unsigned point = 0; point < 3; point++) {
		die_and_start(*state, point, false);
		assert_int_equal(teardown_scheduler(state), 0);
		assert_int_equal(setup_scheduler(state), 0);
	}
}

static void test_cr12_failure_report_is_written_once(void **state)
{
	for (unsigned point = 0; point < 3; point++) {
		die_and_start(*state, point, true);
		assert_int_equal(teardown_scheduler(state), 0);
		assert_int_equal(setup_scheduler(state), 0);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_scheduler, teardown_scheduler)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_report_is_written_and_taken_in),
		TEST(test_both_at_once),
		TEST(test_report_that_finds_no_place_is_tried_again),
		TEST(test_cr12_delay_notice_is_written_once),
		TEST(test_cr12_failure_report_is_written_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
