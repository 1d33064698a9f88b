/* lib_jail_test.c - what is refused inside a jail, tried in a child each; as root also what ids and capabilities
 * remain. */
#include "lib/jail.h"
#include "tests/unit/folder.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

/* A child's exit status: 0 as expected; 1 not; 99 the jail could not be entered. A signal counts as 128 + number. */
enum { NO_JAIL = 99, CPU_MAX_S = 30 };

static char folder[] = "/tmp/postern-jail-XXXXXX";
static const char *const INSIDE[] = { "inside", NULL };

static struct jail some_jail(bool wants_network, bool wants_write)
{
	static int folder_fd;
	bool is_root = geteuid() == 0;

	return (struct jail){
		.folder = folder,
		.folder_fd = &folder_fd,
		.is_root_changed = is_root,
		.uid = is_root ? 65534 : (uid_t)-1,
		.gid = 65534,
		.wants_network = wants_network,
		.wants_write = wants_write,
		.reachable = INSIDE,
		.max_files = 512,
		.cpu_max_s = CPU_MAX_S,
	};
}

static int run_in_jail(bool wants_network, bool wants_write, int (*deed)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct jail j = some_jail(wants_network, wants_write);
		const char *step;

		if (jail_enter(&j, &step) < 0) {
			(void)dprintf(STDERR_FILENO, "%s: %s\n", step, strerror(errno));
			_exit(NO_JAIL);
		}
		_exit(deed());
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int try_exec(void)
{
	(void)execl("/bin/true", "true", (char *)NULL);
	return 1;
}

static int try_fork(void)
{
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) < 0 ? 0 : 1;
}

static int try_ptrace(void)
{
	(void)syscall(SYS_ptrace, 0, 0, 0, 0);
	return 1;
}

static int try_setuid(void)
{
	return setuid(0) < 0 ? 1 : 2;
}

static int try_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) >= 0;
}

static int try_unix_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0) >= 0;
}

static int try_create(void)
{
	return open("inside/new", O_WRONLY | O_CREAT, 0600) >= 0;
}

static int try_unlink(void)
{
	return unlink("inside/file") == 0;
}

static int try_read(void)
{
	return open("inside/file", O_RDONLY) >= 0;
}

static int try_outside(void)
{
	return open("/etc/passwd", O_RDONLY) >= 0 || open("../etc/passwd", O_RDONLY) >= 0 ||
	       open("beside", O_RDONLY) >= 0;
}

static int try_dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;
}

static int try_kill(void)
{
	return kill(getppid(), 0) == 0;
}

static rlim_t cpu_limit(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_CPU, &limit) < 0 ? 0 : limit.rlim_cur;
}

static int try_cpu_limit(void)
{
	return cpu_limit() == CPU_MAX_S + 1; /* the first second is not over */
}

static int try_renewal(void)
{
	jail_renew_cpu(2 * CPU_MAX_S);
	return cpu_limit() == 2 * CPU_MAX_S + 1;
}

static int try_other_limits(void)
{
	const struct rlimit less = { 1, 1 };

	return setrlimit(RLIMIT_NOFILE, &less) == 0 || prlimit(getppid(), RLIMIT_CPU, &less, NULL) == 0;
}

static const struct {
	const char *label;
	bool wants_network, wants_write;
	int (*deed)(void);
	int status;
} CASES[] = {
	{ "exec kills", true, true, try_exec, 128 + SIGSYS },
	{ "ptrace kills", true, true, try_ptrace, 128 + SIGSYS },
	{ "setuid kills", true, true, try_setuid, 128 + SIGSYS },
	{ "no second process", true, true, try_fork, 0 },
	{ "no signal to others", true, true, try_kill, 0 },
	{ "a socket for who wants the network", true, false, try_socket, 1 },
	{ "none for others", false, true, try_socket, 0 },
	{ "a UNIX socket for nobody", true, true, try_unix_socket, 0 },
	{ "files for who writes", false, true, try_create, 1 },
	{ "none for others", true, false, try_create, 0 },
	{ "no unlink for who does not write", true, false, try_unlink, 0 },
	{ "reading inside", true, false, try_read, 1 },
	{ "nothing outside", false, true, try_outside, 0 },
	{ "no way to be dumpable again", false, true, try_dumpable, 0 },
	{ "a limit of CPU time (DN16)", true, false, try_cpu_limit, 1 },
	{ "which it may renew", true, false, try_renewal, 1 },
	{ "but no other limit, nor anybody else's", true, true, try_other_limits, 0 },
};

static void test_what_is_refused(void **state UNUSED)
{
#ifdef POSTERN_SANITIZED
	skip();
#endif
	for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
		int status = run_in_jail(CASES[i].wants_network, CASES[i].wants_write, CASES[i].deed);

		if (status != CASES[i].status)
			fail_msg("%s: status %d", CASES[i].label, status);
	}
}

/* What the kernel says about us, as /proc would: read by the parent while the child waits. */
static void read_status(pid_t pid, char *text, size_t size)
{
	char path[64];
	int fd;
	ssize_t got;

	(void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	got = read(fd, text, size - 1);
	assert_true(got > 0);
	text[got] = '\0';
	close(fd);
}

static void test_what_remains(void **state UNUSED)
{
	static const char *const LINES[] = { "Uid:\t65534\t65534\t65534\t65534\n", "Gid:\t65534\t65534\t65534\t65534\n",
					     "CapPrm:\t0000000000000000\n",        "CapEff:\t0000000000000000\n",
					     "CapBnd:\t0000000000000000\n",        "NoNewPrivs:\t1\n" };
	char text[8192], byte;
	int told[2];
	pid_t pid;

	if (geteuid() != 0)
		skip();
	assert_int_equal(pipe(told), 0);
	pid = fork();
	if (pid == 0) {
		struct jail j = some_jail(true, true);
		const char *step;

		if (jail_enter(&j, &step) < 0 || write(told[1], "", 1) != 1)
			_exit(NO_JAIL);
		for (;;)
			pause();
	}
	close(told[1]);
	assert_int_equal(read(told[0], &byte, 1), 1);
	read_status(pid, text, sizeof(text));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (size_t i = 0; i < ARRAY_LEN(LINES); i++) {
		if (!strstr(text, LINES[i]))
			fail_msg("not there: %s", LINES[i]);
	}
}

static void test_root_is_no_identity(void **state UNUSED)
{
	struct jail j = some_jail(false, false);
	pid_t pid;
	int status;

	if (geteuid() != 0)
		skip();
	pid = fork();
	if (pid == 0) {
		const char *step = "";

		j.uid = 0;
		_exit(jail_enter(&j, &step) == -1 && strcmp(step, "user and groups") == 0 ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

static int make_folder(void **state UNUSED)
{
	char *inside, *file, *beside;
	int fd;

	if (!mkdtemp(folder) || chmod(folder, 0755) < 0)
		return -1;
	inside = xasprintf("%s/inside", folder);
	file = xasprintf("%s/inside/file", folder);
	beside = xasprintf("%s/beside", folder);
	if (mkdir(inside, 0777) < 0 || chmod(inside, 0777) < 0)
		return -1;
	fd = open(file, O_WRONLY | O_CREAT, 0644);
	close(fd);
	fd = open(beside, O_WRONLY | O_CREAT, 0644);
	close(fd);
	free(inside);
	free(file);
	free(beside);
	return fd < 0 ? -1 : 0;
}

static int remove_folder(void **state UNUSED)
{
	return folder_remove(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_what_remains),
		cmocka_unit_test(test_root_is_no_identity),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
