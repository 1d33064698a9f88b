/* writers.c - leases and time stamps as evidence. */
#include "pickup/writers.h"
#include "lib/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum writers writers_probe(int spool_fd, const char *path)
{
	int fd = openat(spool_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	enum writers answer = WRITERS_UNKNOWN;

	if (fd < 0)
		return errno == EACCES ? WRITERS_NONE : WRITERS_UNKNOWN; /* unreadable: taken, to be rejected */
	if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
		answer = WRITERS_NONE;
		(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	} else if (errno == EAGAIN) {
		answer = WRITERS_SOME;
	}
	close(fd);
	return answer;
}

bool writers_is_unopened(int folder_fd, const char *name)
{
	int fd = openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	bool is_unopened;

	if (fd < 0)
		return false;
	is_unopened = fcntl(fd, F_SETLEASE, F_WRLCK) == 0;
	if (is_unopened)
		(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	close(fd);
	return is_unopened;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool writers_same_content(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_size == b->st_size && same_time(&a->st_mtim, &b->st_mtim) &&
	       same_time(&a->st_ctim, &b->st_ctim);
}

bool writers_changed_since(const struct stat *st)
{
	return !same_time(&st->st_mtim, &st->st_ctim);
}

int64_t writers_quiet_ms(const struct stat *st)
{
	int64_t changed = (int64_t)st->st_ctim.tv_sec * 1000 + st->st_ctim.tv_nsec / 1000000;
	int64_t quiet = clock_wall().ms - changed;

	return quiet > 0 ? quiet : 0;
}
