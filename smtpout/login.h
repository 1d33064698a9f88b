/* login.h - the login of one connection, from what the server offers to its last word.
 *
 * The engines for SMTP and POP3 know nothing else of it: no mechanism, no secret. Tests put their own functions here.
 */
#ifndef SMTPOUT_LOGIN_H
#define SMTPOUT_LOGIN_H
#include "smtpout/sasl.h"

struct login {
	/*
	 * Begins, or begins anew after refused(), with the best of what is offered (bits by enum mechanism): puts its
	 * name into `out`, and behind a blank the initial response where there is one. False: *why says why not,
	 * static.
	 */
	bool (*begin)(struct login *l, unsigned offered, bool is_secure, struct buf *out, const char **why);
	/* The answer to a challenge, both base64. False: *why, and the connection must end. */
	bool (*step)(struct login *l, struct slice challenge, struct buf *out, const char **why);
	bool (*is_complete)(struct login *l);      /* the server's success may be believed */
	void (*refused)(struct login *l);          /* the server does not take this mechanism after all */
	void (*mask)(struct login *l, char *text); /* covers the secret in a server's text */
	bool (*is_outdated)(struct login *l);      /* another token has come since this one was said */
};

/* For a server that wants no login at all: NULL is fine everywhere. The account and the list are borrowed. */
struct login *login_new(struct sasl_account *a, const struct conf_list *preference, bool may_be_clear);
void login_free(struct login **l);
#endif
