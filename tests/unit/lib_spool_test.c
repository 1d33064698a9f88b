/* Ids, paths, and the folders of a spool. */
#include "lib/clock.h"
#include "lib/spool.h"
#include "tests/unit/folder.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static void ids_grow_and_come_back_from_text(void **state UNUSED)
{
	uint64_t last = 0, parsed;
	char text[SPOOL_ID_TEXT], before[SPOOL_ID_TEXT] = "0000000000000";

	for (int i = 0; i < 10000; i++) {
		uint64_t id = spool_id_next(last, (enum spool_giver)(i & 1));

		assert_true(id > last);
		spool_id_format(id, text);
		assert_int_equal(strlen(text), 13);
		assert_true(strcmp(before, text) < 0); /* text order is time order */
		assert_true(spool_id_parse(slice_of(text), &parsed));
		assert_int_equal(parsed, id);
		memcpy(before, text, sizeof(before));
		last = id;
	}
}

/* Two of one microsecond, too. */
static void ck08_an_id_follows_the_largest_when_the_clock_went_back(void **state UNUSED)
{
	uint64_t future = (clock_wall_us() + 3600u * 1000000u) << 12;

	for (uint64_t last = future; last < future + 5; last++) {
		uint64_t by_pickup = spool_id_next(last, SPOOL_BY_PICKUP),
			 by_scheduler = spool_id_next(last, SPOOL_BY_SCHEDULER);

		assert_in_range(by_pickup, last + 1, last + 3);
		assert_in_range(by_scheduler, last + 1, last + 3);
		assert_true(by_pickup != by_scheduler && by_pickup % 2 == 0 && by_scheduler % 2 == 1);
	}
}

static void ids_that_are_none(void **state UNUSED)
{
	static const char *const BAD[] = { "",
					   "0",
					   "000000000000",
					   "00000000000000",
					   "000000000000W",
					   "000000000000a",
					   "G000000000000",
					   "V000000000000",
					   "0000000 00000",
					   "../../etc/pas",
					   "-000000000000" };
	uint64_t id = 7;

	for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
		if (spool_id_parse(slice_of(BAD[i]), &id))
			fail_msg("%s is an id", BAD[i]);
	}
	assert_int_equal(id, 7);
	assert_true(spool_id_parse(slice_of("FVVVVVVVVVVVV"), &id));
	assert_true(id == UINT64_MAX);
}

static void paths(void **state UNUSED)
{
	char path[SPOOL_PATH_MAX];
	uint64_t four_seconds = 4000000ull << 12;

	spool_incoming_path(UINT64_MAX, path);
	assert_string_equal(path, "incoming/FVVVVVVVVVVVV");
	spool_queue_path(0, path);
	assert_string_equal(path, "queue/00/0000000000000");
	spool_queue_path(four_seconds * 0xAB, path);
	assert_memory_equal(path, "queue/AB/", 9);
	assert_int_equal(spool_shard(four_seconds - 1), 0);
	assert_int_equal(spool_shard(four_seconds), 1);
	assert_int_equal(spool_shard(four_seconds * 256), 0);
}

static void complete_is_our_file_of_that_very_mode(void **state UNUSED)
{
	static const struct {
		mode_t mode;
		bool is_ours, expected;
	} ROWS[] = {
		{ S_IFREG | 0740, true, true },  { S_IFREG | 0740, false, false }, { S_IFREG | 0750, true, false },
		{ S_IFREG | 0640, true, false }, { S_IFREG | 04740, true, false }, { S_IFLNK | 0740, true, false },
		{ S_IFIFO | 0740, true, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct stat st = { .st_mode = ROWS[i].mode, .st_uid = geteuid() + (ROWS[i].is_ours ? 0 : 1) };

		assert_int_equal(spool_is_complete(&st), ROWS[i].expected);
	}
}

static void check_mode(const char *spool, const char *name, mode_t mode)
{
	char path[300];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", spool, name);
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, mode);
}

static void folders_are_made_and_repaired(void **state UNUSED)
{
	const struct spool_owners owners = { (uid_t)-1, (gid_t)-1, (gid_t)-1, (gid_t)-1 };
	char base[] = "/tmp/spool_test.XXXXXX", spool[64], drop[80];
	const char *what;

	assert_non_null(mkdtemp(base));
	snprintf(spool, sizeof(spool), "%s/s", base);
	assert_int_equal(spool_prepare(spool, &owners, &what), 0);
	check_mode(spool, "", 0755);
	check_mode(spool, "drop", 03730);
	check_mode(spool, "incoming", 02750);
	check_mode(spool, "queue/FF", 02750);
	check_mode(spool, "db/limits", 0700);
	snprintf(drop, sizeof(drop), "%s/drop", spool);
	assert_int_equal(chmod(drop, 0777), 0);
	assert_int_equal(spool_prepare(spool, &owners, &what), 0);
	check_mode(spool, "drop", 03730);
	/* a symbolic link is never followed */
	assert_int_equal(rmdir(drop), 0);
	assert_int_equal(symlink("/tmp", drop), 0);
	assert_int_equal(spool_prepare(spool, &owners, &what), -1);
	assert_string_equal(what, "drop");
	assert_true(errno == ELOOP || errno == ENOTDIR);
	assert_int_equal(spool_sync_dir(AT_FDCWD, spool), 0);
	assert_int_equal(spool_sync_dir(AT_FDCWD, drop), -1);
	assert_int_equal(folder_remove(base), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_grow_and_come_back_from_text),
		cmocka_unit_test(ck08_an_id_follows_the_largest_when_the_clock_went_back),
		cmocka_unit_test(ids_that_are_none),
		cmocka_unit_test(paths),
		cmocka_unit_test(complete_is_our_file_of_that_very_mode),
		cmocka_unit_test(folders_are_made_and_repaired),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
