/* tls_need.c - what TLS has to be with one host. */
#include "smtpout/tls_need.h"

static enum tls_need need_of(const struct conf_server *server, enum conf_tls level, enum host_dane dane)
{
	switch (level) {
	case TLS_NONE:
	case TLS_UNSET:
		return TLS_NEED_NONE;
	case TLS_OPPORTUNISTIC:
		return dane == HOST_DANE_USABLE     ? TLS_NEED_DANE
		       : dane == HOST_DANE_UNUSABLE ? TLS_NEED_ENCRYPTED
						    : TLS_NEED_MAY;
	case TLS_REQUIRE:
		return server->tls_fingerprints.count > 0 ? TLS_NEED_PINNED : TLS_NEED_ENCRYPTED;
	case TLS_VERIFY:
		return server->tls_fingerprints.count > 0 ? TLS_NEED_PINNED : TLS_NEED_VERIFIED;
	case TLS_DANE:
		return dane == HOST_DANE_USABLE ? TLS_NEED_DANE : TLS_NEED_DENIED;
	}
	return TLS_NEED_DENIED;
}

enum tls_need tls_need(const struct conf_server *server, enum host_dane dane)
{
	return need_of(server, server->tls, dane);
}

enum tls_need tls_need_at(const struct conf_server *server, enum conf_tls level, const struct host *host)
{
	bool is_bound = level == TLS_OPPORTUNISTIC && host->is_sts && host->dane != HOST_DANE_USABLE;

	return is_bound ? TLS_NEED_STS : need_of(server, level, (enum host_dane)host->dane);
}

const char *tls_need_why(const struct host *host)
{
	if (host->dane == HOST_DANE_UNUSABLE)
		return "none of its TLSA records can be used (usage 2 or 3, SHA-256 or SHA-512)";
	if (host->is_secure)
		return "it has no signed TLSA record";
	return "its name, or the MX record that leads to it, is not signed (DNSSEC)";
}
