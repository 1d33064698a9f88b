/* smtpout_tls_test.c - one connection against OpenSSL's own server side, in one thread. */
#include "smtpout/tls.h"
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static int accept_any(int is_ok UNUSED, X509_STORE_CTX *chain UNUSED)
{
	return 1;
}

/* A server of TLS 1.3 with a certificate that it signed itself; it demands one of its client. */
static SSL_CTX *server_new(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	assert_non_null(key);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
	SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_any);
	X509_free(cert);
	EVP_PKEY_free(key);
	return ctx;
}

/* The alert stands in the buffer before anybody asks whether there is input: it must not be lost by the asking. */
static void test_alert_behind_the_handshake_is_told(void **state UNUSED)
{
	struct conf_server conf = { .name = (char *)"out", .tls = TLS_REQUIRE, .tls_min_version = 12 };
	struct tls_target target = { .host = "mx.there.example", .need = TLS_NEED_ENCRYPTED };
	SSL_CTX *ctx = server_new();
	SSL *server = SSL_new(ctx);
	struct tls_policy *policy;
	struct tls_conn *client;
	enum io_result result = IO_AGAIN;
	char *error = NULL, bytes[16];
	size_t done;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	SSL_set_fd(server, pair[0]);
	policy = tls_policy_new(&conf, &error);
	assert_non_null(policy);
	client = tls_conn_new(policy, pair[1], &target);
	for (unsigned i = 0; i < 5 && result == IO_AGAIN; i++) {
		result = tls_handshake(client);
		(void)SSL_accept(server); /* the last time it refuses */
	}
	assert_int_equal(result, IO_DONE);
	close(pair[0]);
	assert_false(tls_has_input(client));
	assert_int_not_equal(tls_write(client, "EHLO a\r\n", 8, &done), IO_DONE);
	assert_int_equal(tls_read(client, bytes, sizeof(bytes), &done), IO_FAILED);
	assert_non_null(strstr(tls_error(client), "demands a certificate of ours (tls-client-cert)"));
	tls_conn_free(&client);
	tls_policy_free(&policy);
	SSL_free(server);
	SSL_CTX_free(ctx);
	close(pair[1]);
}

/* The server's certificate, the only one that is trusted, in a file; it is for this address and no other. */
static SSL_CTX *server_at(const char *address, char path[32])
{
	SSL_CTX *ctx = server_new();
	X509 *cert = SSL_CTX_get0_certificate(ctx);
	char *names = xasprintf("IP:%s", address);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
	FILE *file;

	snprintf(path, 32, "/tmp/postern-cert.XXXXXX");
	file = fdopen(mkstemp(path), "w");
	assert_non_null(file);
	assert_non_null(extension);
	assert_int_equal(X509_add_ext(cert, extension, -1), 1);
	assert_true(X509_sign(cert, SSL_CTX_get0_privatekey(ctx), EVP_sha256()) > 0);
	assert_int_equal(PEM_write_X509(file, cert), 1);
	assert_int_equal(fclose(file), 0);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	X509_EXTENSION_free(extension);
	free(names);
	return ctx;
}

/* However the address is written, only a certificate for it will do. */
static void test_an_address_is_checked(void **state UNUSED)
{
	static const struct {
		const char *host, *of_certificate;
		enum io_result wanted;
	} CASES[] = {
		{ "[192.0.2.1]", "192.0.2.1", IO_DONE },
		{ "[192.0.2.1]", "192.0.2.2", IO_FAILED },
		{ "192.0.2.1", "192.0.2.1", IO_DONE },
		{ "192.0.2.1", "192.0.2.2", IO_FAILED },
		{ "[2001:db8::1]", "2001:db8::1", IO_DONE },
		{ "[2001:db8::1]", "2001:db8::2", IO_FAILED },
		{ "[IPv6:2001:db8::1]", "2001:db8::1", IO_DONE },
		{ "[IPv6:2001:db8::1]", "2001:db8::2", IO_FAILED },
		{ "[ipv6:2001:db8::1]", "2001:db8::2", IO_FAILED },
		{ "[nonsense]", "2001:db8::2", IO_FAILED },
	};

	for (unsigned i = 0; i < ARRAY_LEN(CASES); i++) {
		char path[32], *error = NULL;
		SSL_CTX *ctx = server_at(CASES[i].of_certificate, path);
		struct conf_server conf = {
			.name = (char *)"out", .tls = TLS_VERIFY, .tls_min_version = 12, .tls_ca_file = path
		};
		struct tls_target target = { .host = CASES[i].host, .need = TLS_NEED_VERIFIED };
		struct tls_policy *policy = tls_policy_new(&conf, &error);
		enum io_result result = IO_AGAIN;
		struct tls_conn *client;
		SSL *server = SSL_new(ctx);
		int pair[2];

		assert_non_null(policy);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
		SSL_set_fd(server, pair[0]);
		client = tls_conn_new(policy, pair[1], &target);
		for (unsigned k = 0; k < 5 && result == IO_AGAIN; k++) {
			result = tls_handshake(client);
			(void)SSL_accept(server);
		}
		if (result != CASES[i].wanted)
			fail_msg("%s, certificate for %s: %d, %s", CASES[i].host, CASES[i].of_certificate, result,
				 tls_error(client));
		tls_conn_free(&client);
		tls_policy_free(&policy);
		SSL_free(server);
		SSL_CTX_free(ctx);
		close(pair[0]);
		close(pair[1]);
		unlink(path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_alert_behind_the_handshake_is_told),
					    cmocka_unit_test(test_an_address_is_checked) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
