/* fetch.h - one fetch of an access token: the program `token` is started, answers, and is gone. */
#ifndef MASTER_FETCH_H
#define MASTER_FETCH_H
#include "lib/oauth.h"
#include "master/supervisor.h"

struct fetch;

/*
 * The answer is borrowed; is_kept says whether a new refresh token is in its file. The fetch is over and freed.
 */
typedef void (*fetch_cb)(void *arg, const struct oauth_answer *answer);

enum fetch_start {
	FETCH_BEGUN,     /* *out, and fn will be called, never from in here */
	FETCH_BUSY,      /* somebody else exchanges this refresh token right now: soon again */
	FETCH_IMPOSSIBLE /* *why, owned by the caller: files that cannot be used, no program */
};

/* `newest`: the refresh token, where the file could not take it; else NULL. */
enum fetch_start fetch_begin(struct fetch **out, struct master *m, const struct conf_server *server, const char *newest,
			     fetch_cb fn, void *arg, char **why) MUST_CHECK;
/* Forgets it: it goes on by itself, and what it writes down is found by the next one. NULL inside is fine. */
void fetch_leave(struct fetch **f);
/* A refresh token that a fetch could not keep. False with errno. */
bool fetch_store(const char *path, const char *token) MUST_CHECK;
/* Of all that a person may change: the two files. Seeded, of no use elsewhere. */
uint64_t fetch_digest(const struct conf_server *server);
#endif
