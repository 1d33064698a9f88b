/* fetch.c - see fetch.h. */
#include "master/fetch.h"
#include "lib/helper.h"
#include "lib/log.h"
#include "lib/refresh.h"
#include "lib/text.h"
#include <errno.h>
#include <unistd.h>

/* The program keeps its deadline itself; one that does not is killed so much later. */
enum { LATE_MS = 5000 };

struct fetch {
	struct helper helper;
	struct loop_io *io;
	struct loop_timer *late;
	struct refresh refresh;
	struct buf answer;
	fetch_cb fn;
	void *arg;
};

static void wipe_buf(struct buf *b)
{
	if (b->ptr)
		explicit_bzero(b->ptr, b->cap);
	buf_release(b);
}

static void release(struct fetch *f, bool is_late)
{
	loop_io_free(&f->io);
	loop_timer_free(&f->late);
	helper_forget(&f->helper, is_late);
	wipe_buf(&f->answer);
	free(f);
}

static void finish(struct fetch *f, bool is_late)
{
	struct oauth_answer answer;
	fetch_cb fn = f->fn;
	void *arg = f->arg;

	oauth_read_answer(&answer, buf_slice(&f->answer));
	/* The new refresh token takes its place before anybody uses what came with it. */
	if (!refresh_close(&f->refresh))
		answer.is_kept = false;
	release(f, is_late);
	fn(arg, &answer);
	oauth_answer_release(&answer);
}

static void on_answer(void *arg, int fd UNUSED, unsigned events UNUSED)
{
	struct fetch *f = arg;

	if (!helper_read(&f->helper, &f->answer))
		finish(f, false);
}

static void on_late(void *arg)
{
	finish(arg, true);
}

static char *read_client_secret(const struct conf_server *server, char line[SECRET_MAX])
{
	const char *path = server->oauth2.client_secret_file;
	const char *why = path ? secret_read(path, line) : NULL;

	return why ? xasprintf("%s: %s", path, why) : NULL;
}

static bool start(struct fetch *f, const struct master *m, const struct conf_server *server, const char *token,
		  char **why)
{
	char secret[SECRET_MAX] = "", *path = xasprintf("%s/token", m->folder);
	struct oauth_ask ask = { .kind = OAUTH_REFRESH, .conf = m->conf, .server = server, .token = token };
	struct spawn_identity who = identity_of(&m->identities, ROLE_SMTPOUT);
	struct buf question;
	bool is_started = false;

	buf_init(&question, HELPER_QUESTION_MAX);
	*why = read_client_secret(server, secret);
	if (!*why) {
		ask.client_secret = server->oauth2.client_secret_file ? secret : NULL;
		oauth_put_request(&question, &ask);
		is_started = helper_start(&f->helper, &(struct helper_start){ .path = path,
									      .uid = who.uid,
									      .gid = who.gid,
									      .fd = f->refresh.fd,
									      .question = buf_slice(&question) });
		if (!is_started)
			*why = xasprintf("%s: %s", path, strerror(errno));
	}
	wipe_buf(&question);
	explicit_bzero(secret, sizeof(secret));
	free(path);
	return is_started;
}

enum fetch_start fetch_begin(struct fetch **out, struct master *m, const struct conf_server *server, const char *newest,
			     fetch_cb fn, void *arg, char **why)
{
	struct fetch *f = xcalloc(1, sizeof(*f));
	enum refresh_result result = refresh_open(&f->refresh, server->oauth2.refresh_token_file);

	*why = NULL;
	if (result == REFRESH_BUSY) {
		free(f);
		return FETCH_BUSY;
	}
	buf_init(&f->answer, OAUTH_RECORDS_MAX);
	f->helper.process = f->helper.answer = -1;
	if (result == REFRESH_NONE && !newest)
		*why = xstrdup(f->refresh.why);
	if (*why || !start(f, m, server, newest ? newest : f->refresh.token, why)) {
		(void)refresh_close(&f->refresh); /* nothing is in it */
		release(f, false);
		return FETCH_IMPOSSIBLE;
	}
	explicit_bzero(f->refresh.token, sizeof(f->refresh.token));
	f->fn = fn;
	f->arg = arg;
	f->io = loop_io_new(m->loop, f->helper.answer, LOOP_READ, on_answer, f);
	f->late = loop_timer_new(m->loop, on_late, f);
	loop_timer_set_ms(f->late, oauth_deadline_ms(server) + LATE_MS);
	*out = f;
	return FETCH_BEGUN;
}

void fetch_leave(struct fetch **fetch)
{
	struct fetch *f = *fetch;

	if (!f)
		return;
	refresh_leave(&f->refresh);
	release(f, false);
	*fetch = NULL;
}

bool fetch_store(const char *path, const char *token)
{
	struct refresh r;
	bool is_written;
	int saved;

	if (refresh_open(&r, path) == REFRESH_BUSY) {
		errno = EAGAIN;
		return false;
	}
	is_written = r.fd >= 0 && refresh_write(r.fd, token);
	saved = errno;
	if (!refresh_close(&r))
		return false;
	errno = saved;
	return is_written;
}

static uint64_t digest_file(const char *path)
{
	char line[SECRET_MAX] = "";
	uint64_t digest;

	if (!path)
		return 0;
	if (secret_read(path, line))
		line[0] = '\0'; /* of no use: as if it were empty */
	digest = text_hash(line, strlen(line));
	explicit_bzero(line, sizeof(line));
	return digest;
}

uint64_t fetch_digest(const struct conf_server *server)
{
	return digest_file(server->oauth2.refresh_token_file) * 31 + digest_file(server->oauth2.client_secret_file);
}
