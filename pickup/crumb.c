/* crumb.c - what a dying pickup says about the message in its hand. */
#include "pickup/crumb.h"
#include "lib/spool.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

static const int SIGNALS[] = { SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGVTALRM };

/* Only the handler and its setters touch these; a signal handler has no other way to know. */
static struct sigaction old_actions[ARRAY_LEN(SIGNALS)];
static int spool = -1;
static char present_path[CRUMB_PATH_MAX];
static volatile sig_atomic_t is_set;

/* "incoming/ID.crash1": for the handler and for those who look for it. */
static void crumb_path(uint64_t id, unsigned crash, char path[CRUMB_PATH_MAX])
{
	static const char SUFFIX[] = ".crash1";
	size_t len;

	spool_incoming_path(id, path);
	len = strlen(path);
	memcpy(path + len, SUFFIX, sizeof(SUFFIX));
	path[len + sizeof(SUFFIX) - 2] = (char)('0' + crash);
}

/* Async-signal-safe calls only. */
static void on_crash(int signal)
{
	int fd;

	if (is_set) {
		fd = openat(spool, present_path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd >= 0)
			close(fd);
	}
	for (size_t i = 0; i < ARRAY_LEN(SIGNALS); i++) {
		if (SIGNALS[i] == signal)
			(void)sigaction(signal, &old_actions[i], NULL);
	}
	(void)raise(signal); /* pending until return: then what would have happened without us happens */
}

void crumb_install(int spool_fd)
{
	struct sigaction action = { .sa_handler = on_crash };

	spool = spool_fd;
	(void)sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < ARRAY_LEN(SIGNALS); i++)
		(void)sigaction(SIGNALS[i], &action, &old_actions[i]);
}

void crumb_set(uint64_t id, unsigned crashes_before)
{
	is_set = 0;
	crumb_path(id, crashes_before + 1 < CRUMB_CRASHES_MAX ? crashes_before + 1 : CRUMB_CRASHES_MAX, present_path);
	is_set = 1;
}

void crumb_clear(void)
{
	is_set = 0;
}

static void limit_cpu(time_t seconds)
{
	struct itimerval timer = { .it_value = { .tv_sec = seconds } };

	(void)setitimer(ITIMER_VIRTUAL, &timer, NULL);
}

void crumb_watch(void)
{
	limit_cpu(CRUMB_CPU_SECONDS);
}

void crumb_unwatch(void)
{
	limit_cpu(0);
}

unsigned crumb_count(int spool_fd, uint64_t id)
{
	char path[CRUMB_PATH_MAX];

	for (unsigned crash = CRUMB_CRASHES_MAX; crash > 0; crash--) {
		crumb_path(id, crash, path);
		if (faccessat(spool_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return crash;
	}
	return 0;
}

void crumb_erase(int spool_fd, uint64_t id)
{
	char path[CRUMB_PATH_MAX];

	for (unsigned crash = 1; crash <= CRUMB_CRASHES_MAX; crash++) {
		crumb_path(id, crash, path);
		(void)unlinkat(spool_fd, path, 0);
	}
}
