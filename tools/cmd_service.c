/* cmd_service.c - postern run, start, stop, reload, restart. */
#include "lib/clock.h"
#include "lib/text.h"
#include "tools/instance.h"
#include "tools/sibling.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	START_TIMEOUT_MS = 60 * 1000,
	STOP_TIMEOUT_MS = 5 * 60 * 1000,
	BREAK_OFF_MS = 500,          /* what the master then takes at most: asked so much before the time is over */
	STOP_HURRIED_MS = 10 * 1000, /* after the second signal: more, on a machine that is slow */
	RELOAD_TIMEOUT_MS = 30 * 1000,
	POLL_MS = 20
};

/* --- arguments --- */

/* Only --timeout DURATION. -1: usage, already said. */
static int64_t parse_timeout(const char *command, int argc, char **argv, int64_t default_ms)
{
	static const struct option OPTIONS[] = { { "timeout", required_argument, NULL, 't' }, { NULL, 0, NULL, 0 } };
	uint64_t ms = (uint64_t)default_ms;
	int which;

	while ((which = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
		if (which != 't')
			return -1;
		if (!text_parse_duration(slice_of(optarg), &ms) || ms > INT_MAX) {
			command_complain("%s: --timeout: \"%s\" is not a duration like 90s or 5m", command, optarg);
			return -1;
		}
	}
	if (optind < argc) {
		command_complain("%s: unexpected argument: %s", command, argv[optind]);
		return -1;
	}
	return (int64_t)ms;
}

/* --- becoming master --- */

NORETURN static void become_master(const char *path, const struct command_context *c, int ready_fd)
{
	char fd[16];
	const char *argv[] = { "master", "-c", c->conf_path, NULL, NULL, NULL };

	if (ready_fd >= 0) {
		(void)snprintf(fd, sizeof(fd), "%d", ready_fd);
		argv[3] = "--ready-fd";
		argv[4] = fd;
	}
	execv(path, (char *const *)argv);
	command_complain("cannot run %s: %s", path, strerror(errno));
	_exit(EXIT_STATUS_OS);
}

int command_run(const struct command_context *c, int argc, char **argv)
{
	char *path;

	if (argc > 1) {
		command_complain("run: takes no argument: %s", argv[1]);
		return EXIT_STATUS_USAGE;
	}
	path = sibling_find("master");
	if (!path) {
		command_complain("cannot find the program master beside this one");
		return EXIT_STATUS_OS;
	}
	become_master(path, c, -1);
}

/* --- start --- */

struct launch {
	pid_t pid;
	int ready, errors; /* read ends; errors -1 when stderr is the log */
};

static int devnull_over(int target)
{
	int fd = open("/dev/null", O_RDWR);

	if (fd < 0 || dup2(fd, target) < 0)
		return -1;
	if (fd != target)
		close(fd);
	return 0;
}

/*
 * In the background nobody may keep the caller's descriptors: `x=$(postern start)` would wait for ever. Complaints of
 * the start come through a pipe that we relay. Only a log on stderr keeps stderr.
 */
NORETURN static void launch_child(const char *path, const struct command_context *c, int ready, int errors)
{
	(void)setsid();
	if (devnull_over(STDIN_FILENO) < 0 || devnull_over(STDOUT_FILENO) < 0 ||
	    (errors >= 0 && dup2(errors, STDERR_FILENO) < 0))
		_exit(EXIT_STATUS_OS);
	(void)fcntl(ready, F_SETFD, 0);
	become_master(path, c, ready);
}

static int launch(struct launch *l, const struct command_context *c, bool is_stderr_the_log)
{
	int ready[2], errors[2] = { -1, -1 };
	char *path = sibling_find("master");

	if (!path || pipe2(ready, O_CLOEXEC) < 0 || (!is_stderr_the_log && pipe2(errors, O_CLOEXEC) < 0)) {
		command_complain("cannot start: %s", path ? strerror(errno) : "no program master beside this one");
		free(path);
		return -1;
	}
	l->pid = fork();
	if (l->pid == 0)
		launch_child(path, c, ready[1], errors[1]);
	free(path);
	close(ready[1]);
	if (errors[1] >= 0)
		close(errors[1]);
	l->ready = ready[0];
	l->errors = errors[0];
	if (l->pid < 0)
		command_complain("cannot start: %s", strerror(errno));
	return l->pid < 0 ? -1 : 0;
}

static void relay(int *fd)
{
	char bytes[4096];
	ssize_t got = read(*fd, bytes, sizeof(bytes));

	if (got > 0) {
		(void)fwrite(bytes, 1, (size_t)got, stderr);
		return;
	}
	close(*fd);
	*fd = -1;
}

/* 1 ready, 0 master ended, -1 time is up. */
static int wait_until_ready(struct launch *l, int64_t timeout_ms)
{
	int64_t end_ms = clock_mono().ms + timeout_ms;

	for (;;) {
		struct pollfd pfds[] = { { l->ready, POLLIN, 0 }, { l->errors, POLLIN, 0 } };
		int64_t left_ms = end_ms - clock_mono().ms;
		char byte;

		if (left_ms <= 0)
			return -1;
		if (poll(pfds, l->errors >= 0 ? 2 : 1, (int)left_ms) < 0 && errno != EINTR)
			return -1;
		if (pfds[1].revents)
			relay(&l->errors);
		if (pfds[0].revents)
			return read(l->ready, &byte, 1) == 1;
	}
}

static int launch_failed(struct launch *l)
{
	int status = 0;

	while (l->errors >= 0)
		relay(&l->errors);
	while (waitpid(l->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
		command_complain("not started%s", l->errors < 0 ? "; the log may say more" : "");
		return WEXITSTATUS(status);
	}
	command_complain("master ended during its start; the log may say why");
	return EXIT_STATUS_SOFTWARE;
}

static int start(const struct command_context *c, int64_t timeout_ms)
{
	struct instance in;
	struct launch l;
	int status = instance_open_to_start(&in, c), ready;
	bool is_stderr_the_log;
	pid_t pid;

	if (status != 0)
		return status;
	pid = instance_master(&in);
	is_stderr_the_log = in.conf->log_target == LOG_TARGET_STDERR;
	instance_close(&in);
	if (pid != 0) {
		printf("postern is already running (pid %ld)\n", (long)pid);
		return EXIT_STATUS_DONE;
	}
	if (launch(&l, c, is_stderr_the_log) < 0)
		return EXIT_STATUS_OS;
	ready = wait_until_ready(&l, timeout_ms);
	if (ready == 0)
		return launch_failed(&l);
	if (ready < 0) {
		command_complain("started (pid %ld), but mail cannot flow yet; see `postern status` and the log",
				 (long)l.pid);
		return EXIT_STATUS_TEMPORARY;
	}
	printf("postern started (pid %ld)\n", (long)l.pid);
	return EXIT_STATUS_DONE;
}

int command_start(const struct command_context *c, int argc, char **argv)
{
	int64_t timeout_ms = parse_timeout("start", argc, argv, START_TIMEOUT_MS);

	return timeout_ms < 0 ? EXIT_STATUS_USAGE : start(c, timeout_ms);
}

/* --- stop --- */

/* Waits for the end of a process that is not our child. */
static bool wait_for_end(int pidfd, int64_t timeout_ms)
{
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
	int64_t end_ms = clock_mono().ms + timeout_ms, left_ms;

	while ((left_ms = end_ms - clock_mono().ms) > 0) {
		int got = poll(&pfd, 1, (int)left_ms);

		if (got > 0)
			return true;
		if (got < 0 && errno != EINTR)
			return false;
	}
	return false;
}

static int signal_failed(pid_t pid)
{
	int saved = errno;

	command_complain("cannot signal the master (pid %ld): %s", (long)pid, strerror(saved));
	return saved == EPERM ? EXIT_STATUS_NOT_PERMITTED : EXIT_STATUS_OS;
}

static int stop_master(pid_t pid, int64_t timeout_ms)
{
	int64_t patience_ms = timeout_ms - (timeout_ms < 2 * BREAK_OFF_MS ? timeout_ms / 2 : BREAK_OFF_MS);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), status = EXIT_STATUS_DONE;

	if (pidfd < 0)
		return errno == ESRCH ? EXIT_STATUS_DONE : signal_failed(pid);
	if (syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0) < 0) {
		status = signal_failed(pid);
	} else if (!wait_for_end(pidfd, patience_ms)) {
		command_complain("transactions are still under way: they are broken off");
		(void)syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
		if (!wait_for_end(pidfd, STOP_HURRIED_MS)) {
			command_complain("the master (pid %ld) does not end", (long)pid);
			status = EXIT_STATUS_TEMPORARY;
		}
	}
	close(pidfd);
	return status;
}

