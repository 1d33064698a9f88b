/* mechanism.h - ways to log in: their names, their strength, and which one to take; pure.  RFC 4422, RFC 4954 */
#ifndef SMTPOUT_MECHANISM_H
#define SMTPOUT_MECHANISM_H
#include "lib/conf.h"

/* In the order in which `auto` prefers them. */
enum mechanism {
	MECHANISM_OAUTHBEARER, /* RFC 7628 */
	MECHANISM_XOAUTH2,
	MECHANISM_SCRAM_SHA_256, /* RFC 7677 */
	MECHANISM_SCRAM_SHA_1,   /* RFC 5802 */
	MECHANISM_CRAM_MD5,      /* RFC 2195 */
	MECHANISM_PLAIN,         /* RFC 4616 */
	MECHANISM_LOGIN,
	MECHANISM_COUNT,
	MECHANISM_NONE = MECHANISM_COUNT
};

/* What decides besides the server's offer. */
struct mechanism_wish {
	const struct conf_list *preference; /* option `auth`; borrowed */
	bool has_token;                     /* there is an access token: `auto` prefers it ... */
	bool has_password;                  /* ... and takes nothing else, but where there is a password, too */
	bool may_show;                      /* encrypted, or auth-without-tls: what shows the secret is fit to use */
	unsigned spent;                     /* bits by enum mechanism: the server did not take these */
};

const char *mechanism_name(enum mechanism m); /* "SCRAM-SHA-256" */
/* Words with blanks between, as behind AUTH or SASL: bits by enum mechanism. Unknown ones are passed over. */
unsigned mechanism_parse(struct slice words);
/* Whoever reads the connection has the secret. */
bool mechanism_shows_secret(enum mechanism m);
bool mechanism_is_token(enum mechanism m);
/* Of those offered the one to take, or MECHANISM_NONE; then *why says why not, static. */
enum mechanism mechanism_choose(unsigned offered, const struct mechanism_wish *wish, const char **why);
#endif
