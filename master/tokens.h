/*
 * tokens.h - access tokens (oauth2 {}): fetched once for all workers, renewed before they end, handed on at once.
 *
 * A worker that starts finds them among its secrets; one that runs is told, and says when it has taken a token; only
 * then the scheduler hears that a server which refused the last one may be tried.
 */
#ifndef MASTER_TOKENS_H
#define MASTER_TOKENS_H
#include "master/supervisor.h"

struct tokens;

/*
 * Begins to fetch what the configuration asks for. `on_ready` is called, from the loop, when each server has its token
 * or has failed to get it, or after some seconds: whoever starts workers then spares mail a detour.
 */
struct tokens *tokens_new(struct master *m, loop_cb on_ready, void *arg);
void tokens_free(struct tokens **t);
/* The configuration was read again: what is still asked for the same way stays. */
void tokens_follow(struct tokens *t);
/* Files beside the watched ones have changed: whose refresh token did is tried at once. */
void tokens_look(struct tokens *t);
/* As snapshot_collect_secrets() does: NAME is "token". */
void tokens_collect(const struct tokens *t, struct buf *out);
/* What a worker that is started now will know. */
uint32_t tokens_serial(const struct tokens *t);
/* A worker has taken a token, died, or was started. */
void tokens_note_worker(struct tokens *t);
/* The scheduler says that this server refuses our login. */
void tokens_note_refusal(struct tokens *t, uint32_t server_key);
/* [{"server","valid_until","error","next_try"}]: seconds since 1970, null where there is none. */
void tokens_put_status(const struct tokens *t, struct buf *out);
#endif
