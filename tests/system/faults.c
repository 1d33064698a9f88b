/*
 * faults.c - preloaded into a process under test: a clock that can be set, a machine that sleeps, a disk that fails, a
 * death at a chosen call.
 *
 * What is on is said by a page of memory that the test writes to (faults.py), mapped before the jail closes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_OWN_FD = 16 }; /* below are the log and what master gives */
enum { FILE_SYNC = 1, FOLDER_SYNC = 2, READ_ONLY = 4, HANG = 8, STALL = 16, CRASH = 32 };

static struct page {
	int64_t clock_ms;  /* how far CLOCK_REALTIME is off */
	int64_t faults;    /* bits */
	int64_t countdown; /* the call to die at; 0: none */
	int64_t calls;     /* so many were made */
	int64_t stalled;   /* so many began to wait for the disk */
	int64_t slept_ms;  /* the machine, since the process began: CLOCK_MONOTONIC stood still */
} nothing_yet;
static volatile struct page *page = &nothing_yet;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void map_page(void)
{
	const char *path = getenv("POSTERN_TEST_FAULTS");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *at = fd >= 0 ? mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (at == MAP_FAILED)
		abort();
	close(fd);
	page = at;
}

static int is_on(int64_t fault)
{
	return (page->faults & fault) != 0;
}

/* Before and after each call that changes a disk or tells a partner. */
static void pass(void)
{
	__atomic_add_fetch(&page->calls, 1, __ATOMIC_SEQ_CST);
	if (page->countdown > 0 && __atomic_sub_fetch(&page->countdown, 1, __ATOMIC_SEQ_CST) == 0)
		raise(SIGKILL);
}

static int is_own_file(int fd)
{
	struct stat st;

	return fd >= FIRST_OWN_FD && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static int refuses(void)
{
	if (!is_on(READ_ONLY))
		return 0;
	errno = EROFS;
	return 1;
}

#define GUARDED(type, name, parameters, arguments)                \
	type name parameters                                      \
	{                                                         \
		type rc;                                          \
		pass();                                           \
		rc = refuses() ? (type)-1 : NEXT(name) arguments; \
		pass();                                           \
		return rc;                                        \
	}

GUARDED(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))
GUARDED(int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags))
GUARDED(int, rename, (const char *from, const char *to), (from, to))
GUARDED(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags))
GUARDED(int, unlink, (const char *path), (path))
GUARDED(int, mkdirat, (int fd, const char *path, mode_t mode), (fd, path, mode))

static int sync_of(int fd, int (*next)(int), int fault)
{
	int rc;

	if (is_on(STALL))
		__atomic_add_fetch(&page->stalled, 1, __ATOMIC_SEQ_CST);
	while (is_on(STALL))
		(void)poll(NULL, 0, 10);
	pass();
	if (is_on(fault)) {
		errno = EIO;
		rc = -1;
	} else {
		rc = refuses() ? -1 : next(fd);
	}
	pass();
	return rc;
}

int syncfs(int fd)
{
	return sync_of(fd, NEXT(syncfs), FILE_SYNC);
}

int fdatasync(int fd)
{
	return sync_of(fd, NEXT(fdatasync), FILE_SYNC);
}

int fsync(int fd)
{
	struct stat st;

	return sync_of(fd, NEXT(fsync), fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) ? FOLDER_SYNC : FILE_SYNC);
}

#define GUARDED_WRITE(name, parameters, arguments)                             \
	ssize_t name parameters                                                \
	{                                                                      \
		ssize_t rc;                                                    \
		pass();                                                        \
		rc = is_own_file(fd) && refuses() ? -1 : NEXT(name) arguments; \
		pass();                                                        \
		return rc;                                                     \
	}

GUARDED_WRITE(write, (int fd, const void *bytes, size_t len), (fd, bytes, len))
GUARDED_WRITE(pwrite, (int fd, const void *bytes, size_t len, off_t at), (fd, bytes, len, at))
GUARDED_WRITE(pwrite64, (int fd, const void *bytes, size_t len, off64_t at), (fd, bytes, len, at))

