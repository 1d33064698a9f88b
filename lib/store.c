/*
 * store.c - records in Berkeley DB: one environment, one B-tree, one process, one thread.
 *
 * The files around it are store_files.c's concern.
 */
#include "lib/store.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/store_files.h"
#include "lib/text.h"
#include <db.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	PAGE_BYTES = 4096,       /* of the B-tree: the block size of the usual file systems, so pages are not torn */
	BULK_BYTES = 256 * 1024, /* read per call of a scan */
	LOG_BUFFER_BYTES = 128 * 1024,
	CHECKPOINT_RETRY_MS = 5000, /* after one that failed for want of space */
	COMPLAINTS_PER_PERIOD = 5,
	COMPLAINT_PERIOD_MS = 10000
};

/*
 * Our own records. The names are longer than what collides with a caller's binary keys by chance; put, get and
 * delete refuse them and scans pass over them.
 */
static const char KEY_IDENTITY[] = "\0postern store identity";
static const char KEY_SEQUENCE[] = "\0postern store sequence";
#define KEY_SLICE(k) ((struct slice){ (k), sizeof(k) - 1 })

struct store {
	DB_ENV *env;
	DB *db;
	DB_TXN *txn;
	int dir_fd, high_fd;
	uint64_t sequence; /* syncs in the life of this environment; also in the database and in store.high */
	uint64_t checkpoint_bytes, ballast_bytes;
	uint32_t log_file; /* number of the newest log file whose directory entry is durable */
	struct mono checkpoint_retry;
	void *bulk;
	uint32_t bulk_bytes;
	bool is_dirty; /* committed but not synced */
	bool is_fatal;
	bool has_ballast;
	bool has_lost_records;
};

/* Berkeley DB's error callback has no argument of ours, so what it says is kept here; one thread per process. */
static struct {
	char text[256];
	bool saw_full; /* "No space left on device" among the complaints since the last reset */
	struct mono since;
	unsigned count, suppressed;
} complaint;

const char *store_error(void)
{
	return complaint.text;
}

/* A failed checkpoint alone can produce hundreds of lines. */
static void complaint_log(void)
{
	struct mono now = clock_mono();

	if (now.ms - complaint.since.ms > COMPLAINT_PERIOD_MS) {
		if (complaint.suppressed > 0)
			log_warn("store: %u further complaints not shown", complaint.suppressed);
		complaint.since = now;
		complaint.count = complaint.suppressed = 0;
	}
	if (complaint.count++ < COMPLAINTS_PER_PERIOD)
		log_warn("store: %s", complaint.text);
	else
		complaint.suppressed++;
}

static void complain(const char *text)
{
	struct buf b;

	buf_init(&b, sizeof(complaint.text) - 1);
	text_escape(&b, slice_of(text), sizeof(complaint.text) - 8);
	snprintf(complaint.text, sizeof(complaint.text), "%s", buf_text(&b));
	buf_release(&b);
	if (strstr(text, strerror(ENOSPC)))
		complaint.saw_full = true;
}

static void on_library_error(const DB_ENV *env UNUSED, const char *prefix UNUSED, const char *text)
{
	complain(text);
	complaint_log();
}

static void on_library_event(DB_ENV *env, uint32_t event, void *info UNUSED)
{
	struct store *s = env->app_private;

	if (event == DB_EVENT_PANIC)
		s->is_fatal = true;
}

/* What a library result means for the caller. */
static enum store_result store_judge(struct store *s, int rc)
{
	if (rc == 0 && !s->is_fatal)
		return STORE_OK;
	if (rc == DB_NOTFOUND && !s->is_fatal)
		return STORE_NOT_FOUND;
	if ((rc == ENOSPC || rc == EDQUOT) && !s->is_fatal)
		return STORE_FULL;
	if (!s->is_fatal && complaint.text[0] == 0)
		complain(db_strerror(rc));
	s->is_fatal = true;
	return STORE_FATAL;
}

