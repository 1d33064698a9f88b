/* ledger_load.c - the counters as the database has them into the accounts that the configuration has now. */
#include "limiter/ledger_private.h"

enum { STALE_KEYS_MAX = 4 << 20 /* bytes of keys removed per start; what is left goes the next time */ };

/* A checked cursor; what is missing reads as 0 and sets `failed`. */
struct reader {
	struct slice rest;
	bool failed;
};

static uint64_t get_number(struct reader *r, unsigned bytes)
{
	if (r->rest.len < bytes) {
		r->failed = true;
		return 0;
	}
	r->rest.ptr += bytes;
	r->rest.len -= bytes;
	return buf_get_be(r->rest.ptr - bytes, bytes);
}

/* The name in a key, up to its NUL. */
static struct slice get_name(struct reader *r)
{
	const char *end = r->rest.len > 0 ? memchr(r->rest.ptr, 0, r->rest.len) : NULL;
	struct slice name = { r->rest.ptr, end ? (size_t)(end - r->rest.ptr) : 0 };

	if (!end) {
		r->failed = true;
		return name;
	}
	r->rest.ptr += name.len + 1;
	r->rest.len -= name.len + 1;
	return name;
}

static struct calendar_count get_calendar(struct reader *r)
{
	struct calendar_count k;

	k.end_ms = (int64_t)get_number(r, 8);
	k.wall_ms = (int64_t)get_number(r, 8);
	k.ready = (int64_t)get_number(r, 8);
	k.count = get_number(r, 8);
	return k;
}

struct load {
	struct ledger *ledger;
	int64_t now;
	struct buf stale; /* keys to remove: u16 length and bytes each */
	bool is_unreadable;
};

static void load_mark_stale(struct load *load, struct slice key)
{
	if (load->stale.len + key.len + 2 > STALE_KEYS_MAX)
		return;
	buf_put_char(&load->stale, (char)(key.len >> 8));
	buf_put_char(&load->stale, (char)key.len);
	buf_put_slice(&load->stale, key);
}

/* --- accounts --- */

/* What an account's record says, less its limits. */
struct account_head {
	uint64_t version, touched, count;
	uint64_t outstanding[CLASS_COUNT][UNIT_COUNT];
	unsigned ramp_step;
	struct calendar_count ramp_day;
};

static struct account_head get_head(struct reader *v)
{
	struct account_head head = { .version = get_number(v, 1) };

	for (unsigned class = 0; class < (head.version == 1 ? 1 : CLASS_COUNT); class ++)
		for (unsigned unit = 0; unit < UNIT_COUNT; unit++)
			head.outstanding[class][unit] = get_number(v, 8);
	head.touched = get_number(v, 8);
	if (head.version != 1) {
		head.ramp_step = (unsigned)get_number(v, 2);
		head.ramp_day = get_calendar(v);
	}
	head.count = get_number(v, 2);
	return head;
}

struct stored_limit {
	uint64_t kind, slot, unit, width_ms, since;
	struct calendar_count calendar;
};

static struct stored_limit get_limit(struct reader *v, uint64_t version)
{
	struct stored_limit s = { 0 };

	if (version != 1) {
		s.kind = get_number(v, 1);
		s.slot = get_number(v, 1);
	}
	s.unit = get_number(v, 1);
	s.width_ms = get_number(v, 8);
	s.since = get_number(v, 8);
	if (s.kind & LIMIT_CALENDAR)
		s.calendar = get_calendar(v);
	return s;
}

static void take_limit(struct load *load, struct account *a, const struct stored_limit *s)
{
	struct account_limit *limit =
		account_find_limit(a, (uint8_t)s->kind, (enum limit_unit)s->unit, s->width_ms, (unsigned)s->slot);
	int64_t since = s->since > 0 ? (int64_t)s->since : load->now;

	if (!limit) {
		if (s->since == 0)
			ledger_touch(load->ledger, a);
		if (load->now - since > (int64_t)s->width_ms)
			return; /* nothing from the time it was in force counts any more; its chunks are stale */
		limit = account_add_dormant(a, (uint8_t)s->kind, (enum limit_unit)s->unit, s->width_ms,
					    (unsigned)s->slot, since);
	}
	limit->is_known = true;
	limit->count = s->calendar;
}

/* The account of a record; a sender's is made when something of it may still count. */
static struct account *account_of(struct load *load, struct slice name, uint64_t touched, uint64_t widest)
{
	struct account *a = ledger_find(load->ledger, name);
	size_t len = sizeof(SCOPE_SENDER) - 1;

	if (a || !load->ledger->sender || name.len < len || memcmp(name.ptr, SCOPE_SENDER, len) != 0 ||
	    load->now - (int64_t)touched > (int64_t)widest)
		return a;
	return ledger_add_sender(load->ledger, name);
}

