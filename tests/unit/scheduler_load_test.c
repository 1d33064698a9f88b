/* What the disk knows at start: a folder that cannot be read is no empty one. */
#include "scheduler/load.h"
#include "tests/unit/scheduler_on_disk.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>

static const uint64_t ID = UINT64_C(1795307043448000) << 12;
static const char *const RCPTS[] = { "x@there.example", NULL };
static bool is_disk_broken;

/* In place of the C library's: a disk that gives no more entries. */
struct dirent *readdir(DIR *dir)
{
	static struct dirent *(*real)(DIR *);

	if (is_disk_broken) {
		errno = EIO;
		return NULL;
	}
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "readdir");
	return real(dir);
}

static void load(struct scheduler *s, bool is_expected)
{
	char path[SPOOL_PATH_MAX];
	struct record *r;

	spool_queue_path(ID, path);
	put_file(s, path);
	put_record(s, ID, RECORD_WAITING, RCPTS);
	assert_int_equal(load_spool(s), is_expected);
	r = journal_get(s->journal, ID, 1);
	assert_non_null(r);
	assert_int_equal(r->state, RECORD_WAITING);
	record_free(&r);
	assert_int_equal(s->done_count, 0);
}

static void test_what_waits_is_found(void **state)
{
	struct scheduler *s = *state;

	is_disk_broken = false;
	load(s, true);
	assert_int_equal(entries_heap_count(s->entries), 1);
}

/* Else the message would be taken for one that somebody removed, and forgotten. */
static void test_unreadable_folder_ends_the_start(void **state)
{
	is_disk_broken = true;
	load(*state, false);
	is_disk_broken = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_waits_is_found, setup_scheduler, teardown_scheduler),
		cmocka_unit_test_setup_teardown(test_unreadable_folder_ends_the_start, setup_scheduler,
						teardown_scheduler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