/* --- opening --- */

static int env_open(struct store *s, const struct store_options *o)
{
	uint64_t log_max = o->checkpoint_bytes / 2;
	DB_ENV *env;
	int rc = db_env_create(&env, 0);

	if (rc != 0)
		return rc;
	s->env = env;
	env->app_private = s;
	env->set_errcall(env, on_library_error);
	log_max = log_max < (1 << 20) ? (1 << 20) : log_max > (10 << 20) ? (10 << 20) : log_max;
	/* Never used, but unset it would be searched for outside the jail. */
	if ((rc = env->set_event_notify(env, on_library_event)) != 0 || (rc = env->set_tmp_dir(env, ".")) != 0 ||
	    (rc = env->set_cachesize(env, (uint32_t)(o->cache_bytes >> 30),
				     (uint32_t)(o->cache_bytes & ((1u << 30) - 1)), 1)) != 0 ||
	    (rc = env->set_lg_bsize(env, LOG_BUFFER_BYTES)) != 0 ||
	    (rc = env->set_lg_max(env, (uint32_t)log_max)) != 0 || (rc = env->set_tx_max(env, 8)) != 0 ||
	    (rc = env->log_set_config(env, DB_LOG_AUTO_REMOVE, 1)) != 0 ||
	    (rc = env->set_flags(env, DB_TXN_NOSYNC | DB_NOMMAP, 1)) != 0)
		return rc;
	return env->open(env, o->dir, DB_PRIVATE | DB_CREATE | DB_INIT_TXN | DB_INIT_LOG | DB_INIT_MPOOL | DB_RECOVER,
			 0600);
}

static int records_open(struct store *s, bool is_new)
{
	int rc = db_create(&s->db, s->env, 0);

	if (rc != 0)
		return rc;
	if ((rc = s->db->set_flags(s->db, DB_CHKSUM)) != 0 || (rc = s->db->set_pagesize(s->db, PAGE_BYTES)) != 0)
		return rc;
	return s->db->open(s->db, NULL, STORE_RECORDS_FILE, NULL, DB_BTREE, DB_AUTO_COMMIT | (is_new ? DB_CREATE : 0),
			   0600);
}

static DBT dbt_of(struct slice s)
{
	DBT d;

	memset(&d, 0, sizeof(d));
	d.data = (void *)(uintptr_t)s.ptr;
	d.size = (uint32_t)s.len;
	return d;
}

static int record_put(struct store *s, struct slice key, struct slice value)
{
	DBT k = dbt_of(key), v = dbt_of(value);

	return s->db->put(s->db, s->txn, &k, &v, 0);
}

static int record_get(struct store *s, struct slice key, struct slice *value)
{
	DBT k = dbt_of(key), v;
	int rc;

	memset(&v, 0, sizeof(v));
	rc = s->db->get(s->db, s->txn, &k, &v, 0);
	*value = rc == 0 ? (struct slice){ v.data, v.size } : (struct slice){ "", 0 };
	return rc;
}

/* Ours or a stranger's? Then: did recovery reach as far as the log was known to be durable? */
static enum store_open_result records_check(struct store *s, const char *id)
{
	struct slice value;
	uint64_t high = 0, sequence = 0;

	if (record_get(s, KEY_SLICE(KEY_IDENTITY), &value) != 0 || !slice_is(value, id)) {
		complain(STORE_RECORDS_FILE " is not the one that " STORE_MARK_FILE " speaks of");
		return STORE_DAMAGED;
	}
	if (record_get(s, KEY_SLICE(KEY_SEQUENCE), &value) == 0 && value.len == sizeof(sequence))
		memcpy(&sequence, value.ptr, sizeof(sequence));
	if (pread(s->high_fd, &high, sizeof(high), 0) != (ssize_t)sizeof(high))
		high = 0;
	s->has_lost_records = high > sequence;
	s->sequence = high > sequence ? high : sequence;
	return STORE_OPENED;
}

