/* tls_need.h - what TLS has to be with one host: the server's level and what DNS says about the host; pure. */
#ifndef SMTPOUT_TLS_NEED_H
#define SMTPOUT_TLS_NEED_H
#include "lib/conf.h"
#include "lib/hosts.h"

enum tls_need {
	TLS_NEED_NONE,      /* clear text */
	TLS_NEED_MAY,       /* TLS with anybody, or clear text where it is not to be had */
	TLS_NEED_ENCRYPTED, /* TLS with anybody */
	TLS_NEED_VERIFIED,  /* a certificate for this name by a known authority */
	TLS_NEED_STS,       /* likewise, and none but the system's authorities count: MTA-STS, RFC 8461 */
	TLS_NEED_PINNED,    /* a certificate with one of the server's fingerprints; nothing else about it matters */
	TLS_NEED_DANE,      /* a certificate that a TLSA record of the host matches */
	TLS_NEED_DENIED     /* DANE is demanded and there are no usable records: do not connect */
};

/*
 * Opportunistic with DANE: records bind, and records of no use still promise TLS (RFC 7672 2.2). Level dane asks for an
 * authenticated server, which records of no use cannot give.
 */
enum tls_need tls_need(const struct conf_server *server, enum host_dane dane);
/*
 * The same with one host at another level than the server's: that of a destination. An MTA-STS policy binds where the
 * level is opportunistic, and only a host without usable TLSA records: DANE is the better proof (RFC 8461 2).
 */
enum tls_need tls_need_at(const struct conf_server *server, enum conf_tls level, const struct host *host);
/* Why a host is TLS_NEED_DENIED, in words. */
const char *tls_need_why(const struct host *host);
#endif
