/* helper.c - see helper.h. */
#include "lib/helper.h"
#include "lib/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { ENV_MAX = 16, PIECE = 4096, HIGH_FD = 16 };

static void build_environment(char *env[ENV_MAX])
{
	static const char *const KEPT[] = { "SSL_CERT_FILE=", "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS=",
					    "POSTERN_TEST_" };
	unsigned count = 0;

	for (char **at = environ; *at && count + 1 < ENV_MAX; at++) {
		for (size_t i = 0; i < ARRAY_LEN(KEPT); i++) {
			if (strncmp(*at, KEPT[i], strlen(KEPT[i])) == 0) {
				env[count++] = *at;
				break;
			}
		}
	}
	env[count] = NULL;
}

/* Between fork and exec: system calls only. The three sources lie above HIGH_FD. */
NORETURN static void become(const char *path, char *const argv[], char *const env[], const int source[3])
{
	static const int TARGETS[] = { STDIN_FILENO, STDOUT_FILENO, HELPER_FD };
	sigset_t none;

	for (unsigned i = 0; i < ARRAY_LEN(TARGETS); i++) {
		if (source[i] >= 0 ? dup2(source[i], TARGETS[i]) < 0 : close(TARGETS[i]) < 0 && errno != EBADF)
			_exit(EXIT_STATUS_OS);
	}
	if (close_range(HELPER_FD + 1, ~0u, 0) < 0)
		_exit(EXIT_STATUS_OS);
	for (int sig = 1; sig < NSIG; sig++)
		(void)signal(sig, SIG_DFL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setsid(); /* ^C at the terminal must not cost us a token that is on its way */
	execve(path, argv, env);
	_exit(EXIT_STATUS_OS);
}

static int lift(int fd)
{
	int lifted = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);

	if (fd >= 0)
		close(fd);
	return lifted;
}

static bool open_pipe(int ends[2])
{
	if (pipe2(ends, O_CLOEXEC) < 0) {
		ends[0] = ends[1] = -1;
		return false;
	}
	ends[0] = lift(ends[0]);
	ends[1] = lift(ends[1]);
	return ends[0] >= 0 && ends[1] >= 0;
}

static void close_all(const int *fds, unsigned count)
{
	int saved = errno;

	for (unsigned i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	errno = saved;
}

bool helper_start(struct helper *h, const struct helper_start *how)
{
	/* question: to read, to write; answer: to read, to write; the extra one */
	int fd[] = { -1, -1, -1, -1, how->fd < 0 ? -1 : fcntl(how->fd, F_DUPFD_CLOEXEC, HIGH_FD) };
	char *env[ENV_MAX], uid[24], gid[24], name[] = "token", *argv[4] = { name };
	bool is_right = (how->fd < 0 || fd[4] >= 0) && open_pipe(fd) && open_pipe(fd + 2) &&
			how->question.len <= HELPER_QUESTION_MAX &&
			write(fd[1], how->question.ptr, how->question.len) == (ssize_t)how->question.len &&
			fcntl(fd[2], F_SETFL, O_NONBLOCK) == 0;

	build_environment(env);
	(void)snprintf(uid, sizeof(uid), "--uid=%lu", (unsigned long)how->uid);
	(void)snprintf(gid, sizeof(gid), "--gid=%lu", (unsigned long)how->gid);
	if (how->uid != (uid_t)-1) {
		argv[1] = uid;
		argv[2] = gid;
	}
	h->pid = is_right ? fork() : -1;
	if (h->pid == 0)
		become(how->path, argv, env, (const int[]){ fd[0], fd[3], fd[4] });
	h->process = h->pid > 0 ? pidfd_open(h->pid, 0) : -1;
	h->answer = h->pid > 0 ? fd[2] : -1;
	if (h->pid > 0)
		fd[2] = -1;
	close_all(fd, ARRAY_LEN(fd));
	return h->pid > 0;
}

bool helper_read(const struct helper *h, struct buf *answer)
{
	char *room = buf_reserve(answer, PIECE);
	ssize_t got = room ? read(h->answer, room, PIECE) : 0;

	answer->len += got > 0 ? (size_t)got : 0;
	return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

void helper_forget(struct helper *h, bool is_late)
{
	if (is_late && h->process >= 0)
		(void)pidfd_send_signal(h->process, SIGKILL, NULL, 0);
	close_all((const int[]){ h->process, h->answer }, 2);
	h->process = h->answer = -1;
}

bool helper_ask(const struct helper_start *how, uint64_t wait_ms, struct buf *answer)
{
	int64_t until = clock_mono().ms + (int64_t)wait_ms, left;
	struct helper h;

	if (!helper_start(&h, how))
		return false;
	while ((left = until - clock_mono().ms) > 0) {
		struct pollfd p = { .fd = h.answer, .events = POLLIN };

		if (poll(&p, 1, (int)left) > 0 && !helper_read(&h, answer))
			break;
	}
	helper_forget(&h, left <= 0);
	while (waitpid(h.pid, NULL, 0) < 0 && errno == EINTR)
		;
	return true;
}
