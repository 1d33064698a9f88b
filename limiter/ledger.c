/*
 * ledger.c - accounts and their records.
 *
 * Keys and values, integers big-endian:
 *   "c"                                    clock: version u8, boot_ms, wall_ms, time_ms u64, boot id
 *   "s" SERVER NUL                         account: see account_encode()
 *   "w" SERVER NUL unit u8 width u64 chunk u64   charges of a window: see window_encode_chunk()
 * A commit writes the accounts that changed, of their windows the chunks that changed, and the clock.
 */
#include "limiter/ledger.h"

enum {
	RECORD_VERSION = 1,
	ACCOUNT_LIMIT_BYTES = 17,
	KEY_MAX = 2 + 255 + 17,
	VALUE_MAX = 64 * 1024,
	STALE_KEYS_MAX = 4 << 20 /* bytes of keys removed per start; what is left goes the next time */
};

struct ledger {
	struct store *store;
	struct timebase time;
	struct account *account; /* in order of name */
	unsigned account_count;
	struct account *changed;
	struct buf key, value;
	bool needs_sync;
};

/* --- records --- */

static void put_number(struct buf *out, uint64_t value, unsigned bytes)
{
	while (bytes-- > 0)
		buf_put_char(out, (char)(value >> 8 * bytes));
}

/* A checked cursor; what is missing reads as 0 and sets `failed`. */
struct reader {
	struct slice rest;
	bool failed;
};

static uint64_t get_number(struct reader *r, unsigned bytes)
{
	uint64_t value = 0;

	if (r->rest.len < bytes) {
		r->failed = true;
		return 0;
	}
	for (unsigned i = 0; i < bytes; i++)
		value = value << 8 | (uint8_t)r->rest.ptr[i];
	r->rest.ptr += bytes;
	r->rest.len -= bytes;
	return value;
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

static void key_set_account(struct ledger *l, const char *server)
{
	buf_clear(&l->key);
	buf_put_char(&l->key, 's');
	buf_put(&l->key, server, strlen(server) + 1);
}

static void key_set_chunk(struct ledger *l, const struct account *a, const struct account_limit *limit, uint64_t chunk)
{
	buf_clear(&l->key);
	buf_put_char(&l->key, 'w');
	buf_put(&l->key, a->server, strlen(a->server) + 1);
	put_number(&l->key, limit->unit, 1);
	put_number(&l->key, window_width_ms(limit->window), 8);
	put_number(&l->key, chunk, 8);
}

static enum store_result put_record(struct ledger *l)
{
	if (l->key.failed || l->value.failed)
		BUG("a record is larger than its maximum");
	return store_put(l->store, buf_slice(&l->key), buf_slice(&l->value));
}

/* --- the accounts of the configuration --- */

static struct account_limit *account_find_limit(struct account *a, enum limit_unit unit, uint64_t width_ms)
{
	for (unsigned i = 0; i < a->limit_count; i++)
		if (a->limit[i].unit == unit && window_width_ms(a->limit[i].window) == width_ms)
			return &a->limit[i];
	return NULL;
}

static struct account_limit *account_add_limit(struct account *a, const char *text, enum limit_unit unit,
					       struct window *window_taken)
{
	struct account_limit *limit;

	a->limit = xrealloc(a->limit, a->limit_count + 1, sizeof(*a->limit));
	limit = &a->limit[a->limit_count++];
	*limit = (struct account_limit){ text, unit, window_taken, 0, false };
	return limit;
}

static void account_init(struct account *a, const struct account_spec *spec)
{
	memset(a, 0, sizeof(*a));
	a->server = xstrdup(spec->server);
	for (unsigned i = 0; i < spec->limit_count; i++) {
		const struct limit_spec *s = &spec->limit[i];
		struct account_limit *same = account_find_limit(a, s->unit, s->width_ms);

		if (!same) {
			account_add_limit(a, s->text, s->unit, window_new(s->amount, s->width_ms));
		} else if (s->amount < window_amount(same->window)) {
			window_free(&same->window);
			same->window = window_new(s->amount, s->width_ms);
			same->text = s->text;
		}
	}
}

static int compare_accounts(const void *a, const void *b)
{
	return strcmp(((const struct account *)a)->server, ((const struct account *)b)->server);
}

static int compare_name(const void *name, const void *account)
{
	const struct slice *s = name;
	const struct account *a = account;
	size_t len = strlen(a->server);
	int order = memcmp(s->ptr, a->server, s->len < len ? s->len : len);

	return order != 0 ? order : (s->len > len) - (s->len < len);
}

struct account *ledger_find(struct ledger *l, struct slice server)
{
	if (l->account_count == 0 || server.len == 0)
		return NULL;
	return bsearch(&server, l->account, l->account_count, sizeof(*l->account), compare_name);
}

unsigned ledger_account_count(const struct ledger *l)
{
	return l->account_count;
}

struct account *ledger_account(struct ledger *l, unsigned index)
{
	return &l->account[index];
}

/* --- loading --- */

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
	put_number(&load->stale, key.len, 2);
	buf_put_slice(&load->stale, key);
}

