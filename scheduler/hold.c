/* hold.c - see hold.h. Written down in the journal as "held/NAME": begun, held, from, until, decimal. */
#include "scheduler/hold.h"
#include "lib/log.h"
#include <stdlib.h>

enum { ROW_GAP_MS = 3600 * 1000, WRITE_EVERY_MS = 60 * 1000, NOTE_MAX = 110 };
static const char PREFIX[] = "held/";
static const int64_t TOO_OLD_MS = INT64_C(366) * 86400 * 1000;

static void note_name(char out[NOTE_MAX], const char *name)
{
	snprintf(out, NOTE_MAX, "%s%s", PREFIX, name);
}

static bool parse(struct slice value, long long number[4])
{
	char text[100];

	snprintf(text, sizeof(text), "%.*s", (int)value.len, value.ptr);
	return sscanf(text, "%lld %lld %lld %lld", &number[0], &number[1], &number[2], &number[3]) == 4;
}

static void read_row(struct hold *h, struct journal *j, const char *name)
{
	char note[NOTE_MAX];
	struct buf value;
	long long number[4];

	if (h->row.is_known)
		return;
	h->row.is_known = true;
	note_name(note, name);
	buf_init(&value, 100);
	if (journal_get_note(j, note, &value) && parse(buf_slice(&value), number)) {
		h->row.begun = number[0];
		h->row.held = number[1];
		h->row.from = number[2];
		h->row.until = number[3];
	}
	buf_release(&value);
}

/* Many short holds are written down now and then, a long one at once. */
static void write_row(struct hold *h, struct journal *j, const char *name)
{
	struct mono now = clock_mono();
	char note[NOTE_MAX], value[100];

	if (h->row.until - h->row.from < WRITE_EVERY_MS && h->written.ms && now.ms - h->written.ms < WRITE_EVERY_MS)
		return;
	note_name(note, name);
	snprintf(value, sizeof(value), "%lld %lld %lld %lld", (long long)h->row.begun, (long long)h->row.held,
		 (long long)h->row.from, (long long)h->row.until);
	if (journal_put_note(j, note, slice_of(value)) == STORE_OK)
		h->written = now;
	else
		log_warn("no room to write down that %s: a restart would count it as age", note);
}

void hold_begin(struct hold *h, struct journal *j, const char *name, struct wall until)
{
	int64_t now = clock_wall().ms, end;

	if (h->reasons++ > 0) {
		hold_change(h, j, name, until);
		return;
	}
	h->since = clock_mono();
	read_row(h, j, name);
	end = h->row.until < now ? h->row.until : now;
	if (now - end > ROW_GAP_MS || h->row.begun == 0 || h->row.begun > now) {
		h->row.begun = now;
		h->row.held = 0;
	} else if (end > h->row.from) {
		h->row.held += end - h->row.from;
	}
	h->row.from = now;
	h->row.until = until.ms;
	write_row(h, j, name);
}

void hold_change(struct hold *h, struct journal *j, const char *name, struct wall until)
{
	if (until.ms == h->row.until)
		return;
	h->row.until = until.ms;
	write_row(h, j, name);
}

static uint32_t seconds_since(struct mono since)
{
	return (uint32_t)((clock_mono().ms - since.ms + 999) / 1000);
}

void hold_end(struct hold *h)
{
	if (h->reasons == 0 || --h->reasons > 0)
		return;
	h->seconds += seconds_since(h->since);
	h->row.until = clock_wall().ms; /* which is what was foreseen, or an operator's doing: not worth a write */
}

uint32_t hold_s(const struct hold *h)
{
	return h->seconds + (h->reasons > 0 ? seconds_since(h->since) : 0);
}

static int64_t overlap(int64_t a, int64_t b, int64_t from, int64_t until)
{
	int64_t first = a > from ? a : from, last = b < until ? b : until;

	return last > first ? last - first : 0;
}

uint32_t hold_before(struct hold *h, struct journal *j, const char *name, struct wall due, struct wall start)
{
	double held;
	int64_t row;

	read_row(h, j, name);
	row = h->row.from - h->row.begun;
	held = (double)overlap(due.ms, start.ms, h->row.from, h->row.until);
	/* Of the holds before the last one only their sum is known: taken to be spread evenly. */
	if (row > 0)
		held += (double)h->row.held * (double)overlap(due.ms, start.ms, h->row.begun, h->row.from) /
			(double)row;
	return (uint32_t)(held / 1000);
}

static void strike_out(struct journal *j, const char *note)
{
	if (journal_delete_note(j, note) != STORE_OK)
		log_warn("%s stays written down: the queue database has no room", note);
}

void hold_forget(struct hold *h, struct journal *j, const char *name)
{
	char note[NOTE_MAX];

	if (h->row.begun == 0 && !h->written.ms)
		return;
	note_name(note, name);
	strike_out(j, note);
}

struct sweep {
	int64_t now;
	char (*note)[NOTE_MAX];
	unsigned count;
};

static void find_old(void *arg, struct slice name, struct slice value)
{
	struct sweep *sweep = arg;
	long long number[4];

	if (name.len >= NOTE_MAX || (parse(value, number) && sweep->now - number[2] < TOO_OLD_MS))
		return;
	sweep->note = xrealloc(sweep->note, sweep->count + 1, sizeof(*sweep->note));
	snprintf(sweep->note[sweep->count++], NOTE_MAX, "%.*s", (int)name.len, name.ptr);
}

void hold_sweep(struct journal *j)
{
	struct sweep sweep = { .now = clock_wall().ms };

	if (journal_scan_notes(j, PREFIX, find_old, &sweep) != STORE_OK)
		log_warn("the queue database cannot be read: what is written down of holds stays");
	for (unsigned i = 0; i < sweep.count; i++)
		strike_out(j, sweep.note[i]);
	free(sweep.note);
}
