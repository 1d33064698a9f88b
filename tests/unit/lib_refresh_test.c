/* lib_refresh_test.c - the file of a refresh token: whoever dies where, the newest one is there. */
#include "lib/refresh.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

/* cmocka last: it needs the standard headers above */
#include <cmocka.h>

static char folder[] = "/tmp/postern-refresh-XXXXXX";
static char path[64], beside[96];

static void put(const char *where, const char *text, mode_t mode)
{
	int fd = open(where, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void must_hold(const char *text)
{
	char line[SECRET_MAX];
	struct stat st;

	assert_null(secret_read(path, line));
	assert_string_equal(line, text);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(access(beside, F_OK), -1);
}

static int set_up(void **state)
{
	(void)unlink(beside);
	put(path, "old\n", 0600);
	return 0;
}

static void test_exchanged(void **state)
{
	struct refresh r;

	assert_int_equal(refresh_open(&r, path), REFRESH_OPEN);
	assert_string_equal(r.token, "old");
	assert_true(r.fd >= 0);
	assert_true(refresh_write(r.fd, "new"));
	assert_true(refresh_close(&r));
	must_hold("new");
}

static void test_not_exchanged(void **state)
{
	struct refresh r;

	assert_int_equal(refresh_open(&r, path), REFRESH_OPEN);
	assert_true(refresh_close(&r));
	must_hold("old");
}

/* Killed behind refresh_write(), with or without a child that has the descriptor still. */
static void test_the_next_one_finishes(void **state)
{
	struct refresh r, next;
	int child;

	assert_int_equal(refresh_open(&r, path), REFRESH_OPEN);
	child = dup(r.fd);
	refresh_leave(&r);
	assert_int_equal(refresh_open(&next, path), REFRESH_BUSY);
	assert_true(refresh_write(child, "new"));
	assert_int_equal(refresh_open(&next, path), REFRESH_BUSY);
	close(child);
	assert_int_equal(refresh_open(&next, path), REFRESH_OPEN);
	assert_string_equal(next.token, "new");
	assert_true(refresh_close(&next));
	must_hold("new");
}

static void test_half_written_is_nothing(void **state)
{
	static const char *const HALVES[] = { "", "n", "new", "\n" };

	for (unsigned i = 0; i < ARRAY_LEN(HALVES); i++) {
		struct refresh r;

		put(beside, HALVES[i], 0600);
		assert_int_equal(refresh_open(&r, path), REFRESH_OPEN);
		assert_string_equal(r.token, "old");
		assert_true(refresh_write(r.fd, "newer"));
		assert_true(refresh_close(&r));
		must_hold("newer");
		put(path, "old\n", 0600);
	}
}

/* Somebody has put another token there by hand since. */
static void test_a_leftover_older_than_the_file_goes(void **state)
{
	static const struct timespec LONG_AGO[] = { { .tv_sec = 1000000 }, { .tv_sec = 1000000 } };
	struct refresh r;

	put(beside, "older\n", 0600);
	assert_int_equal(utimensat(AT_FDCWD, beside, LONG_AGO, 0), 0);
	assert_int_equal(refresh_open(&r, path), REFRESH_OPEN);
	assert_string_equal(r.token, "old");
	assert_true(refresh_close(&r));
	must_hold("old");
}

static void test_none_yet(void **state)
{
	struct refresh r;

	assert_int_equal(unlink(path), 0);
	assert_int_equal(refresh_open(&r, path), REFRESH_NONE);
	assert_non_null(strstr(r.why, "No such file"));
	assert_true(refresh_write(r.fd, "first"));
	assert_true(refresh_close(&r));
	must_hold("first");
}

static void test_traps_are_not_written_to(void **state)
{
	struct refresh r;
	char *elsewhere = xasprintf("%s/elsewhere", folder);

	put(elsewhere, "", 0600);
	assert_int_equal(symlink(elsewhere, beside), 0);
	assert_int_equal(refresh_open(&r, path), REFRESH_OPEN); /* it can be used, and not be kept */
	assert_int_equal(r.fd, -1);
	assert_true(r.why[0] != '\0');
	assert_true(refresh_close(&r));
	assert_int_equal(unlink(beside), 0);
	put(beside, "", 0666);
	assert_int_equal(refresh_open(&r, path), REFRESH_OPEN);
	assert_int_equal(r.fd, -1);
	assert_true(refresh_close(&r));
	assert_int_equal(unlink(beside), 0);
	assert_int_equal(link(elsewhere, beside), 0);
	assert_int_equal(refresh_open(&r, path), REFRESH_OPEN);
	assert_int_equal(r.fd, -1);
	assert_true(refresh_close(&r));
	assert_int_equal(unlink(elsewhere), 0);
	free(elsewhere);
}

/* A file that is a link into another folder stays one. */
static void test_links_are_followed(void **state)
{
	char *link = xasprintf("%s/link", folder);
	struct refresh r;

	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(refresh_open(&r, link), REFRESH_OPEN);
	assert_true(refresh_write(r.fd, "new"));
	assert_true(refresh_close(&r));
	must_hold("new");
	assert_int_equal(unlink(link), 0);
	free(link);
}

static void test_a_file_open_to_others_is_not_used(void **state)
{
	struct refresh r;

	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(refresh_open(&r, path), REFRESH_NONE);
	assert_string_equal(r.token, "");
	assert_non_null(strstr(r.why, "others may read it"));
	assert_true(refresh_close(&r));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_exchanged, set_up),
		cmocka_unit_test_setup(test_not_exchanged, set_up),
		cmocka_unit_test_setup(test_the_next_one_finishes, set_up),
		cmocka_unit_test_setup(test_half_written_is_nothing, set_up),
		cmocka_unit_test_setup(test_a_leftover_older_than_the_file_goes, set_up),
		cmocka_unit_test_setup(test_none_yet, set_up),
		cmocka_unit_test_setup(test_traps_are_not_written_to, set_up),
		cmocka_unit_test_setup(test_links_are_followed, set_up),
		cmocka_unit_test_setup(test_a_file_open_to_others_is_not_used, set_up),
	};
	int failed;

	if (!mkdtemp(folder))
		return 1;
	(void)snprintf(path, sizeof(path), "%s/token", folder);
	(void)snprintf(beside, sizeof(beside), "%s.new", path);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	(void)unlink(beside);
	(void)unlink(path);
	(void)rmdir(folder);
	return failed;
}
