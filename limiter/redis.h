/*
 * redis.h - a connection to one Redis or Valkey server, made again whenever it is lost; the only user of hiredis.
 *
 * Never blocks. Connected means: logged in, the database selected, the server one that keeps what it is told (a
 * primary, that evicts nothing), the script loaded.
 */
#ifndef LIMITER_REDIS_H
#define LIMITER_REDIS_H
#include "lib/buf.h"
#include "lib/loop.h"
#include <sys/socket.h>

struct redis;

struct redis_options {
	struct sockaddr_storage address;
	socklen_t address_len;
	const char *user, *password; /* copied; NULL: none */
	unsigned database;
	const char *script; /* borrowed, lives as long */
	/* `run` names the server's process */
	void (*on_up)(void *arg, const char *run);
	/* Once for each failed attempt too; why, in words, is borrowed. No answer to what was called will come. */
	void (*on_down)(void *arg, const char *why);
	/* The script's answer; words are borrowed. False: it makes no sense, the connection is of no use. */
	bool (*on_answer)(void *arg, const struct slice *word, unsigned count);
	void *arg;
};

struct redis *redis_new(struct loop *loop, const struct redis_options *o); /* begins to connect */
void redis_free(struct redis **r);
/* Runs the script: `count` NUL-ended words, of which the first `keys` are keys. When up, and one call at a time. */
void redis_call(struct redis *r, struct slice words, unsigned count, unsigned keys);
#endif