/* A window of the database that the configuration does not have (any more). */
static void load_dormant_limit(struct load *load, struct account *a, enum limit_unit unit, uint64_t width_ms,
			       int64_t since)
{
	struct account_limit *limit;

	if (since == 0) {
		since = load->now;
		ledger_touch(load->ledger, a);
	}
	if (load->now - since > (int64_t)width_ms)
		return; /* nothing from the time it was in force counts any more; its chunks are stale */
	limit = account_add_limit(a, "", unit, window_new(UINT64_MAX, width_ms));
	limit->dormant_since = since > 0 ? since : 1;
	limit->is_known = true;
}

/*
 * version u8, outstanding messages u64, recipients u64, last change u64, limits u16; per limit unit u8, width u64,
 * dormant since u64
 */
static bool load_account(void *arg, struct slice key, struct slice value)
{
	struct load *load = arg;
	struct reader k = { { key.ptr + 1, key.len - 1 }, false }, v = { value, false };
	struct account *a = ledger_find(load->ledger, get_name(&k));
	uint64_t version = get_number(&v, 1), outstanding[UNIT_COUNT], touched, count, widest = 0;

	for (unsigned unit = 0; unit < UNIT_COUNT; unit++)
		outstanding[unit] = get_number(&v, 8);
	touched = get_number(&v, 8);
	count = get_number(&v, 2);
	if (k.failed || v.failed || version != RECORD_VERSION || v.rest.len != count * ACCOUNT_LIMIT_BYTES) {
		load->is_unreadable = true;
		return false;
	}
	for (uint64_t i = 0; i < count; i++) {
		uint64_t unit = get_number(&v, 1), width_ms = get_number(&v, 8), since = get_number(&v, 8);
		struct account_limit *limit = NULL;

		if (unit >= UNIT_COUNT || width_ms == 0 || width_ms > INT64_MAX / 4)
			continue;
		widest = width_ms > widest ? width_ms : widest;
		if (a)
			limit = account_find_limit(a, (enum limit_unit)unit, width_ms);
		if (limit)
			limit->is_known = true;
		else if (a)
			load_dormant_limit(load, a, (enum limit_unit)unit, width_ms, (int64_t)since);
	}
	if (a)
		memcpy(a->inherited, outstanding, sizeof(outstanding));
	else if (load->now - (int64_t)touched > (int64_t)widest)
		load_mark_stale(load, key);
	return true;
}

