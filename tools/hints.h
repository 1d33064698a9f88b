/* hints.h - one sentence that says what to change when a step towards a server fails, and how to exit; pure. */
#ifndef TOOLS_HINTS_H
#define TOOLS_HINTS_H
#include "lib/buf.h"
#include "lib/msg.h"

/* The steps of `postern test`, in order. */
enum hint_step {
	HINT_CONFIG, /* before the first step: no hint is about it */
	HINT_DNS,
	HINT_CONNECT,
	HINT_POP,
	HINT_GREETING, /* banner and EHLO */
	HINT_TLS,
	HINT_LOGIN,
	HINT_MAIL,
	HINT_RCPT,
	HINT_DATA, /* DATA, the message, its final dot */
	HINT_STEP_COUNT
};

/* How a step failed. All borrowed; strings are never NULL. */
struct hint_facts {
	enum hint_step step;
	enum failure_cause cause;
	unsigned code;     /* of the server's reply; 0: there was none */
	const char *dsn;   /* "5.7.8" or "" */
	const char *words; /* the server's, or why */
	const char *host, *sender, *domain, *preset;
	unsigned port;
	bool is_direct, is_secure, has_login;
	bool is_bound; /* by an MTA-STS policy */
};

/* Appends the sentence. There is one for every failure. */
void hint_put(struct buf *out, const struct hint_facts *f);
/* The status to exit with: 65, 69, 75 or 77; 0 for FAILURE_NONE. */
int hint_exit_status(const struct hint_facts *f);
#endif