/* The boot's name may be another one: what stands in FAULTS.boot_id, if that is there. */
static const char *instead_of(const char *path)
{
	static char other[4096];
	const char *mine = getenv("POSTERN_TEST_FAULTS");

	if (strcmp(path, "/proc/sys/kernel/random/boot_id") != 0 || !mine)
		return path;
	snprintf(other, sizeof(other), "%s.boot_id", mine);
	return access(other, R_OK) == 0 ? other : path;
}

#define GUARDED_OPEN(name, parameters, arguments)                                                \
	int name parameters                                                                      \
	{                                                                                        \
		mode_t mode = 0;                                                                 \
		va_list more;                                                                    \
		va_start(more, flags);                                                           \
		path = instead_of(path);                                                         \
		if (flags & (O_CREAT | O_TMPFILE))                                               \
			mode = va_arg(more, mode_t);                                             \
		va_end(more);                                                                    \
		return (flags & O_ACCMODE) != O_RDONLY && refuses() ? -1 : NEXT(name) arguments; \
	}

GUARDED_OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
GUARDED_OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
GUARDED_OPEN(openat, (int fd, const char *path, int flags, ...), (fd, path, flags, mode))
GUARDED_OPEN(openat64, (int fd, const char *path, int flags, ...), (fd, path, flags, mode))

/* --- a message that is never read to its end, or that kills its reader, and the limit of processor time, shortened ---
 */

ssize_t pread(int fd, void *bytes, size_t len, off_t at)
{
	ssize_t got = NEXT(pread)(fd, bytes, len, at);

	while (got > 0 && memmem(bytes, (size_t)got, "HANG", 4) && is_on(HANG))
		for (volatile int i = 0; i < 1000000; i++)
			;
	if (got > 0 && memmem(bytes, (size_t)got, "CRASH", 5) && is_on(CRASH))
		raise(SIGSEGV);
	return got;
}

int setitimer(__itimer_which_t which, const struct itimerval *value, struct itimerval *old)
{
	struct itimerval shorter = { .it_value = { .tv_sec = value->it_value.tv_sec >= 30 } };

	return NEXT(setitimer)(which, value->it_value.tv_sec ? &shorter : value, old);
}

/* --- the clock --- */

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int rc = NEXT(clock_gettime)(id, ts);
	int64_t ms = page->slept_ms, ns;

	if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
		ms += page->clock_ms;
	else if (id != CLOCK_BOOTTIME)
		return rc;
	ns = (int64_t)ts->tv_nsec + ms % 1000 * 1000000;
	ts->tv_sec += ms / 1000 + (ns < 0 ? -1 : ns / 1000000000);
	ts->tv_nsec = (ns + 1000000000) % 1000000000;
	return rc;
}

time_t time(time_t *out)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	if (out)
		*out = ts.tv_sec;
	return ts.tv_sec;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec ts;

	(void)zone;
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	*tv = (struct timeval){ ts.tv_sec, ts.tv_nsec / 1000 };
	return 0;
}

/* What the kernel tells a timer of the wall clock after a sleep: readable, ECANCELED. Here it is told by touching the
 * page's file. */
static int leap_fd = -1;

int timerfd_create(int id, int flags)
{
	const char *path = getenv("POSTERN_TEST_FAULTS");

	if (id != CLOCK_REALTIME)
		return NEXT(timerfd_create)(id, flags);
	leap_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (leap_fd < 0 || !path || inotify_add_watch(leap_fd, path, IN_ATTRIB) < 0)
		abort();
	return leap_fd;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old)
{
	return fd == leap_fd ? 0 : NEXT(timerfd_settime)(fd, flags, value, old);
}

ssize_t read(int fd, void *bytes, size_t len)
{
	char events[4096];
	ssize_t got;

	if (fd != leap_fd)
		return NEXT(read)(fd, bytes, len);
	got = NEXT(read)(fd, events, sizeof(events));
	errno = got < 0 ? errno : ECANCELED;
	return -1;
}