static enum store_open_result records_create(struct store *s, const char *id)
{
	int rc = record_put(s, KEY_SLICE(KEY_IDENTITY), slice_of(id));

	s->is_dirty = true;
	if (rc == 0 && store_sync(s) == STORE_OK)
		rc = s->env->txn_checkpoint(s->env, 0, 0, DB_FORCE);
	if (rc != 0 || s->is_dirty)
		return complaint.saw_full ? STORE_NO_SPACE : STORE_FAILED;
	return store_mark_write(s->dir_fd, "ready", id) < 0 ? STORE_FAILED : STORE_CREATED;
}

/* Why Berkeley DB could not open: the disk, the system, or the files. */
static enum store_open_result open_failure(int rc)
{
	if (rc == ENOSPC || rc == EDQUOT || complaint.saw_full)
		return STORE_NO_SPACE;
	if (complaint.text[0] == 0)
		complain(db_strerror(rc));
	if (rc == ENOMEM || rc == EACCES || rc == EPERM || rc == EROFS || rc == EMFILE || rc == ENFILE) {
		errno = rc;
		return STORE_FAILED;
	}
	return STORE_DAMAGED;
}

static enum store_open_result store_open_files(struct store *s, const struct store_options *o)
{
	char id[STORE_ID_LEN + 1];
	const char *why = NULL;
	enum store_open_result found = store_files_check(s->dir_fd, id, &why);
	bool is_new = found == STORE_CREATED;
	int rc;

	if (why)
		complain(why);
	if (found != STORE_OPENED && !is_new)
		return found;
	if (is_new) {
		store_id_make(id);
		if (store_mark_write(s->dir_fd, "creating", id) < 0)
			return errno == ENOSPC ? STORE_NO_SPACE : STORE_FAILED;
	}
	if (store_library_settings_disable(s->dir_fd) < 0)
		return STORE_FAILED;
	store_ballast_free_if_needed(s->dir_fd, s->ballast_bytes);
	s->high_fd = openat(s->dir_fd, STORE_HIGH_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->high_fd < 0)
		return errno == ENOSPC ? STORE_NO_SPACE : STORE_FAILED;
	if ((rc = env_open(s, o)) != 0 || (rc = records_open(s, is_new)) != 0)
		return open_failure(rc);
	if (s->is_fatal)
		return open_failure(DB_RUNRECOVERY);
	found = is_new ? records_create(s, id) : records_check(s, id);
	s->has_ballast = store_ballast_make(s->dir_fd, s->ballast_bytes);
	return found;
}

static void store_release(struct store *s)
{
	int saved = errno;

	if (s->txn)
		(void)s->txn->abort(s->txn);
	if (s->db)
		(void)s->db->close(s->db, 0);
	if (s->env)
		(void)s->env->close(s->env, 0);
	if (s->high_fd >= 0)
		close(s->high_fd);
	if (s->dir_fd >= 0)
		close(s->dir_fd); /* and with it the lock */
	free(s->bulk);
	free(s);
	errno = saved;
}

enum store_open_result store_open(struct store **out, const struct store_options *o)
{
	struct store *s = xcalloc(1, sizeof(*s));
	enum store_open_result result;

	*out = NULL;
	complaint.text[0] = 0;
	complaint.saw_full = false;
	s->checkpoint_bytes = o->checkpoint_bytes;
	s->ballast_bytes = o->ballast_bytes;
	s->high_fd = -1;
	s->dir_fd = store_dir_lock(o->dir);
	if (s->dir_fd >= 0)
		result = store_open_files(s, o);
	else
		result = errno == EWOULDBLOCK ? STORE_BUSY : STORE_FAILED;
	if (result == STORE_OPENED || result == STORE_CREATED) {
		*out = s;
		return result;
	}
	if (result == STORE_FAILED && complaint.text[0] == 0)
		complain(strerror(errno));
	store_release(s);
	return result;
}