static bool load_account(void *arg, struct slice key, struct slice value)
{
	struct load *load = arg;
	struct reader k = { { key.ptr + 1, key.len - 1 }, false }, v = { value, false }, again;
	struct slice name = get_name(&k);
	struct account_head head = get_head(&v);
	uint64_t widest = 0;
	struct account *a;

	again = v;
	for (uint64_t i = 0; i < head.count && !v.failed; i++) {
		struct stored_limit s = get_limit(&v, head.version);

		if (s.unit >= UNIT_COUNT || s.width_ms == 0 || s.width_ms > INT64_MAX / 4)
			v.failed = true;
		widest = s.width_ms > widest ? s.width_ms : widest;
	}
	if (k.failed || v.failed || head.version == 0 || head.version > RECORD_VERSION || v.rest.len != 0) {
		load->is_unreadable = true;
		return false;
	}
	a = account_of(load, name, head.touched, widest);
	if (!a) {
		if (load->now - (int64_t)head.touched > (int64_t)widest)
			load_mark_stale(load, key);
		return true;
	}
	for (uint64_t i = 0; i < head.count; i++) {
		struct stored_limit s = get_limit(&again, head.version);

		take_limit(load, a, &s);
	}
	a->is_stored = true;
	a->ramp_step = head.ramp_step;
	a->ramp_day = head.ramp_day;
	memcpy(a->inherited, head.outstanding, sizeof(a->inherited));
	return true;
}

/* --- charges --- */

/* Chunks of accounts that are gone stay until the account's own record has been removed: see load_account(). */
static bool load_chunk(void *arg, struct slice key, struct slice value)
{
	struct load *load = arg;
	struct reader k = { { key.ptr + 1, key.len - 1 }, false };
	struct slice name = get_name(&k);
	struct account *a = ledger_find(load->ledger, name);
	uint64_t which = get_number(&k, 1), width_ms = get_number(&k, 8), chunk = get_number(&k, 8);
	struct account_limit *limit = NULL;

	if (k.failed || k.rest.len != 0 || (which & 15) >= UNIT_COUNT) {
		load->is_unreadable = true;
		return false;
	}
	if (a)
		limit = account_find_limit(a, (uint8_t)(which >> 4), (enum limit_unit)(which & 15), width_ms, 0);
	if (limit && limit->is_known && limit->window) {
		load->is_unreadable = !window_decode_chunk(limit->window, chunk, value, load->now);
		return !load->is_unreadable;
	}
	if (a)
		load_mark_stale(load, key);
	return true;
}

static bool load_orphan_chunk(void *arg, struct slice key, struct slice value UNUSED)
{
	load_mark_stale(arg, key);
	return true;
}

/* The charges of accounts whose record goes, too. */
static enum store_result load_mark_orphans(struct load *load)
{
	size_t end = load->stale.len;
	enum store_result result = STORE_OK;

	for (size_t at = 0; at < end && result == STORE_OK;) {
		size_t len = (size_t)(uint8_t)load->stale.ptr[at] << 8 | (uint8_t)load->stale.ptr[at + 1];
		struct buf prefix;

		buf_init(&prefix, KEY_MAX);
		buf_put(&prefix, load->stale.ptr + at + 2, len);
		if (prefix.len > 0 && prefix.ptr[0] == 's') {
			prefix.ptr[0] = 'w';
			result = store_scan(load->ledger->store, buf_slice(&prefix), load_orphan_chunk, load);
		}
		buf_release(&prefix);
		at += len + 2;
	}
	return result;
}

static enum store_result load_remove_stale(struct load *load)
{
	enum store_result result = load->stale.len > 0 ? store_begin(load->ledger->store) : STORE_OK;

	if (load->stale.len == 0 || result != STORE_OK)
		return result;
	for (size_t at = 0; at < load->stale.len;) {
		size_t len = (size_t)(uint8_t)load->stale.ptr[at] << 8 | (uint8_t)load->stale.ptr[at + 1];

		result = store_delete(load->ledger->store, (struct slice){ load->stale.ptr + at + 2, len });
		if (result != STORE_OK && result != STORE_NOT_FOUND) {
			store_abort(load->ledger->store);
			return result;
		}
		at += len + 2;
	}
	return store_commit(load->ledger->store);
}

/* --- what the database has never seen --- */

/* Where a limit takes its charges from: all mail's, of the same unit. */
static struct account_limit *best_source(const struct account *a, const struct account_limit *wanted)
{
	uint64_t want = wanted->width_ms, have = 0;
	struct account_limit *best = NULL;

