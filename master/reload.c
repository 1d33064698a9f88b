/* reload.c - reading the configuration, at start and again. */
#include "master/reload.h"
#include "master/notify.h"
#include "master/secrets.h"
#include "master/snapshot.h"
#include "master/status.h"
#include "master/tokens.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Without its password file one server cannot log in; that is no reason to leave the others' mail lying at a start. */
static bool may_start(const struct conf *c, const struct conf_errors *errors)
{
	if (c && errors->count > 0)
		fprintf(stderr,
			"postern: starting all the same: mail of such a server goes to the next one, or waits\n");
	return c;
}

/* At start they are for whoever typed the command, in the form that every program of ours gives them. */
static void tell_errors(const struct master *m, struct conf_errors *errors)
{
	for (unsigned i = 0; i < errors->count; i++) {
		if (m->loop)
			log_error("%s", errors->text[i]);
		else
			fprintf(stderr, "postern: %s\n", errors->text[i]);
	}
}

/* What cannot change under running processes: the folder they live in and who they are. */
static bool may_follow(const struct conf *old, const struct conf *new)
{
	const struct {
		const char *option, *was, *is;
	} FIXED[] = {
		{ "spool", old->spool, new->spool },
		{ "user", old->user, new->user },
		{ "smtp-user", old->smtp_user, new->smtp_user },
		{ "drop-group", old->drop_group, new->drop_group },
	};
	bool may = true;

	for (size_t i = 0; i < ARRAY_LEN(FIXED); i++) {
		if (strcmp(FIXED[i].was, FIXED[i].is) == 0)
			continue;
		log_error("%s: %s: changed from \"%s\" to \"%s\": that needs `postern restart`", new->path,
			  FIXED[i].option, FIXED[i].was, FIXED[i].is);
		may = false;
	}
	return may;
}

/* The very text that children will get is what is parsed here: a file changed in between deceives nobody. */
static struct conf *parse_text(const char *path, struct slice text, struct conf_errors *errors)
{
	struct conf *c;
	int fd = snapshot_create("postern.conf", text);

	if (fd < 0) {
		log_error("cannot keep the configuration in memory: %s", strerror(errno));
		return NULL;
	}
	c = conf_read_all(path, fd, errors);
	close(fd);
	return c;
}

bool reload_read(struct master *m)
{
	struct conf_errors errors = { 0 };
	size_t len = 0;
	char *text = conf_slurp(m->conf_path, &len, &errors);
	struct conf *c = text ? parse_text(m->conf_path, (struct slice){ text, len }, &errors) : NULL;
	bool is_right;

	tell_errors(m, &errors);
	is_right = m->conf ? c && errors.count == 0 && may_follow(m->conf, c) : may_start(c, &errors);
	conf_errors_release(&errors);
	if (!is_right) {
		free(text);
		conf_free(&c);
		return false;
	}
	free(m->conf_text);
	conf_free(&m->conf);
	conf_blank_secrets(text, len); /* only workers need them, and get them another way */
	m->conf = c;
	m->conf_text = text;
	m->conf_len = len;
	return true;
}

/*
 * One socket for all processes, so that connecting it here connects everybody. Without a listener it stays as it is:
 * lines are lost and counted, mail is delivered.
 */
static int connect_syslog(int fd)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };

	return connect(fd, (const struct sockaddr *)&to, sizeof(to));
}

void reload_reconnect_log(const struct master *m)
{
	if (m->conf->log_target == LOG_TARGET_SYSLOG && m->log_fd >= 0 && connect_syslog(m->log_fd) < 0)
		log_debug("nobody listens at /dev/log: %s", strerror(errno));
}

static int open_syslog(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && connect_syslog(fd) < 0)
		log_warn("nobody listens at /dev/log: %s", strerror(errno));
	return fd;
}

bool reload_open_log(struct master *m)
{
	char host[256];
	int fd = -1;

	if (m->conf->log_target == LOG_TARGET_SYSLOG)
		fd = open_syslog();
	else if (m->conf->log_target == LOG_TARGET_FILE)
		fd = open(m->conf->log_file,
			  O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0640);
	if (m->conf->log_target != LOG_TARGET_STDERR && (fd < 0 || (fd = pipes_lift(fd)) < 0)) {
		log_error("cannot open the log \"%s\": %s",
			  m->conf->log_target == LOG_TARGET_FILE ? m->conf->log_file : "syslog", strerror(errno));
		return false;
	}
	if (gethostname(host, sizeof(host)) < 0)
		host[0] = '\0';
	host[sizeof(host) - 1] = '\0';
	host[strcspn(host, ".")] = '\0';
	log_open(m->conf->log_target, m->conf->log_format, fd < 0 ? STDERR_FILENO : fd, "master", host);
	if (m->log_fd >= 0)
		close(m->log_fd);
	m->log_fd = fd;
	return true;
}

static void change_workers(struct master *m)
{
	if (m->conf->workers < m->workers)
		log_warn("workers: %u instead of %u only after `postern restart`", m->conf->workers, m->workers);
	else if (m->conf->workers > m->workers && supervisor_open(m, m->conf->workers) < 0)
		log_error("cannot make pipes for %u workers: %s", m->conf->workers, strerror(errno));
}

void reload_all(struct master *m)
{
	if (m->is_stopping)
		return;
	notify_reloading();
	if (!reload_read(m)) {
		m->refused_reloads++;
		log_error("the configuration is wrong: everything stays as it was");
		notify_send("READY=1\nSTATUS=running; the last reload was refused, see the log");
		status_write(m);
		return;
	}
	m->reloads++;
	if (!reload_open_log(m))
		log_error("going on with the log as it was");
	log_info("configuration read again: replacing all processes");
	change_workers(m);
	secrets_follow(m->secrets);
	tokens_follow(m->tokens);
	supervisor_replace(m);
}
