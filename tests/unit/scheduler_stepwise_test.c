/* HS22: which sites get one command at a time, and for how long that is remembered. */
#include "lib/hosts.h"
#include "scheduler/session.h"
#include "scheduler/stepwise.h"
#include "tests/unit/folder.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka last: it needs setjmp.h and others above */
#include <cmocka.h>

/* What scheduler.c has for its modules. */
void *array_add(void **array, unsigned *count, unsigned *room, size_t element_bytes)
{
	if (*count == *room) {
		*room = *room ? *room * 2 : 16;
		*array = xrealloc(*array, *room, element_bytes);
	}
	return (char *)*array + (size_t)(*count)++ * element_bytes;
}

void scheduler_fail(struct scheduler *s UNUSED, enum store_result result, const char *doing)
{
	fail_msg("%s: %d", doing, result);
}

static char dir[] = "/tmp/postern-stepwise-XXXXXX", name[] = "out", site[] = "there.example";
static struct conf_server servers[] = { { .name = name, .method = METHOD_DIRECT } };
static const struct conf conf = { .server = servers, .server_count = 1 };
static struct scheduler s = { .conf = &conf };

static void open_journal(void)
{
	bool is_rebuilt;

	s.journal = journal_open(dir, &is_rebuilt);
	assert_non_null(s.journal);
}

static int make_journal(void **state UNUSED)
{
	assert_non_null(mkdtemp(dir));
	open_journal();
	return 0;
}

static int remove_journal(void **state UNUSED)
{
	journal_close(&s.journal);
	return folder_remove(dir);
}

/* Two hosts, in this order or the other one. */
static struct slice encode(struct buf *out, const char *first, const char *second)
{
	static struct hosts hosts;

	memset(&hosts, 0, sizeof(hosts));
	hosts.count = 2;
	snprintf(hosts.host[0].name, sizeof(hosts.host[0].name), "%s", first);
	snprintf(hosts.host[1].name, sizeof(hosts.host[1].name), "%s", second);
	for (unsigned i = 0; i < 2; i++) {
		hosts.host[i].address_count = 1;
		hosts.host[i].address[0].family = AF_INET;
	}
	buf_init(out, HOSTS_BYTES_MAX);
	hosts_encode(out, &hosts);
	return buf_slice(out);
}

/* What a process that has not seen the site yet thinks of it. */
static bool is_on_anew(const char *first, const char *second)
{
	struct lane l = { .name = site };
	struct buf hosts;

	stepwise_begin(&s, &l, encode(&hosts, first, second));
	buf_release(&hosts);
	return stepwise_is_on(&l);
}

static void end_session(struct lane *l, int64_t opened_ms, unsigned delivered, bool is_flight_broken)
{
	struct session session = { .lane = l, .opened = { opened_ms }, .delivered_count = delivered };

	stepwise_on_down(&s, &session, is_flight_broken);
}

static void test_the_second_in_a_row(void **state UNUSED)
{
	struct lane l = { .name = site };
	int64_t now = clock_mono().ms;
	struct buf hosts;

	stepwise_begin(&s, &l, encode(&hosts, "mx1.there.example", "mx2.there.example"));
	assert_false(stepwise_is_on(&l));
	end_session(&l, now - 5000, 0, true);
	assert_true(stepwise_is_in_doubt(&l));
	end_session(&l, now - 5000, 1, true); /* opened before the first broke: the network may have failed both */
	assert_false(stepwise_is_on(&l));
	end_session(&l, now, 2, false); /* the second message's envelope went behind the first one's dot */
	assert_false(stepwise_is_in_doubt(&l));
	end_session(&l, now - 5000, 0, true);
	end_session(&l, now, 1, false); /* proves nothing */
	end_session(&l, clock_mono().ms + 1, 1, true);
	assert_true(stepwise_is_on(&l));
	assert_false(stepwise_is_in_doubt(&l));
	buf_release(&hosts);
}

static void test_remembered_by_its_hosts(void **state UNUSED)
{
	journal_close(&s.journal);
	open_journal();
	s.stepwise_count = 0;
	stepwise_load(&s);
	assert_int_equal(s.stepwise_count, 1);
	assert_true(is_on_anew("mx1.there.example", "mx2.there.example"));
	assert_true(is_on_anew("MX2.there.example", "mx1.there.example"));
	assert_false(is_on_anew("mx1.there.example", "mx3.there.example"));
}

static void keep_name(void *arg, struct slice at, struct slice value UNUSED)
{
	snprintf(arg, 100, "%.*s", (int)at.len, at.ptr);
}

static void test_a_month_later(void **state UNUSED)
{
	char note[100] = "";

	assert_int_equal(journal_scan_notes(s.journal, "stepwise/", keep_name, note), STORE_OK);
	assert_int_equal(strncmp(note, "stepwise/out/", 13), 0);
	assert_int_equal(journal_put_note(s.journal, note, slice_of("1000")), STORE_OK);
	assert_false(is_on_anew("mx1.there.example", "mx2.there.example"));
	s.stepwise_count = 0;
	stepwise_load(&s);
	assert_int_equal(s.stepwise_count, 0);
	note[0] = '\0';
	assert_int_equal(journal_scan_notes(s.journal, "stepwise/", keep_name, note), STORE_OK);
	assert_string_equal(note, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_second_in_a_row),
		cmocka_unit_test(test_remembered_by_its_hosts),
		cmocka_unit_test(test_a_month_later),
	};

	return cmocka_run_group_tests(tests, make_journal, remove_journal);
}