	for (unsigned i = 0; i < a->limit_count; i++) {
		struct account_limit *source = &a->limit[i];
		uint64_t width = source->width_ms;
		bool is_better = have < want ? width > have : width >= want && width < have;

		if (source->is_known && source->unit == wanted->unit && !(source->kind & LIMIT_USUAL) &&
		    (!best || is_better)) {
			best = source;
			have = width;
		}
	}
	return best;
}

static void take_charges(struct account_limit *to, struct account_limit *from, struct moment t)
{
	if (to->window && from->window)
		window_copy_charges(to->window, from->window, t.now);
	else
		limit_add(to, t, limit_used(from, t));
}

static void take_initial(struct account *a, const struct account_spec *spec, struct moment t)
{
	for (unsigned k = 0; k < spec->initial_count; k++)
		for (unsigned i = 0; i < a->limit_count; i++)
			if (a->limit[i].unit == spec->initial[k].unit &&
			    a->limit[i].width_ms == spec->initial[k].width_ms && a->limit[i].dormant_since == 0)
				limit_add(&a->limit[i], t, spec->initial[k].amount);
}

static void load_finish_account(struct load *load, struct account *a)
{
	struct moment t = ledger_moment(load->ledger, load->now);

	for (unsigned i = 0; i < a->limit_count; i++)
		if (a->limit[i].is_known && a->limit[i].window)
			window_finish_loading(a->limit[i].window);
	for (unsigned i = 0; i < a->limit_count; i++) {
		struct account_limit *source = a->limit[i].is_known ? NULL : best_source(a, &a->limit[i]);

		if (source) {
			take_charges(&a->limit[i], source, t);
			ledger_touch(load->ledger, a);
		}
	}
	for (unsigned i = 0; i < a->limit_count; i++)
		a->limit[i].is_known = true; /* from the next commit on */
}

static void begin_new_accounts(struct load *load, const struct ledger_options *o)
{
	struct moment t = ledger_moment(load->ledger, load->now);

	for (unsigned i = 0; i < o->account_count; i++) {
		struct account *a = ledger_find(load->ledger, slice_of(o->account[i].name));

		if (!a || a->is_stored)
			continue;
		if (o->are_counts_lost)
			account_fill(a, t);
		else
			take_initial(a, &o->account[i], t);
		ledger_touch(load->ledger, a);
	}
}

static bool load_clock(struct ledger *l, const struct ledger_options *o)
{
	struct timebase stored = { "", 0, 0, 0 };
	struct slice value;
	struct reader r;
	enum store_result result = store_get(l->store, slice_of("c"), &value);

	if (result == STORE_NOT_FOUND) {
		timebase_start(&l->time, NULL, o->boot_id, o->boot_ms, o->wall_ms);
		return true;
	}
	r = (struct reader){ value, result != STORE_OK };
	if (get_number(&r, 1) != CLOCK_VERSION)
		return false;
	stored.boot_ms = (int64_t)get_number(&r, 8);
	stored.wall_ms = (int64_t)get_number(&r, 8);
	stored.time_ms = (int64_t)get_number(&r, 8);
	if (r.failed || r.rest.len >= sizeof(stored.boot_id) || stored.time_ms < 0)
		return false;
	memcpy(stored.boot_id, r.rest.ptr, r.rest.len);
	timebase_start(&l->time, &stored, o->boot_id, o->boot_ms, o->wall_ms);
	return true;
}

static bool load_note(struct ledger *l)
{
	struct slice value;
	enum store_result result = store_get(l->store, slice_of("f"), &value);

	if (result == STORE_OK)
		l->note = xstrndup(value.ptr, value.len);
	return result == STORE_OK || result == STORE_NOT_FOUND;
}

const char *ledger_load(struct ledger *l, const struct ledger_options *o)
{
	struct load load = { .ledger = l };
	const char *why = NULL;

	if (!load_clock(l, o))
		return "the clock record is unreadable";
	if (!load_note(l))
		return "the fleet's record is unreadable";
	load.now = l->time.time_ms;
	ledger_set_wall(l, load.now, o->wall_ms);
	buf_init(&load.stale, STALE_KEYS_MAX);
	if (store_scan(l->store, slice_of("s"), load_account, &load) != STORE_OK ||
	    store_scan(l->store, slice_of("w"), load_chunk, &load) != STORE_OK)
		why = store_error();
	else if (load.is_unreadable)
		why = "a record is unreadable";
	for (unsigned i = 0; i < l->account_count && !why; i++)
		load_finish_account(&load, l->account[i]);
	if (!why)
		begin_new_accounts(&load, o);
	if (!why && (load_mark_orphans(&load) != STORE_OK || load_remove_stale(&load) == STORE_FATAL))
		why = store_error();
	buf_release(&load.stale);
	return why;
}
