/* tls.c - TLS over a borrowed non-blocking descriptor; the only user of OpenSSL. */
#include "smtpout/tls.h"
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

enum { TLS_SESSIONS = 256, TLS_ERROR_MAX = 200 };

struct saved_session {
	char host[256];
	SSL_SESSION *session;
};

struct tls_policy {
	SSL_CTX *ctx;
	bool must_verify;
	/* Direct-mapped by the host's hash. A policy belongs to one server, so port and level are the same for all. */
	struct saved_session *saved;
};

struct tls_conn {
	SSL *ssl;
	struct tls_policy *policy;
	char host[256];
	char error[TLS_ERROR_MAX];
	bool wants_write, is_broken, is_up;
};

static struct saved_session *find_saved(struct tls_policy *p, const char *host)
{
	uint32_t hash = 2166136261u;

	for (const char *at = host; *at; at++)
		hash = (hash ^ (uint8_t)*at) * 16777619u;
	return &p->saved[hash % TLS_SESSIONS];
}

/* OpenSSL calls this when a ticket comes, with TLS 1.3 some time after the handshake. 1: we keep the reference. */
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_conn *c = SSL_get_app_data(ssl);
	struct saved_session *slot = find_saved(c->policy, c->host);

	SSL_SESSION_free(slot->session);
	slot->session = session;
	snprintf(slot->host, sizeof(slot->host), "%s", c->host);
	return 1;
}

static char *openssl_error(const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	return xasprintf("%s: %s", what, reason ? reason : "unusable");
}

/* The store as a file: a hashed directory would be read when the jail hides it. */
static bool load_system_store(SSL_CTX *ctx)
{
	const char *files[] = { X509_get_default_cert_file(), "/etc/ssl/certs/ca-certificates.crt",
				"/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem" };

	for (unsigned i = 0; i < ARRAY_LEN(files); i++) {
		if (access(files[i], R_OK) == 0 && SSL_CTX_load_verify_file(ctx, files[i]) == 1)
			return true;
	}
	return false;
}

static int protocol_of(int version)
{
	static const int VERSIONS[] = { TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION };

	return version >= 10 && version <= 13 ? VERSIONS[version - 10] : TLS1_2_VERSION;
}

static char *load_files(struct tls_policy *p, const struct conf_server *s)
{
	const char *key = s->tls_client_key ? s->tls_client_key : s->tls_client_cert;

	if (s->tls_ca_file && SSL_CTX_load_verify_file(p->ctx, s->tls_ca_file) != 1)
		return openssl_error(s->tls_ca_file);
	if (p->must_verify && !s->tls_ca_file && !load_system_store(p->ctx))
		return xstrdup("no certificate store was found: give tls-ca-file");
	if (s->tls_client_cert && SSL_CTX_use_certificate_chain_file(p->ctx, s->tls_client_cert) != 1)
		return openssl_error(s->tls_client_cert);
	if (s->tls_client_cert && SSL_CTX_use_PrivateKey_file(p->ctx, key, SSL_FILETYPE_PEM) != 1)
		return openssl_error(key);
	return NULL;
}

struct tls_policy *tls_policy_new(const struct conf_server *server, char **error)
{
	struct tls_policy *p = xcalloc(1, sizeof(*p));

