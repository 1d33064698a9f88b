/* hosts.h - an ordered list of mail hosts with their addresses, as it travels in RESOLVED and CONNECT. */
#ifndef LIB_HOSTS_H
#define LIB_HOSTS_H
#include "lib/buf.h"
#include <netinet/in.h>

enum { HOSTS_MAX = 20, HOST_ADDRESSES_MAX = 8, HOSTS_BYTES_MAX = 3600 };

struct host_address {
	uint8_t family; /* AF_INET or AF_INET6 */
	uint8_t bytes[16];
};

struct host {
	uint16_t preference; /* RFC 5321 5.1; equal ones were shuffled by the resolver */
	bool is_secure;      /* MX and address answers were DNSSEC-validated */
	char name[256];      /* no trailing dot; for a literal "[192.0.2.1]" the text with brackets */
	uint8_t address_count;
	struct host_address address[HOST_ADDRESSES_MAX];
};

struct hosts {
	uint8_t count;
	struct host host[HOSTS_MAX];
};

/* Appends; stops before a host that would pass HOSTS_BYTES_MAX (the list is in order of preference). */
void hosts_encode(struct buf *out, const struct hosts *hosts);
bool hosts_decode(struct slice bytes, struct hosts *out) MUST_CHECK; /* checks everything; fuzzed */
/* "192.0.2.1" or "2001:db8::1" */
void host_address_format(struct buf *out, const struct host_address *a);
/* Fills a sockaddr; returns its length. */
unsigned host_address_sockaddr(const struct host_address *a, uint16_t port, struct sockaddr_storage *out);
/*
 * Identity of a site: hash over the sorted, lower-cased host names (the MX set) and whether all are secure; order does
 * not matter. Seeded (text_hash): attackers cannot choose names that share a lane with another site; never stored.
 */
uint64_t hosts_site_hash(const struct hosts *hosts);
#endif
