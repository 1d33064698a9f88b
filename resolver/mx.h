/*
 * mx.h - from a domain to the hosts that take its mail; pure: answers in, questions out.  RFC 5321 5.1, RFC 7505
 *
 * A search asks for the MX set, then for the addresses of its hosts; without MX the domain itself is the host. Where it
 * matters, TLSA records of hosts found by signed answers come last (dane.h); hosts they cannot be had of are left out.
 * A negative outcome is permanent only when it is signed, or was seen twice: the second pass asks everything again,
 * after a pause and past the cache. Anything doubtful (no answer, SERVFAIL, bogus, malformed) is temporary.
 */
#ifndef RESOLVER_MX_H
#define RESOLVER_MX_H
#include "lib/conf.h"
#include "lib/hosts.h"
#include "lib/msg.h"
#include "resolver/dane.h"
#include "resolver/wire.h"

enum { MX_FAMILY_MAX = HOST_ADDRESSES_MAX, MX_QUESTIONS_MAX = 2 * HOSTS_MAX, MX_TEXT_MAX = 200 };
enum { MX_TTL_MIN_S = 1, MX_TTL_MAX_S = 3600, MX_TTL_NEGATIVE_S = 60 };

enum mx_step {
	MX_STEP_ASK,   /* put question[0 .. question_count) to DNS and bring each answer to mx_answer() */
	MX_STEP_PAUSE, /* wait a while, then mx_resume() */
	MX_STEP_DONE   /* status, hosts and the rest are final */
};

/* One host with what was learnt about it. */
struct mx_host {
	uint16_t preference;
	char name[WIRE_NAME_SIZE];
	bool has_failed; /* an address answer was no answer */
	bool is_denied;  /* at least one address fell to the deny list */
	bool is_secure;  /* all its answers were; a failed one is none, and must not look like an unsigned zone */
	char owner[WIRE_NAME_SIZE]; /* at the end of its CNAMEs; "" when that is no host name, or no answer came */
	struct dane dane;
	uint16_t tlsa_at, tlsa_bytes; /* records, in the search's tlsa[] */
	unsigned v4_count, v6_count;
	uint8_t v4[MX_FAMILY_MAX][4], v6[MX_FAMILY_MAX][16];
};

struct mx_question {
	uint16_t type; /* enum wire_type */
	uint8_t host;  /* whose addresses */
	bool is_open;
};

struct mx_search {
	/* what is asked now */
	struct mx_question question[MX_QUESTIONS_MAX];
	unsigned question_count, open_count;
	bool is_fresh; /* ask past the cache */
	/* the outcome */
	enum resolve_status status;
	bool is_secure; /* MX set and the addresses of all its listed hosts were validated */
	uint32_t ttl_s;
	char text[MX_TEXT_MAX + 1];     /* why not, in words */
	char skipped[WIRE_NAME_SIZE];   /* an MX that is no host name, for the log; "" when there was none */
	char untrusted[WIRE_NAME_SIZE]; /* likewise: a host left out because its TLSA records could not be had */
	/* private */
	enum { MX_ASKING_MX, MX_ASKING_ADDRESSES, MX_ASKING_TLSA } stage;
	enum resolve_kind kind;
	char name[WIRE_NAME_SIZE];
	const struct conf_cidr *deny;
	unsigned deny_count;
	uint64_t random;
	bool is_mx_secure, is_implicit;
	const char *why;             /* of the first failure */
	char failed[WIRE_NAME_SIZE]; /* the name that was asked for then */
	unsigned tlsa_port;          /* 0: TLSA records do not matter */
	char asked[WIRE_NAME_SIZE];  /* mx_question_name() */
	uint16_t tlsa_bytes;
	char tlsa[HOSTS_BYTES_MAX];
	unsigned host_count;
	struct mx_host host[HOSTS_MAX];
};

/*
 * `name`: an A-label domain name without trailing dot, or for RESOLVE_HOST a host's; copied. `deny` is borrowed until
 * the search is over. `tlsa_port`: whose TLSA records are wanted; 0: none. `seed` orders hosts of equal preference and
 * each host's addresses. Then call mx_step().
 */
void mx_start(struct mx_search *s, enum resolve_kind kind, const char *name, const struct conf_cidr *deny,
	      unsigned deny_count, unsigned tlsa_port, uint64_t seed);
/* What to do next; to be called after mx_start(), mx_resume(), and when the last open question was answered. */
enum mx_step mx_step(struct mx_search *s);
/* The name that a question asks for; borrowed until the next call. */
const char *mx_question_name(struct mx_search *s, unsigned question);
/* Each question is answered once. Returns true when that was the last open one. */
bool mx_answer(struct mx_search *s, unsigned question, const struct wire_answer *answer) MUST_CHECK;
/* The pause is over. */
void mx_resume(struct mx_search *s);
/* The hosts of a search that ended with RESOLVE_OK: at most 8 addresses each, both families represented, IPv6 first. */
void mx_hosts(const struct mx_search *s, struct hosts *out);
#endif
