/* lock.c - run/master.pid and run/lock. */
#include "master/lock.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"
#include "master/pipes.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	FAMILY_WAIT_MAX_MS = 12 * 60 * 1000, /* lib/proc.c: an orphan ends itself after 11 minutes */
	FAMILY_TELL_MS = 2000,
	FAMILY_POLL_US = 20000
};

/* It may be left from a time when no root started the instance; what stands in it is believed, so it is ours. */
static int open_file(int run, const char *name)
{
	int fd = openat(run, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);

	if (fd >= 0 && fchown(fd, geteuid(), (gid_t)-1) < 0) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd < 0 ? -1 : pipes_lift(fd);
}

/*
 * Locks of the open description: children inherit them as they would flock(2)'s, but who only wants to know whether one
 * is held (`postern status`) need not take it to find out, and so never gets in the way of a master that starts.
 */
static int lock_file(int fd)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
		return 0;
	if (errno == EACCES)
		errno = EAGAIN;
	return -1;
}

static long read_pid(int fd)
{
	char text[24];
	ssize_t got = pread(fd, text, sizeof(text), 0);
	uint64_t pid = 0;

	if (got <= 0 || !text_parse_u64(text_trim((struct slice){ text, strcspn(text, "\n") }), &pid))
		return 0;
	return (long)pid;
}

static int write_pid(int fd)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

	return ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)len, 0) != len ? -1 : 0;
}

static void close_both(struct lock *l)
{
	int saved = errno;

	if (l->pid_fd >= 0)
		close(l->pid_fd);
	if (l->family_fd >= 0)
		close(l->family_fd);
	l->pid_fd = l->family_fd = -1;
	errno = saved;
}

enum lock_result lock_take(struct lock *l, int run, long *holder)
{
	enum lock_result result = LOCK_FAILED;

	*holder = 0;
	l->family_fd = -1;
	l->pid_fd = open_file(run, "master.pid");
	if (l->pid_fd < 0)
		return LOCK_FAILED;
	if (lock_file(l->pid_fd) < 0) {
		if (errno == EAGAIN) {
			result = LOCK_BUSY;
			*holder = read_pid(l->pid_fd);
		}
		goto failed;
	}
	l->family_fd = open_file(run, "lock");
	if (l->family_fd < 0 || write_pid(l->pid_fd) < 0)
		goto failed;
	return LOCK_TAKEN;
failed:
	close_both(l);
	return result;
}

int lock_wait_for_family(const struct lock *l)
{
	struct mono begun = clock_mono();
	bool is_told = false;

	while (lock_file(l->family_fd) < 0) {
		int64_t waited_ms = clock_mono().ms - begun.ms;

		if ((errno != EAGAIN && errno != EINTR) || waited_ms > FAMILY_WAIT_MAX_MS)
			return -1;
		if (!is_told && waited_ms > FAMILY_TELL_MS) {
			log_warn("waiting for processes of the last master to finish their transactions");
			log_flush();
			is_told = true;
		}
		usleep(FAMILY_POLL_US);
	}
	return 0;
}

void lock_release(struct lock *l)
{
	/* Emptied, not removed: who unlinks a lock file leaves two masters holding two files of one name. */
	if (l->pid_fd >= 0 && ftruncate(l->pid_fd, 0) < 0)
		log_warn("cannot empty run/master.pid: %s", strerror(errno));
	close_both(l);
}
