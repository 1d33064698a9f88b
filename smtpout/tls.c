/* tls.c - TLS over a borrowed non-blocking descriptor. */
#include "smtpout/tls.h"
#include "smtpout/tls_impl.h"
#include <errno.h>
#include <openssl/err.h>
#include <time.h>

enum { SESSION_AGE_MAX_S = 3600 }; /* then the server proves itself anew; its certificate may be over by now */

/* --- whom to trust --- */

bool tls_expect(X509_VERIFY_PARAM *param, const char *host)
{
	static const char TAG[] = "IPv6:";
	char address[256];

	if (host[0] != '[') /* an address without brackets is none of a certificate's names */
		return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1 ||
		       X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
	host += strncasecmp(host + 1, TAG, strlen(TAG)) == 0 ? 1 + strlen(TAG) : 1;
	snprintf(address, sizeof(address), "%s", host);
	address[strcspn(address, "]")] = '\0';
	return X509_VERIFY_PARAM_set1_ip_asc(param, address) == 1;
}

/* A literal shows no name. False: whom to expect cannot be said, and then nobody will do. */
static bool expect_name(struct tls_conn *c)
{
	if (c->host[0] != '[')
		SSL_set_tlsext_host_name(c->ssl, c->host);
	return (c->need != TLS_NEED_VERIFIED && c->need != TLS_NEED_STS) || tls_expect(SSL_get0_param(c->ssl), c->host);
}

/*
 * RFC 7672 3.1: with DANE-EE(3) neither names nor dates count, with DANE-TA(2) the name is that of the TLSA records or
 * of the host. The recipient's domain, which the RFC lets count as well, does not: connections are shared by all
 * domains of a set of MX hosts, and one of them cannot vouch for the others. False: OpenSSL takes none of the records.
 */
