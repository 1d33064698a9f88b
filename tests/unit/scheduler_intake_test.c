/* Messages become deliveries: as many as their recipients need, and none before it is durable. */
#include "scheduler/intake.h"
#include "tests/unit/scheduler_on_disk.h"
#include <stdio.h>

static const struct grouping_bounds UNBOUND = { RECORD_RCPT_MAX, false };
enum { MANY = 66000 }; /* more than 16 bits count */
static const uint64_t ID = UINT64_C(1795307043448000) << 12;

static bool count_recipients(void *arg, struct slice key, struct slice value)
{
	struct record *r = record_decode(key, value);

	assert_non_null(r);
	*(unsigned *)arg += r->rcpt_count;
	record_free(&r);
	return true;
}

/* Each at a domain of its own, so each goes by itself. */
static void test_tens_of_thousands_of_domains(void **state)
{
	struct scheduler *s = *state;
	struct queuefile qf = { .id = ID, .priority = PRIORITY_NORMAL, .sender = slice_of("a@here.example") };
	char(*address)[24] = xcalloc(MANY, sizeof(*address)), path[SPOOL_PATH_MAX];
	unsigned direct = 1, count = 0;
	struct buf head;
	int fd;

	qf.rcpt = xcalloc(MANY, sizeof(*qf.rcpt));
	for (; qf.rcpt_count < MANY; qf.rcpt_count++) {
		snprintf(address[qf.rcpt_count], sizeof(*address), "x@d%u.example", qf.rcpt_count);
		qf.rcpt[qf.rcpt_count].address = slice_of(address[qf.rcpt_count]);
	}
	((struct conf *)s->conf)->primary = &direct;
	((struct conf *)s->conf)->primary_count = 1;
	buf_init(&head, QUEUEFILE_HEAD_MAX);
	queuefile_format_head(&head, &qf);
	spool_incoming_path(ID, path);
	fd = openat(s->spool_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(write(fd, head.ptr, head.len) == (ssize_t)head.len && write(fd, QUEUEFILE_END, 4) == 4);
	close(fd);
	intake_admit(s, ID, path, false);
	assert_int_equal(s->admitted_count, 1);
	assert_int_equal(journal_scan(s->journal, ID, count_recipients, &count), STORE_OK);
	assert_int_equal(count, MANY);
	buf_release(&head);
	free(qf.rcpt);
	free(address);
}

/* Until the journal is durable a crash brings back the delivery that was split: none of its parts may go yet. */
static void test_parts_wait_for_the_sync(void **state)
{
	static const char *const RCPTS[] = { "x@one.example", "y@two.example", NULL };
	struct scheduler *s = *state;

	intake_split(s, put_entry(s, ID, RCPTS), UNBOUND);
	assert_int_equal(entries_count(s->entries), 2);
	assert_int_equal(entries_heap_count(s->entries), 0);
	intake_after_sync(s);
	assert_int_equal(entries_heap_count(s->entries), 2);
}

/* The two clocks tick at different moments: worked out from both, a later arrival was due a millisecond earlier. */
static void test_new_mail_goes_in_order_of_arrival(void **state)
{
	static const char *const RCPTS[] = { "x@there.example", NULL };
	struct scheduler *s = *state;

	for (uint64_t k = 0; k < 3000; k++)
		intake_split(s, put_entry(s, ID + k, RCPTS), UNBOUND);
	intake_after_sync(s);
	for (uint64_t k = 0; k < 3000; k++) {
		entry_index i = entries_first(s->entries);

		assert_int_equal(entry_get(s->entries, i)->id, ID + k);
		entries_remove(s->entries, i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tens_of_thousands_of_domains, setup_scheduler, teardown_scheduler),
		cmocka_unit_test_setup_teardown(test_parts_wait_for_the_sync, setup_scheduler, teardown_scheduler),
		cmocka_unit_test_setup_teardown(test_new_mail_goes_in_order_of_arrival, setup_scheduler,
						teardown_scheduler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
