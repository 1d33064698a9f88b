/* The end of messages on disk: a record goes when its file surely has, and not before. */
#include "scheduler/finish.h"
#include "tests/unit/scheduler_on_disk.h"
#include <sys/stat.h>
#include <sys/syscall.h>

enum { SYNCED_MAX = 300 };
static const uint64_t ID = UINT64_C(1795307043448000) << 12;
static ino_t synced[SYNCED_MAX];
static unsigned synced_count;

/* In place of the C library's: notes what is synced. */
int fsync(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && synced_count < SYNCED_MAX)
		synced[synced_count++] = st.st_ino;
	return (int)syscall(SYS_fsync, fd);
}

static bool was_synced(struct scheduler *s, const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(s->spool_fd, path, &st, 0), 0);
	for (unsigned i = 0; i < synced_count; i++)
		if (synced[i] == st.st_ino)
			return true;
	return false;
}

static bool has_record(struct scheduler *s, uint64_t id)
{
	struct record *r = journal_get(s->journal, id, 1);
	bool has = r != NULL;

	record_free(&r);
	return has;
}

static void finish(struct scheduler *s, uint64_t id)
{
	static const char *const NOBODY[] = { NULL };

	put_record(s, id, RECORD_DONE, NOBODY);
	finish_add_done(s, id, 1, "sent");
	finish_after_sync(s);
	synced_count = 0;
	finish_sweep(s);
}

static void test_record_goes_with_its_file(void **state)
{
	struct scheduler *s = *state;
	char path[SPOOL_PATH_MAX], *slash;

	spool_queue_path(ID, path);
	put_file(s, path);
	finish(s, ID);
	assert_int_equal(faccessat(s->spool_fd, path, F_OK, 0), -1);
	assert_false(has_record(s, ID));
	slash = strrchr(path, '/');
	*slash = '\0';
	assert_true(was_synced(s, path));
}

/* After a power failure the file may stand where it was before it was renamed. */
static void test_its_first_folder_is_synced_too(void **state)
{
	struct scheduler *s = *state;
	char path[SPOOL_PATH_MAX];

	spool_queue_path(ID, path);
	put_file(s, path);
	finish(s, ID);
	assert_true(was_synced(s, "incoming"));
}

/* A folder in the file's place stands for all that unlink(2) refuses: the next start must know that it is done. */
static void test_record_stays_with_a_file_that_stays(void **state)
{
	struct scheduler *s = *state;
	char path[SPOOL_PATH_MAX];

	spool_queue_path(ID, path);
	assert_int_equal(mkdirat(s->spool_fd, path, 0700), 0);
	finish(s, ID);
	assert_true(has_record(s, ID));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_record_goes_with_its_file, setup_scheduler, teardown_scheduler),
		cmocka_unit_test_setup_teardown(test_its_first_folder_is_synced_too, setup_scheduler,
						teardown_scheduler),
		cmocka_unit_test_setup_teardown(test_record_stays_with_a_file_that_stays, setup_scheduler,
						teardown_scheduler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
