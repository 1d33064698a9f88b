/* spawn.c - fork and exec. */
#include "master/spawn.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <unistd.h>

extern char **environ;

enum { ARGS_MAX = 24, ENV_MAX = 32 };

struct arguments {
	char *word[ARGS_MAX];
	unsigned count;
};

char *spawn_find_folder(void)
{
	char path[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash;

	if (len < 0)
		return NULL;
	path[len] = '\0';
	slash = strrchr(path, '/');
	if (!slash) {
		errno = ENOENT;
		return NULL;
	}
	*slash = '\0';
	return xstrdup(path);
}

void spawn_give(struct spawn *s, int source, int target)
{
	if (source < 0)
		return;
	if (s->fd_count == SPAWN_FDS_MAX)
		BUG("more than %d descriptors for %s", SPAWN_FDS_MAX, s->program);
	s->fds[s->fd_count].source = source;
	s->fds[s->fd_count].target = target;
	s->fd_count++;
}

static void add_word(struct arguments *a, char *taken)
{
	if (a->count + 1 >= ARGS_MAX)
		BUG("too many arguments");
	a->word[a->count++] = taken;
}

static void add_option(struct arguments *a, const char *name, char *taken)
{
	add_word(a, xstrdup(name));
	add_word(a, taken);
}

static void build_arguments(struct arguments *a, const struct spawn *s)
{
	add_word(a, xstrdup(s->program));
	add_word(a, xstrdup("--child"));
	add_option(a, "--index", xasprintf("%u", s->index));
	add_option(a, "--generation", xasprintf("%u", s->generation));
	add_option(a, "--spool-root", xstrdup(s->spool));
	add_option(a, "--conf", xstrdup(s->conf_path));
	add_option(a, "--workers", xasprintf("%u", s->workers));
	if (s->identity.uid == (uid_t)-1)
		return;
	add_option(a, "--uid", xasprintf("%u", (unsigned)s->identity.uid));
	add_option(a, "--gid", xasprintf("%u", (unsigned)s->identity.gid));
	if (s->identity.group != (gid_t)-1)
		add_option(a, "--groups", xasprintf("%u", (unsigned)s->identity.group));
}

/* What a child may learn from our environment; nothing that steers the dynamic linker of a privileged start. */
static void build_environment(char *env[ENV_MAX], bool is_root)
{
	static const char *const KEPT[] = { "TZ=",           "SSL_CERT_FILE=", "ASAN_OPTIONS=", "UBSAN_OPTIONS=",
					    "LSAN_OPTIONS=", "POSTERN_TEST_" };
	static const char *const KEPT_UNPRIVILEGED[] = { "LD_LIBRARY_PATH=", "LD_PRELOAD=" };
	unsigned count = 0;

	for (char **at = environ; *at && count + 1 < ENV_MAX; at++) {
		bool is_kept = false;

		for (size_t i = 0; i < ARRAY_LEN(KEPT); i++)
			is_kept |= strncmp(*at, KEPT[i], strlen(KEPT[i])) == 0;
		for (size_t i = 0; !is_root && i < ARRAY_LEN(KEPT_UNPRIVILEGED); i++)
			is_kept |= strncmp(*at, KEPT_UNPRIVILEGED[i], strlen(KEPT_UNPRIVILEGED[i])) == 0;
		if (is_kept)
			env[count++] = *at;
	}
	env[count] = NULL;
}

/* Between fork and exec: system calls only. */
NORETURN static void become(const struct spawn *s, const char *path, char *const argv[], char *const env[])
{
	sigset_t none;
	int null = open("/dev/null", O_RDWR);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		_exit(EXIT_STATUS_OS);
	for (int fd = PROC_FD_LOG; fd < PROC_FD_PEER_FIRST; fd++) {
		/* What a role does not get is /dev/null, lest something else take the number. */
		if (fd > PROC_FD_LOCK)
			close(fd);
		else if (dup2(STDIN_FILENO, fd) < 0)
			_exit(EXIT_STATUS_OS);
	}
	for (unsigned i = 0; i < s->fd_count; i++) {
		if (dup2(s->fds[i].source, s->fds[i].target) < 0) /* the copy is not closed on exec */
			_exit(EXIT_STATUS_OS);
	}
	for (int sig = 1; sig < NSIG; sig++)
		(void)signal(sig, SIG_DFL);
	(void)signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)setsid(); /* the terminal's signals are for master alone */
	execve(path, argv, env);
	_exit(EXIT_STATUS_OS);
}

pid_t spawn_child(const struct spawn *s)
{
	struct arguments arguments = { .count = 0 };
	char *env[ENV_MAX], *path = xasprintf("%s/%s", s->folder, s->program);
	pid_t pid;
	int saved;

	build_arguments(&arguments, s);
	build_environment(env, geteuid() == 0);
	pid = fork();
	if (pid == 0)
		become(s, path, arguments.word, env);
	saved = errno;
	for (unsigned i = 0; i < arguments.count; i++)
		free(arguments.word[i]);
	free(path);
	errno = saved;
	return pid;
}
