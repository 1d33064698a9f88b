/* dial.h - a TCP connection to one of a host's addresses, tried in a race.  RFC 8305 */
#ifndef SMTPOUT_DIAL_H
#define SMTPOUT_DIAL_H
#include "lib/conf.h"
#include "lib/hosts.h"
#include "lib/loop.h"

enum { DIAL_HEAD_START_MS = 250 }; /* RFC 8305 5: between the attempts */

struct dial;

/* How it ended; all borrowed until the callback returns, but for fd, which the callee owns. */
struct dial_end {
	int fd;                             /* connected, non-blocking, TCP_NODELAY; -1: every address failed */
	const struct host_address *address; /* the winner, or the last that failed; NULL when none could be tried */
	const char *error;                  /* "Connection refused" and so on */
	bool is_local;                      /* our side: no descriptor, no local port */
};

typedef void (*dial_cb)(void *arg, const struct dial_end *end);

/*
 * Families alternate, IPv6 first; each attempt gets a head start over the next and connect-timeout to succeed.
 * Addresses in the server's deny-addresses are not connected to. fn is called once, never from within dial_new().
 */
struct dial *dial_new(struct loop *loop, const struct host *host, const struct conf_server *server, unsigned seed,
		      dial_cb fn, void *arg);
void dial_free(struct dial **d); /* also from within the callback */
#endif
