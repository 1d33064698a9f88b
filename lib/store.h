/* store.h - durable key/value records (Berkeley DB behind ten calls; one process per environment).
 *
 * Loss and damage: see store_open(). After any fatal result the process must exit; master starts it again and
 * store_open() recovers.
 */
#ifndef LIB_STORE_H
#define LIB_STORE_H
#include "lib/base.h"

struct store;

enum store_result {
	STORE_OK,
	STORE_NOT_FOUND,
	STORE_FULL, /* no space: nothing changed, try again later */
	STORE_FATAL /* environment unusable: exit with EXIT_STATUS_TEMPORARY */
};

enum store_open_result {
	STORE_OPENED,   /* with what was there */
	STORE_CREATED,  /* the directory was empty: a new one */
	STORE_DAMAGED,  /* there is something, but it cannot be used; nothing was changed */
	STORE_BUSY,     /* another process holds it */
	STORE_NO_SPACE, /* recovery needs room that even the ballast did not give */
	STORE_FAILED    /* errno says */
};

struct store_options {
	const char *dir; /* exists, mode 0700 */
	uint64_t cache_bytes;
	uint64_t checkpoint_bytes; /* of log between checkpoints, 10-30 MiB */
	uint64_t ballast_bytes;    /* file kept to be freed for recovery on a full disk */
};

/*
 * DB_PRIVATE|DB_RECOVER, own flock, page checksums, a generation marker beside the files so that a database which
 * Berkeley DB silently made anew is seen as DAMAGED. *out is set for OPENED and CREATED only. DAMAGED: files that are
 * missing are found before anything is touched; a recovery that fails half-way may have written data pages.
 */
enum store_open_result store_open(struct store **out, const struct store_options *o) MUST_CHECK;
/*
 * After OPENED: records that an earlier store_sync() had made durable are gone (Berkeley DB's recovery stops silently
 * at the first damaged log record). The scheduler reconciles with the queue files; the limiter refuses. Stays true over
 * restarts until something is written and synced.
 */
bool store_has_lost_records(const struct store *s);
const char *store_error(void); /* last complaint of the library, printable; static until the next call */
/* Moves the files of a damaged environment into dir/damaged-TIME/ so that store_open() can begin anew. 0, or -1 with
 * errno (EWOULDBLOCK: another process holds it). */
int store_set_aside(const char *dir) MUST_CHECK;

/* Reads and writes outside begin/end are transactions of their own. Nothing is durable before store_sync(). */
/* begin does not nest. When a call between begin and commit fails, abort. */
enum store_result store_begin(struct store *s) MUST_CHECK;
enum store_result store_commit(struct store *s) MUST_CHECK; /* visible, not durable yet */
void store_abort(struct store *s);
enum store_result store_put(struct store *s, struct slice key, struct slice value) MUST_CHECK;
enum store_result store_delete(struct store *s, struct slice key) MUST_CHECK; /* NOT_FOUND is fine */
/* *value is borrowed until the next call on this store. */
enum store_result store_get(struct store *s, struct slice key, struct slice *value) MUST_CHECK;
/* All records with prefix, in key order, read in bulk; fn returns false to stop. fn must not call the store. */
enum store_result store_scan(struct store *s, struct slice prefix,
			     bool (*fn)(void *arg, struct slice key, struct slice value), void *arg) MUST_CHECK;
/*
 * Everything committed so far is on stable storage; also takes a checkpoint when one is due. Costs nothing when nothing
 * was committed since. FULL: still in memory; acknowledge nothing and call it again later.
 */
enum store_result store_sync(struct store *s) MUST_CHECK;
void store_close(struct store **s); /* checkpoint, then close */
#endif
