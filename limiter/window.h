/* window.h - charges within a rolling span of time; pure: no clock, no I/O. See window.c for the proof. */
#ifndef LIMITER_WINDOW_H
#define LIMITER_WINDOW_H
#include "lib/buf.h"

struct window;

/* Amounts up to this are kept to the millisecond; larger ones in WINDOW_BUCKETS buckets. */
enum { WINDOW_EXACT_MAX = 10000, WINDOW_BUCKETS = 288, WINDOW_CHUNK_ENTRIES = 32 };

/* At most `amount` in any span of `width_ms`, which is at least 1. amount UINT64_MAX: counts, never limits. */
struct window *window_new(uint64_t amount, uint64_t width_ms);
struct window *window_copy(const struct window *w);
void window_free(struct window **w);
uint64_t window_amount(const struct window *w);
void window_set_amount(struct window *w, uint64_t amount); /* how it counts stays as it is */
size_t window_memory_bytes(const struct window *w);

/*
 * Times are milliseconds on the limiter's own clock (ledger.h), 0 or more, and never go back; an earlier one is taken
 * for the latest known. `outstanding`: granted and not yet settled, counted by the caller because all windows of one
 * unit share it.
 */
void window_add(struct window *w, int64_t now, uint64_t count);            /* settled: count were used by now */
uint64_t window_used(struct window *w, int64_t now);                       /* stamped charges that still count */
uint64_t window_room(struct window *w, int64_t now, uint64_t outstanding); /* how many more may be granted */
/*
 * When `need` could be granted if what is outstanding were settled as used now: `now` when it can be at once, -1 when
 * never because it is more than the amount.
 */
int64_t window_free_at(struct window *w, int64_t now, uint64_t outstanding, uint64_t need);
void window_clear(struct window *w); /* nothing was used */
/* Every charge of `from` that still counts there, as late as it may have been: never earlier than it was. */
void window_copy_charges(struct window *w, const struct window *from, int64_t now);

/*
 * Every charge that still counts, with its age at `now`, rounded down to a multiple of `grain_ms`: younger than it is,
 * never older. Returns how many; charges of one age are one, and when there are more than `max` the last takes the
 * rest.
 */
struct window_charge {
	int64_t age_ms;
	uint64_t count;
};
unsigned window_charges(struct window *w, int64_t now, uint64_t grain_ms, struct window_charge out[], unsigned max);

/*
 * On disk a window is a row of chunks numbered upwards, each of WINDOW_CHUNK_ENTRIES entries that carry their own
 * grain, so that they can be read into a window of any amount. Changed chunks are first..last-1; chunks below
 * first_live hold expired charges only and down to first_stored may be on disk. All of that until window_set_saved().
 */
struct window_changes {
	uint64_t first, last;
	uint64_t first_stored, first_live;
};

struct window_changes window_changes(const struct window *w);
void window_encode_chunk(const struct window *w, uint64_t chunk, struct buf *out);
void window_set_saved(struct window *w);
/* Into an empty window, chunks in ascending order, then finish. false: not one of ours. `now` caps the stamps. */
bool window_decode_chunk(struct window *w, uint64_t chunk, struct slice bytes, int64_t now) MUST_CHECK;
void window_finish_loading(struct window *w);
#endif
