/* entry.h - what the scheduler remembers of a delivery that waits: one compact entry, found by due time.
 *
 * Everything else is in the journal or in the queue file. Entries live in a slab and are named by index (0 is nobody);
 * an entry is in exactly one place: the heap, a list (ready, resolving), or in a job's hands.
 */
#ifndef SCHEDULER_ENTRY_H
#define SCHEDULER_ENTRY_H
#include "lib/clock.h"

typedef uint32_t entry_index; /* 0: none */

enum entry_place { ENTRY_FREE, ENTRY_HEAP, ENTRY_LISTED, ENTRY_ACTIVE, ENTRY_HELD };
enum entry_flags {
	ENTRY_MIXED_DOMAINS = 1,
	ENTRY_SAID_SUSPENDED = 2, /* its delay was logged once; not again */
	ENTRY_WARNED = 4,         /* the sender's delay notice was seen to */
	ENTRY_TRIED = 8,          /* some server was really tried in this attempt */
	ENTRY_FORCED = 16,        /* an operator wants it now */
	ENTRY_FILE_SEEN = 32,     /* at start; until it is listed, with what it was held before */
	ENTRY_GREYLISTED = 64,    /* some server did in this attempt */
	ENTRY_MIXED_PLANS = 128   /* new settings send its recipients different ways: split it first */
};

/* Who is to blame for the wait: a lane's index, or one of these. A recovery makes their mail due at once. */
enum { BLAME_NOBODY = 0, BLAME_DNS = UINT32_MAX };

struct entry {
	uint64_t id;
	int64_t due_ms;      /* of clock_mono(); in the heap */
	uint32_t domain;     /* interned, see domain.h */
	uint32_t sender;     /* hash */
	entry_index next;    /* in a list */
	uint32_t heap_at;    /* position in the heap */
	uint32_t blame;      /* BLAME_...; in a lane's list: that lane */
	uint32_t held_mark;  /* in a lane: what permit_hold_s() was when it came; else minus what it was held, s */
	uint32_t group : 26; /* more than there are recipients, and many splits */
	uint32_t place : 3, priority : 3;
	uint16_t attempts;
	uint8_t flags;
	uint8_t server_at; /* position in its list of servers; which one is tried now */
};
_Static_assert(sizeof(struct entry) <= 48, "an entry and its heap slot stay below 64 bytes");

struct entries;

struct entries *entries_new(void);
void entries_free(struct entries **e);
entry_index entry_new(struct entries *e); /* place ENTRY_FREE until put somewhere */
void entry_free(struct entries *e, entry_index i);
struct entry *entry_get(struct entries *e, entry_index i);
uint32_t entries_count(const struct entries *e); /* all that exist */
uint32_t entries_heap_count(const struct entries *e);
entry_index entries_limit(const struct entries *e); /* indices run from 1 to below this; skip ENTRY_FREE */

void entries_push(struct entries *e, entry_index i, struct mono due); /* into the heap */
void entries_remove(struct entries *e, entry_index i);                /* out of the heap */
entry_index entries_first(struct entries *e);                         /* earliest in the heap, or 0 */

/* The message's first entry, while the slab is still in key order: during start, before anything was freed or added. */
entry_index entries_find_sorted(struct entries *e, uint64_t id);
/* Look-up by a walk over the slab: operators' commands. */
entry_index entries_find(struct entries *e, uint64_t id, uint32_t group);
#endif
