/* tls.h - TLS over a borrowed non-blocking descriptor; the only user of OpenSSL. */
#ifndef SMTPOUT_TLS_H
#define SMTPOUT_TLS_H
#include "lib/conf.h"

enum io_result { IO_DONE, IO_AGAIN, IO_CLOSED, IO_FAILED };

struct tls_policy; /* what one server demands, with its sessions for resumption */
struct tls_conn;

/*
 * Reads certificates and the certificate store: call before the jail. NULL with a text in *error (caller frees) when
 * something the configuration names cannot be used. A level of none has no policy: do not ask.
 */
struct tls_policy *tls_policy_new(const struct conf_server *server, char **error) MUST_CHECK;
void tls_policy_free(struct tls_policy **p);

/* `host` is the name to show (SNI), to check where the level says so, and with the port to resume under. */
struct tls_conn *tls_conn_new(struct tls_policy *p, int fd, const char *host);
/* Says goodbye when the connection is sound; the descriptor stays the caller's. */
void tls_conn_free(struct tls_conn **c);
enum io_result tls_handshake(struct tls_conn *c) MUST_CHECK;
/* IO_DONE: *done > 0 bytes moved. IO_CLOSED: end of the stream, also without close_notify. */
enum io_result tls_read(struct tls_conn *c, char *bytes, size_t max, size_t *done) MUST_CHECK;
/* After IO_AGAIN the same bytes must come again, from anywhere, possibly more. */
enum io_result tls_write(struct tls_conn *c, const char *bytes, size_t len, size_t *done) MUST_CHECK;
bool tls_wants_write(const struct tls_conn *c); /* the last IO_AGAIN waits for room, not for input */
const char *tls_error(const struct tls_conn *c);
/* "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (resumed)"; after the handshake */
void tls_describe(const struct tls_conn *c, struct buf *out);
/* The 32 hexadecimal digits of MD5: for APOP, which has nothing better. */
void tls_put_md5(struct buf *out, struct slice bytes);
#endif
