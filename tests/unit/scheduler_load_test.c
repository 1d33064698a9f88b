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

static void load(struct scheduler *s, enum load_result expected)
{
	char path[SPOOL_PATH_MAX];
	struct record *r;

	spool_queue_path(ID, path);
	put_file(s, path);
	put_record(s, ID, RECORD_WAITING, RCPTS);
	assert_int_equal(load_spool(s), expected);
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
	load(s, LOAD_OK);
	assert_int_equal(entries_heap_count(s->entries), 1);
}

/* Else the message would be taken for one that somebody removed, and forgotten. */
static void test_unreadable_folder_ends_the_start(void **state)
{
	is_disk_broken = true;
	load(*state, LOAD_FAILED);
	is_disk_broken = false;
}

/* OP12: after a downgrade. What a later version wrote is not judged by what we know, and nothing is queued again. */
static void test_op12_a_later_versions_journal_is_left_alone(void **state)
{
	struct scheduler *s = *state;
	char path[SPOOL_PATH_MAX], key[RECORD_KEY_BYTES];
	struct store_options options = { .cache_bytes = 512u << 10, .checkpoint_bytes = 16u << 20 };
	struct store *store;
	char *dir = xasprintf("%s/db/queue", spool_dir);

	spool_queue_path(ID, path);
	put_file(s, path);
	journal_close(&s->journal);
	options.dir = dir;
	assert_int_equal(store_open(&store, &options), STORE_OPENED);
	record_key(ID, 1, key);
	assert_int_equal(store_put(store, (struct slice){ key, sizeof(key) }, slice_of("\x63 of whatever form")),
			 STORE_OK);
	assert_int_equal(store_sync(store), STORE_OK);
	store_close(&store);
	open_journal(s);
	assert_int_equal(load_spool(s), LOAD_NEWER);
	assert_int_equal(entries_heap_count(s->entries), 0);
	assert_int_equal(s->newborn, 0);
	assert_int_equal(s->accepted_count, 0);
	free(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_waits_is_found, setup_scheduler, teardown_scheduler),
		cmocka_unit_test_setup_teardown(test_unreadable_folder_ends_the_start, setup_scheduler,
						teardown_scheduler),
		cmocka_unit_test_setup_teardown(test_op12_a_later_versions_journal_is_left_alone, setup_scheduler,
						teardown_scheduler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