bool store_has_lost_records(const struct store *s)
{
	return s->has_lost_records;
}

/* --- transactions and records --- */

enum store_result store_begin(struct store *s)
{
	if (s->txn)
		BUG("store_begin inside a transaction");
	if (s->is_fatal)
		return STORE_FATAL;
	return store_judge(s, s->env->txn_begin(s->env, NULL, &s->txn, 0));
}

enum store_result store_commit(struct store *s)
{
	DB_TXN *txn = s->txn;

	if (!txn)
		BUG("store_commit outside a transaction");
	s->txn = NULL; /* the handle is gone whatever commit says */
	s->is_dirty = true;
	return store_judge(s, txn->commit(txn, DB_TXN_NOSYNC));
}

void store_abort(struct store *s)
{
	DB_TXN *txn = s->txn;

	s->txn = NULL;
	if (txn && txn->abort(txn) != 0)
		s->is_fatal = true;
}

static void check_key(struct slice key)
{
	if (slice_equal(key, KEY_SLICE(KEY_IDENTITY)) || slice_equal(key, KEY_SLICE(KEY_SEQUENCE)))
		BUG("reserved key");
}

enum store_result store_put(struct store *s, struct slice key, struct slice value)
{
	check_key(key);
	if (s->is_fatal)
		return STORE_FATAL;
	s->is_dirty = true;
	return store_judge(s, record_put(s, key, value));
}

enum store_result store_delete(struct store *s, struct slice key)
{
	DBT k = dbt_of(key);

	check_key(key);
	if (s->is_fatal)
		return STORE_FATAL;
	s->is_dirty = true;
	return store_judge(s, s->db->del(s->db, s->txn, &k, 0));
}

enum store_result store_get(struct store *s, struct slice key, struct slice *value)
{
	check_key(key);
	if (s->is_fatal)
		return STORE_FATAL;
	return store_judge(s, record_get(s, key, value));
}

struct scan {
	struct slice prefix;
	bool (*fn)(void *arg, struct slice key, struct slice value);
	void *arg;
};

/* Hands on the records of one bulk read; false: the scan is over. */
static bool scan_block(const struct scan *scan, const DBT *block)
{
	void *at, *key, *value;
	uint32_t key_len, value_len;

	DB_MULTIPLE_INIT(at, block);
	for (;;) {
		struct slice k, v;

		DB_MULTIPLE_KEY_NEXT(at, block, key, key_len, value, value_len);
		if (!at)
			return true;
		k = (struct slice){ key, key_len };
		v = (struct slice){ value, value_len };
		if (k.len < scan->prefix.len ||
		    (scan->prefix.len > 0 && memcmp(k.ptr, scan->prefix.ptr, scan->prefix.len) != 0))
			return false;
		if (slice_equal(k, KEY_SLICE(KEY_IDENTITY)) || slice_equal(k, KEY_SLICE(KEY_SEQUENCE)))
			continue;
		if (!scan->fn(scan->arg, k, v))
			return false;
	}
}

/* One bulk read, with a larger buffer when a single record does not fit. */
static int scan_read(struct store *s, DBC *cursor, DBT *key, DBT *block, uint32_t how)
{
	int rc;

	for (;;) {
		block->data = s->bulk;
		block->ulen = s->bulk_bytes;
		block->flags = DB_DBT_USERMEM;
		rc = cursor->get(cursor, key, block, how | DB_MULTIPLE_KEY);
		if (rc != DB_BUFFER_SMALL || block->size < s->bulk_bytes)
			return rc;
		s->bulk_bytes = (block->size / 1024 + 2) * 1024;
		s->bulk = xrealloc(s->bulk, s->bulk_bytes, 1);
	}
}

