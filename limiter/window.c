/*
 * window.c - rolling windows.
 *
 * A charge is outstanding from the moment it is granted until it is settled, and is stamped with the time of
 * settlement. The server sees it at some moment in between. A charge counts while it is outstanding, and afterwards
 * while its stamp is at most `width` old.
 *
 * Claim: no span of length `width` holds more than `amount` sends. Proof: take the sends within a span that begins at
 * a, and of these the one granted last, at time g. It was sent within the span, so g <= a + width. Every other send of
 * the span was granted by g. Either it was still outstanding at g and counted; or it had been settled at t <= g, after
 * it was sent, so t >= a and its age g - t is at most width, and it counted. So all of them were counted at g, when the
 * sum was at most `amount`.
 *
 * Stamps are rounded down to `grain` and compared as numbers of grains: two times at most width = keep * grain apart
 * lie at most `keep` grains apart, so rounding makes a charge count longer, by less than one grain, never shorter. That
 * is the ring of B + 1 buckets, the partly expired one counted in full; B buckets alone would let twice the amount
 * through. With a grain of 1 ms the same code is an exact log. Its price is memory, 8 bytes for each millisecond in
 * which something was settled, and it gives what buckets do not: a small limit frees its permits one by one at the very
 * moment. Buckets cost at most 289 * 8 bytes, so a server with four of them stays below 10 KB, and in the long run
 * grant 288/289 of the amount.
 */
#include "limiter/window.h"

enum { CHUNK_VERSION = 1, CHUNK_HEAD_BYTES = 12, CHUNK_ENTRY_BYTES = 12 };

/* Stamps in grains, modulo 2^32: all live ones lie within `keep` < 2^31 grains of the newest, which is kept in full. */
struct entry {
	uint32_t stamp, count;
};

struct window {
	uint64_t amount, width_ms, grain_ms;
	int64_t keep; /* grains that an entry outlives its own */
	struct entry *ring;
	uint32_t head, len, cap;
	int64_t newest;         /* stamp of the last entry */
	uint64_t sum;           /* of the live entries */
	uint64_t head_seq;      /* number of the first live entry, counted since the window began */
	uint64_t unsaved_seq;   /* entries from this one on differ from the disk */
	uint64_t first_stored;  /* chunk */
	uint64_t loaded_end;    /* while loading: number of the chunk after the last one read */
	bool has_other_numbers; /* while loading: entries merged, so that numbers differ from the disk's */
};

static uint64_t divide_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

struct window *window_new(uint64_t amount, uint64_t width_ms)
{
	struct window *w = xcalloc(1, sizeof(*w));

	w->amount = amount;
	w->width_ms = width_ms;
	w->grain_ms = divide_up(width_ms, amount <= WINDOW_EXACT_MAX ? INT32_MAX : WINDOW_BUCKETS);
	w->keep = (int64_t)divide_up(width_ms, w->grain_ms);
	return w;
}

struct window *window_copy(const struct window *w)
{
	struct window *copy = xmalloc(sizeof(*copy));

	*copy = *w;
	if (w->cap > 0) {
		copy->ring = xmalloc(w->cap * sizeof(*copy->ring));
		memcpy(copy->ring, w->ring, w->cap * sizeof(*copy->ring));
	}
	return copy;
}

void window_free(struct window **w)
{
	if (!*w)
		return;
	free((*w)->ring);
	free(*w);
	*w = NULL;
}

uint64_t window_amount(const struct window *w)
{
	return w->amount;
}

void window_set_amount(struct window *w, uint64_t amount)
{
	w->amount = amount;
}

size_t window_memory_bytes(const struct window *w)
{
	return sizeof(*w) + w->cap * sizeof(*w->ring);
}

static struct entry *entry_at(const struct window *w, uint32_t index)
{
	uint32_t at = w->head + index;

	return &w->ring[at >= w->cap ? at - w->cap : at];
}

static int64_t entry_stamp(const struct window *w, const struct entry *e)
{
	return w->newest - (int64_t)(uint32_t)((uint32_t)w->newest - e->stamp);
}

static int64_t grain_of(const struct window *w, int64_t now)
{
	return now / (int64_t)w->grain_ms;
}

/* The first moment at which a charge with this stamp no longer counts. */
static int64_t expiry_ms(const struct window *w, int64_t stamp)
{
	return (stamp + w->keep + 1) * (int64_t)w->grain_ms;
}

