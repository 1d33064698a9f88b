/*
 * conf_files.c - what the configuration names on this host: does it exist, is it ours, is it kept from others? Read by
 * `postern check`, and by master before it accepts a configuration. Never shows what a secret file holds.
 */
#include "lib/conf_private.h"
#include "lib/conf_store.h"
#include "lib/replies.h"
#include "lib/text.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { SECRET_BYTES_MAX = 16384, PASSWORD_BYTES_MAX = 1024, TOKEN_BYTES_MAX = 4000 };
static const mode_t OTHERS = S_IRWXG | S_IRWXO;

struct files {
	const struct conf *conf;
	struct conf_report *report;
	bool is_given_only; /* other mistakes were found: a default may stand for what was meant */
};

static bool is_told(const struct files *f, const void *field)
{
	return !f->is_given_only || conf_line(f->conf, field) > 0;
}

/* At the option's line; a default that is wrong on this host has none, but every mistake has the same form. */
#define wrong(f, field, option, ...)                                                           \
	do {                                                                                   \
		unsigned line_ = conf_line((f)->conf, field);                                  \
                                                                                               \
		if (is_told(f, field))                                                         \
			conf_mistake_add((f)->report, line_ ? line_ : 1, option, __VA_ARGS__); \
	} while (0)

/* The name of a file system that does not keep what it is told, or NULL. */
static const char *risky_filesystem(const char *path)
{
	struct statfs fs;

	if (statfs(path, &fs) < 0)
		return NULL;
	switch ((unsigned long)fs.f_type) {
	case TMPFS_MAGIC:
	case RAMFS_MAGIC:
		return "in memory: mail is lost when the power fails";
	case NFS_SUPER_MAGIC:
		return "on NFS, whose renames may be answered wrongly after a time-out";
	case SMB_SUPER_MAGIC:
	case 0xff534d42: /* CIFS */
	case 0xfe534d42: /* SMB2 */
		return "on a Windows share";
	default:
		return NULL;
	}
}

/* The nearest folder above `path` that exists; NULL when it cannot be found out. */
static char *existing_parent(const char *path)
{
	char *parent = xstrdup(path);
	struct stat st;

	for (;;) {
		char *slash = strrchr(parent, '/');

		if (!slash || slash == parent) {
			free(parent);
			return xstrdup("/");
		}
		*slash = '\0';
		if (stat(parent, &st) == 0 || errno != ENOENT)
			return parent;
	}
}

static void warn_of_filesystem(const struct conf *c, const char *path)
{
	const char *risk = risky_filesystem(path);

	if (risk)
		log_warn("spool %s is %s", c->spool, risk);
}

static void check_creatable(struct files *f)
{
	const struct conf *c = f->conf;
	char *parent = existing_parent(c->spool);

	warn_of_filesystem(c, parent);
	if (faccessat(AT_FDCWD, parent, W_OK | X_OK, AT_EACCESS) < 0)
		wrong(f, &c->spool, "spool", "%s does not exist and cannot be made: %s: %s", c->spool, parent,
		      strerror(errno));
	free(parent);
}

static void check_spool_owner(struct files *f, const struct stat *st)
{
	const struct conf *c = f->conf;
	bool is_root = geteuid() == 0;
	const struct passwd *user = is_root && c->user ? getpwnam(c->user) : NULL;
	bool is_ours = st->st_uid == geteuid() || (user && st->st_uid == user->pw_uid);
	mode_t bad = st->st_mode & (is_root ? S_IWGRP | S_IWOTH : S_IWOTH);

	if (!is_ours)
		wrong(f, &c->spool, "spool", "%s belongs to uid %u; it has to belong to %s", c->spool,
		      (unsigned)st->st_uid,
		      is_root ? "root or the user that Postern runs as" : "the user that runs Postern");
	if (bad)
		wrong(f, &c->spool, "spool", "%s may be written by others (mode %04o); chmod go-w %s", c->spool,
		      (unsigned)st->st_mode & 07777, c->spool);
}

/* False: not there yet. Where the kernel tells no mounts, the device. */
static bool find_mount(const char *spool, const char *folder, uint64_t *out)
{
	char *path = xasprintf("%s/%s", spool, folder);
	struct statx st;
	bool is_there = statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_MNT_ID, &st) == 0;

	if (is_there && st.stx_mask & STATX_MNT_ID)
		*out = st.stx_mnt_id;
	else if (is_there)
		*out = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
	free(path);
	return is_there;
}

