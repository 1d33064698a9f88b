/* snapshot.c - sealed memory files. */
#include "master/snapshot.h"
#include "master/pipes.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SECRET_MAX = 4096 };

static int write_all(int fd, struct slice bytes)
{
	while (bytes.len > 0) {
		ssize_t put = write(fd, bytes.ptr, bytes.len);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return -1;
		bytes.ptr += put;
		bytes.len -= (size_t)put;
	}
	return 0;
}

int snapshot_create(const char *name, struct slice bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), saved;

	if (fd < 0 || (fd = pipes_lift(fd)) < 0)
		return -1;
	if (write_all(fd, bytes) == 0 && lseek(fd, 0, SEEK_SET) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* The first line, without its end. -1 with errno. */
static int read_secret(const char *path, char line[SECRET_MAX])
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), saved;
	ssize_t got;

	if (fd < 0)
		return -1;
	got = read(fd, line, SECRET_MAX - 1);
	saved = errno;
	close(fd);
	errno = saved;
	if (got < 0)
		return -1;
	line[got] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	return 0;
}

static void put_secret(struct buf *out, unsigned index, const char *name, const char *value)
{
	buf_printf(out, "%u", index);
	buf_put_char(out, '\0');
	buf_put(out, name, strlen(name) + 1);
	buf_put(out, value, strlen(value) + 1);
}

void snapshot_collect_secrets(const struct conf *c, struct buf *out)
{
	char line[SECRET_MAX];

	for (unsigned i = 0; i < c->server_count; i++) {
		const struct conf_server *server = &c->server[i];

		if (server->password)
			put_secret(out, i, "password", server->password);
		else if (!server->password_file)
			continue;
		else if (read_secret(server->password_file, line) == 0)
			put_secret(out, i, "password", line);
		else
			log_error("server \"%s\": cannot read its password-file: %s", server->name, strerror(errno));
	}
	explicit_bzero(line, sizeof(line));
}
