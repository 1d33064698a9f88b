/* lib_fd_test.c - whole files through descriptors. */
#include "lib/fd.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

/* Larger than what is read at once, and from the beginning wherever the descriptor stands. */
static void test_there_and_back(void **state UNUSED)
{
	static char bytes[200 * 1000 + 1];
	struct slice all = { bytes, sizeof(bytes) };
	int fd = memfd_create("t", MFD_CLOEXEC);
	struct buf out;

	memset(bytes, 'x', sizeof(bytes));
	assert_true(fd_write_all(fd, all));
	buf_init(&out, sizeof(bytes) + 1);
	assert_true(fd_read_all(fd, &out));
	assert_true(slice_equal(buf_slice(&out), all));
	buf_release(&out);
	buf_init(&out, sizeof(bytes));
	assert_false(fd_read_all(fd, &out));
	assert_int_equal(errno, EFBIG);
	buf_release(&out);
	close(fd);
}

static void test_what_cannot_be(void **state UNUSED)
{
	struct buf out;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	buf_init(&out, 100);
	assert_false(fd_write_all(fds[0], slice_of("text")));
	assert_int_equal(errno, EBADF);
	assert_false(fd_read_all(fds[0], &out));
	assert_int_equal(errno, ESPIPE);
	buf_release(&out);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_there_and_back),
					    cmocka_unit_test(test_what_cannot_be) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