/* Messages go from folder to folder by rename, which leads into no other mount. */
static void check_spool_mounts(struct files *f)
{
	static const char *const FOLDERS[] = { "drop", "queue", "rejected", "dead" };
	const struct conf *c = f->conf;
	uint64_t incoming, mount;

	if (!find_mount(c->spool, "incoming", &incoming))
		return;
	for (size_t i = 0; i < ARRAY_LEN(FOLDERS); i++)
		if (find_mount(c->spool, FOLDERS[i], &mount) && mount != incoming)
			wrong(f, &c->spool, "spool",
			      "%s/%s is mounted from elsewhere than %s/incoming: no file could be moved between them; "
			      "the "
			      "spool has to be one file system",
			      c->spool, FOLDERS[i], c->spool);
}

static void check_spool(struct files *f)
{
	const struct conf *c = f->conf;
	struct statvfs vfs;
	struct stat st;

	if (!c->spool)
		return;
	if (stat(c->spool, &st) < 0) {
		if (errno == ENOENT)
			check_creatable(f);
		else
			wrong(f, &c->spool, "spool", "%s: %s", c->spool, strerror(errno));
		return;
	}
	if (!S_ISDIR(st.st_mode)) {
		wrong(f, &c->spool, "spool", "%s is not a directory", c->spool);
		return;
	}
	check_spool_owner(f, &st);
	check_spool_mounts(f);
	if (statvfs(c->spool, &vfs) == 0 && (vfs.f_flag & ST_RDONLY))
		wrong(f, &c->spool, "spool", "%s is on a file system mounted read-only", c->spool);
	if (faccessat(AT_FDCWD, c->spool, R_OK | W_OK | X_OK, AT_EACCESS) < 0)
		wrong(f, &c->spool, "spool", "%s cannot be used: %s", c->spool, strerror(errno));
	warn_of_filesystem(c, c->spool);
}

static void check_user(struct files *f, const char *option, char *const *field)
{
	const struct passwd *pw = *field ? getpwnam(*field) : NULL;

	if (!*field)
		return; /* already told */
	if (!pw)
		wrong(f, field, option, "there is no user \"%s\"; make it (adduser --system %s), or name another",
		      *field, *field);
	else if (pw->pw_uid == 0)
		wrong(f, field, option, "\"%s\" is root; name an ordinary user", *field);
}

/* Only root changes users. */
static void check_users(struct files *f)
{
	const struct conf *c = f->conf;
	const struct group *gr;

	if (geteuid() != 0)
		return;
	check_user(f, "user", &c->user);
	check_user(f, "smtp-user", &c->smtp_user);
	if (!c->drop_group)
		return;
	if (!(gr = getgrnam(c->drop_group)))
		wrong(f, &c->drop_group, "drop-group",
		      "there is no group \"%s\"; make it (addgroup --system %s), or name another", c->drop_group,
		      c->drop_group);
	else if (gr->gr_gid == 0)
		wrong(f, &c->drop_group, "drop-group", "\"%s\" is root's; name an ordinary group", c->drop_group);
}

/* Opens a regular file for reading; -1 after reporting. */
static int open_named(struct files *f, const char *option, char *const *field, struct stat *st)
{
	int fd = open(*field, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0) {
		wrong(f, field, option, "%s: %s", *field, strerror(errno));
		return -1;
	}
	if (fstat(fd, st) < 0 || !S_ISREG(st->st_mode)) {
		wrong(f, field, option, "%s is not a regular file", *field);
		close(fd);
		return -1;
	}
	return fd;
}

static void check_mode(struct files *f, const char *option, const void *field, const char *path, const struct stat *st)
{
	if (st->st_mode & OTHERS)
		wrong(f, field, option, "%s is open to others (mode %04o); chmod go= %s", path,
		      (unsigned)st->st_mode & 07777, path);
	if (st->st_uid != geteuid() && st->st_uid != 0)
		wrong(f, field, option, "%s belongs to uid %u, who could change it; chown it to uid %u", path,
		      (unsigned)st->st_uid, (unsigned)geteuid());
}