static int stop(const struct command_context *c, int64_t timeout_ms, bool *was_running)
{
	struct instance in;
	int status = instance_open_anyway(&in, c);
	pid_t pid;

	if (status != 0)
		return status;
	pid = instance_master(&in);
	instance_close(&in);
	*was_running = pid != 0;
	return pid == 0 ? EXIT_STATUS_DONE : stop_master(pid, timeout_ms);
}

int command_stop(const struct command_context *c, int argc, char **argv)
{
	int64_t timeout_ms = parse_timeout("stop", argc, argv, STOP_TIMEOUT_MS);
	bool was_running = false;
	int status;

	if (timeout_ms < 0)
		return EXIT_STATUS_USAGE;
	status = stop(c, timeout_ms, &was_running);
	if (status == EXIT_STATUS_DONE)
		puts(was_running ? "postern stopped" : "postern is not running");
	return status;
}

int command_restart(const struct command_context *c, int argc, char **argv)
{
	int64_t timeout_ms = parse_timeout("restart", argc, argv, STOP_TIMEOUT_MS);
	struct instance in;
	bool was_running = false;
	int status;

	if (timeout_ms < 0)
		return EXIT_STATUS_USAGE;
	/* A wrong configuration shall not turn a running instance into a stopped one. */
	if ((status = instance_open_checked(&in, c)) != 0)
		return status;
	instance_close(&in);
	status = stop(c, timeout_ms, &was_running);
	return status != EXIT_STATUS_DONE ? status : start(c, START_TIMEOUT_MS);
}

