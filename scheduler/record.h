/* record.h - the journal's record of one delivery: a message and the recipients of it that go together; pure.
 *
 * Key: queue id (8 bytes) and group (4), big-endian, so a message's deliveries stand side by side. Value:
 * record_encode().
 */
#ifndef SCHEDULER_RECORD_H
#define SCHEDULER_RECORD_H
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/queuefile.h"

enum { RECORD_KEY_BYTES = 12, RECORD_RCPT_MAX = 100, RECORD_TEXT_MAX = 400, RECORD_BYTES_MAX = 128 * 1024 };

enum record_state {
	RECORD_WAITING = 1,
	RECORD_HELD,  /* by an operator, or because something is wrong with the file */
	RECORD_FINAL, /* every recipient here is final; other groups of the message may not be */
	RECORD_DONE   /* the message may be unlinked; nothing else is kept */
};

/* TOLD: bounced, and the sender has had a report of it while others were still to be tried. */
enum rcpt_state { RCPT_PENDING = 1, RCPT_DELIVERED, RCPT_BOUNCED, RCPT_EXPIRED, RCPT_TOLD };

enum record_flags {
	RECORD_WARNED = 1,         /* the sender had a delay notice */
	RECORD_MIXED_DOMAINS = 2,  /* grouped for relays: split it before it goes to a direct server */
	RECORD_MAYBE_REPEATED = 4, /* a copy may have been delivered before: retries become rarer */
	RECORD_FAILURE_DUE = 8,    /* the sender must hear of those that failed while others wait */
	RECORD_HAS_WANTED = 16,    /* the submitter chose a server */
	RECORD_DELAY_DUE = 32,     /* the sender must hear that others wait */
	RECORD_REPORT_DUE = RECORD_FAILURE_DUE | RECORD_DELAY_DUE /* bounce_id is that of the first of them */
};

struct record_rcpt {
	uint32_t index;         /* into the queue file */
	char *address;          /* owned; the queue file's, so that nobody has to open it to name the recipient */
	uint8_t state;          /* enum rcpt_state */
	bool is_temporary_seen; /* in this attempt, by whatever server */
	uint8_t outcome;        /* 1 + index into outcome[]; 0: never tried */
};

/* What a server, or we, last said of some recipients. Strings are owned, printable. */
struct record_outcome {
	struct wall when;
	uint16_t code; /* SMTP reply code or 0 */
	char *server, *relay, *dsn, *text;
};

struct record {
	uint64_t id;
	uint32_t group, group_count;
	uint8_t state;    /* enum record_state */
	uint8_t priority; /* enum mail_priority */
	uint8_t flags;    /* enum record_flags */
	uint16_t attempts;
	uint32_t sender_hash; /* record_sender_hash(sender) */
	uint32_t held_s;      /* how long we held it back ourselves: does not count as age */
	uint32_t message_rcpt_count;
	struct wall due, known;
	uint64_t size_bytes;
	uint64_t
		bounce_id; /* of a report that is to be written, or was and that is not known to be recorded; 0: none */
	char *sender;      /* empty: the null sender */
	char *wanted;      /* server that the submitter chose; NULL: none */
	char *domain;      /* of the recipients, or of the first when RECORD_MIXED_DOMAINS; lower case */
	uint16_t rcpt_count;
	struct record_rcpt rcpt[RECORD_RCPT_MAX];
	uint8_t outcome_count;
	struct record_outcome outcome[RECORD_RCPT_MAX + 1]; /* each recipient its own, and one that comes */
};

uint32_t record_sender_hash(struct slice sender); /* FNV-1a: the same in every process */
struct record *record_new(void);
void record_free(struct record **r);
void record_key(uint64_t id, uint32_t group, char key[RECORD_KEY_BYTES]);
void record_encode(struct buf *out, const struct record *r);
/* NULL when damaged. Fuzzed. */
struct record *record_decode(struct slice key, struct slice value) MUST_CHECK;
/* Only what a waiting delivery needs in memory; domain is borrowed from value. No recipients, no outcomes. */
bool record_peek(struct slice key, struct slice value, struct record *out, struct slice *domain) MUST_CHECK;

/* Written by a later version of this program: not for us to judge. */
bool record_is_newer(struct slice value) MUST_CHECK;

struct record_rcpt *record_find_rcpt(struct record *r, uint32_t index); /* NULL when it is not of this group */
unsigned record_pending_count(const struct record *r);
/* Its submitter set a date that is still to come. */
bool record_waits_for_date(const struct record *r);
/* Held from now on; `due` keeps the date, or says since when: held time is no age. */
void record_hold(struct record *r);
/* Adds an outcome (text cut to RECORD_TEXT_MAX) and returns 1 + its index; unused ones are dropped first. */
uint8_t record_add_outcome(struct record *r, struct wall when, const char *server, struct slice relay, uint16_t code,
			   struct slice dsn, struct slice text);
#endif
