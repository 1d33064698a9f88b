/* scheduler_history_test.c - a line per event, a file per day, and nothing kept for longer than asked. */
#include "lib/log.h"
#include "scheduler/history.h"
#include "tests/unit/folder.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static const int64_t NOON = 1795262400000; /* 2026-11-21T12:00:00Z */
static const int64_t DAY_MS = 86400000;
static char got[65536];

struct fixture {
	char dir[40];
	int spool_fd;
	struct history *history;
};

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	assert_int_equal(folder_make(f->dir, sizeof(f->dir), "/tmp"), 0);
	f->spool_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(f->spool_fd, "history", 0700), 0);
	f->history = history_new(f->spool_fd, 7 * (uint64_t)DAY_MS);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	history_free(&f->history);
	(void)close(f->spool_fd);
	assert_int_equal(folder_remove(f->dir), 0);
	free(f);
	return 0;
}

static const char *read_day(const struct fixture *f, const char *day)
{
	char path[64];
	ssize_t n = 0;
	int fd;

	(void)snprintf(path, sizeof(path), "history/%s.jsonl", day);
	fd = openat(f->spool_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, got, sizeof(got) - 1);
		(void)close(fd);
	}
	got[n > 0 ? n : 0] = '\0';
	return fd < 0 ? NULL : got;
}

static void touch(const struct fixture *f, const char *name, const char *text)
{
	char path[64];
	int fd;

	(void)snprintf(path, sizeof(path), "history/%s", name);
	fd = openat(f->spool_fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
}

static bool exists(const struct fixture *f, const char *name)
{
	char path[64];
	struct stat st;

	(void)snprintf(path, sizeof(path), "history/%s", name);
	return fstatat(f->spool_fd, path, &st, 0) == 0;
}

static void test_lines(void **state)
{
	static const char *const FIELDS[] = { "who", "uid 0", NULL };
	struct fixture *f = *state;
	struct history_outcome o = {
		.recipient = slice_of("b@c.example"),
		.status = "deferred",
		.server = "isp",
		.relay = "mx[192.0.2.1]:25",
		.dsn = "4.2.0",
		.text = slice_of("450 \"later\""),
		.attempt = 3,
		.next = { NOON + 3600000 },
	};

	history_arrived(f->history, (struct wall){ NOON }, 77, slice_of("a@b.example"), 1234, 2, 1000);
	history_outcome(f->history, (struct wall){ NOON + 1 }, 77, &o);
	history_event(f->history, (struct wall){ NOON + 2 }, 77, "held", FIELDS);
	history_done(f->history, (struct wall){ NOON + 3 }, 77, "sent");
	assert_null(read_day(f, "2026-11-21")); /* gathered */
	history_flush(f->history);
	assert_string_equal(
		read_day(f, "2026-11-21"),
		"{\"time\":\"2026-11-21T12:00:00.000Z\",\"event\":\"arrived\",\"queue_id\":\"000000000002D\","
		"\"sender\":\"a@b.example\",\"size\":1234,\"nrcpt\":2,\"uid\":1000}\n"
		"{\"time\":\"2026-11-21T12:00:00.001Z\",\"event\":\"outcome\",\"queue_id\":\"000000000002D\","
		"\"recipient\":\"b@c.example\",\"status\":\"deferred\",\"attempt\":3,\"server\":\"isp\","
		"\"relay\":\"mx[192.0.2.1]:25\",\"dsn\":\"4.2.0\",\"text\":\"450 \\\"later\\\"\","
		"\"next\":\"2026-11-21T13:00:00Z\"}\n"
		"{\"time\":\"2026-11-21T12:00:00.002Z\",\"event\":\"held\",\"queue_id\":\"000000000002D\","
		"\"who\":\"uid 0\"}\n"
		"{\"time\":\"2026-11-21T12:00:00.003Z\",\"event\":\"done\",\"queue_id\":\"000000000002D\","
		"\"status\":\"sent\"}\n");
}

static void test_a_file_per_day(void **state)
{
	struct fixture *f = *state;

	history_done(f->history, (struct wall){ NOON }, 1, "sent");
	history_done(f->history, (struct wall){ NOON + DAY_MS / 2 - 1 }, 2, "sent");
	history_done(f->history, (struct wall){ NOON + DAY_MS / 2 }, 3, "sent");
	history_flush(f->history);
	assert_non_null(strstr(read_day(f, "2026-11-21"), "T23:59:59.999Z"));
	assert_null(strstr(got, "0000000000003"));
	assert_non_null(strstr(read_day(f, "2026-11-22"), "\"queue_id\":\"0000000000003\""));
}

static void test_old_days_go(void **state)
{
	static const char *const KEPT[] = { "2026-11-14.jsonl", "2026-11-20.jsonl", "notes.txt", "2026-1-1.jsonl",
					    "2026-01-01.jsonl.gz" };
	static const char *const GONE[] = { "2026-11-13.jsonl", "2025-12-31.jsonl" };
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(KEPT); i++)
		touch(f, KEPT[i], "");
	for (unsigned i = 0; i < ARRAY_LEN(GONE); i++)
		touch(f, GONE[i], "");
	history_done(f->history, (struct wall){ NOON }, 1, "sent"); /* the first line of a day prunes */
	for (unsigned i = 0; i < ARRAY_LEN(KEPT); i++)
		assert_true(exists(f, KEPT[i]));
	for (unsigned i = 0; i < ARRAY_LEN(GONE); i++)
		assert_false(exists(f, GONE[i]));
}

/* A predecessor was killed within a line: ours must not be glued to it. */
static void test_torn_line_is_ended(void **state)
{
	struct fixture *f = *state;

	touch(f, "2026-11-21.jsonl", "{\"time\":\"2026-");
	history_done(f->history, (struct wall){ NOON }, 1, "sent");
	history_flush(f->history);
	assert_memory_equal(read_day(f, "2026-11-21"), "{\"time\":\"2026-\n{\"time\":\"2026-11-21T12", 37);
}

static void test_full_disk_is_counted(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, small;

	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = (struct rlimit){ 150, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 0; i < 5; i++)
		history_done(f->history, (struct wall){ NOON }, 1, "sent");
	history_flush(f->history);
	assert_int_equal(history_lost_count(f->history), 4);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	history_done(f->history, (struct wall){ NOON }, 99, "sent");
	history_flush(f->history);
	assert_int_equal(history_lost_count(f->history), 4);
	assert_non_null(strstr(read_day(f, "2026-11-21"), "\n{\"time\":\"2026-11-21T12:00:00.000Z\",\"event\":\"done\","
							  "\"queue_id\":\"0000000000033\""));
}

static void test_no_folder_is_no_disaster(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(unlinkat(f->spool_fd, "history", AT_REMOVEDIR), 0);
	history_done(f->history, (struct wall){ NOON }, 1, "sent");
	history_flush(f->history);
	assert_int_equal(history_lost_count(f->history), 1);
	assert_int_equal(mkdirat(f->spool_fd, "history", 0700), 0);
	history_done(f->history, (struct wall){ NOON }, 2, "sent");
	history_flush(f->history);
	assert_non_null(read_day(f, "2026-11-21"));
}

#define HISTORY_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HISTORY_TEST(test_lines),
		HISTORY_TEST(test_a_file_per_day),
		HISTORY_TEST(test_old_days_go),
		HISTORY_TEST(test_torn_line_is_ended),
		HISTORY_TEST(test_full_disk_is_counted),
		HISTORY_TEST(test_no_folder_is_no_disaster),
	};

	return cmocka_run_group_tests_name("scheduler_history", tests, NULL, NULL);
}