/* Chunks of servers that are gone stay until the account's own record has been removed: see load_account(). */
static bool load_chunk(void *arg, struct slice key, struct slice value)
{
	struct load *load = arg;
	struct reader k = { { key.ptr + 1, key.len - 1 }, false };
	struct slice name = get_name(&k);
	struct account *a = ledger_find(load->ledger, name);
	uint64_t unit = get_number(&k, 1), width_ms = get_number(&k, 8), chunk = get_number(&k, 8);
	struct account_limit *limit;

	if (k.failed || k.rest.len != 0 || unit >= UNIT_COUNT) {
		load->is_unreadable = true;
		return false;
	}
	limit = a ? account_find_limit(a, (enum limit_unit)unit, width_ms) : NULL;
	if (limit && limit->is_known) {
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

/* The charges of servers whose account record goes, too. */
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

/* Where a window that the database has never seen takes its charges from. */
static const struct account_limit *best_source(const struct account *a, const struct account_limit *wanted)
{
	uint64_t want = window_width_ms(wanted->window), have = 0;
	const struct account_limit *best = NULL;

	for (unsigned i = 0; i < a->limit_count; i++) {
		const struct account_limit *source = &a->limit[i];
		uint64_t width = window_width_ms(source->window);
		bool is_better = have < want ? width > have : width >= want && width < have;

		if (source->is_known && source->unit == wanted->unit && (!best || is_better)) {
			best = source;
			have = width;
		}
	}
	return best;
}

static void load_finish_account(struct load *load, struct account *a)
{
	for (unsigned i = 0; i < a->limit_count; i++)
		if (a->limit[i].is_known)
			window_finish_loading(a->limit[i].window);
	for (unsigned i = 0; i < a->limit_count; i++) {
		const struct account_limit *source = a->limit[i].is_known ? NULL : best_source(a, &a->limit[i]);

		if (source) {
			window_copy_charges(a->limit[i].window, source->window, load->now);
			ledger_touch(load->ledger, a);
		}
	}
	for (unsigned i = 0; i < a->limit_count; i++)
		a->limit[i].is_known = true; /* from the next commit on */
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
	if (get_number(&r, 1) != RECORD_VERSION)
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

/* NULL, or why the counters cannot be used. */
static const char *ledger_load(struct ledger *l, const struct ledger_options *o)
{
	struct load load = { .ledger = l };
	const char *why = NULL;

	if (!load_clock(l, o))
		return "the clock record is unreadable";
	load.now = l->time.time_ms;
	buf_init(&load.stale, STALE_KEYS_MAX);
	if (store_scan(l->store, slice_of("s"), load_account, &load) != STORE_OK ||
	    store_scan(l->store, slice_of("w"), load_chunk, &load) != STORE_OK)
		why = store_error();
	else if (load.is_unreadable)
		why = "a record is unreadable";
	for (unsigned i = 0; i < l->account_count && !why; i++)
		load_finish_account(&load, &l->account[i]);
	if (!why && (load_mark_orphans(&load) != STORE_OK || load_remove_stale(&load) == STORE_FATAL))
		why = store_error();
	buf_release(&load.stale);
	return why;
}

enum store_open_result ledger_open(struct ledger **out, const struct ledger_options *o, const char **why)
{
	const struct store_options store = { o->dir, 1 << 20, 10 << 20, 32 << 20 };
	struct ledger *l = xcalloc(1, sizeof(*l));
	enum store_open_result result = store_open(&l->store, &store);

	*out = NULL;
	*why = store_error();
	buf_init(&l->key, KEY_MAX);
	buf_init(&l->value, VALUE_MAX);
	if (!l->store)
		goto fail;
	l->account = xcalloc(o->account_count + 1, sizeof(*l->account));
	for (unsigned i = 0; i < o->account_count; i++)
		if (o->account[i].limit_count > 0)
			account_init(&l->account[l->account_count++], &o->account[i]);
	qsort(l->account, l->account_count, sizeof(*l->account), compare_accounts);
	*why = store_has_lost_records(l->store) ? "the last records are gone, recovery ended before them"
						: ledger_load(l, o);
	if (*why) {
		result = STORE_DAMAGED;
		goto fail;
	}
	*out = l;
	return result;
fail:
	ledger_close(&l);
	return result;
}

void ledger_close(struct ledger **l)
{
	struct ledger *old = *l;

	if (!old)
		return;
	store_close(&old->store);
	for (unsigned i = 0; i < old->account_count; i++) {
		for (unsigned k = 0; k < old->account[i].limit_count; k++)
			window_free(&old->account[i].limit[k].window);
		free(old->account[i].limit);
		free(old->account[i].server);
	}
	free(old->account);
	buf_release(&old->key);
	buf_release(&old->value);
	free(old);
	*l = NULL;
}

/* --- changes --- */

int64_t ledger_now(struct ledger *l, int64_t boot_ms)
{
	return timebase_advance(&l->time, boot_ms);
}

void ledger_touch(struct ledger *l, struct account *a)
{
	if (a->is_changed)
		return;
	a->is_changed = true;
	a->next_changed = l->changed;
	l->changed = a;
}

bool ledger_has_changes(const struct ledger *l)
{
	return l->changed || l->needs_sync;
}

static enum store_result save_window(struct ledger *l, const struct account *a, const struct account_limit *limit)
{
	struct window_changes c = window_changes(limit->window);
	enum store_result result = STORE_OK;

	for (uint64_t chunk = c.first_stored; chunk < c.first_live; chunk++) {
		key_set_chunk(l, a, limit, chunk);
		result = store_delete(l->store, buf_slice(&l->key));
		if (result != STORE_OK && result != STORE_NOT_FOUND)
			return result;
	}
	for (uint64_t chunk = c.first; chunk < c.last; chunk++) {
		key_set_chunk(l, a, limit, chunk);
		buf_clear(&l->value);
		window_encode_chunk(limit->window, chunk, &l->value);
		if ((result = put_record(l)) != STORE_OK)
			return result;
	}
	return STORE_OK;
}

static enum store_result save_account(struct ledger *l, const struct account *a)
{
	enum store_result result;

	key_set_account(l, a->server);
	buf_clear(&l->value);
	put_number(&l->value, RECORD_VERSION, 1);
	for (unsigned unit = 0; unit < UNIT_COUNT; unit++)
		put_number(&l->value, a->outstanding[unit] + a->inherited[unit], 8);
	put_number(&l->value, (uint64_t)l->time.time_ms, 8);
	put_number(&l->value, a->limit_count, 2);
	for (unsigned i = 0; i < a->limit_count; i++) {
		put_number(&l->value, a->limit[i].unit, 1);
		put_number(&l->value, window_width_ms(a->limit[i].window), 8);
		put_number(&l->value, (uint64_t)a->limit[i].dormant_since, 8);
	}
	if ((result = put_record(l)) != STORE_OK)
		return result;
	for (unsigned i = 0; i < a->limit_count; i++)
		if ((result = save_window(l, a, &a->limit[i])) != STORE_OK)
			return result;
	return STORE_OK;
}

static enum store_result save_clock(struct ledger *l)
{
	buf_clear(&l->key);
	buf_put_char(&l->key, 'c');
	buf_clear(&l->value);
	put_number(&l->value, RECORD_VERSION, 1);
	put_number(&l->value, (uint64_t)l->time.boot_ms, 8);
	put_number(&l->value, (uint64_t)l->time.wall_ms, 8);
	put_number(&l->value, (uint64_t)l->time.time_ms, 8);
	buf_put_str(&l->value, l->time.boot_id);
	return put_record(l);
}

static enum store_result save_changes(struct ledger *l)
{
	enum store_result result = store_begin(l->store);

	if (result != STORE_OK)
		return result;
	for (const struct account *a = l->changed; a && result == STORE_OK; a = a->next_changed)
		result = save_account(l, a);
	if (result == STORE_OK)
		result = save_clock(l);
	if (result != STORE_OK) {
		store_abort(l->store);
		return result;
	}
	return store_commit(l->store);
}

enum store_result ledger_commit(struct ledger *l, int64_t wall_ms)
{
	enum store_result result;

	if (l->changed) {
		l->time.wall_ms = wall_ms < 0 ? 0 : wall_ms;
		if ((result = save_changes(l)) != STORE_OK)
			return result;
		while (l->changed) {
			struct account *a = l->changed;

			l->changed = a->next_changed;
			a->is_changed = false;
			for (unsigned i = 0; i < a->limit_count; i++)
				window_set_saved(a->limit[i].window);
		}
		l->needs_sync = true;
	}
	result = l->needs_sync ? store_sync(l->store) : STORE_OK;
	if (result == STORE_OK)
		l->needs_sync = false;
	return result;
}
