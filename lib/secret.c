/* secret.c - the first line of a file that holds a password or a token. */
#include "lib/secret.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static ssize_t read_start(int fd, char line[SECRET_MAX], struct stat *st)
{
	if (fstat(fd, st) < 0)
		return -1;
	return S_ISREG(st->st_mode) ? read(fd, line, SECRET_MAX - 1) : 0;
}

const char *secret_read(const char *path, char line[SECRET_MAX])
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), saved;
	struct stat st = { 0 };
	ssize_t got;

	line[0] = '\0';
	if (fd < 0)
		return strerror(errno);
	got = read_start(fd, line, &st);
	saved = errno;
	close(fd);
	errno = got < 0 ? saved : 0;
	if (got < 0)
		return strerror(saved);
	line[got] = '\0';
	line[strcspn(line, "\n")] = '\0';
	if (line[0] == '\0')
		return "it has no first line";
	if (strchr(line, '\r'))
		return "it has Windows line ends, or a carriage return in its first line";
	return st.st_mode & (S_IRWXG | S_IRWXO) ? "others may read it (chmod go= it)" : NULL;
}
