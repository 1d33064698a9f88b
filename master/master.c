/*
 * master.c - starts, watches and restarts the other processes; knows no mail.
 *
 * Purpose:    one master per instance. Reads and checks the configuration, prepares the spool's folders, makes all
 *             pipes, starts resolver, limiter, smtpout (one or more), scheduler and pickup, and keeps them running.
 * Runs as:    root, with the capabilities listed below; or any user, and then the whole instance runs as that user.
 * Reads:      the configuration file and the password files it names; run/. Never mail, never the network.
 * Starts:     besides those, libexec/postern/token for each access token and MTA-STS policy that is to be fetched.
 * Writes:     refresh tokens that the token server exchanges, in the files that the configuration names; run/master.pid
 * and run/lock (locks), run/status.json, run/mta-sts, run/control (a socket that the scheduler serves). Messages: READY
 * and PONG from a child; PING, PEER and DRAIN to it (lib/msg.def). TOKEN_TAKEN from a smtpout, LOGIN_REFUSED from the
 * scheduler; NEW_TOKEN and NEW_SECRETS to them. What else comes is ignored. Signals:    SIGTERM, SIGINT: stop,
 * transactions under way end first; a second one hurries. SIGHUP: reload. Exit:       0 stopped; 64 usage; 69 another
 * master runs here; 71 the system refuses something; 78 configuration. Limits:     64 workers; restarts wait 1 s
 * doubling to 60 s for what keeps dying (service.h).
 */
#include "lib/conf.h"
#include "lib/jail.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "lib/text.h"
#include "master/control.h"
#include "master/heartbeat.h"
#include "master/notify.h"
#include "master/policies.h"
#include "master/reload.h"
#include "master/secrets.h"
#include "master/status.h"
#include "master/stop.h"
#include "master/supervisor.h"
#include "master/tokens.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* To become the users of the configuration, to signal them, to give them their folders, to size their pipes. */
static const uint64_t KEPT_CAPABILITIES = 1ULL << CAP_SETUID | 1ULL << CAP_SETGID | 1ULL << CAP_SETPCAP |
					  1ULL << CAP_KILL | 1ULL << CAP_SYS_CHROOT | 1ULL << CAP_CHOWN |
					  1ULL << CAP_FOWNER | 1ULL << CAP_FSETID | 1ULL << CAP_DAC_OVERRIDE |
					  1ULL << CAP_DAC_READ_SEARCH | 1ULL << CAP_SYS_RESOURCE;

NORETURN static void usage(int status)
{
	fprintf(status == 0 ? stdout : stderr,
		"usage: master [-c FILE]\n"
		"Runs Postern in the foreground. postern(8) is the command for people.\n");
	exit(status);
}

static void parse_arguments(struct master *m, int argc, char **argv)
{
	enum { READY_FD = 1, HELP, VERSION };
	static const struct option OPTIONS[] = {
		{ "ready-fd", required_argument, NULL, READY_FD }, /* `postern start` waits there for a byte */
		{ "help", no_argument, NULL, HELP },
		{ "version", no_argument, NULL, VERSION },
		{ NULL, 0, NULL, 0 },
	};
	const char *path = conf_default_path();
	uint64_t fd;
	int which;

	while ((which = getopt_long(argc, argv, "c:", OPTIONS, NULL)) != -1) {
		switch (which) {
		case 'c':
			path = optarg;
			break;
		case READY_FD:
			if (!text_parse_u64(slice_of(optarg), &fd) || fd > INT_MAX || fcntl((int)fd, F_GETFD) < 0)
				usage(EXIT_STATUS_USAGE);
			m->ready_fd = (int)fd;
			break;
		case VERSION:
			printf("postern master %s\n", POSTERN_VERSION);
			exit(0);
		default:
			usage(which == HELP ? 0 : EXIT_STATUS_USAGE);
		}
	}
	if (optind != argc)
		usage(EXIT_STATUS_USAGE);
	m->conf_path = realpath(path, NULL);
	if (!m->conf_path)
		m->conf_path = xstrdup(path); /* conf_slurp() says what is wrong with it */
}

/* 64 workers have some 900 descriptors between them. */
static void raise_file_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max == RLIM_INFINITY || files.rlim_max > 65536 ? 65536 : files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int open_standard_descriptors(void)
{
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return -1;
	}
	return 0;
}