static void drop_expired(struct window *w, int64_t now)
{
	int64_t grain = grain_of(w, now);

	while (w->len > 0) {
		struct entry *e = entry_at(w, 0);

		if (grain - entry_stamp(w, e) <= w->keep)
			break;
		w->sum -= e->count;
		w->head = w->head + 1 == w->cap ? 0 : w->head + 1;
		w->len--;
		w->head_seq++;
	}
	if (w->unsaved_seq < w->head_seq)
		w->unsaved_seq = w->head_seq;
}

/* Doubles, but a full set of buckets gets exactly its room. */
static void grow(struct window *w)
{
	uint32_t cap = w->cap ? 2 * w->cap : 8;
	struct entry *ring;

	if (w->amount > WINDOW_EXACT_MAX && w->cap < WINDOW_BUCKETS + 1 && cap > WINDOW_BUCKETS + 1)
		cap = WINDOW_BUCKETS + 1;
	ring = xmalloc(cap * sizeof(*ring));
	for (uint32_t i = 0; i < w->len; i++)
		ring[i] = *entry_at(w, i);
	free(w->ring);
	w->ring = ring;
	w->cap = cap;
	w->head = 0;
}

static void append(struct window *w, int64_t stamp, uint32_t count)
{
	if (w->len == w->cap)
		grow(w);
	w->newest = stamp;
	w->len++;
	*entry_at(w, w->len - 1) = (struct entry){ (uint32_t)stamp, count };
	w->sum += count;
}

static void touch(struct window *w, uint64_t seq)
{
	if (w->unsaved_seq > seq)
		w->unsaved_seq = seq;
}

void window_add(struct window *w, int64_t now, uint64_t count)
{
	int64_t stamp = grain_of(w, now);

	drop_expired(w, now);
	if (w->len > 0 && stamp <= w->newest) {
		struct entry *last = entry_at(w, w->len - 1);
		uint64_t part = UINT32_MAX - last->count < count ? UINT32_MAX - last->count : count;

		stamp = w->newest;
		last->count += (uint32_t)part;
		w->sum += part;
		count -= part;
		touch(w, w->head_seq + w->len - 1);
	}
	while (count > 0) {
		uint32_t part = count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;

		append(w, stamp, part);
		count -= part;
	}
}

uint64_t window_used(struct window *w, int64_t now)
{
	drop_expired(w, now);
	return w->sum;
}

uint64_t window_room(struct window *w, int64_t now, uint64_t outstanding)
{
	uint64_t used = window_used(w, now) + outstanding;

	return used >= w->amount ? 0 : w->amount - used;
}

int64_t window_free_at(struct window *w, int64_t now, uint64_t outstanding, uint64_t need)
{
	uint64_t used = window_used(w, now) + outstanding, excess;

	if (need > w->amount)
		return -1;
	if (used <= w->amount - need)
		return now;
	excess = used - (w->amount - need);
	for (uint32_t i = 0; i < w->len; i++) {
		const struct entry *e = entry_at(w, i);

		if (e->count >= excess)
			return expiry_ms(w, entry_stamp(w, e));
		excess -= e->count;
	}
	return expiry_ms(w, grain_of(w, now)); /* what is outstanding has to go, too */
}

/* Chunks are left whole: what comes next begins one of its own, and the old ones go from the disk. */
void window_clear(struct window *w)
{
	if (w->len > 0)
		w->head_seq = ((w->head_seq + w->len - 1) / WINDOW_CHUNK_ENTRIES + 1) * WINDOW_CHUNK_ENTRIES;
	w->head = w->len = 0;
	w->sum = 0;
	w->unsaved_seq = w->head_seq;
}

/* A charge from somewhere else, which was stamped somewhere within [stamp * grain_ms, (stamp + 1) * grain_ms). */
static void add_foreign(struct window *w, int64_t stamp, uint64_t grain_ms, uint32_t count, int64_t now)
{
	int64_t latest = (stamp + 1) * (int64_t)grain_ms - 1;

	window_add(w, latest > now ? now : latest, count);
}

void window_copy_charges(struct window *w, const struct window *from, int64_t now)
{
	for (uint32_t i = 0; i < from->len; i++) {
		const struct entry *e = entry_at(from, i);

		add_foreign(w, entry_stamp(from, e), from->grain_ms, e->count, now);
	}
}

