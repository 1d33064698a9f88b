/* ledger.c - accounts and their changes. The records: ledger_private.h. */
#include "lib/text.h"
#include "limiter/ledger_private.h"
#include <stdlib.h>

enum {
	SENDERS_DEFAULT = 20000,
	SENDERS_OF_FLEET = 100000, /* one host's common account says nothing of another's: keep them apart for longer */
	SENDERS_SLACK = 512,       /* made within one turn, before idle ones could go */
	IDLE_PER_LOOK = 32         /* senders looked at for each newcomer */
};

/* --- records --- */

static void key_set_account(struct ledger *l, const char *name)
{
	buf_clear(&l->key);
	buf_put_char(&l->key, 's');
	buf_put(&l->key, name, strlen(name) + 1);
}

static void key_set_chunk(struct ledger *l, const struct account *a, const struct account_limit *limit, uint64_t chunk)
{
	buf_clear(&l->key);
	buf_put_char(&l->key, 'w');
	buf_put(&l->key, a->name, strlen(a->name) + 1);
	buf_put_be(&l->key, (uint64_t)limit->unit | (uint64_t)limit->kind << 4, 1);
	buf_put_be(&l->key, limit->width_ms, 8);
	buf_put_be(&l->key, chunk, 8);
}

static enum store_result put_record(struct ledger *l)
{
	if (l->key.failed || l->value.failed)
		BUG("a record is larger than its maximum");
	return store_put(l->store, buf_slice(&l->key), buf_slice(&l->value));
}

/* --- accounts --- */

struct account *ledger_find(struct ledger *l, struct slice name)
{
	struct table_node *n = name.len > 0 ? table_first(&l->by_name, text_hash(name.ptr, name.len)) : NULL;

	for (; n; n = table_next(n)) {
		struct account *a = TABLE_OBJECT(n, struct account, node);

		if (slice_is(name, a->name))
			return a;
	}
	return NULL;
}

unsigned ledger_account_count(const struct ledger *l)
{
	return l->account_count;
}

struct account *ledger_account(struct ledger *l, unsigned index)
{
	return l->account[index];
}

static void add_account(struct ledger *l, struct account *taken)
{
	if (l->account_count == l->account_room) {
		l->account_room = l->account_room ? l->account_room * 2 : 64;
		l->account = xrealloc(l->account, l->account_room, sizeof(struct account *));
	}
	l->account[l->account_count++] = taken;
	table_add(&l->by_name, &taken->node, text_hash(taken->name, strlen(taken->name)));
}

static void unlink_sender(struct ledger *l, struct account *a)
{
	if (a->older)
		a->older->newer = a->newer;
	else
		l->oldest = a->newer;
	if (a->newer)
		a->newer->older = a->older;
	else
		l->newest = a->older;
	a->older = a->newer = NULL;
}

static void link_newest(struct ledger *l, struct account *a)
{
	a->older = l->newest;
	a->newer = NULL;
	if (l->newest)
		l->newest->newer = a;
	else
		l->oldest = a;
	l->newest = a;
}

struct account *ledger_add_sender(struct ledger *l, struct slice name)
{
	struct account_spec spec = *l->sender;
	char *text = xstrndup(name.ptr, name.len);
	struct account *a;

	spec.name = text;
	a = account_new(&spec);
	free(text);
	a->is_sender = true;
	add_account(l, a);
	l->sender_count++;
	link_newest(l, a);
	return a;
}

/* Looks at those that were used longest ago; idle ones leave with the next commit. */
static void let_idle_go(struct ledger *l, struct moment t)
{
	for (unsigned i = 0; i < IDLE_PER_LOOK && l->oldest && l->sender_count > l->sender_max; i++) {
		struct account *a = l->oldest;

		unlink_sender(l, a);
		link_newest(l, a);
		if (a == l->overflow || a->is_leaving || !account_is_idle(a, t))
			continue;
		a->is_leaving = true;
		l->leaving_count++;
		ledger_touch(l, a);
	}
}

struct account *ledger_get_sender(struct ledger *l, struct slice name, struct moment t)
{
	struct account *a;

