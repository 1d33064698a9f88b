/*
 * dane.h - which TLSA questions to ask about one mail host, and what the answers mean; pure.  RFC 7672 2.2
 *
 * Records count only where their zone is signed. They are looked for at the end of the host's CNAMEs first, then at its
 * own name; where only the CNAME itself is signed, at the own name alone. A question without a usable answer means that
 * this host must not be used now: whoever can suppress an answer must not be able to switch authentication off.
 */
#ifndef RESOLVER_DANE_H
#define RESOLVER_DANE_H
#include "lib/hosts.h"
#include "resolver/wire.h"

enum dane_step {
	DANE_OVER,
	DANE_ALIAS,    /* is the host's CNAME signed, as its target is not? */
	DANE_AT_OWNER, /* TLSA at the end of the CNAMEs */
	DANE_AT_NAME   /* TLSA at the host's own name */
};

/* Zeroed: over, nothing learnt. */
struct dane {
	enum dane_step step; /* the question to ask next */
	enum host_dane result;
	bool has_failed; /* skip the host */
	const char *why; /* in words; static */
	uint32_t ttl_s;  /* of the last answer */
	bool is_at_name; /* USABLE: records are those of the own name, not of the owner's */
};

/* `is_signed`: MX and addresses are; `is_mx_signed`: the MX alone is; `is_alias`: addresses belong to another name. */
void dane_start(struct dane *d, bool is_signed, bool is_mx_signed, bool is_alias);
/* The question of d->step: the name, at most WIRE_NAME_SIZE bytes, and its type. False: that name cannot exist. */
bool dane_question(const struct dane *d, const char *name, const char *owner, unsigned port, char out[WIRE_NAME_SIZE],
		   uint16_t *type);
/* Moves on. Usable records are appended to `records`, encoded, in an order that does not depend on the answer's. */
void dane_answer(struct dane *d, const struct wire_answer *answer, struct buf *records);
#endif