enum store_result store_scan(struct store *s, struct slice prefix,
			     bool (*fn)(void *arg, struct slice key, struct slice value), void *arg)
{
	struct scan scan = { prefix, fn, arg };
	DBT key = dbt_of(prefix), block;
	DBC *cursor;
	uint32_t how = prefix.len > 0 ? DB_SET_RANGE : DB_FIRST;
	int rc;

	if (s->is_fatal)
		return STORE_FATAL;
	if (!s->bulk) {
		s->bulk_bytes = BULK_BYTES;
		s->bulk = xmalloc(s->bulk_bytes);
	}
	memset(&block, 0, sizeof(block));
	if ((rc = s->db->cursor(s->db, s->txn, &cursor, DB_CURSOR_BULK)) != 0)
		return store_judge(s, rc);
	while ((rc = scan_read(s, cursor, &key, &block, how)) == 0 && scan_block(&scan, &block))
		how = DB_NEXT;
	(void)cursor->close(cursor);
	free(s->bulk); /* scans are for start-up and rare questions: do not keep it */
	s->bulk = NULL;
	return store_judge(s, rc == DB_NOTFOUND ? 0 : rc);
}

/* --- durability --- */

/* A log file begun since the last sync: its name must be as durable as its content. */
static int sync_log_name(struct store *s)
{
	DB_LOG_STAT *stat;
	int rc = s->env->log_stat(s->env, &stat, 0);
	uint32_t newest;

	if (rc != 0)
		return rc;
	newest = stat->st_cur_file;
	free(stat);
	if (newest == s->log_file)
		return 0;
	if (fsync(s->dir_fd) < 0)
		return errno;
	s->log_file = newest;
	if (!s->has_ballast) /* given up in a crisis: now and then see whether it is over */
		s->has_ballast = store_ballast_make(s->dir_fd, s->ballast_bytes);
	return 0;
}

/* Not a failure of the sync: what was committed is safe in the log, which only grows until this succeeds. */
static void checkpoint_if_due(struct store *s)
{
	struct mono now;
	int rc;

	if (s->checkpoint_retry.ms > 0) {
		now = clock_mono();
		if (now.ms < s->checkpoint_retry.ms)
			return;
	}
	s->checkpoint_retry.ms = 0;
	rc = s->env->txn_checkpoint(s->env, (uint32_t)(s->checkpoint_bytes >> 10), 0, 0);
	if (rc != 0) {
		store_judge(s, rc);
		s->checkpoint_retry.ms = clock_mono().ms + CHECKPOINT_RETRY_MS;
	}
}

enum store_result store_sync(struct store *s)
{
	uint64_t next = s->sequence + 1;
	enum store_result result;
	int rc;

	if (s->is_fatal)
		return STORE_FATAL;
	if (!s->is_dirty)
		return STORE_OK;
	if (s->txn)
		BUG("store_sync inside a transaction");
	complaint.text[0] = 0;
	rc = record_put(s, KEY_SLICE(KEY_SEQUENCE), (struct slice){ (const char *)&next, sizeof(next) });
	if (rc == 0)
		rc = s->env->log_flush(s->env, NULL);
	if (rc == 0)
		rc = sync_log_name(s);
	result = store_judge(s, rc);
	if (result != STORE_OK)
		return result;
	s->sequence = next;
	s->is_dirty = false;
	s->has_lost_records = false;
	/*
	 * Written after the log is durable and never synced: it can only lag behind. Should recovery ever end before
	 * it, then records that were acknowledged are gone.
	 */
	if (pwrite(s->high_fd, &next, sizeof(next), 0) < 0)
		log_debug("store: " STORE_HIGH_FILE ": %s", strerror(errno));
	checkpoint_if_due(s);
	return s->is_fatal ? STORE_FATAL : STORE_OK;
}

void store_close(struct store **s)
{
	struct store *old = *s;

	if (!old)
		return;
	*s = NULL;
	store_abort(old);
	if (!old->is_fatal && store_sync(old) == STORE_OK)
		(void)old->env->txn_checkpoint(old->env, 0, 0, 0);
	store_release(old);
}
