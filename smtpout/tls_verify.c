/* tls_verify.c - is it the right server? And when it is not: what was expected and what was offered, in words. */
#include "lib/text.h"
#include "smtpout/tls_impl.h"
#include <arpa/inet.h>
#include <openssl/err.h>
#include <time.h>

enum { NAMES_SHOWN = 8, RAW_MAX = 4096 };

/* --- words; raw, made printable at the end --- */

static void put_general_name(struct buf *out, const GENERAL_NAME *name)
{
	char text[INET6_ADDRSTRLEN];
	const ASN1_STRING *ip = name->type == GEN_IPADD ? name->d.iPAddress : NULL;
	int family = ip && ASN1_STRING_length(ip) == 16 ? AF_INET6 : AF_INET;

	if (name->type == GEN_DNS)
		buf_put(out, ASN1_STRING_get0_data(name->d.dNSName), (size_t)ASN1_STRING_length(name->d.dNSName));
	else if (ip && (ASN1_STRING_length(ip) == 4 || family == AF_INET6) &&
		 inet_ntop(family, ASN1_STRING_get0_data(ip), text, sizeof(text)))
		buf_put_str(out, text);
	else
		buf_put_str(out, "(something else)");
}

/* The one-line form of a distinguished name. */
void tls_put_name(struct buf *out, const X509_NAME *name)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *text = NULL;
	long len;

	if (bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) > 0) {
		len = BIO_get_mem_data(bio, &text);
		buf_put(out, text, (size_t)(len < 200 ? len : 200));
	} else {
		buf_put_str(out, "(nobody)");
	}
	BIO_free(bio);
}

/* Whom a certificate is for: its alternative names, else its subject. */
void tls_put_names(struct buf *out, const X509 *cert)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int count = names ? sk_GENERAL_NAME_num(names) : 0;

	for (int i = 0; i < count && i < NAMES_SHOWN; i++) {
		buf_put_str(out, i ? ", " : "");
		put_general_name(out, sk_GENERAL_NAME_value(names, i));
	}
	if (count > NAMES_SHOWN)
		buf_printf(out, " and %d others", count - NAMES_SHOWN);
	if (count == 0)
		tls_put_name(out, X509_get_subject_name(cert));
	GENERAL_NAMES_free(names);
}

void tls_put_date(struct buf *out, const ASN1_TIME *when)
{
	struct tm tm;
	char text[32];

	if (ASN1_TIME_to_tm(when, &tm) == 1 && strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", &tm) > 0)
		buf_put_str(out, text);
	else
		buf_put_str(out, "an unknown day");
}

void tls_put_hex(struct buf *out, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf_printf(out, "%02x", bytes[i]);
}

static bool digest_cert(const X509 *cert, uint8_t out[TLS_DIGEST_BYTES])
{
	unsigned len = 0;

	return X509_digest(cert, EVP_sha256(), out, &len) == 1 && len == TLS_DIGEST_BYTES;
}

static bool digest_key(const X509 *cert, uint8_t out[TLS_DIGEST_BYTES])
{
	unsigned char *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
	bool is_ok = len > 0 && EVP_Digest(der, (size_t)len, out, NULL, EVP_sha256(), NULL) == 1;

	OPENSSL_free(der);
	return is_ok;
}

static void set_error(struct tls_conn *c, const struct buf *raw)
{
	struct buf text;

	buf_init(&text, 4 * TLS_ERROR_MAX);
	text_escape(&text, buf_slice(raw), sizeof(c->error) - 8);
	snprintf(c->error, sizeof(c->error), "%s", buf_text(&text));
	buf_release(&text);
}

/* When the fault is not the server's own certificate, but one above it. */
static void put_authority(struct buf *out, const X509 *cert, const X509 *leaf)
{
	if (cert == leaf)
		return;
	buf_put_str(out, ": that of its authority ");
	tls_put_name(out, X509_get_subject_name(cert));
}

static void put_unknown_issuer(struct buf *out, const X509 *cert, int fault)
{
	bool is_own = fault == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT;

	buf_put_str(out, is_own ? " is not signed by a known authority, but by itself: "
				: " is not signed by a known authority: issuer ");
	tls_put_name(out, X509_get_issuer_name(cert));
	if (fault == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
	    fault == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE)
		buf_put_str(out, " (unknown here, or the server does not send its certificate)");
}

static void put_no_tlsa_match(struct buf *out, const struct tls_conn *c, const X509 *leaf)
{
	uint8_t digest[TLS_DIGEST_BYTES];

	buf_printf(out, " matches no TLSA record of _%u._tcp.%s; offered: 3 1 1 ", c->policy->port, c->base);
	if (leaf && digest_key(leaf, digest))
		tls_put_hex(out, digest, sizeof(digest));
}

static void put_fault(struct buf *raw, const struct tls_conn *c, int fault, const X509 *cert, const X509 *leaf)
{
	switch (fault) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		buf_put_str(raw, " is for ");
		tls_put_names(raw, leaf);
		buf_printf(raw, "; expected %s", c->host);
		break;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		put_authority(raw, cert, leaf);
		buf_put_str(raw, " expired on ");
		tls_put_date(raw, X509_get0_notAfter(cert));
		break;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		put_authority(raw, cert, leaf);
		buf_put_str(raw, " is not valid before ");
		tls_put_date(raw, X509_get0_notBefore(cert));
		break;
	case X509_V_ERR_DANE_NO_MATCH:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
		if (c->need == TLS_NEED_DANE)
			put_no_tlsa_match(raw, c, leaf);
		else
			put_unknown_issuer(raw, cert, fault);
		break;
	default:
		put_authority(raw, cert, leaf);
		buf_printf(raw, " is not good: %s", X509_verify_cert_error_string(fault));
	}
}

