/* refresh.c - see refresh.h. */
#include "lib/refresh.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

PRINTF_LIKE(2, 3) static void note(struct refresh *r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(r->why, sizeof(r->why), format, args);
	va_end(args);
}

/* Whoever could change it could read what we write; a name that is a link, or of another owner, is a trap. */
static bool is_ours(const struct refresh *r, const struct stat *st)
{
	struct stat old;
	bool is_known = st->st_uid == geteuid() || (stat(r->path, &old) == 0 && st->st_uid == old.st_uid);

	return S_ISREG(st->st_mode) && st->st_nlink == 1 && is_known && !(st->st_mode & (S_IRWXG | S_IRWXO));
}

/* Between opening and locking somebody may have put another one in its place. */
static bool is_still_there(const struct refresh *r, const struct stat *mine)
{
	struct stat now;

	return lstat(r->beside, &now) == 0 && now.st_ino == mine->st_ino && now.st_dev == mine->st_dev;
}

/* Beside what it will replace, with its owner. */
static int open_beside(const struct refresh *r)
{
	int fd = open(r->beside, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	struct stat st, old;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && is_ours(r, &st)) {
		if (geteuid() != 0 || stat(r->path, &old) < 0 || fchown(fd, old.st_uid, old.st_gid) == 0)
			return fd;
	} else {
		errno = EPERM;
	}
	int saved = errno;

	close(fd);
	errno = saved;
	return -1;
}

static enum refresh_result lock(struct refresh *r)
{
	enum { TRIES = 10 };
	struct stat st;

	for (unsigned i = 0; i < TRIES; i++) {
		r->fd = open_beside(r);
		if (r->fd < 0) {
			note(r, "%s: %s", r->beside, strerror(errno));
			return REFRESH_NONE;
		}
		if (flock(r->fd, LOCK_EX | LOCK_NB) < 0)
			break;
		if (fstat(r->fd, &st) == 0 && is_still_there(r, &st))
			return REFRESH_OPEN;
		close(r->fd);
	}
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	return REFRESH_BUSY;
}

/* One line, its end there: what a power failure has left of a file is not. */
static bool is_complete(int fd)
{
	char text[SECRET_MAX];
	ssize_t got = pread(fd, text, sizeof(text), 0);
	bool is_right = got > 1 && (size_t)got < sizeof(text) && !memchr(text, '\0', (size_t)got) &&
			memchr(text, '\n', (size_t)got) == text + got - 1;

	explicit_bzero(text, sizeof(text));
	return is_right;
}

/* Somebody has put a token there by hand since. */
static bool is_outdated(const struct refresh *r)
{
	struct stat mine, there;

	return fstat(r->fd, &mine) == 0 && stat(r->path, &there) == 0 &&
	       (there.st_mtim.tv_sec > mine.st_mtim.tv_sec ||
		(there.st_mtim.tv_sec == mine.st_mtim.tv_sec && there.st_mtim.tv_nsec > mine.st_mtim.tv_nsec));
}

static int sync_folder(const char *path)
{
	char *folder = xstrdup(path), *slash = strrchr(folder, '/');
	int fd, rc;

	if (slash)
		slash[slash == folder ? 1 : 0] = '\0';
	fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(folder);
	if (fd < 0)
		return -1;
	rc = fsync(fd);
	close(fd);
	return rc;
}

static bool put_in_place(const struct refresh *r)
{
	return fsync(r->fd) == 0 && rename(r->beside, r->path) == 0 && sync_folder(r->path) == 0;
}

/* What somebody before us had no time for. */
static enum refresh_result finish_the_last(struct refresh *r)
{
	enum refresh_result result = lock(r);

	if (result != REFRESH_OPEN)
		return result;
	if (!is_complete(r->fd) || is_outdated(r)) {
		if (ftruncate(r->fd, 0) == 0)
			return REFRESH_OPEN;
		note(r, "%s: %s", r->beside, strerror(errno));
	} else if (put_in_place(r)) {
		close(r->fd);
		return lock(r);
	} else {
		note(r, "%s cannot take the place of %s: %s", r->beside, r->path, strerror(errno));
	}
	close(r->fd);
	r->fd = -1;
	return REFRESH_NONE;
}

enum refresh_result refresh_open(struct refresh *r, const char *path)
{
	const char *why;

	*r = (struct refresh){ .fd = -1, .path = realpath(path, NULL) };
	if (!r->path)
		r->path = xstrdup(path);
	r->beside = xasprintf("%s.new", r->path);
	if (finish_the_last(r) == REFRESH_BUSY) {
		refresh_leave(r);
		return REFRESH_BUSY;
	}
	why = secret_read(r->path, r->token);
	if (!why)
		return REFRESH_OPEN;
	explicit_bzero(r->token, sizeof(r->token));
	if (r->fd >= 0 || r->why[0] == '\0')
		note(r, "%s: %s", r->path, why);
	return REFRESH_NONE;
}

bool refresh_write(int fd, const char *token)
{
	struct slice parts[] = { slice_of(token), slice_of("\n") };
	off_t at = 0;

	for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
		while (parts[i].len > 0) {
			ssize_t put = pwrite(fd, parts[i].ptr, parts[i].len, at);

			if (put < 0 && errno == EINTR)
				continue;
			if (put <= 0)
				return false;
			parts[i].ptr += put;
			parts[i].len -= (size_t)put;
			at += put;
		}
	}
	return fsync(fd) == 0;
}

bool refresh_close(struct refresh *r)
{
	bool is_right = true;
	int saved = 0;

	if (r->fd >= 0 && is_complete(r->fd))
		is_right = put_in_place(r);
	else if (r->fd >= 0)
		(void)unlink(r->beside);
	if (!is_right)
		saved = errno;
	refresh_leave(r);
	errno = saved;
	return is_right;
}

void refresh_leave(struct refresh *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	free(r->path);
	free(r->beside);
	r->path = r->beside = NULL;
	explicit_bzero(r->token, sizeof(r->token));
}