/* From the oldest on, so that what does not fit is younger than it was. */
unsigned window_charges(struct window *w, int64_t now, uint64_t grain_ms, struct window_charge out[], unsigned max)
{
	unsigned count = 0;

	drop_expired(w, now);
	for (uint32_t i = 0; i < w->len; i++) {
		const struct entry *e = entry_at(w, i);
		int64_t latest = (entry_stamp(w, e) + 1) * (int64_t)w->grain_ms - 1;
		int64_t age = latest < now ? (now - latest) / (int64_t)grain_ms * (int64_t)grain_ms : 0;

		if (count > 0 && (out[count - 1].age_ms == age || count == max)) {
			out[count - 1].age_ms = age;
			out[count - 1].count += e->count;
		} else {
			out[count++] = (struct window_charge){ age, e->count };
		}
	}
	return count;
}

struct window_changes window_changes(const struct window *w)
{
	uint64_t end = w->head_seq + w->len;
	struct window_changes c;

	c.first = w->unsaved_seq / WINDOW_CHUNK_ENTRIES;
	c.last = w->unsaved_seq < end ? (end - 1) / WINDOW_CHUNK_ENTRIES + 1 : c.first;
	c.first_stored = w->first_stored;
	c.first_live = w->head_seq / WINDOW_CHUNK_ENTRIES;
	return c;
}

void window_set_saved(struct window *w)
{
	w->unsaved_seq = w->head_seq + w->len;
	w->first_stored = w->head_seq / WINDOW_CHUNK_ENTRIES;
}

/* version u8, place of the first entry in the chunk u8, entries u16, grain in ms u64; then per entry stamp u64, count
 * u32 */
void window_encode_chunk(const struct window *w, uint64_t chunk, struct buf *out)
{
	uint64_t from = chunk * WINDOW_CHUNK_ENTRIES, to = from + WINDOW_CHUNK_ENTRIES, end = w->head_seq + w->len;

	from = from < w->head_seq ? w->head_seq : from;
	to = to > end ? end : to;
	buf_put_be(out, CHUNK_VERSION, 1);
	buf_put_be(out, from % WINDOW_CHUNK_ENTRIES, 1);
	buf_put_be(out, to - from, 2);
	buf_put_be(out, w->grain_ms, 8);
	for (uint64_t seq = from; seq < to; seq++) {
		const struct entry *e = entry_at(w, (uint32_t)(seq - w->head_seq));

		buf_put_be(out, (uint64_t)entry_stamp(w, e), 8);
		buf_put_be(out, e->count, 4);
	}
}

bool window_decode_chunk(struct window *w, uint64_t chunk, struct slice bytes, int64_t now)
{
	uint64_t count, grain_ms, place, first = chunk * WINDOW_CHUNK_ENTRIES;

	if (bytes.len < CHUNK_HEAD_BYTES || bytes.ptr[0] != CHUNK_VERSION)
		return false;
	place = buf_get_be(bytes.ptr + 1, 1);
	count = buf_get_be(bytes.ptr + 2, 2);
	grain_ms = buf_get_be(bytes.ptr + 4, 8);
	if (place + count > WINDOW_CHUNK_ENTRIES || grain_ms == 0 || grain_ms > INT64_MAX / 4 ||
	    chunk >= UINT64_MAX / 64 || bytes.len != CHUNK_HEAD_BYTES + count * CHUNK_ENTRY_BYTES)
		return false;
	if (w->loaded_end == 0) {
		w->first_stored = chunk;
		w->head_seq = w->unsaved_seq = first + place;
	}
	w->loaded_end = chunk + 1;
	for (uint64_t i = 0; i < count; i++) {
		const char *at = bytes.ptr + CHUNK_HEAD_BYTES + i * CHUNK_ENTRY_BYTES;
		uint64_t stamp = buf_get_be(at, 8);

		if (stamp > INT64_MAX / grain_ms - 2)
			return false;
		add_foreign(w, (int64_t)stamp, grain_ms, (uint32_t)buf_get_be(at + 8, 4), now);
	}
	if (w->head_seq + w->len != first + place + count)
		w->has_other_numbers = true;
	return true;
}

/*
 * Entries that came as they were keep their numbers, and the chunks on disk stay what they are. When some merged, as
 * happens with another grain, all are numbered anew behind everything stored: the next save replaces the lot.
 */
void window_finish_loading(struct window *w)
{
	if (w->has_other_numbers)
		w->head_seq = w->unsaved_seq = w->loaded_end * WINDOW_CHUNK_ENTRIES;
	else
		w->unsaved_seq = w->head_seq + w->len;
	w->has_other_numbers = false;
	w->loaded_end = 0;
}