	if (!l->sender)
		return NULL;
	a = ledger_find(l, name);
	if (a) {
		l->leaving_count -= a->is_leaving;
		a->is_leaving = false;
		unlink_sender(l, a);
		link_newest(l, a);
		return a;
	}
	let_idle_go(l, t);
	if (!l->overflow)
		l->overflow = ledger_find(l, slice_of(SCOPE_SENDER "*"));
	if (l->overflow && account_has_outstanding(l->overflow))
		return l->overflow; /* perhaps this one's: it is settled where it was granted */
	if (l->sender_count - l->leaving_count < l->sender_max + SENDERS_SLACK) {
		a = ledger_add_sender(l, name);
		if (l->overflow) /* what is counted there may have been this one's */
			account_copy_charges(a, l->overflow, t);
		return a;
	}
	if (!l->overflow)
		l->overflow = ledger_add_sender(l, slice_of(SCOPE_SENDER "*"));
	return l->overflow;
}

static void forget_sender(struct ledger *l, struct account *a)
{
	for (unsigned i = 0; i < l->account_count; i++) {
		if (l->account[i] == a) {
			l->account[i] = l->account[--l->account_count];
			break;
		}
	}
	unlink_sender(l, a);
	table_remove(&l->by_name, &a->node);
	l->sender_count--;
	l->leaving_count--;
	account_free(&a);
}

/* --- open and close --- */

