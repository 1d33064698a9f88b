/* What workers tell a scheduler that has just started, in whatever order. */
#include "lib/queuefile.h"
#include "scheduler/intake.h"
#include "scheduler/job.h"
#include "scheduler/outcome.h"
#include "scheduler/session.h"
#include "tests/unit/scheduler_on_disk.h"

enum { RELAY, DIRECT };
static const uint64_t ID = UINT64_C(1795307043448000) << 12;
static const char *const RCPTS[] = { "x@there.example", "y@there.example", NULL };

/* Two of them, which have what their last scheduler gave them. */
static void make_workers(struct scheduler *s)
{
	s->worker_count = s->syncing_count = 2;
	s->worker = xcalloc(2, sizeof(*s->worker));
	for (unsigned i = 0; i < 2; i++)
		s->worker[i] = (struct worker){ .index = i, .owner = s, .state = WORKER_SYNCING, .channel = s->pickup };
}

static struct msg_report report_of(const struct scheduler *s, unsigned server, const uint32_t *index)
{
	return (struct msg_report){
		.sequence = 4711,
		.session = 1,
		.server = conf_server_key(&s->conf->server[server]),
		.queue_id = ID,
		.group = 1,
		.attempt = 1,
		.verdict = VERDICT_DELIVERED,
		.was_seen = true,
		.last = true,
		.code = 250,
		.dsn = slice_of("2.0.0"),
		.text = slice_of("250 taken"),
		.relay = slice_of("mx.example[192.0.2.1]:25"),
		.rcpts = { .values = index, .count = 1 },
	};
}

/*
 * One recipient was delivered through the first server; for the other, the second one has it in hand at another worker,
 * which is heard first.
 */
static void test_first_servers_report_comes_last(void **state)
{
	struct scheduler *s = *state;
	struct msg_session_open open = { .session = 2, .server = conf_server_key(&s->conf->server[DIRECT]) };
	struct msg_inflight flight = { .session = 2, .queue_id = ID, .group = 1, .attempt = 1, .rcpt_count = 1 };
	const uint32_t first = 0;
	struct msg_report report = report_of(s, RELAY, &first);
	struct job *job;

	entries_push(s->entries, put_entry(s, ID, RCPTS), clock_mono());
	make_workers(s);
	session_foreign(s, &s->worker[1], &open);
	outcome_on_inflight(s, &s->worker[1], &flight);
	outcome_on_report(s, &s->worker[0], &report);
	job = job_find(s, ID, 1);
	assert_non_null(job);
	assert_non_null(job->session);
	assert_int_equal(job->record->rcpt[0].state, RCPT_DELIVERED);
	assert_int_equal(job->record->rcpt[1].state, RCPT_PENDING);
	assert_int_equal(s->worker[0].ack_count, 3);
	(void)job_end(s, job, NULL);
	session_lose_all(s, &s->worker[1]);
	free(s->worker[0].acks);
	free(s->worker);
}

/* An operator held it before its worker was heard: what was delivered is recorded, and the rest stays held. */
static void test_report_about_mail_that_was_held_meanwhile(void **state)
{
	struct scheduler *s = *state;
	const uint32_t first = 0;
	struct msg_report report = report_of(s, RELAY, &first);
	entry_index i = put_entry(s, ID, RCPTS);
	struct record *r = journal_get(s->journal, ID, 1);

	assert_non_null(r);
	record_hold(r);
	assert_int_equal(journal_put(s->journal, r), STORE_OK);
	record_free(&r);
	entry_get(s->entries, i)->place = ENTRY_HELD;
	make_workers(s);
	outcome_on_report(s, &s->worker[0], &report);
	assert_int_equal(entry_get(s->entries, i)->place, ENTRY_HELD);
	assert_null(job_find(s, ID, 1));
	r = journal_get(s->journal, ID, 1);
	assert_non_null(r);
	assert_int_equal(r->state, RECORD_HELD);
	assert_int_equal(r->rcpt[0].state, RCPT_DELIVERED);
	assert_int_equal(r->rcpt[1].state, RCPT_PENDING);
	record_free(&r);
	free(s->worker[0].acks);
	free(s->worker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_report_about_mail_that_was_held_meanwhile, setup_scheduler,
						teardown_scheduler),
		cmocka_unit_test_setup_teardown(test_first_servers_report_comes_last, setup_scheduler,
						teardown_scheduler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
