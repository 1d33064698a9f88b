/* reject.c - the folder of what could not be accepted. */
#include "pickup/reject.h"
#include "lib/buf.h"
#include "lib/log.h"
#include "lib/text.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_KEEP_BYTES = 230, TARGET_BYTES = 300, TRIES_MAX = 100000 };

/* rename(2) that does not overwrite, on file systems too that cannot do it by themselves (nobody else writes here). */
static int rename_fresh(int spool_fd, const char *from, const char *to)
{
	struct stat st;

	if (renameat2(spool_fd, from, spool_fd, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	if (fstatat(spool_fd, to, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		errno = EEXIST;
		return -1;
	}
	return renameat(spool_fd, from, spool_fd, to);
}

static int write_reason(int fd, const char *name, uint32_t uid, const char *reason)
{
	struct buf text;
	ssize_t done;

	buf_init(&text, 8192);
	buf_put_str(&text, "This message could not be accepted: ");
	buf_put_str(&text, reason);
	buf_put_str(&text, ".\n\nDropped as: ");
	text_escape(&text, slice_of(name), 2000);
	buf_printf(
		&text,
		"\nBy uid: %u\nTo try again: put it right and move it back into drop/. Else remove it and this file.\n",
		uid);
	done = write(fd, text.ptr, text.len);
	if (done >= 0 && (size_t)done != text.len) {
		errno = ENOSPC;
		done = -1;
	}
	buf_release(&text);
	return done < 0 ? -1 : 0;
}

static void log_rejected(const char *name, const char *target, uint32_t uid, const char *reason)
{
	struct buf text;

	buf_init(&text, 1024);
	text_escape(&text, slice_of(name), 255);
	buf_put_str(&text, " is kept as ");
	text_escape(&text, slice_of(target), 300);
	log_warn("rejected: uid=%u: %s: %s", uid, buf_text(&text), reason);
	buf_release(&text);
}

/* One try: 0 done, 1 the name is taken, -1 with errno. */
static int try_target(int spool_fd, const char *path, const char *target, const char *name, uint32_t uid,
		      const char *reason)
{
	char reason_path[TARGET_BYTES + 8];
	int fd, rc, saved;

	snprintf(reason_path, sizeof(reason_path), "%s.reason", target);
	fd = openat(spool_fd, reason_path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno == EEXIST ? 1 : -1;
	rc = write_reason(fd, name, uid, reason);
	if (rc == 0)
		rc = rename_fresh(spool_fd, path, target);
	saved = errno;
	close(fd);
	if (rc < 0)
		(void)unlinkat(spool_fd, reason_path, 0);
	errno = saved;
	return rc < 0 && saved == EEXIST ? 1 : rc;
}

int reject_file(int spool_fd, const char *path, const char *name, uint32_t uid, const char *reason)
{
	char target[TARGET_BYTES];

	for (unsigned i = 0; i < TRIES_MAX; i++) {
		int rc;

		if (i == 0)
			snprintf(target, sizeof(target), "rejected/%.*s", NAME_KEEP_BYTES, name);
		else
			snprintf(target, sizeof(target), "rejected/%.*s.%u", NAME_KEEP_BYTES, name, i);
		rc = try_target(spool_fd, path, target, name, uid, reason);
		if (rc < 0)
			return -1;
		if (rc == 0) {
			log_rejected(name, target, uid, reason);
			return 0;
		}
	}
	errno = EEXIST;
	return -1;
}
