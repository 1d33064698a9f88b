/* tls_impl.h - what the tls*.c files share; nobody else includes it. */
#ifndef SMTPOUT_TLS_IMPL_H
#define SMTPOUT_TLS_IMPL_H
#include "smtpout/tls.h"
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

enum { TLS_SESSIONS = 256, TLS_ERROR_MAX = 500, TLS_DIGEST_BYTES = 32 };

struct tls_saved {
	uint8_t key[TLS_DIGEST_BYTES];
	SSL_SESSION *session;
};

struct tls_policy {
	SSL_CTX *ctx; /* NULL until it is needed: tls_policy_context() */
	unsigned port;
	int min_version; /* 10 to 13 */
	unsigned pin_count;
	uint8_t (*pin)[TLS_DIGEST_BYTES]; /* SHA-256 of leaf certificates */
	/* Direct-mapped by key. A policy belongs to one server, so port and configuration are the same for all. */
	struct tls_saved *saved;
	bool needs_system_store;
	X509_STORE *sts_store; /* borrowed; NULL: never asked for, or the system has none, and then nobody is known */
};

struct tls_conn {
	SSL *ssl;
	struct tls_policy *policy;
	enum tls_need need;
	char host[256], base[256];
	uint8_t key[TLS_DIGEST_BYTES]; /* what its session is kept under */
	char error[TLS_ERROR_MAX];
	bool wants_write, is_broken, is_up;
};

/* tls_policy.c */
SSL_CTX *tls_policy_context(struct tls_policy *p); /* the policy's */

/* tls.c */
/* Whom a certificate has to be for: a name, or the address that "[192.0.2.1]" or "[IPv6:2001:db8::1]" is. */
bool tls_expect(X509_VERIFY_PARAM *param, const char *host) MUST_CHECK;

/* tls_verify.c */
/* OpenSSL calls it for each certificate of the chain and for each fault; the first fault goes into the error text. */
int tls_on_verify(int is_ok, X509_STORE_CTX *ctx);
/* After the handshake, whatever OpenSSL thinks of it: has the server proved what it must? False: error is set. */
bool tls_verify_result(struct tls_conn *c) MUST_CHECK;
/* Words about a certificate, as they stand in it: make them printable. */
void tls_put_name(struct buf *out, const X509_NAME *name);
void tls_put_names(struct buf *out, const X509 *cert); /* whom it is for: alternative names, else the subject */
void tls_put_date(struct buf *out, const ASN1_TIME *when);
void tls_put_hex(struct buf *out, const uint8_t *bytes, size_t len);
#endif
