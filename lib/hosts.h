/* hosts.h - an ordered list of mail hosts with their addresses, as it travels in RESOLVED and CONNECT. */
#ifndef LIB_HOSTS_H
#define LIB_HOSTS_H
#include "lib/buf.h"
#include <netinet/in.h>

enum {
	HOSTS_MAX = 20,
	HOST_ADDRESSES_MAX = 8,
	HOSTS_BYTES_MAX = 3600,
	HOST_TLSA_BYTES_MAX = 1200,
	HOST_TLSA_HEAD_BYTES = 5
};

/* What signed DNS says about TLS at a host.  RFC 7672 2.2 */
enum host_dane {
	HOST_DANE_NONE,     /* not asked for, no TLSA records, or not signed */
	HOST_DANE_UNUSABLE, /* TLSA records, none of which means anything to us: there is TLS, and nothing to check */
	HOST_DANE_USABLE    /* one of the host's records must match */
};

struct host_address {
	uint8_t family; /* AF_INET or AF_INET6 */
	uint8_t bytes[16];
};

struct host {
	uint16_t preference; /* RFC 5321 5.1; equal ones were shuffled by the resolver */
	bool is_secure;      /* MX and address answers were DNSSEC-validated */
	bool is_sts;         /* an MTA-STS policy in force asks for a verified certificate, RFC 8461 */
	char name[256];      /* no trailing dot; for a literal "[192.0.2.1]" the text with brackets */
	uint8_t address_count;
	struct host_address address[HOST_ADDRESSES_MAX];
	uint8_t dane;                 /* enum host_dane; the rest only with HOST_DANE_USABLE: */
	char tlsa_base[256];          /* whose TLSA records these are: the name, or what it is an alias of */
	uint16_t tlsa_at, tlsa_bytes; /* encoded records, hosts->tlsa[tlsa_at .. + tlsa_bytes): host_tlsa_next() */
};

struct hosts {
	uint8_t count;
	struct host host[HOSTS_MAX];
	uint16_t tlsa_bytes;
	char tlsa[HOSTS_BYTES_MAX];
};

/* RFC 6698 2.1 */
struct host_tlsa {
	uint8_t usage, selector, matching;
	struct slice data; /* borrowed */
};

/* Appends; stops before a host that would pass HOSTS_BYTES_MAX (the list is in order of preference). */
void hosts_encode(struct buf *out, const struct hosts *hosts);
bool hosts_decode(struct slice bytes, struct hosts *out) MUST_CHECK; /* checks everything; fuzzed */
/*
 * Whether a record can authenticate a mail server: usage DANE-TA or DANE-EE (RFC 7672 3.1.3), a selector and matching
 * type we know, and as much data as a digest has.
 */
bool host_tlsa_is_usable(const struct host_tlsa *r);
void host_tlsa_put(struct buf *out, const struct host_tlsa *r);
/* Takes one record off the front of `rest`; false at the end, or where it makes no sense (rest->len > 0 then). */
bool host_tlsa_next(struct slice *rest, struct host_tlsa *out);
/* The host's encoded records. Borrowed from `hosts`. */
struct slice hosts_tlsa(const struct hosts *hosts, const struct host *host);
/* "192.0.2.1" or "2001:db8::1" */
void host_address_format(struct buf *out, const struct host_address *a);
/* Fills a sockaddr; returns its length. */
unsigned host_address_sockaddr(const struct host_address *a, uint16_t port, struct sockaddr_storage *out);
/*
 * Identity of a site: hash over the sorted, lower-cased host names (the MX set), each with what DNSSEC and MTA-STS say
 * about it; order does not matter. A connection may serve all domains of a site, so a domain whose own MX records are
 * not signed must not lend its unauthenticated one to a domain whose are. Seeded (text_hash): attackers cannot choose
 * names that share a lane with another site; never stored.
 */
uint64_t hosts_site_hash(const struct hosts *hosts);
#endif
