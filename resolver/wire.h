/* wire.h - read DNS answers as they come off the wire; pure, bounded, fuzzed.  RFC 1035 4, 3596, 6698, 7505 */
#ifndef RESOLVER_WIRE_H
#define RESOLVER_WIRE_H
#include "lib/base.h"

enum wire_type {
	WIRE_TYPE_A = 1,
	WIRE_TYPE_CNAME = 5,
	WIRE_TYPE_SOA = 6,
	WIRE_TYPE_MX = 15,
	WIRE_TYPE_TXT = 16,
	WIRE_TYPE_AAAA = 28,
	WIRE_TYPE_TLSA = 52
};
enum { WIRE_RECORDS_MAX = 100, WIRE_CNAMES_MAX = 8, WIRE_NAME_SIZE = 256, WIRE_DATA_BYTES_MAX = 4096 };

enum wire_status {
	WIRE_RECORDS, /* at least one record, or one that had to be dropped */
	WIRE_NODATA,  /* the name exists, without records of this type */
	WIRE_NXDOMAIN,
	WIRE_FAILED, /* any other response code, truncated, malformed: nothing may be concluded */
};

struct wire_record {
	uint16_t preference;       /* MX */
	bool is_hostname;          /* MX: letters, digits, hyphens in well-formed labels, last one not numeric */
	char host[WIRE_NAME_SIZE]; /* MX: lower case, no trailing dot, "" for the root; odd bytes as \DDD */
	uint8_t address[16];       /* A: 4 bytes, AAAA: 16 */
	uint8_t usage, selector, matching; /* TLSA */
	uint16_t data_at, data_len;        /* TLSA; TXT: the strings, joined. In the answer's data[] */
};

struct wire_answer {
	enum wire_status status;
	const char *why;            /* WIRE_FAILED: in words; static */
	bool is_secure;             /* validated by DNSSEC; set by the caller of wire_parse() */
	uint32_t ttl_s;             /* the smallest that counts; negative answers: RFC 2308 5, 0 when not told */
	unsigned count;             /* of record; the first WIRE_RECORDS_MAX, the rest is not read */
	unsigned dropped_count;     /* records whose rdata was malformed, or data beyond WIRE_DATA_BYTES_MAX */
	char owner[WIRE_NAME_SIZE]; /* the name at the end of the CNAMEs, whose records these are; "" when FAILED */
	struct wire_record record[WIRE_RECORDS_MAX];
	uint16_t data_bytes;
	uint8_t data[WIRE_DATA_BYTES_MAX];
};

/*
 * What the packet says about `name` (presentation form, no trailing dot) and `type`, CNAMEs followed inside the packet.
 * Fills *out wholly; never reads outside packet[0..len). is_secure is false afterwards.
 */
void wire_parse(struct wire_answer *out, const uint8_t *packet, size_t len, const char *name, uint16_t type);
/* An answer that never came: FAILED with these words (static). */
void wire_fail(struct wire_answer *out, const char *why);
/* RFC 1123 2.1, as strict as it must be for a name that is looked up, logged and matched with certificates. */
bool wire_is_hostname(const char *name);
#endif
