/* control.c - bind, listen; nothing else. */
#include "master/control.h"
#include "master/pipes.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { CONTROL_BACKLOG = 64 };

int control_listen(int run, const struct identities *ids)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd, saved;

	/* A spool may lie deeper than the 107 bytes that an address holds. */
	(void)snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/control", run);
	if (unlinkat(run, "control", 0) < 0 && errno != ENOENT)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || (fd = pipes_lift(fd)) < 0)
		return -1;
	if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 || fchmodat(run, "control", 0660, 0) < 0)
		goto failed;
	if (ids->is_root && fchownat(run, "control", 0, ids->user_group, AT_SYMLINK_NOFOLLOW) < 0)
		goto failed;
	if (listen(fd, CONTROL_BACKLOG) == 0)
		return fd;
failed:
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}