/* The first line is the secret. */
static const char *secret_problem(const char *text, size_t len, size_t longest)
{
	const char *end = memchr(text, '\n', len);
	size_t line = end ? (size_t)(end - text) : len;

	if (len == 0)
		return "is empty";
	if (line == 0)
		return "has an empty first line";
	if (memchr(text, '\0', line))
		return "holds a NUL byte";
	if (text[line - 1] == '\r')
		return "has Windows line ends; the password would end in a carriage return";
	if (line > longest)
		return longest == TOKEN_BYTES_MAX ? "has a first line of more than 4000 bytes"
						  : "has a first line of more than 1024 bytes";
	return NULL;
}

static void check_secret(struct files *f, const char *option, char *const *field, size_t longest)
{
	char text[SECRET_BYTES_MAX];
	struct stat st;
	const char *problem;
	ssize_t n;
	int fd;

	if (!*field || (fd = open_named(f, option, field, &st)) < 0)
		return;
	check_mode(f, option, field, *field, &st);
	n = read(fd, text, sizeof(text));
	if (n < 0)
		wrong(f, field, option, "%s: %s", *field, strerror(errno));
	else if ((problem = secret_problem(text, (size_t)n, longest)))
		wrong(f, field, option, "%s %s", *field, problem);
	explicit_bzero(text, sizeof(text));
	close(fd);
}

/* A readable file that is not empty, and, when `mark` is given, holds it within its first 64 KiB. */
static void check_readable(struct files *f, const char *option, char *const *field, const char *mark, const char *what)
{
	struct stat st;
	struct buf text;
	char *room;
	ssize_t n;
	int fd;

	if (!*field || (fd = open_named(f, option, field, &st)) < 0)
		return;
	buf_init(&text, 65536);
	room = buf_reserve(&text, 65000);
	n = read(fd, room, 65000);
	if (n < 0)
		wrong(f, field, option, "%s: %s", *field, strerror(errno));
	else if (n == 0)
		wrong(f, field, option, "%s is empty", *field);
	else if (mark && !memmem(room, (size_t)n, mark, strlen(mark)))
		wrong(f, field, option, "%s holds no %s", *field, what);
	explicit_bzero(room, 65000); /* may be a key */
	buf_release(&text);
	close(fd);
}

/* `field`: the key's file, or the certificate's that has to hold the key as well. */
static void check_key(struct files *f, const char *option, char *const *field)
{
	struct stat st;

	if (strcmp(option, "tls-client-cert") == 0 && *field && access(*field, R_OK) < 0)
		return; /* told of the certificate */
	check_readable(f, option, field, "PRIVATE KEY-----",
		       strcmp(option, "tls-client-key") == 0 ? "private key in PEM form"
							     : "private key; set tls-client-key");
	if (*field && stat(*field, &st) == 0)
		check_mode(f, option, field, *field, &st);
}

/* Before the first login there is none. */
static void check_refresh_token(struct files *f, const struct conf_server *s)
{
	char *const *path = &s->oauth2.refresh_token_file;

	if (*path && access(*path, F_OK) < 0 && errno == ENOENT)
		wrong(f, path, "refresh-token-file", "%s does not exist; `postern login %s` makes it", *path, s->name);
	else
		check_secret(f, "refresh-token-file", path, TOKEN_BYTES_MAX);
}

const char *conf_system_certificates(void)
{
	const char *told = secure_getenv("SSL_CERT_FILE"); /* as OpenSSL has it */
	static const char *const PLACES[] = { "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem",
					      "/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/tls/cert.pem" };
	struct stat st;

	if (told)
		return told;
	for (unsigned i = 0; i < ARRAY_LEN(PLACES); i++)
		if (stat(PLACES[i], &st) == 0 && st.st_size > 0)
			return PLACES[i];
	return NULL;
}

static void check_zones(struct files *f, const struct conf_limits *l)
{
	for (unsigned i = 0; i < l->count; i++) {
		const char *zone = l->limit[i].calendar_zone;
		char *path = zone ? xasprintf("/usr/share/zoneinfo/%s", zone) : NULL;

		if (path && access(path, R_OK) < 0)
			wrong(f, l, "limits", "\"%s\": this host knows no time zone \"%s\"", l->limit[i].text, zone);
		free(path);
	}
}

/* Without them this server cannot log in; the others can. */
static void check_login(struct files *f, const struct conf_server *s)
{
	unsigned before = f->report->count;

	check_secret(f, "password-file", &s->password_file, PASSWORD_BYTES_MAX);
	check_secret(f, "password-file", &s->pop.password_file, PASSWORD_BYTES_MAX);
	check_secret(f, "client-secret-file", &s->oauth2.client_secret_file, PASSWORD_BYTES_MAX);
	check_refresh_token(f, s);
	f->report->logins += f->report->count - before;
}

