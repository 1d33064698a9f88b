/* lib_board_test.c - what stands on the board outlives a killed worker, and nothing else can be said of it. */
#include "lib/board.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static void test_post_and_erase(void **state UNUSED)
{
	int fd = board_create();
	struct board *writer = board_map(fd, true), *reader = board_map(fd, false);
	uint64_t id;
	uint32_t group;

	(void)close(fd);
	assert_non_null(writer);
	assert_non_null(reader);
	assert_false(board_has(reader, 77, 0));
	board_post(writer, 0, 77, 1);
	board_post(writer, BOARD_SLOTS - 1, UINT64_MAX, 65535);
	assert_true(board_has(reader, 77, 1));
	assert_false(board_has(reader, 77, 0));
	assert_false(board_has(reader, 78, 1));
	assert_true(board_has(reader, UINT64_MAX, 65535));
	assert_true(board_read(reader, 0, &id, &group) && id == 77 && group == 1);
	assert_false(board_read(reader, 1, &id, &group));
	board_post(writer, 0, 78, 2);
	assert_false(board_has(reader, 77, 1));
	board_erase(writer, 0);
	assert_false(board_has(reader, 78, 2));
	board_erase_all(writer);
	assert_false(board_has(reader, UINT64_MAX, 65535));
	board_unmap(&writer);
	board_unmap(&reader);
	assert_null(writer);
}

static void test_killed_worker(void **state UNUSED)
{
	int fd = board_create(), status;
	struct board *reader = board_map(fd, false);
	pid_t pid = fork();

	if (pid == 0) {
		struct board *b = board_map(fd, true);

		board_post(b, 1, 100, 0);
		board_post(b, 2, 200, 0);
		board_erase(b, 1);
		(void)raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_false(board_has(reader, 100, 0));
	assert_true(board_has(reader, 200, 0));
	board_unmap(&reader);
	(void)close(fd);
}

/* A reader must never see a slot's new message with its old group or the other way round. */
static void test_no_mixture_is_seen(void **state UNUSED)
{
	int fd = board_create(), status;
	struct board *b = board_map(fd, true);
	pid_t pid = fork();

	if (pid == 0)
		for (;;) {
			board_post(b, 0, 1, 1);
			board_post(b, 0, 2, 2);
		}
	for (int i = 0; i < 300; i++) {
		assert_false(board_has(b, 3, 3));
		assert_false(board_has(b, 1, 7));
	}
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_false(board_has(b, 1, 2)); /* what its death left */
	assert_false(board_has(b, 2, 1));
	board_unmap(&b);
	(void)close(fd);
}

static void test_file_is_sealed_and_checked(void **state UNUSED)
{
	int fd = board_create(), other = memfd_create("small", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_null(board_map(other, false));
	assert_int_equal(errno, EINVAL);
	assert_null(board_map(-1, false));
	(void)close(fd);
	(void)close(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_post_and_erase),
		cmocka_unit_test(test_killed_worker),
		cmocka_unit_test(test_no_mixture_is_seen),
		cmocka_unit_test(test_file_is_sealed_and_checked),
	};

	return cmocka_run_group_tests_name("lib_board", tests, NULL, NULL);
}
