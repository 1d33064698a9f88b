/* journal.c - records into the store. */
#include "scheduler/journal.h"
#include "lib/log.h"
#include <errno.h>
#include <stdlib.h>

struct journal {
	struct store *store;
	struct buf value;
	bool is_dirty;
};

static struct store *open_store(const struct store_options *options, enum store_open_result *result)
{
	struct store *store = NULL;

	*result = store_open(&store, options);
	return store;
}

static void say_why_not(enum store_open_result result, const char *dir)
{
	if (result == STORE_BUSY)
		log_error("queue database %s is in use by another process", dir);
	else if (result == STORE_NO_SPACE)
		log_error("queue database %s needs free disk space to recover", dir);
	else
		log_error("queue database %s cannot be opened: %s", dir, store_error());
}

struct journal *journal_open(const char *dir, bool *is_rebuilt)
{
	struct store_options options = {
		.dir = dir,
		.cache_bytes = 512u << 10,
		.checkpoint_bytes = 16u << 20,
		.ballast_bytes = 40u << 20,
	};
	enum store_open_result result;
	struct store *store = open_store(&options, &result);
	struct journal *j;

	*is_rebuilt = false;
	if (result == STORE_DAMAGED) {
		log_error("queue database is damaged (%s): set aside, made anew from the queue files; "
			  "what was being retried starts again and some recipients may get a second copy",
			  store_error());
		if (store_set_aside(dir) == 0)
			store = open_store(&options, &result);
		*is_rebuilt = true;
	}
	if (!store) {
		say_why_not(result, dir);
		return NULL;
	}
	j = xcalloc(1, sizeof(*j));
	j->store = store;
	buf_init(&j->value, RECORD_BYTES_MAX);
	return j;
}

void journal_close(struct journal **j)
{
	if (!*j)
		return;
	store_close(&(*j)->store);
	buf_release(&(*j)->value);
	free(*j);
	*j = NULL;
}

enum store_result journal_put(struct journal *j, const struct record *r)
{
	char key[RECORD_KEY_BYTES];

	record_key(r->id, r->group, key);
	buf_clear(&j->value);
	record_encode(&j->value, r);
	if (j->value.failed)
		BUG("record of %u recipients is too large", r->rcpt_count);
	j->is_dirty = true;
	return store_put(j->store, (struct slice){ key, sizeof(key) }, buf_slice(&j->value));
}

enum store_result journal_delete(struct journal *j, uint64_t id, uint32_t group)
{
	char key[RECORD_KEY_BYTES];
	enum store_result result;

	record_key(id, group, key);
	j->is_dirty = true;
	result = store_delete(j->store, (struct slice){ key, sizeof(key) });
	return result == STORE_NOT_FOUND ? STORE_OK : result;
}

enum store_result journal_begin(struct journal *j)
{
	return store_begin(j->store);
}

enum store_result journal_commit(struct journal *j)
{
	return store_commit(j->store);
}

void journal_abort(struct journal *j)
{
	store_abort(j->store);
}

struct record *journal_get(struct journal *j, uint64_t id, uint32_t group)
{
	char key[RECORD_KEY_BYTES];
	struct slice value;
	struct record *r;

	record_key(id, group, key);
	if (store_get(j->store, (struct slice){ key, sizeof(key) }, &value) != STORE_OK)
		return NULL;
	r = record_decode((struct slice){ key, sizeof(key) }, value);
	if (!r)
		log_error("record of message %llu group %u is damaged", (unsigned long long)id, group);
	return r;
}

enum store_result journal_scan(struct journal *j, uint64_t id,
			       bool (*fn)(void *arg, struct slice key, struct slice value), void *arg)
{
	char key[RECORD_KEY_BYTES];

	record_key(id, 0, key);
	return store_scan(j->store, (struct slice){ key, id ? 8 : 0 }, fn, arg);
}

/* --- notes: eight zero bytes, which no message has for an id, and the name --- */

enum { NOTE_ID_BYTES = 8, NOTE_KEY_MAX = 128 };

static void note_key(struct buf *key, const char *name)
{
	static const char ID[NOTE_ID_BYTES];

	buf_init(key, NOTE_KEY_MAX);
	buf_put(key, ID, sizeof(ID));
	buf_put_str(key, name);
	if (key->failed)
		BUG("name of a note: %s", name);
}

bool journal_key_is_note(struct slice key)
{
	static const char ID[NOTE_ID_BYTES];

	return key.len >= sizeof(ID) && memcmp(key.ptr, ID, sizeof(ID)) == 0;
}

enum store_result journal_put_note(struct journal *j, const char *name, struct slice value)
{
	enum store_result result;
	struct buf key;

	note_key(&key, name);
	j->is_dirty = true;
	result = store_put(j->store, buf_slice(&key), value);
	buf_release(&key);
	return result;
}

enum store_result journal_delete_note(struct journal *j, const char *name)
{
	enum store_result result;
	struct buf key;

	note_key(&key, name);
	j->is_dirty = true;
	result = store_delete(j->store, buf_slice(&key));
	buf_release(&key);
	return result == STORE_NOT_FOUND ? STORE_OK : result;
}

bool journal_get_note(struct journal *j, const char *name, struct buf *value)
{
	struct slice found;
	struct buf key;
	bool is_there;

	note_key(&key, name);
	is_there = store_get(j->store, buf_slice(&key), &found) == STORE_OK;
	buf_clear(value);
	if (is_there)
		buf_put_slice(value, found);
	buf_release(&key);
	return is_there && value->len > 0;
}

struct note_scan {
	void (*fn)(void *arg, struct slice name, struct slice value);
	void *arg;
};

static bool on_note(void *arg, struct slice key, struct slice value)
{
	struct note_scan *scan = arg;

	scan->fn(scan->arg, (struct slice){ key.ptr + NOTE_ID_BYTES, key.len - NOTE_ID_BYTES }, value);
	return true;
}

enum store_result journal_scan_notes(struct journal *j, const char *prefix,
				     void (*fn)(void *arg, struct slice name, struct slice value), void *arg)
{
	struct note_scan scan = { fn, arg };
	enum store_result result;
	struct buf key;

	note_key(&key, prefix);
	result = store_scan(j->store, buf_slice(&key), on_note, &scan);
	buf_release(&key);
	return result;
}

bool journal_is_dirty(const struct journal *j)
{
	return j->is_dirty;
}

enum store_result journal_sync(struct journal *j)
{
	enum store_result result = store_sync(j->store);

	if (result == STORE_OK)
		j->is_dirty = false;
	return result;
}
