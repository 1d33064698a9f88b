/* tls_report.c - what a server showed in its TLS handshake. */
#include "smtpout/tls_report.h"
#include "lib/text.h"
#include "smtpout/tls_impl.h"
#include <openssl/err.h>
#include <time.h>

enum { RAW_MAX = 8192, CHAIN_SHOWN = 6, DAY_S = 86400 };

static void put_raw(struct buf *out, struct buf *raw)
{
	text_escape(out, buf_slice(raw), RAW_MAX);
	buf_release(raw);
}

void tls_report_chain(const struct tls_conn *c, struct buf *out)
{
	const X509 *leaf = SSL_get0_peer_certificate(c->ssl);
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(c->ssl);
	int count = chain ? sk_X509_num(chain) : 0;
	struct buf raw;

	if (!leaf) {
		buf_put_str(out, "no certificate");
		return;
	}
	buf_init(&raw, RAW_MAX);
	buf_put_str(&raw, "for ");
	tls_put_names(&raw, leaf);
	for (int i = 0; i < count && i < CHAIN_SHOWN; i++) {
		buf_put_str(&raw, i ? ", that by " : "; issued by ");
		tls_put_name(&raw, X509_get_issuer_name(sk_X509_value(chain, i)));
	}
	put_raw(out, &raw);
}

void tls_report_expiry(const struct tls_conn *c, struct buf *out)
{
	const X509 *leaf = SSL_get0_peer_certificate(c->ssl);
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	int days = 0, seconds = 0;

	if (!leaf) {
		buf_put_str(out, "no certificate");
		return;
	}
	buf_put_str(out, "valid until ");
	tls_put_date(out, X509_get0_notAfter(leaf));
	if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(leaf)) == 1)
		buf_printf(out, days < 0 || seconds < 0 ? " (%d days ago)" : " (%d days)", days < 0 ? -days : days);
	if (X509_digest(leaf, EVP_sha256(), digest, &len) == 1) {
		buf_put_str(out, "; SHA-256 ");
		tls_put_hex(out, digest, len);
	}
}

/* What `tls = verify` would say; NULL: it would be content. Static. */
static const char *find_fault(const struct tls_conn *c, struct tls_policy *judge, X509 *leaf)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	const char *fault = "it cannot be checked";

	if (ctx && X509_STORE_CTX_init(ctx, SSL_CTX_get_cert_store(tls_policy_context(judge)), leaf,
				       SSL_get_peer_cert_chain(c->ssl)) == 1) {
		X509_STORE_CTX_set_default(ctx, "ssl_server");
		if (tls_expect(X509_STORE_CTX_get0_param(ctx), c->host))
			fault = X509_verify_cert(ctx) == 1
					? NULL
					: X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx));
	}
	X509_STORE_CTX_free(ctx);
	ERR_clear_error();
	return fault;
}

void tls_report_trust(const struct tls_conn *c, struct tls_policy *judge, struct buf *out)
{
	X509 *leaf = SSL_get0_peer_certificate(c->ssl);
	const char *fault;

	switch (c->need) {
	case TLS_NEED_VERIFIED:
		buf_printf(out, "a known authority vouches for it, and the name %s is in it", c->host);
		return;
	case TLS_NEED_STS:
		buf_printf(out, "a known authority vouches for it, and the name %s is in it (MTA-STS)", c->host);
		return;
	case TLS_NEED_PINNED:
		buf_put_str(out, "it has one of the tls-fingerprints");
		return;
	case TLS_NEED_DANE:
		buf_printf(out, "a TLSA record of _%u._tcp.%s matches it (DANE)", c->policy->port, c->base);
		return;
	default:
		break;
	}
	if (!judge) {
		buf_put_str(out, "not checked (option tls)");
		return;
	}
	fault = leaf ? find_fault(c, judge, leaf) : "there is no certificate";
	if (fault)
		buf_printf(out, "not checked (option tls); tls = verify would refuse it: %s", fault);
	else
		buf_put_str(out, "not checked (option tls); tls = verify would accept it");
}
