/* broker.h - asks a token server from the command line, through the program `token` (OAuth2). */
#ifndef TOOLS_BROKER_H
#define TOOLS_BROKER_H
#include "lib/oauth.h"
#include "lib/refresh.h"

struct broker {
	const struct conf *conf;
	const struct conf_server *server;
	char secret[SECRET_MAX]; /* the client's */
	char why[1024];          /* what went wrong, for people */
	bool is_forbidden;       /* ... and it was a file that the caller may not use */
};

/*
 * One question to the program `token`, as smtp-user when root asks. False: *why, for the caller to free; else what it
 * answered, which is for the caller to judge.
 */
bool broker_run(const struct conf *conf, struct slice question, int fd, uint64_t wait_ms, struct buf *answer,
		char **why) MUST_CHECK;
/* Reads the client's secret. False: `why`. To be wiped with broker_close(). */
bool broker_open(struct broker *b, const struct conf *conf, const struct conf_server *server) MUST_CHECK;
void broker_close(struct broker *b);
/*
 * One question. `token`: see struct oauth_ask; `fd`: where a new refresh token is kept, or -1. Always fills *out; the
 * caller releases it.
 */
void broker_ask(const struct broker *b, enum oauth_kind kind, const char *token, int fd, struct oauth_answer *out);
/* Opens the file for the refresh token, waiting for who has it. False: `why`; may_be_new: there need not be any. */
bool broker_open_refresh(struct broker *b, struct refresh *r, bool may_be_new) MUST_CHECK;
#endif
