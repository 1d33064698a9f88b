/* sasl.h - what is said in a login: challenges in, responses out; the only user of libgsasl.  RFC 4422, RFC 7628 */
#ifndef SMTPOUT_SASL_H
#define SMTPOUT_SASL_H
#include "lib/buf.h"
#include "smtpout/mechanism.h"

/*
 * SASL_ITERATIONS_MAX: what a SCRAM server may make us compute, about an eighth of a second; while we do, nothing else
 * goes on in this process. SASL_CHALLENGE_MAX: RFC 4954 4.
 */
enum { SASL_ITERATIONS_MAX = 250000, SASL_CHALLENGE_MAX = 12288, SASL_ROUNDS_MAX = 8 };

struct sasl_account; /* one user at one server: the secret, and what a former login has computed of it */
struct sasl;         /* one login under way */

/* Loads the library: before the jail. False when it does not work. */
bool sasl_init(void) MUST_CHECK;

/* Copies all; a secret without `ptr`: there is no password. `host` and `port` name the server (OAUTHBEARER tells them).
 */
struct sasl_account *sasl_account_new(const char *username, struct slice secret, const char *host, unsigned port);
void sasl_account_free(struct sasl_account **a); /* wipes it */
/* Another password, for connections to come. */
void sasl_account_set_secret(struct sasl_account *a, struct slice secret);
/* An access token beside the password, which may be another one while connections live. */
void sasl_account_set_token(struct sasl_account *a, struct slice token);
bool sasl_account_has_token(const struct sasl_account *a);
bool sasl_account_has_password(const struct sasl_account *a);
/* Covers the secrets in a server's text, in clear and as they are said in base64, pieces of that included. */
void sasl_account_mask(const struct sasl_account *a, char *text);

/* The account is borrowed for the login's life. */
struct sasl *sasl_new(struct sasl_account *a, enum mechanism m);
void sasl_free(struct sasl **s);
/* Whether our side begins: sasl_step() with an empty challenge makes an initial response. */
bool sasl_is_first(const struct sasl *s);
/*
 * Takes a challenge and appends the response, both base64. False: the login must be cancelled, sasl_error() says why
 * (static); the challenge is nonsense, asks too much, or comes from a server that does not know the password.
 */
bool sasl_step(struct sasl *s, struct slice challenge, struct buf *response) MUST_CHECK;
const char *sasl_error(const struct sasl *s);
/* It was begun with a token that has been replaced since. */
bool sasl_is_outdated(const struct sasl *s);
/* Success may be believed now: all was said, and where the mechanism has it so, the server proved itself. */
bool sasl_is_complete(const struct sasl *s);

/* The digest of APOP, 32 hexadecimal digits: of the greeting's stamp and the secret.  RFC 1939 7 */
void sasl_apop(const struct sasl_account *a, struct slice stamp, struct buf *out);
const char *sasl_account_username(const struct sasl_account *a);
/* For USER and PASS, whose arguments are lines: false when it holds a line break or a NUL. */
bool sasl_account_put_secret(const struct sasl_account *a, struct buf *out) MUST_CHECK;
#endif