static int compare_specs(const void *a, const void *b)
{
	const struct account_spec *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static void add_configured(struct ledger *l, const struct ledger_options *o)
{
	const struct account_spec **sorted = xcalloc(o->account_count + 1, sizeof(*sorted));
	unsigned count = 0;

	for (unsigned i = 0; i < o->account_count; i++)
		if (o->account[i].limit_count + o->account[i].ramp_count > 0)
			sorted[count++] = &o->account[i];
	qsort(sorted, count, sizeof(*sorted), compare_specs);
	for (unsigned i = 0; i < count; i++)
		add_account(l, account_new(sorted[i]));
	free(sorted);
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
	table_init(&l->by_name);
	if (!l->store)
		goto fail;
	l->sender = o->sender;
	l->sender_max = o->sender_max                  ? o->sender_max
			: o->sender && o->sender->book ? SENDERS_OF_FLEET
						       : SENDERS_DEFAULT;
	add_configured(l, o);
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
	for (unsigned i = 0; i < old->account_count; i++)
		account_free(&old->account[i]);
	free(old->account);
	free(old->note);
	table_release(&old->by_name);
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

void ledger_set_wall(struct ledger *l, int64_t now, int64_t wall_ms)
{
	l->wall_lead = wall_ms - now;
}

struct moment ledger_moment(const struct ledger *l, int64_t now)
{
	return (struct moment){ now, now + l->wall_lead };
}

void ledger_touch(struct ledger *l, struct account *a)
{
	if (a->is_changed)
		return;
	a->is_changed = true;
	a->next_changed = l->changed;
	l->changed = a;
}

const char *ledger_note(const struct ledger *l)
{
	return l->note ? l->note : "";
}

void ledger_set_note(struct ledger *l, const char *text)
{
	free(l->note);
	l->note = xstrdup(text);
	l->is_note_changed = true;
}

bool ledger_has_changes(const struct ledger *l)
{
	return l->changed || l->is_note_changed || l->needs_sync;
}

static enum store_result delete_chunks(struct ledger *l, const struct account *a, const struct account_limit *limit,
				       uint64_t from, uint64_t to)
{
	for (uint64_t chunk = from; chunk < to; chunk++) {
		enum store_result result;

		key_set_chunk(l, a, limit, chunk);
		result = store_delete(l->store, buf_slice(&l->key));
		if (result != STORE_OK && result != STORE_NOT_FOUND)
			return result;
	}
	return STORE_OK;
}

static enum store_result save_window(struct ledger *l, const struct account *a, const struct account_limit *limit)
{
	struct window_changes c = window_changes(limit->window);
	enum store_result result = delete_chunks(l, a, limit, c.first_stored, c.first_live);

	for (uint64_t chunk = c.first; chunk < c.last && result == STORE_OK; chunk++) {
		key_set_chunk(l, a, limit, chunk);
		buf_clear(&l->value);
		window_encode_chunk(limit->window, chunk, &l->value);
		result = put_record(l);
	}
	return result;
}

static void put_calendar(struct buf *out, const struct calendar_count *k)
{
	buf_put_be(out, (uint64_t)k->end_ms, 8);
	buf_put_be(out, (uint64_t)k->wall_ms, 8);
	buf_put_be(out, (uint64_t)k->ready, 8);
	buf_put_be(out, k->count, 8);
}

static void encode_account(struct ledger *l, const struct account *a)
{
	struct buf *out = &l->value;

	buf_clear(out);
	buf_put_be(out, RECORD_VERSION, 1);
	for (unsigned class = 0; class < CLASS_COUNT; class ++)
		for (unsigned unit = 0; unit < UNIT_COUNT; unit++)
			buf_put_be(out, a->outstanding[class][unit] + a->inherited[class][unit], 8);
	buf_put_be(out, (uint64_t)l->time.time_ms, 8);
	buf_put_be(out, a->ramp_step, 2);
	put_calendar(out, &a->ramp_day);
	buf_put_be(out, a->limit_count, 2);
	for (unsigned i = 0; i < a->limit_count; i++) {
		buf_put_be(out, a->limit[i].kind, 1);
		buf_put_be(out, a->limit[i].slot, 1);
		buf_put_be(out, a->limit[i].unit, 1);
		buf_put_be(out, a->limit[i].width_ms, 8);
		buf_put_be(out, (uint64_t)a->limit[i].dormant_since, 8);
		if (a->limit[i].kind & LIMIT_CALENDAR)
			put_calendar(out, &a->limit[i].count);
	}
}

static enum store_result save_account(struct ledger *l, const struct account *a)
{
	enum store_result result;

	key_set_account(l, a->name);
	encode_account(l, a);
	if ((result = put_record(l)) != STORE_OK)
		return result;
	for (unsigned i = 0; i < a->limit_count; i++)
		if (a->limit[i].window && (result = save_window(l, a, &a->limit[i])) != STORE_OK)
			return result;
	return STORE_OK;
}

static enum store_result delete_account(struct ledger *l, const struct account *a)
{
	enum store_result result = STORE_OK;

	for (unsigned i = 0; i < a->limit_count && result == STORE_OK; i++) {
		struct window_changes c = { 0 };

		if (a->limit[i].window)
			c = window_changes(a->limit[i].window);
		result = delete_chunks(l, a, &a->limit[i], c.first_stored, c.first_live + 1);
	}
	if (result != STORE_OK)
		return result;
	key_set_account(l, a->name);
	result = store_delete(l->store, buf_slice(&l->key));
	return result == STORE_NOT_FOUND ? STORE_OK : result;
}

static enum store_result save_clock(struct ledger *l)
{
	buf_clear(&l->key);
	buf_put_char(&l->key, 'c');
	buf_clear(&l->value);
	buf_put_be(&l->value, CLOCK_VERSION, 1);
	buf_put_be(&l->value, (uint64_t)l->time.boot_ms, 8);
	buf_put_be(&l->value, (uint64_t)l->time.wall_ms, 8);
	buf_put_be(&l->value, (uint64_t)l->time.time_ms, 8);
	buf_put_str(&l->value, l->time.boot_id);
	return put_record(l);
}

static enum store_result save_note(struct ledger *l)
{
	buf_clear(&l->key);
	buf_put_char(&l->key, 'f');
	buf_clear(&l->value);
	buf_put_str(&l->value, l->note);
	return put_record(l);
}

static enum store_result save_changes(struct ledger *l)
{
	enum store_result result = store_begin(l->store);

	if (result != STORE_OK)
		return result;
	for (const struct account *a = l->changed; a && result == STORE_OK; a = a->next_changed)
		result = a->is_leaving ? delete_account(l, a) : save_account(l, a);
	if (result == STORE_OK && l->is_note_changed)
		result = save_note(l);
	if (result == STORE_OK)
		result = save_clock(l);
	if (result != STORE_OK) {
		store_abort(l->store);
		return result;
	}
	return store_commit(l->store);
}

static void set_saved(struct ledger *l)
{
	l->is_note_changed = false;
	while (l->changed) {
		struct account *a = l->changed;

		l->changed = a->next_changed;
		a->is_changed = false;
		for (unsigned i = 0; i < a->limit_count; i++)
			if (a->limit[i].window)
				window_set_saved(a->limit[i].window);
		if (a->is_leaving)
			forget_sender(l, a);
	}
}

enum store_result ledger_commit(struct ledger *l, int64_t wall_ms)
{
	enum store_result result;

	if (l->changed || l->is_note_changed) {
		l->time.wall_ms = wall_ms < 0 ? 0 : wall_ms;
		if ((result = save_changes(l)) != STORE_OK)
			return result;
		set_saved(l);
		l->needs_sync = true;
	}
	result = l->needs_sync ? store_sync(l->store) : STORE_OK;
	if (result == STORE_OK)
		l->needs_sync = false;
	return result;
}
