/* lib_store_test.c - records survive what they should, and nothing lost goes unnoticed. */
#include "lib/store.h"
#include "tests/unit/folder.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

/* Berkeley DB does not free a private environment that has panicked; the process is expected to end. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libdb-5";
}

static char dir[64];

static struct store_options options(void)
{
	return (struct store_options){ dir, 1 << 20, 2 << 20, 1 << 20 };
}

static int set_up(void **state)
{
	return folder_make(dir, sizeof(dir), "/tmp");
}

static int tear_down(void **state)
{
	return folder_remove(dir);
}

static const char *in_dir(const char *name)
{
	static char path[400];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static struct slice number_key(const uint64_t *number)
{
	return (struct slice){ (const char *)number, sizeof(*number) };
}

static void put_number(struct store *s, uint64_t number)
{
	uint64_t key = __builtin_bswap64(number);

	assert_int_equal(store_put(s, number_key(&key), number_key(&number)), STORE_OK);
}

static bool has_number(struct store *s, uint64_t number)
{
	uint64_t key = __builtin_bswap64(number);
	struct slice value;
	enum store_result result = store_get(s, number_key(&key), &value);

	if (result == STORE_OK)
		assert_true(slice_equal(value, number_key(&number)));
	return result == STORE_OK;
}

static struct store *open_as(enum store_open_result wanted)
{
	struct store_options o = options();
	struct store *s;
	enum store_open_result got = store_open(&s, &o);

	if (got != wanted)
		print_error("store_open: %d, wanted %d: %s\n", (int)got, (int)wanted, store_error());
	assert_int_equal(got, wanted);
	assert_true((s != NULL) == (got == STORE_OPENED || got == STORE_CREATED));
	return s;
}

/* Runs fn in a process of its own that ends without any tidying up, as after kill -9. */
static void in_dying_process(void (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		fn(arg);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* 1000 numbers in ten synced groups, then the process is gone. */
static void write_thousand(void *arg)
{
	struct store_options o = options();
	struct store *s;
	enum store_open_result got = store_open(&s, &o);

	if (got != STORE_OPENED && got != STORE_CREATED)
		_exit(1);
	for (uint64_t i = 0; i < 1000; i++) {
		put_number(s, i);
		if (i % 100 == 99 && store_sync(s) != STORE_OK)
			_exit(2);
	}
}

struct tally {
	unsigned count, stop_after;
	char last[32];
};

static bool tally_record(void *arg, struct slice key, struct slice value)
{
	struct tally *t = arg;

	snprintf(t->last, sizeof(t->last), "%.*s", (int)(key.len < 20 ? key.len : 20), key.ptr);
	return ++t->count != t->stop_after;
}

static unsigned scan_count(struct store *s, const char *prefix)
{
	struct tally t = { 0 };

	assert_int_equal(store_scan(s, slice_of(prefix), tally_record, &t), STORE_OK);
	return t.count;
}

static void records_come_back(void **state)
{
	struct store *s = open_as(STORE_CREATED);
	struct slice value;
	struct tally t = { 0, 2, "" };

	assert_int_equal(store_get(s, slice_of("a"), &value), STORE_NOT_FOUND);
	assert_int_equal(store_delete(s, slice_of("a")), STORE_NOT_FOUND);
	for (unsigned i = 0; i < 3; i++) {
		const char *keys[] = { "a1", "b1", "b2" };

		assert_int_equal(store_put(s, slice_of(keys[i]), slice_of(keys[i])), STORE_OK);
	}
	assert_int_equal(store_put(s, slice_of("b1"), slice_of("changed")), STORE_OK);
	assert_int_equal(store_get(s, slice_of("b1"), &value), STORE_OK);
	assert_true(slice_is(value, "changed"));
	assert_int_equal(store_put(s, slice_of("b3"), slice_of("")), STORE_OK);
	assert_int_equal(store_sync(s), STORE_OK);
	store_close(&s);
	assert_null(s);

	s = open_as(STORE_OPENED);
	assert_false(store_has_lost_records(s));
	assert_int_equal(scan_count(s, ""), 4);
	assert_int_equal(scan_count(s, "a"), 1);
	assert_int_equal(scan_count(s, "b"), 3);
	assert_int_equal(scan_count(s, "c"), 0);
	assert_int_equal(store_scan(s, slice_of("b"), tally_record, &t), STORE_OK);
	assert_int_equal(t.count, 2);
	assert_string_equal(t.last, "b2");
	store_close(&s);
}

static void aborted_changes_vanish(void **state)
{
	struct store *s = open_as(STORE_CREATED);
	struct slice value;

	assert_int_equal(store_begin(s), STORE_OK);
	assert_int_equal(store_put(s, slice_of("kept"), slice_of("1")), STORE_OK);
	assert_int_equal(store_get(s, slice_of("kept"), &value), STORE_OK);
	assert_int_equal(store_commit(s), STORE_OK);
	assert_int_equal(store_begin(s), STORE_OK);
	assert_int_equal(store_put(s, slice_of("kept"), slice_of("2")), STORE_OK);
	assert_int_equal(store_put(s, slice_of("gone"), slice_of("2")), STORE_OK);
	store_abort(s);
	assert_int_equal(store_get(s, slice_of("gone"), &value), STORE_NOT_FOUND);
	assert_int_equal(store_get(s, slice_of("kept"), &value), STORE_OK);
	assert_true(slice_is(value, "1"));
	store_close(&s);
}

static void large_records_are_scanned(void **state)
{
	struct store *s = open_as(STORE_CREATED);
	size_t len = 600 * 1024;
	char *value = xcalloc(1, len);

	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(store_put(s, number_key(&(uint64_t){ i }), (struct slice){ value, len }), STORE_OK);
	assert_int_equal(scan_count(s, ""), 3);
	free(value);
	store_close(&s);
}

static void second_opener_is_told(void **state)
{
	struct store *s = open_as(STORE_CREATED);

	assert_null(open_as(STORE_BUSY));
	assert_int_equal(store_set_aside(dir), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	store_close(&s);
	s = open_as(STORE_OPENED);
	store_close(&s);
}

static void missing_folder_is_a_failure(void **state)
{
	struct store_options o = options();
	struct store *s;

	o.dir = "/nonexistent/folder";
	assert_int_equal(store_open(&s, &o), STORE_FAILED);
	assert_int_equal(errno, ENOENT);
	assert_string_not_equal(store_error(), "");
}

/* A child syncs numbers and says so through a pipe; killed at any instant, everything it spoke of is there. */
static void cr18_killed_writer_loses_nothing(void **state)
{
	uint64_t said = 0, next = 0;

	for (unsigned round = 0; round < 12; round++) {
		int pipe_fd[2], status;
		pid_t pid;

		assert_int_equal(pipe(pipe_fd), 0);
		pid = fork();
		if (pid == 0) {
			struct store_options o = options();
			struct store *s;

			if (store_open(&s, &o) > STORE_CREATED)
				_exit(1);
			for (uint64_t i = next;; i++) {
				put_number(s, i);
				if (i % 7 == 0 && store_sync(s) != STORE_OK)
					_exit(1);
				if (i % 7 == 0 && write(pipe_fd[1], &i, sizeof(i)) < 0)
					_exit(1);
			}
		}
		close(pipe_fd[1]);
		for (unsigned i = 0; i < 20 + round * 37; i++)
			assert_int_equal(read(pipe_fd[0], &said, sizeof(said)), sizeof(said));
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		assert_true(WIFSIGNALED(status));
		while (read(pipe_fd[0], &said, sizeof(said)) == sizeof(said))
			;
		close(pipe_fd[0]);
		next = said + 1;
	}
	struct store *s = open_as(STORE_OPENED);
	assert_false(store_has_lost_records(s));
	for (uint64_t i = 0; i <= said; i++)
		if (!has_number(s, i))
			fail_msg("number %llu of %llu is gone", (unsigned long long)i, (unsigned long long)said);
	store_close(&s);
}

static bool newest_log(char *name, size_t size)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	name[0] = 0;
	while ((e = readdir(d)))
		if (strncmp(e->d_name, "log.", 4) == 0 && strcmp(e->d_name, name) > 0)
			snprintf(name, size, "%s", e->d_name);
	closedir(d);
	return name[0] != 0;
}

/* The end of what was written: log files are made at full length or grow, so look for the last byte that is not 0. */
static off_t last_byte(int fd)
{
	off_t end = lseek(fd, 0, SEEK_END);
	char c = 0;

	while (end > 0 && pread(fd, &c, 1, end - 1) == 1 && c == 0)
		end--;
	return end;
}

static void damage_log(off_t back, bool has_to_end, const char *junk)
{
	char name[256];
	int fd;
	off_t at;

	assert_true(newest_log(name, sizeof(name)));
	fd = open(in_dir(name), O_RDWR);
	assert_true(fd >= 0);
	at = last_byte(fd) - back;
	assert_true(at > 0);
	if (has_to_end)
		assert_int_equal(ftruncate(fd, at), 0);
	else
		assert_int_equal(pwrite(fd, junk, 8, at), 8);
	close(fd);
}

static void torn_log_is_noticed(void **state)
{
	struct store *s;

	in_dying_process(write_thousand, NULL);
	damage_log(40, true, NULL);
	s = open_as(STORE_OPENED);
	assert_true(has_number(s, 0));
	assert_true(has_number(s, 899));
	assert_true(store_has_lost_records(s));
	store_close(&s);
	s = open_as(STORE_OPENED);
	assert_true(store_has_lost_records(s)); /* nobody wrote since */
	put_number(s, 5000);
	assert_int_equal(store_sync(s), STORE_OK);
	store_close(&s);
	s = open_as(STORE_OPENED);
	assert_false(store_has_lost_records(s));
	assert_true(has_number(s, 5000));
	store_close(&s);
}

/* Berkeley DB's recovery stops there without an error. */
static void garbage_in_the_log_is_noticed(void **state)
{
	struct store_options o = options();
	struct store *s;
	enum store_open_result got;

	in_dying_process(write_thousand, NULL);
	damage_log(30000, false, "garbage!");
	got = store_open(&s, &o);
	if (got == STORE_OPENED) {
		assert_true(store_has_lost_records(s));
		store_close(&s);
	} else {
		assert_int_equal(got, STORE_DAMAGED);
	}
}

static void unsynced_tail_is_no_loss(void **state)
{
	struct store *s;

	in_dying_process(write_thousand, NULL);
	s = open_as(STORE_OPENED);
	assert_false(store_has_lost_records(s));
	store_close(&s);
}

static void remove_logs(void)
{
	char name[256];

	while (newest_log(name, sizeof(name)))
		assert_int_equal(unlink(in_dir(name)), 0);
}

static void overwrite(const char *name, off_t at, size_t len, bool is_truncated)
{
	int fd = open(in_dir(name), O_RDWR | (is_truncated ? O_TRUNC : 0));

	assert_true(fd >= 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(pwrite(fd, "\x5a", 1, at + (off_t)i), 1);
	close(fd);
}

static void damage_is_never_silent(void **state)
{
	static const char *const LABELS[] = { "records.db deleted", "logs deleted",       "records.db emptied",
					      "records.db garbage", "marker deleted",     "marker garbage",
					      "marker emptied",     "everything garbage", "meta page hit" };

	for (unsigned i = 0; i < ARRAY_LEN(LABELS); i++) {
		struct store *s;

		in_dying_process(write_thousand, NULL);
		s = open_as(STORE_OPENED); /* so that recovery has nothing to mend */
		store_close(&s);
		switch (i) {
		case 0:
			assert_int_equal(unlink(in_dir("records.db")), 0);
			break;
		case 1:
			remove_logs();
			break;
		case 2:
			overwrite("records.db", 0, 0, true);
			break;
		case 3:
			overwrite("records.db", 0, 8192, true);
			break;
		case 4:
			assert_int_equal(unlink(in_dir("store.mark")), 0);
			break;
		case 5:
			overwrite("store.mark", 0, 39, false);
			break;
		case 6:
			overwrite("store.mark", 0, 0, true);
			break;
		case 7:
			overwrite("records.db", 0, 20000, false);
			break;
		case 8:
			overwrite("records.db", 100, 8, false);
			break;
		}
		print_message("%s\n", LABELS[i]);
		assert_null(open_as(STORE_DAMAGED));
		assert_string_not_equal(store_error(), "");
		assert_null(open_as(STORE_DAMAGED)); /* and stays so */
		assert_int_equal(store_set_aside(dir), 0);
		s = open_as(STORE_CREATED);
		assert_false(has_number(s, 0));
		store_close(&s);
		tear_down(NULL);
		set_up(NULL);
	}
}

static void damaged_page_is_fatal_not_wrong(void **state)
{
	struct store *s;
	struct slice value;
	enum store_result result = STORE_OK;

	in_dying_process(write_thousand, NULL);
	s = open_as(STORE_OPENED);
	store_close(&s);
	overwrite("records.db", 3 * 4096 + 2000, 8, false);
	s = open_as(STORE_OPENED);
	for (uint64_t i = 0; i < 1000 && result == STORE_OK; i++) {
		uint64_t key = __builtin_bswap64(i);

		result = store_get(s, number_key(&key), &value);
	}
	assert_int_equal(result, STORE_FATAL);
	assert_int_equal(store_put(s, slice_of("x"), slice_of("y")), STORE_FATAL);
	assert_int_equal(store_sync(s), STORE_FATAL);
	store_close(&s);
}

static void stranger_is_refused(void **state)
{
	char mark[64] = "";
	int fd;

	in_dying_process(write_thousand, NULL);
	fd = open(in_dir("store.mark"), O_RDONLY);
	assert_true(read(fd, mark, sizeof(mark) - 1) > 30);
	close(fd);
	assert_int_equal(store_set_aside(dir), 0);
	in_dying_process(write_thousand, NULL);
	fd = open(in_dir("store.mark"), O_WRONLY | O_TRUNC);
	assert_true(dprintf(fd, "%s", mark) > 0);
	close(fd);
	assert_null(open_as(STORE_DAMAGED));
}

static void unfinished_creation_is_begun_anew(void **state)
{
	int fd = open(in_dir("store.mark"), O_WRONLY | O_CREAT, 0600);
	struct store *s;

	assert_true(dprintf(fd, "creating 0123456789abcdef0123456789abcdef\n") > 0);
	close(fd);
	fd = open(in_dir("log.0000000001"), O_WRONLY | O_CREAT, 0600);
	assert_true(dprintf(fd, "half a log") > 0);
	close(fd);
	s = open_as(STORE_CREATED);
	store_close(&s);
	s = open_as(STORE_OPENED);
	store_close(&s);
}

static void write_library_settings(void)
{
	int fd = open("DB_CONFIG", O_WRONLY | O_CREAT, 0600);

	assert_true(dprintf(fd, "set_lg_dir /nonexistent\nnonsense\n") > 0);
	close(fd);
}

/* Berkeley DB reads DB_CONFIG from an environment's folder and, CVE-2017-10140, where the process stands. */
static void library_settings_are_not_obeyed(void **state)
{
	char before[400];
	struct store *s;

	assert_non_null(getcwd(before, sizeof(before)));
	assert_int_equal(chdir(dir), 0);
	write_library_settings();
	s = open_as(STORE_CREATED);
	put_number(s, 1);
	store_close(&s);
	assert_int_equal(mkdir("elsewhere", 0700), 0);
	assert_int_equal(chdir("elsewhere"), 0);
	write_library_settings();
	s = open_as(STORE_OPENED);
	assert_true(has_number(s, 1));
	store_close(&s);
	assert_int_equal(chdir(before), 0);
}

/* A jailed process need not be able to read the folder it stands in. */
static void stands_anywhere(void **state)
{
	struct store_options o = options();
	struct store *s;
	int status;
	pid_t pid;

	if (geteuid() != 0) {
		print_message("needs root: to become someone who may not read the current folder\n");
		skip();
	}
	assert_int_equal(chown(dir, 65534, 65534), 0);
	pid = fork();
	if (pid == 0) {
		if (chdir("/root") < 0 || setgid(65534) < 0 || setuid(65534) < 0)
			_exit(1);
		_exit(store_open(&s, &o) == STORE_CREATED ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static uint64_t log_bytes(void)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	struct stat st;
	uint64_t sum = 0;

	while ((e = readdir(d)))
		if (strncmp(e->d_name, "log.", 4) == 0 && stat(in_dir(e->d_name), &st) == 0)
			sum += (uint64_t)st.st_size;
	closedir(d);
	return sum;
}

static void logs_do_not_pile_up(void **state)
{
	struct store *s = open_as(STORE_CREATED);
	char value[1000] = "";

	for (uint64_t i = 0; i < 30000; i++) {
		uint64_t key = i % 50;

		value[0] = (char)i;
		assert_int_equal(store_put(s, number_key(&key), (struct slice){ value, sizeof(value) }), STORE_OK);
		if (i % 100 == 0)
			assert_int_equal(store_sync(s), STORE_OK);
	}
	assert_true(log_bytes() < 6 << 20);
	store_close(&s);
}

/* --- a full disk: a small tmpfs in a mount namespace of our own --- */

enum { FULL_SKIP = 77 };

static void fill_disk(void)
{
	int fd = open(in_dir("filler"), O_WRONLY | O_CREAT | O_APPEND, 0600);
	char block[4096] = "x";

	while (write(fd, block, sizeof(block)) > 0)
		;
	close(fd);
}

#define REQUIRE(what)                                                                      \
	do {                                                                               \
		if (!(what)) {                                                             \
			print_error("line %d: %s (%s)\n", __LINE__, #what, store_error()); \
			_exit(1);                                                          \
		}                                                                          \
	} while (0)

static void live_on_full_disk(void)
{
	struct store_options o = { dir, 1 << 20, 2 << 20, 6 << 20 };
	struct store *s;
	enum store_result result = STORE_OK;
	uint64_t next = 0, synced = 0;
	char value[1000] = "v";

	REQUIRE(store_open(&s, &o) == STORE_CREATED);
	fill_disk();
	for (next = 0; next < 60000 && result == STORE_OK; next++) {
		uint64_t key = __builtin_bswap64(next);

		result = store_put(s, number_key(&key), (struct slice){ value, sizeof(value) });
		if (result == STORE_OK && next % 10 == 9 && (result = store_sync(s)) == STORE_OK)
			synced = next + 1;
	}
	REQUIRE(result == STORE_FULL);
	REQUIRE(store_sync(s) == STORE_FULL);
	REQUIRE(unlink(in_dir("filler")) == 0);
	REQUIRE(store_sync(s) == STORE_OK); /* the same process goes on */
	for (uint64_t i = 0; i < synced; i++) {
		uint64_t key = __builtin_bswap64(i);
		struct slice v;

		REQUIRE(store_get(s, number_key(&key), &v) == STORE_OK && v.len == sizeof(value));
	}
	fill_disk();
}

static void recover_on_full_disk(void)
{
	struct store_options o = { dir, 1 << 20, 2 << 20, 6 << 20 };
	struct store *s;
	struct stat st;

	REQUIRE(stat(in_dir("ballast"), &st) == 0);
	REQUIRE(store_open(&s, &o) == STORE_OPENED);
	REQUIRE(!store_has_lost_records(s));
	REQUIRE(stat(in_dir("ballast"), &st) < 0);
	REQUIRE(unlink(in_dir("filler")) == 0);
	store_close(&s);
	REQUIRE(store_open(&s, &o) == STORE_OPENED);
	REQUIRE(stat(in_dir("ballast"), &st) == 0 && st.st_size == 6 << 20);
	store_close(&s);
}

static void full_disk_child(void *arg)
{
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", dir, "tmpfs", 0, "size=24m,mode=0700") < 0)
		_exit(FULL_SKIP);
	pid = fork();
	if (pid == 0) {
		live_on_full_disk();
		_exit(0); /* without closing: the next opener has to recover */
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
	recover_on_full_disk();
	_exit(0);
}

static void full_disk_is_survived(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		full_disk_child(NULL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == FULL_SKIP) {
		print_message("needs root: a small file system has to be mounted\n");
		skip();
	}
	assert_int_equal(status, 0);
}

#define STORE_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(records_come_back),
		STORE_TEST(aborted_changes_vanish),
		STORE_TEST(large_records_are_scanned),
		STORE_TEST(second_opener_is_told),
		STORE_TEST(missing_folder_is_a_failure),
		STORE_TEST(cr18_killed_writer_loses_nothing),
		STORE_TEST(torn_log_is_noticed),
		STORE_TEST(garbage_in_the_log_is_noticed),
		STORE_TEST(unsynced_tail_is_no_loss),
		STORE_TEST(damage_is_never_silent),
		STORE_TEST(damaged_page_is_fatal_not_wrong),
		STORE_TEST(stranger_is_refused),
		STORE_TEST(unfinished_creation_is_begun_anew),
		STORE_TEST(library_settings_are_not_obeyed),
		STORE_TEST(stands_anywhere),
		STORE_TEST(logs_do_not_pile_up),
		STORE_TEST(full_disk_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