static void check_server(struct files *f, const struct conf_server *s)
{
	struct stat st;

	check_login(f, s);
	if (s->password && stat(f->conf->path, &st) == 0)
		check_mode(f, "password", &s->password, f->conf->path, &st);
	check_readable(f, "tls-ca-file", &s->tls_ca_file, "CERTIFICATE-----", "certificate in PEM form");
	check_readable(f, "tls-client-cert", &s->tls_client_cert, "CERTIFICATE-----", "certificate in PEM form");
	check_key(f, "tls-client-key", &s->tls_client_key);
	if (!s->tls_client_key)
		check_key(f, "tls-client-cert", &s->tls_client_cert);
	if (s->tls == TLS_VERIFY && s->tls_fingerprints.count == 0 && !s->tls_ca_file && !conf_system_certificates())
		wrong(f, &s->tls, "tls",
		      "verify needs certificates to trust, and the system has none; install "
		      "ca-certificates, or set tls-ca-file");
	check_zones(f, &s->limits);
}

static void check_store(struct files *f)
{
	const struct conf *c = f->conf;
	struct sockaddr_storage address;
	struct conf_store store;
	socklen_t len;

	check_secret(f, "limits-store-password-file", &c->limits_store_password_file, PASSWORD_BYTES_MAX);
	if (strcmp(c->limits_store, "local") != 0 && !conf_store_parse(slice_of(c->limits_store), &store) &&
	    !conf_store_find_host(&store, &address, &len))
		wrong(f, &c->limits_store, "limits-store",
		      "%s is neither an address nor in /etc/hosts; nobody else is asked, so use its address",
		      store.host);
}

static void check_log(struct files *f)
{
	const struct conf *c = f->conf;
	char *folder, *slash;
	struct stat st;

	if (c->log_target != LOG_TARGET_FILE || !c->log_file)
		return;
	if (stat(c->log_file, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			wrong(f, &c->log_target, "log", "%s is a directory; name a file in it", c->log_file);
		else if (faccessat(AT_FDCWD, c->log_file, W_OK, AT_EACCESS) < 0)
			wrong(f, &c->log_target, "log", "%s: %s", c->log_file, strerror(errno));
		return;
	}
	folder = xstrdup(c->log_file);
	slash = strrchr(folder, '/');
	slash[slash == folder ? 1 : 0] = '\0';
	if (faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) < 0)
		wrong(f, &c->log_target, "log", "%s cannot be made: %s: %s", c->log_file, folder, strerror(errno));
	free(folder);
}

/* Whoever may write the file decides what root does. */
static void check_conf_file(struct files *f)
{
	const char *path = f->conf->path;
	struct stat st;

	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IWOTH))
		conf_mistake_add(f->report, 1, "file", "may be written by everyone (mode %04o); chmod o-w %s",
				 (unsigned)st.st_mode & 07777, path);
}

void conf_replies_check(const struct conf *c, struct conf_errors *errors)
{
	struct replies *rules;

	if (c->reply_rules && access(c->reply_rules, R_OK) < 0)
		return; /* told at the option */
	rules = replies_load(c, errors);
	replies_free(&rules);
}

void conf_files_check(const struct conf *c, struct conf_report *report)
{
	struct files f = { .conf = c, .report = report, .is_given_only = report->count > 0 };

	check_conf_file(&f);
	check_users(&f);
	check_spool(&f);
	check_log(&f);
	check_readable(&f, "trust-anchor-file", &c->dns.trust_anchor_file, NULL, NULL);
	check_zones(&f, &c->limits);
	check_store(&f);
	if (c->reply_rules && access(c->reply_rules, R_OK) < 0)
		wrong(&f, &c->reply_rules, "reply-rules", "%s: %s", c->reply_rules, strerror(errno));
	for (unsigned i = 0; i < c->server_count; i++)
		check_server(&f, &c->server[i]);
}

bool conf_check_files(const struct conf *c, struct conf_errors *errors)
{
	struct conf_report report = { .path = c->path };

	conf_files_check(c, &report);
	conf_report_finish(&report, errors);
	conf_replies_check(c, errors);
	return errors->count == 0;
}