static void describe_fault(struct tls_conn *c, X509_STORE_CTX *ctx)
{
	const X509 *cert = X509_STORE_CTX_get_current_cert(ctx), *leaf = X509_STORE_CTX_get0_cert(ctx);
	struct buf raw;

	buf_init(&raw, RAW_MAX);
	buf_printf(&raw, "certificate of %s", c->host);
	put_fault(&raw, c, X509_STORE_CTX_get_error(ctx), cert ? cert : leaf, leaf);
	set_error(c, &raw);
	buf_release(&raw);
}

/* --- pins --- */

static bool is_pinned(struct tls_conn *c, const X509 *leaf)
{
	uint8_t digest[TLS_DIGEST_BYTES];
	struct buf raw;

	if (!leaf || !digest_cert(leaf, digest))
		return false;
	for (unsigned i = 0; i < c->policy->pin_count; i++) {
		if (memcmp(c->policy->pin[i], digest, sizeof(digest)) == 0)
			return true;
	}
	buf_init(&raw, RAW_MAX);
	buf_printf(&raw, "certificate of %s has none of the expected tls-fingerprints; offered: ", c->host);
	tls_put_hex(&raw, digest, sizeof(digest));
	buf_put_str(&raw, ", for ");
	tls_put_names(&raw, leaf);
	set_error(c, &raw);
	buf_release(&raw);
	return false;
}

/* --- the verdict --- */

int tls_on_verify(int is_ok, X509_STORE_CTX *ctx)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_conn *c = SSL_get_app_data(ssl);

	if (c->need == TLS_NEED_PINNED) {
		is_ok = is_pinned(c, X509_STORE_CTX_get0_cert(ctx));
		X509_STORE_CTX_set_error(ctx, is_ok ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
	} else if (!is_ok && c->error[0] == '\0') {
		describe_fault(c, ctx);
	}
	return is_ok;
}

bool tls_verify_result(struct tls_conn *c)
{
	long result = SSL_get_verify_result(c->ssl);
	const X509 *leaf = SSL_get0_peer_certificate(c->ssl);

	if (c->need <= TLS_NEED_ENCRYPTED)
		return true;
	/* no certificate has the result "ok" */
	if (leaf && result == X509_V_OK && (c->need != TLS_NEED_PINNED || is_pinned(c, leaf)))
		return true;
	if (c->error[0] == '\0')
		snprintf(c->error, sizeof(c->error), "certificate of %s is not good: %s", c->host,
			 leaf ? X509_verify_cert_error_string(result) : "there is none");
	return false;
}