/* --- reload --- */

static json_int_t count_of(const struct instance *in, const char *name)
{
	json_t *status = instance_status(in);
	json_int_t count = json_integer_value(json_object_get(status, name));

	json_decref(status);
	return count;
}

/* Master tells by its counters what it made of the signal. */
static int wait_for_verdict(const struct instance *in, json_int_t reloads, json_int_t refused)
{
	int64_t end_ms = clock_mono().ms + RELOAD_TIMEOUT_MS;

	while (clock_mono().ms < end_ms) {
		if (count_of(in, "refused_reloads") != refused) {
			command_complain("master refused the configuration and keeps the old one; the log says why");
			return EXIT_STATUS_CONFIG;
		}
		if (count_of(in, "reloads") != reloads) {
			puts("postern reloaded");
			return EXIT_STATUS_DONE;
		}
		(void)poll(NULL, 0, POLL_MS);
	}
	command_complain("the master does not answer");
	return EXIT_STATUS_TEMPORARY;
}

int command_reload(const struct command_context *c, int argc, char **argv)
{
	struct instance in;
	json_int_t reloads, refused;
	int status;
	pid_t pid;

	if (argc > 1) {
		command_complain("reload: takes no argument: %s", argv[1]);
		return EXIT_STATUS_USAGE;
	}
	if ((status = instance_open_checked(&in, c)) != 0)
		return status;
	pid = instance_master(&in);
	reloads = count_of(&in, "reloads");
	refused = count_of(&in, "refused_reloads");
	if (pid == 0) {
		command_complain("not running");
		status = EXIT_STATUS_UNAVAILABLE;
	} else if (kill(pid, SIGHUP) < 0) {
		status = signal_failed(pid);
	} else {
		status = wait_for_verdict(&in, reloads, refused);
	}
	instance_close(&in);
	return status;
}
