/* secrets.c - notices when a file with a password changes. */
#include "master/secrets.h"
#include "lib/text.h"
#include "master/snapshot.h"
#include "master/tokens.h"
#include <errno.h>
#include <sys/inotify.h>
#include <unistd.h>

/* Editors and tools touch a file several times in a row. */
enum { SETTLE_MS = 200, EVENTS_BYTES = 16384, CHANGED_MAX = 900 };

struct secrets {
	struct master *m;
	int fd; /* inotify */
	struct loop_io *io;
	struct loop_timer *settle;
	unsigned server_count;
	uint64_t *digest; /* of each server's secrets; seeded, and of no use elsewhere */
};

/* A file may be a link into a folder that is exchanged as a whole: look at all that happens beside it. */
static void watch_folder(struct secrets *s, const char *path)
{
	char *folder, *slash;

	if (!path || s->fd < 0)
		return;
	folder = xstrdup(path);
	slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder ? 1 : 0] = '\0';
	/* The same folder again only renews its watch. */
	if (inotify_add_watch(s->fd, slash ? folder : ".", IN_CLOSE_WRITE | IN_MOVED_TO | IN_ATTRIB | IN_CREATE) < 0)
		log_warn("%s cannot be watched (%s): after a change of passwords in it, use `postern reload`", folder,
			 strerror(errno));
	free(folder);
}

static void take_digests(const struct secrets *s, uint64_t *digest)
{
	const struct conf *c = s->m->conf;

	for (unsigned i = 0; i < s->server_count; i++) {
		struct buf secrets;

		buf_init(&secrets, SNAPSHOT_SECRETS_MAX);
		snapshot_collect_server(c, i, &secrets);
		digest[i] = text_hash(secrets.ptr, secrets.len);
		if (secrets.ptr)
			explicit_bzero(secrets.ptr, secrets.cap);
		buf_release(&secrets);
	}
}

static void on_settled(void *arg)
{
	struct secrets *s = arg;
	uint64_t *now = xcalloc(s->server_count + 1, sizeof(*now));
	uint32_t changed[CHANGED_MAX];
	unsigned count = 0;

	take_digests(s, now);
	for (unsigned i = 0; i < s->server_count && count < CHANGED_MAX; i++) {
		if (now[i] == s->digest[i])
			continue;
		log_info("server %s: its password has changed; it is used from now on", s->m->conf->server[i].name);
		changed[count++] = i;
	}
	free(s->digest);
	s->digest = now;
	if (s->m->is_stopping)
		return;
	if (count > 0)
		supervisor_renew_secrets(s->m, changed, count);
	tokens_look(s->m->tokens);
}

static void on_event(void *arg, int fd, unsigned events UNUSED)
{
	struct secrets *s = arg;
	char ignored[EVENTS_BYTES];

	while (read(fd, ignored, sizeof(ignored)) > 0)
		;
	loop_timer_set_ms(s->settle, SETTLE_MS);
}

static void close_watch(struct secrets *s)
{
	loop_io_free(&s->io);
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

void secrets_follow(struct secrets *s)
{
	const struct conf *c = s->m->conf;

	close_watch(s);
	loop_timer_cancel(s->settle);
	s->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (s->fd >= 0 && (s->fd = pipes_lift(s->fd)) >= 0)
		s->io = loop_io_new(s->m->loop, s->fd, LOOP_READ, on_event, s);
	else
		log_warn("changes of passwords go unnoticed (%s): use `postern reload`", strerror(errno));
	for (unsigned i = 0; i < c->server_count; i++) {
		watch_folder(s, c->server[i].password_file);
		watch_folder(s, c->server[i].pop.password_file);
		watch_folder(s, c->server[i].oauth2.client_secret_file);
		watch_folder(s, c->server[i].oauth2.refresh_token_file);
	}
	s->server_count = c->server_count;
	free(s->digest);
	s->digest = xcalloc(s->server_count + 1, sizeof(*s->digest));
	take_digests(s, s->digest);
}

struct secrets *secrets_new(struct master *m)
{
	struct secrets *s = xcalloc(1, sizeof(*s));

	s->m = m;
	s->fd = -1;
	s->settle = loop_timer_new(m->loop, on_settled, s);
	secrets_follow(s);
	return s;
}

void secrets_free(struct secrets **secrets)
{
	struct secrets *s = *secrets;

	if (!s)
		return;
	close_watch(s);
	loop_timer_free(&s->settle);
	free(s->digest);
	free(s);
	*secrets = NULL;
}
