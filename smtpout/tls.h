/* tls.h - TLS over a borrowed non-blocking descriptor; the tls*.c files are the only users of OpenSSL. */
#ifndef SMTPOUT_TLS_H
#define SMTPOUT_TLS_H
#include "smtpout/tls_need.h"

enum io_result { IO_DONE, IO_AGAIN, IO_CLOSED, IO_FAILED };

struct tls_policy; /* what one server demands, with its sessions for resumption */
struct tls_conn;

/*
 * Reads certificates, keys and the certificate store: call before the jail. NULL with a text in *error (caller frees)
 * when something the configuration names cannot be used. A level of none has no policy: do not ask.
 */
struct tls_policy *tls_policy_new(const struct conf_server *server, char **error) MUST_CHECK;
void tls_policy_free(struct tls_policy **p);

/* Whom to talk to, and what that has to prove; all borrowed until tls_conn_new() returns. */
struct tls_target {
	const char *host;   /* the name to check and to show (SNI); "[192.0.2.1]" is checked as an address, not shown */
	enum tls_need need; /* from TLS_NEED_MAY to TLS_NEED_DANE */
	const char *base;   /* TLS_NEED_DANE: whose TLSA records these are, RFC 7672 2.2.3 */
	struct slice tlsa;  /* likewise: encoded, host_tlsa_next() */
};

/*
 * A session is resumed only for the same name, need and TLSA records, so what was agreed with less never serves more;
 * and what has to be proved is looked at on every connection, resumed or not.
 */
struct tls_conn *tls_conn_new(struct tls_policy *p, int fd, const struct tls_target *target);
/* Says goodbye when the connection is sound; the descriptor stays the caller's. */
void tls_conn_free(struct tls_conn **c);
enum io_result tls_handshake(struct tls_conn *c) MUST_CHECK;
/* IO_DONE: *done > 0 bytes moved. IO_CLOSED: end of the stream, also without close_notify. */
enum io_result tls_read(struct tls_conn *c, char *bytes, size_t max, size_t *done) MUST_CHECK;
/* After IO_AGAIN the same bytes must come again, from anywhere, possibly more. */
enum io_result tls_write(struct tls_conn *c, const char *bytes, size_t len, size_t *done) MUST_CHECK;
bool tls_has_input(struct tls_conn *c);         /* tls_read() would bring something now */
bool tls_wants_write(const struct tls_conn *c); /* the last IO_AGAIN waits for room, not for input */
const char *tls_error(const struct tls_conn *c);
/* "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384, resumed"; after the handshake */
void tls_describe(const struct tls_conn *c, struct buf *out);
/* The 32 hexadecimal digits of MD5: for APOP, which has nothing better. */
void tls_put_md5(struct buf *out, struct slice bytes);
#endif