	ERR_clear_error();
	p->must_verify = server->tls == TLS_VERIFY || server->tls == TLS_DANE;
	p->saved = xcalloc(TLS_SESSIONS, sizeof(*p->saved));
	p->ctx = SSL_CTX_new(TLS_client_method());
	if (!p->ctx)
		BUG("SSL_CTX_new failed");
	SSL_CTX_set_min_proto_version(p->ctx, protocol_of(server->tls_min_version));
	/* Many servers close without close_notify behind QUIT; an unfinished reply is noticed by its parser. */
	SSL_CTX_set_options(p->ctx, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(p->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					 SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_verify(p->ctx, p->must_verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	if (!p->must_verify) /* encryption is all that is asked: an old server is better than clear text */
		SSL_CTX_set_security_level(p->ctx, 1);
	SSL_CTX_set_session_cache_mode(p->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(p->ctx, on_new_session);
	*error = load_files(p, server);
	if (*error)
		tls_policy_free(&p);
	return p;
}

void tls_policy_free(struct tls_policy **policy)
{
	struct tls_policy *p = *policy;

	if (!p)
		return;
	for (unsigned i = 0; i < TLS_SESSIONS; i++)
		SSL_SESSION_free(p->saved[i].session);
	SSL_CTX_free(p->ctx);
	free(p->saved);
	free(p);
	*policy = NULL;
}

/* "[192.0.2.1]" shows no name and is checked as an address; a name is shown and checked as a name. */
static void set_name(struct tls_conn *c)
{
	char literal[256];
	size_t len = strlen(c->host);
	X509_VERIFY_PARAM *param = SSL_get0_param(c->ssl);

	if (c->host[0] == '[' && len > 2) {
		memcpy(literal, c->host + 1, len - 2);
		literal[len - 2] = '\0';
		if (c->policy->must_verify)
			X509_VERIFY_PARAM_set1_ip_asc(param, literal);
		return;
	}
	SSL_set_tlsext_host_name(c->ssl, c->host);
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (c->policy->must_verify)
		SSL_set1_host(c->ssl, c->host);
}

struct tls_conn *tls_conn_new(struct tls_policy *p, int fd, const char *host)
{
	struct tls_conn *c = xcalloc(1, sizeof(*c));
	struct saved_session *slot;

	snprintf(c->host, sizeof(c->host), "%s", host);
	c->policy = p;
	c->ssl = SSL_new(p->ctx);
	if (!c->ssl || SSL_set_fd(c->ssl, fd) != 1)
		BUG("SSL_new failed");
	SSL_set_app_data(c->ssl, c);
	set_name(c);
	slot = find_saved(p, c->host);
	if (slot->session && strcmp(slot->host, c->host) == 0)
		SSL_set_session(c->ssl, slot->session);
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

/* After a call that did not succeed. */
static enum io_result judge(struct tls_conn *c, int rc, int saved_errno)
{
	int why = SSL_get_error(c->ssl, rc);
	long verify = SSL_get_verify_result(c->ssl);
	unsigned long code = ERR_peek_last_error();

	c->wants_write = why == SSL_ERROR_WANT_WRITE;
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
		return IO_AGAIN;
	c->is_broken = why != SSL_ERROR_ZERO_RETURN;
	if (why == SSL_ERROR_ZERO_RETURN || (why == SSL_ERROR_SYSCALL && code == 0 && saved_errno == 0))
		return IO_CLOSED;
	if (c->policy->must_verify && verify != X509_V_OK && !c->is_up)
		snprintf(c->error, sizeof(c->error), "certificate verification failed: %s",
			 X509_verify_cert_error_string(verify));
	else if (code != 0 && ERR_reason_error_string(code))
		snprintf(c->error, sizeof(c->error), "%s", ERR_reason_error_string(code));
	else
		snprintf(c->error, sizeof(c->error), "%s",
			 saved_errno ? strerrordesc_np(saved_errno) : "connection closed");
	return IO_FAILED;
}

enum io_result tls_handshake(struct tls_conn *c)
{
	int rc;

	ERR_clear_error();
	errno = 0;
	rc = SSL_do_handshake(c->ssl);
	if (rc != 1)
		return judge(c, rc, errno);
	/* A resumed session brings its old result along. */
	if (c->policy->must_verify && SSL_get_verify_result(c->ssl) != X509_V_OK) {
		snprintf(c->error, sizeof(c->error), "certificate verification failed: %s",
			 X509_verify_cert_error_string(SSL_get_verify_result(c->ssl)));
		return IO_FAILED;
	}
	c->is_up = true;
	c->wants_write = false;
	return IO_DONE;
}

enum io_result tls_read(struct tls_conn *c, char *bytes, size_t max, size_t *done)
{
	int rc;

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
