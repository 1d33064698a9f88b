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

static void ask(const struct broker *b, const struct helper_start *how, struct oauth_answer *out)
{
	struct buf answer;

	buf_init(&answer, OAUTH_RECORDS_MAX);
	if (helper_ask(how, oauth_deadline_ms(b->server) + LATE_MS, &answer))
		oauth_read_answer(out, buf_slice(&answer));
	else
		*out = (struct oauth_answer){ .text = xasprintf("%s: %s", how->path, strerror(errno)) };
	if (answer.ptr)
		explicit_bzero(answer.ptr, answer.cap);
	buf_release(&answer);
}

void broker_ask(const struct broker *b, enum oauth_kind kind, const char *token, int fd, struct oauth_answer *out)
{
	const struct oauth_ask question = { .kind = kind,
					    .conf = b->conf,
					    .server = b->server,
					    .client_secret = b->secret[0] ? b->secret : NULL,
					    .token = token };
	const struct passwd *user = geteuid() == 0 ? getpwnam(b->conf->smtp_user) : NULL;
	char *path = sibling_find("token");
	struct buf text;

	buf_init(&text, HELPER_QUESTION_MAX);
	oauth_put_request(&text, &question);
	if (!path)
		*out = (struct oauth_answer){ .text = xstrdup("the program token is not beside this one") };
	else if (geteuid() == 0 && !user)
		*out = (struct oauth_answer){ .text = xasprintf("there is no user %s", b->conf->smtp_user) };
	else
		ask(b,
		    &(struct helper_start){ .path = path,
					    .uid = user ? user->pw_uid : (uid_t)-1,
					    .gid = user ? user->pw_gid : (gid_t)-1,
					    .fd = fd,
					    .question = buf_slice(&text) },
		    out);
	if (text.ptr)
		explicit_bzero(text.ptr, text.cap);
	buf_release(&text);
	free(path);
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
