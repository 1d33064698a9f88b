/* tls_policy.c - what one server demands of TLS: files read, options set. */
#include "lib/text.h"
#include "smtpout/tls_impl.h"
#include <openssl/err.h>
#include <unistd.h>

static char *openssl_error(const char *option, const char *path)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	return xasprintf("%s: %s: %s", option, path, reason ? reason : "unusable");
}

/*
 * The store as a file: a hashed directory would be read when the jail hides it. Read once for all servers: it is more
 * than a hundred certificates. NULL when there is none.
 */
static X509_STORE *system_store(void)
{
	static X509_STORE *store;
	const char *files[] = { conf_system_certificates(), X509_get_default_cert_file(),
				"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
				"/etc/ssl/cert.pem" };

	for (unsigned i = 0; i < ARRAY_LEN(files) && !store; i++) {
		store = X509_STORE_new();
		if (files[i] && access(files[i], R_OK) == 0 && X509_STORE_load_file(store, files[i]) == 1)
			break;
		X509_STORE_free(store);
		store = NULL;
	}
	return store;
}

static int protocol_of(int version)
{
	static const int VERSIONS[] = { TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION };

	return version >= 10 && version <= 13 ? VERSIONS[version - 10] : TLS1_2_VERSION;
}

/* Nobody is there to type one: without this OpenSSL would ask the terminal. */
static int no_passphrase(char *out UNUSED, int size UNUSED, int is_for_writing UNUSED, void *arg UNUSED)
{
	return -1;
}

static char *load_client(struct tls_policy *p, const struct conf_server *s)
{
	const char *key = s->tls_client_key ? s->tls_client_key : s->tls_client_cert;
	SSL_CTX *ctx = tls_policy_context(p);
	const char *option = s->tls_client_key ? "tls-client-key" : "tls-client-cert (without tls-client-key)";

	if (!s->tls_client_cert)
		return NULL;
	if (SSL_CTX_use_certificate_chain_file(ctx, s->tls_client_cert) != 1)
		return openssl_error("tls-client-cert", s->tls_client_cert);
	if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		return openssl_error(option, key);
	return NULL;
}

/* Checked by lib/conf: 64 hex digits each. */
static void load_pins(struct tls_policy *p, const struct conf_list *list)
{
	p->pin = xcalloc(list->count ? list->count : 1, sizeof(*p->pin));
	for (unsigned i = 0; i < list->count; i++) {
		size_t len = 0;

		if (OPENSSL_hexstr2buf_ex(p->pin[i], TLS_DIGEST_BYTES, &len, list->item[i], '\0') != 1 ||
		    len != TLS_DIGEST_BYTES)
			BUG("fingerprint %s", list->item[i]);
	}
	p->pin_count = list->count;
}

/* OpenSSL calls this when a ticket comes, with TLS 1.3 some time after the handshake. 1: we keep the reference. */
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_conn *c = SSL_get_app_data(ssl);
	struct tls_saved *slot = &c->policy->saved[c->key[0] % TLS_SESSIONS];

	SSL_SESSION_free(slot->session);
	slot->session = session;
	memcpy(slot->key, c->key, sizeof(slot->key));
	return 1;
}

static void make_context(struct tls_policy *p)
{
	p->ctx = SSL_CTX_new(TLS_client_method());
	p->saved = xcalloc(TLS_SESSIONS, sizeof(*p->saved));
	if (!p->ctx)
		BUG("SSL_CTX_new failed");
	if (p->needs_system_store)
		SSL_CTX_set1_cert_store(p->ctx, system_store());
	SSL_CTX_set_min_proto_version(p->ctx, protocol_of(p->min_version));
	if (p->min_version < 12) /* OpenSSL has none of TLS 1.0 and 1.1 otherwise */
		SSL_CTX_set_security_level(p->ctx, 0);
	/* Many servers close without close_notify behind QUIT; an unfinished reply is noticed by its parser. */
	SSL_CTX_set_options(p->ctx, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_mode(p->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					 SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(p->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(p->ctx, on_new_session);
	SSL_CTX_set_default_passwd_cb(p->ctx, no_passphrase);
	if (SSL_CTX_dane_enable(p->ctx) != 1)
		BUG("OpenSSL has no DANE");
}

SSL_CTX *tls_policy_context(struct tls_policy *p)
{
	if (!p->ctx)
		make_context(p);
	return p->ctx;
}

/*
 * There may be thousands of servers, and most are not used today: a context is made at once only where it has files to
 * read. The very first is, too: OpenSSL then reads what it needs for itself.
 */
static char *load_files(struct tls_policy *p, const struct conf_server *s)
{
	static bool is_openssl_ready;

	if (p->needs_system_store && !system_store())
		return xstrdup("no certificate store was found: give tls-ca-file");
	if (is_openssl_ready && !s->tls_ca_file && !s->tls_client_cert)
		return NULL;
	is_openssl_ready = true;
	if (s->tls_ca_file && SSL_CTX_load_verify_file(tls_policy_context(p), s->tls_ca_file) != 1)
		return openssl_error("tls-ca-file", s->tls_ca_file);
	return load_client(p, s);
}

struct tls_policy *tls_policy_new(const struct conf_server *server, char **error)
{
	struct tls_policy *p = xcalloc(1, sizeof(*p));

	ERR_clear_error();
	p->port = server->port;
	p->min_version = server->tls_min_version;
	p->needs_system_store = tls_need(server, HOST_DANE_NONE) == TLS_NEED_VERIFIED && !server->tls_ca_file;
	p->sts_store = server->method == METHOD_DIRECT ? system_store() : NULL;
	load_pins(p, &server->tls_fingerprints);
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
	for (unsigned i = 0; i < TLS_SESSIONS && p->saved; i++)
		SSL_SESSION_free(p->saved[i].session);
	SSL_CTX_free(p->ctx);
	free(p->saved);
	free(p->pin);
	free(p);
	*policy = NULL;
}