static bool expect_tlsa(struct tls_conn *c, struct slice records)
{
	struct host_tlsa r;
	unsigned count = 0;

	if (SSL_dane_enable(c->ssl, c->base) != 1) /* also shows this name */
		return false;
	SSL_dane_set_flags(c->ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
	if (strcasecmp(c->base, c->host) != 0)
		SSL_add1_host(c->ssl, c->host);
	while (host_tlsa_next(&records, &r)) {
		count += SSL_dane_tlsa_add(c->ssl, r.usage, r.selector, r.matching, (const uint8_t *)r.data.ptr,
					   r.data.len) > 0;
	}
	ERR_clear_error(); /* of records it did not like */
	return count > 0;
}

static void make_key(struct tls_conn *c, const struct tls_target *t)
{
	struct buf all;

	buf_init(&all, sizeof(c->host) + sizeof(c->base) + HOST_TLSA_BYTES_MAX + 4);
	buf_put_char(&all, (char)c->need);
	buf_put(&all, c->host, strlen(c->host) + 1);
	buf_put(&all, c->base, strlen(c->base) + 1);
	if (c->need == TLS_NEED_DANE)
		buf_put_slice(&all, t->tlsa);
	if (all.failed || EVP_Digest(all.ptr, all.len, c->key, NULL, EVP_sha256(), NULL) != 1)
		BUG("no key for a TLS session");
	buf_release(&all);
}

static void resume(struct tls_conn *c)
{
	struct tls_saved *slot = &c->policy->saved[c->key[0] % TLS_SESSIONS];

	if (!slot->session || memcmp(slot->key, c->key, sizeof(slot->key)) != 0)
		return;
	if (SSL_SESSION_get_time(slot->session) + SESSION_AGE_MAX_S > (long)time(NULL))
		SSL_set_session(c->ssl, slot->session);
}

/* A session that led to a failure is not offered again. */
static void forget(struct tls_conn *c)
{
	struct tls_saved *slot = &c->policy->saved[c->key[0] % TLS_SESSIONS];

	if (memcmp(slot->key, c->key, sizeof(slot->key)) != 0)
		return;
	SSL_SESSION_free(slot->session);
	slot->session = NULL;
}

struct tls_conn *tls_conn_new(struct tls_policy *p, int fd, const struct tls_target *target)
{
	struct tls_conn *c = xcalloc(1, sizeof(*c));

	if (target->need == TLS_NEED_NONE || target->need == TLS_NEED_DENIED)
		BUG("TLS with a need of %d", target->need);
	snprintf(c->host, sizeof(c->host), "%s", target->host);
	snprintf(c->base, sizeof(c->base), "%s", target->need == TLS_NEED_DANE ? target->base : "");
	c->policy = p;
	c->need = target->need;
	c->ssl = SSL_new(tls_policy_context(p));
	if (!c->ssl || SSL_set_fd(c->ssl, fd) != 1)
		BUG("SSL_new failed");
	SSL_set_app_data(c->ssl, c);
	SSL_set_hostflags(c->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (c->need != TLS_NEED_DANE && !expect_name(c))
		snprintf(c->error, sizeof(c->error), "no certificate can be for %s", c->host);
	if (c->need == TLS_NEED_DANE && !expect_tlsa(c, target->tlsa))
		snprintf(c->error, sizeof(c->error), "the TLSA records of %s cannot be used", c->base);
	if (c->need <= TLS_NEED_ENCRYPTED && SSL_get_security_level(c->ssl) > 1)
		SSL_set_security_level(c->ssl, 1); /* anybody will do: old encryption is better than none */
	if (c->need > TLS_NEED_ENCRYPTED)
		SSL_set_verify(c->ssl, SSL_VERIFY_PEER, tls_on_verify);
	if (c->need == TLS_NEED_STS && p->sts_store)
		SSL_set1_verify_cert_store(c->ssl, p->sts_store);
	make_key(c, target);
	resume(c);
	SSL_set_connect_state(c->ssl);
	return c;
}

void tls_conn_free(struct tls_conn **conn)
{
	struct tls_conn *c = *conn;

	if (!c)
		return;
	ERR_clear_error();
	if (c->is_up && !c->is_broken)
		SSL_shutdown(c->ssl); /* without it the session would not be resumed */
	SSL_free(c->ssl);
	free(c);
	*conn = NULL;
}

/* --- moving bytes --- */

/* In words that say what to change, where OpenSSL's do not. */
static void describe_failure(struct tls_conn *c, unsigned long code, int saved_errno)
{
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	switch (ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0) {
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
		snprintf(c->error, sizeof(c->error),
			 "the server does not speak TLS 1.%d or newer (tls-min-version): %s",
			 c->policy->min_version - 10, reason ? reason : "");
		return;
	case SSL_R_WRONG_VERSION_NUMBER:
		snprintf(c->error, sizeof(c->error), "the server does not speak TLS here: %s", reason ? reason : "");
		return;
	case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
		snprintf(c->error, sizeof(c->error), "the server demands a certificate of ours (tls-client-cert): %s",
			 reason ? reason : "");
		return;
	}
	if (!reason)
		reason = saved_errno ? strerrordesc_np(saved_errno) : "connection closed";
	snprintf(c->error, sizeof(c->error), "%s", reason ? reason : "unknown error");
}

/* After a call that did not succeed. */
static enum io_result judge(struct tls_conn *c, int rc, int saved_errno)
{
	int why = SSL_get_error(c->ssl, rc);
	unsigned long code = ERR_peek_last_error();

	c->wants_write = why == SSL_ERROR_WANT_WRITE;
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
		return IO_AGAIN;
	/* After an alert OpenSSL says of all that follows: closed in good order. */
	c->is_broken |= why != SSL_ERROR_ZERO_RETURN;
	if (!c->is_up)
		forget(c);
	if (why == SSL_ERROR_ZERO_RETURN || (why == SSL_ERROR_SYSCALL && code == 0 && saved_errno == 0))
		return IO_CLOSED;
	if (c->error[0] == '\0')
		describe_failure(c, code, saved_errno);
	return IO_FAILED;
}

enum io_result tls_handshake(struct tls_conn *c)
{
	int rc;

	if (c->error[0])
		return IO_FAILED; /* there is nothing to compare with, or it was found wanting */
	ERR_clear_error();
	errno = 0;
	rc = SSL_do_handshake(c->ssl);
	if (rc != 1)
		return judge(c, rc, errno);
	if (!tls_verify_result(c)) {
		c->is_broken = true;
		forget(c);
		return IO_FAILED;
	}
	c->is_up = true;
	c->wants_write = false;
	return IO_DONE;
}

enum io_result tls_read(struct tls_conn *c, char *bytes, size_t max, size_t *done)
{
	int rc;

	if (c->is_broken && c->error[0])
		return IO_FAILED; /* as tls_has_input() or tls_write() has found out */
	ERR_clear_error();
	errno = 0;
	rc = SSL_read_ex(c->ssl, bytes, max, done);
	return rc == 1 ? IO_DONE : judge(c, rc, errno);
}

enum io_result tls_write(struct tls_conn *c, const char *bytes, size_t len, size_t *done)
{
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_write_ex(c->ssl, bytes, len, done);
	if (rc != 1)
		return judge(c, rc, errno);
	c->wants_write = false;
	return IO_DONE;
}

bool tls_has_input(struct tls_conn *c)
{
	char byte;
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_peek(c->ssl, &byte, 1);
	if (rc == 1)
		return true;
	(void)judge(c, rc, errno); /* an alert is read but once: tls_read() tells of it */
	return false;
}

bool tls_wants_write(const struct tls_conn *c)
{
	return c->wants_write;
}

const char *tls_error(const struct tls_conn *c)
{
	return c->error[0] ? c->error : "connection closed";
}

void tls_describe(const struct tls_conn *c, struct buf *out)
{
	buf_printf(out, "%s with cipher %s%s", SSL_get_version(c->ssl), SSL_get_cipher_name(c->ssl),
		   SSL_session_reused(c->ssl) ? ", resumed" : "");
}

void tls_put_md5(struct buf *out, struct slice bytes)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (EVP_Digest(bytes.ptr, bytes.len, digest, &len, EVP_md5(), NULL) != 1)
		len = 0; /* a library that forbids it: the server will refuse what is sent */
	for (unsigned i = 0; i < len; i++)
		buf_printf(out, "%02x", digest[i]);
}
