/* broker.c - see broker.h. */
#include "tools/broker.h"
#include "lib/helper.h"
#include "tools/sibling.h"
#include <errno.h>
#include <pwd.h>
#include <unistd.h>

/* LATE_MS: beyond the deadline that the program itself keeps. Whoever else is at it has ended by then, too. */
enum { LATE_MS = 5000, TRY_MS = 100 };

bool broker_open(struct broker *b, const struct conf *conf, const struct conf_server *server)
{
	const char *path = server->oauth2.client_secret_file;
	const char *why;

	*b = (struct broker){ .conf = conf, .server = server };
	if (!path || !(why = secret_read(path, b->secret)))
		return true;
	b->is_forbidden = errno == EACCES;
	(void)snprintf(b->why, sizeof(b->why), "%s: %s", path, why);
	return false;
}

void broker_close(struct broker *b)
{
	explicit_bzero(b->secret, sizeof(b->secret));
}

bool broker_run(const struct conf *conf, struct slice question, int fd, uint64_t wait_ms, struct buf *answer,
		char **why)
{
	const struct passwd *user = geteuid() == 0 ? getpwnam(conf->smtp_user) : NULL;
	struct helper_start how = { .path = sibling_find("token"),
				    .uid = user ? user->pw_uid : (uid_t)-1,
				    .gid = user ? user->pw_gid : (gid_t)-1,
				    .fd = fd,
				    .question = question };

	*why = NULL;
	if (!how.path)
		*why = xstrdup("the program token is not beside this one");
	else if (geteuid() == 0 && !user)
		*why = xasprintf("there is no user %s", conf->smtp_user);
	else if (!helper_ask(&how, wait_ms + LATE_MS, answer))
		*why = xasprintf("%s: %s", how.path, strerror(errno));
	free((char *)how.path);
	return !*why;
}

void broker_ask(const struct broker *b, enum oauth_kind kind, const char *token, int fd, struct oauth_answer *out)
{
	const struct oauth_ask question = { .kind = kind,
					    .conf = b->conf,
					    .server = b->server,
					    .client_secret = b->secret[0] ? b->secret : NULL,
					    .token = token };
	struct buf text, answer;
	char *why;

	buf_init(&text, HELPER_QUESTION_MAX);
	buf_init(&answer, OAUTH_RECORDS_MAX);
	oauth_put_request(&text, &question);
	if (broker_run(b->conf, buf_slice(&text), fd, oauth_deadline_ms(b->server), &answer, &why))
		oauth_read_answer(out, buf_slice(&answer));
	else
		*out = (struct oauth_answer){ .text = why };
	if (answer.ptr)
		explicit_bzero(answer.ptr, answer.cap);
	if (text.ptr)
		explicit_bzero(text.ptr, text.cap);
	buf_release(&answer);
	buf_release(&text);
}

bool broker_open_refresh(struct broker *b, struct refresh *r, bool may_be_new)
{
	static const struct timespec PAUSE = { .tv_nsec = TRY_MS * 1000000L };
	uint64_t waited_ms = 0, wait_ms = oauth_deadline_ms(b->server) + LATE_MS;
	const char *path = b->server->oauth2.refresh_token_file;
	enum refresh_result result;

	while ((result = refresh_open(r, path)) == REFRESH_BUSY && waited_ms < wait_ms) {
		(void)nanosleep(&PAUSE, NULL);
		waited_ms += TRY_MS;
	}
	if (result == REFRESH_BUSY) {
		(void)snprintf(b->why, sizeof(b->why), "%s is in use by another process", path);
		return false;
	}
	/* A token that might be exchanged, and could not be kept then, is not put at risk. */
	if (r->fd >= 0 && (may_be_new || result == REFRESH_OPEN))
		return true;
	b->is_forbidden = access(path, R_OK | W_OK) < 0 && errno == EACCES;
	(void)snprintf(b->why, sizeof(b->why), "%s", r->why);
	refresh_close(r);
	return false;
}
