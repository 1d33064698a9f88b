/*
 * oauth.h - what a token server is asked, and what it answers: access tokens for a refresh token (RFC 6749 6), and the
 * device-code flow that yields one (RFC 8628). Pure.
 *
 * Whoever wants a token composes a request and gives it to the program `token` (tools/token.c), which alone talks to
 * the network; its answer comes back in the same form. Both are records NAME NUL VALUE NUL, so that who holds the
 * secrets parses nothing that a stranger wrote but this.
 */
#ifndef LIB_OAUTH_H
#define LIB_OAUTH_H
#include "lib/conf.h"

/* A token fits into a packet of lib/msg.h; a request or an answer into a pipe that nobody has begun to read. */
enum { OAUTH_TOKEN_MAX = 4000, OAUTH_TEXT_MAX = 300, OAUTH_RECORDS_MAX = 32768, OAUTH_LIFE_MAX_S = 30 * 86400 };

enum oauth_kind {
	OAUTH_REFRESH, /* an access token for a refresh token */
	OAUTH_DEVICE,  /* begin a login: a code for whoever has a browser */
	OAUTH_POLL     /* has that code been entered? */
};

struct oauth_ask {
	enum oauth_kind kind;
	const struct conf *conf;
	const struct conf_server *server;
	const char *client_secret; /* NULL: there is none */
	const char *token;         /* the refresh token, or the device code; not for OAUTH_DEVICE */
};

/* How long a request may take in all, in milliseconds. */
uint64_t oauth_deadline_ms(const struct conf_server *s);
/* Where and how to ask DNS: for a request that is not about tokens, too (master/policies.h). */
void oauth_put_dns(struct buf *out, const struct conf *c);
void oauth_put_number(struct buf *out, const char *name, uint64_t number);
void oauth_put_request(struct buf *out, const struct oauth_ask *ask);

/* A record of helper programs: NAME NUL VALUE NUL; neither holds a NUL. */
void oauth_put_record(struct buf *out, const char *name, struct slice value);
/* Cuts one record off the front of *rest; false at the end, or where it is none (rest->len > 0 then). Borrowed. */
bool oauth_next_record(struct slice *rest, struct slice *name, struct slice *value) MUST_CHECK;

/*
 * Makes records of the token server's answer. Whatever it is, something is said: tokens, or `text`, and beside it
 * `error` where the server itself has refused in the words of RFC 6749 5.2 and 8628 3.5. The secrets of the request are
 * covered wherever the server quotes them.
 */
void oauth_put_reply(struct buf *out, enum oauth_kind kind, unsigned http_status, struct slice body,
		     const char *const secrets[], unsigned secret_count);

/* All owned; NULL: not there. A token is printable and not longer than OAUTH_TOKEN_MAX. */
struct oauth_answer {
	char *access_token, *refresh_token;
	char *device_code, *user_code, *url, *full_url;
	char *error;        /* the server's word: "invalid_grant"; without it nobody has refused anything */
	char *text;         /* why not, for people, printable */
	uint64_t expires_s; /* of the access token, or of the device code */
	uint64_t interval_s;
	bool is_kept; /* the new refresh token is on disk, see lib/refresh.h */
};

/* Where these are no records, or nonsense, `text` says so. */
void oauth_read_answer(struct oauth_answer *a, struct slice records);
void oauth_answer_release(struct oauth_answer *a); /* wipes the tokens */
/* The server's words for good: trying again will not help, a login or another configuration may. */
bool oauth_is_final(const struct oauth_answer *a);
#endif
