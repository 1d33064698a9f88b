/* envelope.h - sender and recipients of one message, duplicates collapsed. */
#ifndef PICKUP_ENVELOPE_H
#define PICKUP_ENVELOPE_H
#include "lib/address.h"
#include "lib/queuefile.h"

struct envelope_span {
	uint32_t offset;
	uint32_t len;
};

/* Reused from message to message: envelope_clear() keeps memory up to a small size. */
struct envelope {
	struct buf text; /* all addresses, one behind the other */
	struct envelope_span sender;
	struct envelope_span *rcpt; /* in order of their first mention */
	uint32_t rcpt_count, rcpt_cap, rcpt_limit;
	uint32_t *slot;      /* hash set: index into rcpt + 1, 0 is free */
	uint32_t slot_count; /* a power of two */
	bool is_utf8;        /* an address needs SMTPUTF8 */
	bool is_over_limit;  /* a recipient more than rcpt_limit came: it was not added */
};

void envelope_init(struct envelope *e);
void envelope_release(struct envelope *e);
void envelope_clear(struct envelope *e, uint32_t rcpt_limit);
/* A valid address (address_parse() said so) without angle brackets; empty: the null sender. Copied. */
void envelope_set_sender(struct envelope *e, struct slice address);
/* Likewise. Two are the same when only the case of the domain or a dot behind it differs (RFC 5321 2.4). */
void envelope_add_rcpt(struct envelope *e, struct slice address);
struct slice envelope_sender(const struct envelope *e); /* borrowed until the next change */
/* Sets sender, rcpt (heap, the caller frees it) and rcpt_count of a queue file; the addresses stay borrowed. */
void envelope_export(const struct envelope *e, struct queuefile *qf);
#endif
