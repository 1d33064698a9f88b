/* snapshot.c - sealed memory files. */
#include "master/snapshot.h"
#include "lib/fd.h"
#include "lib/secret.h"
#include "master/pipes.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int snapshot_create(const char *name, struct slice bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), saved;

	if (fd < 0 || (fd = pipes_lift(fd)) < 0)
		return -1;
	if (fd_write_all(fd, bytes) && lseek(fd, 0, SEEK_SET) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

void snapshot_put_secret(struct buf *out, unsigned index, const char *name, const char *value)
{
	buf_printf(out, "%u", index);
	buf_put_char(out, '\0');
	buf_put(out, name, strlen(name) + 1);
	buf_put(out, value, strlen(value) + 1);
}

static void put_file(struct buf *out, const struct conf *c, unsigned index, const char *name, const char *path)
{
	char line[SECRET_MAX];
	const char *why = secret_read(path, line);

	if (why)
		log_error("server %s cannot log in: %s: %s", c->server[index].name, path, why);
	else
		snapshot_put_secret(out, index, name, line);
	explicit_bzero(line, sizeof(line));
}

void snapshot_collect_server(const struct conf *c, unsigned index, struct buf *out)
{
	const struct conf_server *server = &c->server[index];

	if (server->password)
		snapshot_put_secret(out, index, "password", server->password);
	else if (server->password_file)
		put_file(out, c, index, "password", server->password_file);
	if (server->pop.password_file)
		put_file(out, c, index, "pop-password", server->pop.password_file);
}

void snapshot_collect_secrets(const struct conf *c, struct buf *out)
{
	for (unsigned i = 0; i < c->server_count; i++)
		snapshot_collect_server(c, i, out);
}