static int prepare_run(struct master *m)
{
	struct spool_owners owners = identity_owners(&m->identities);
	const char *what = "";
	char *run;

	if (spool_prepare(m->conf->spool, &owners, &what) < 0) {
		log_error("%s: cannot prepare %s: %s", m->conf->spool, what,
			  errno == ENOTDIR || errno == ELOOP ? "it is no folder, or a symbolic link" : strerror(errno));
		return -1;
	}
	run = xasprintf("%s/run", m->conf->spool);
	m->run_fd = open(run, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	free(run);
	if (m->run_fd >= 0)
		m->run_fd = pipes_lift(m->run_fd);
	if (m->run_fd < 0) {
		log_error("%s/run: %s", m->conf->spool, strerror(errno));
		return -1;
	}
	return 0;
}

static bool files_are_ours(const struct master *m)
{
	struct spool_owners owners = identity_owners(&m->identities);
	struct buf problem;
	bool ok;

	buf_init(&problem, 16384);
	ok = spool_files_are_ours(m->conf->spool, &owners, &problem);
	if (!ok)
		log_error("%s", buf_text(&problem));
	buf_release(&problem);
	return ok;
}

static int take_lock(struct master *m)
{
	long holder;

	switch (lock_take(&m->lock, m->run_fd, &holder)) {
	case LOCK_BUSY:
		log_error("another master (pid %ld) runs on the spool %s", holder, m->conf->spool);
		return EXIT_STATUS_UNAVAILABLE;
	case LOCK_FAILED:
		log_error("cannot lock %s/run: %s", m->conf->spool, strerror(errno));
		return EXIT_STATUS_OS;
	default:
		break;
	}
	m->started_at = clock_wall();
	status_write(m); /* the last master's word about processes is no longer true */
	if (lock_wait_for_family(&m->lock) < 0) {
		log_error("processes of an earlier master do not end: not starting beside them");
		return EXIT_STATUS_UNAVAILABLE;
	}
	return 0;
}

static int give_up_what_is_not_needed(const struct master *m)
{
	if (!m->identities.is_root) {
		log_warn("not started as root: privileges are not separated, all processes run as uid %ld",
			 (long)geteuid());
		return 0;
	}
	if (jail_keep_capabilities(KEPT_CAPABILITIES) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		log_error("cannot give up capabilities: %s", strerror(errno));
		return EXIT_STATUS_OS;
	}
	return 0;
}

static int prepare(struct master *m)
{
	int status;

	if (!reload_read(m))
		return EXIT_STATUS_CONFIG;
	if (!identity_find(&m->identities, m->conf))
		return EXIT_STATUS_CONFIG;
	m->folder = spawn_find_folder();
	if (!m->folder || prepare_run(m) < 0)
		return EXIT_STATUS_OS;
	if ((status = take_lock(m)) != 0)
		return status;
	if (!files_are_ours(m))
		return EXIT_STATUS_NOT_PERMITTED;
	if (!reload_open_log(m))
		return EXIT_STATUS_OS;
	m->control_fd = control_listen(m->run_fd, &m->identities);
	if (m->control_fd < 0) {
		log_error("%s/run/control: %s", m->conf->spool, strerror(errno));
		return EXIT_STATUS_OS;
	}
	m->loop = loop_new();
	if (supervisor_open(m, m->conf->workers) < 0) {
		log_error("cannot make pipes: %s", strerror(errno));
		return EXIT_STATUS_OS;
	}
	return give_up_what_is_not_needed(m);
}

static void on_signal(void *arg, int signal)
{
	struct master *m = arg;

	if (signal == SIGCHLD)
		supervisor_reap(m);
	else if (signal == SIGHUP)
		reload_all(m);
	else
		stop_begin(m, EXIT_STATUS_DONE);
}

static void on_turn(void *arg UNUSED)
{
	log_flush();
}

static void on_tokens_ready(void *arg)
{
	struct master *m = arg;

	if (!m->is_stopping)
		supervisor_start(m);
}

static void run(struct master *m)
{
	static const int SIGNALS[] = { SIGCHLD, SIGHUP, SIGTERM, SIGINT };

	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < ARRAY_LEN(SIGNALS); i++)
		loop_on_signal(m->loop, SIGNALS[i], on_signal, m);
	loop_on_turn(m->loop, on_turn, NULL);
	heartbeat_start(m);
	m->policies = policies_new(m);
	m->secrets = secrets_new(m);
	m->tokens = tokens_new(m, on_tokens_ready, m);
	loop_run(m->loop);
}

static void release(struct master *m)
{
	log_flush();
	secrets_free(&m->secrets);
	tokens_free(&m->tokens);
	policies_free(&m->policies);
	if (m->loop)
		supervisor_close(m);
	loop_free(&m->loop);
	if (m->control_fd >= 0)
		(void)unlinkat(m->run_fd, "control", 0);
	lock_release(&m->lock);
	conf_free(&m->conf);
	free(m->conf_text);
	free(m->folder);
	free((char *)m->conf_path);
}

int main(int argc, char **argv)
{
	struct master m = {
		.run_fd = -1,
		.log_fd = -1,
		.control_fd = -1,
		.ready_fd = -1,
		.lock = { -1, -1 },
	};
	int status;

	(void)umask(022);
	if (open_standard_descriptors() < 0)
		return EXIT_STATUS_OS;
	notify_init();
	log_open(LOG_TARGET_STDERR, LOG_FORMAT_TEXT, STDERR_FILENO, "master", "");
	parse_arguments(&m, argc, argv);
	raise_file_limit();
	status = prepare(&m);
	if (status == 0) {
		run(&m);
		status = (int)m.status;
		log_info("stopped");
	}
	release(&m);
	return status;
}
