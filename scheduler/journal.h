/* journal.h - the scheduler's records on stable storage: SPOOL/db/queue. */
#ifndef SCHEDULER_JOURNAL_H
#define SCHEDULER_JOURNAL_H
#include "lib/store.h"
#include "scheduler/record.h"

struct journal;

/*
 * Opens SPOOL/db/queue (relative to the present directory). A damaged database is set aside and a new one begun: the
 * queue files alone suffice; *is_rebuilt says so. NULL when it cannot be opened at all; why was logged.
 */
struct journal *journal_open(const char *dir, bool *is_rebuilt);
void journal_close(struct journal **j);

/* Changes count at once and are durable after journal_sync(). STORE_FULL: no space, nothing changed. */
enum store_result journal_put(struct journal *j, const struct record *r) MUST_CHECK;
enum store_result journal_delete(struct journal *j, uint64_t id, uint32_t group) MUST_CHECK;
/* Several changes that count together. */
enum store_result journal_begin(struct journal *j) MUST_CHECK;
enum store_result journal_commit(struct journal *j) MUST_CHECK;
void journal_abort(struct journal *j);
/* NULL when there is none, or a damaged one (logged). Free it. */
struct record *journal_get(struct journal *j, uint64_t id, uint32_t group);
/* All records (id 0) or all of one message, in key order. fn must not call the journal. */
enum store_result journal_scan(struct journal *j, uint64_t id,
			       bool (*fn)(void *arg, struct slice key, struct slice value), void *arg) MUST_CHECK;
/* What is not about a message: small, by name. They stand before all records; journal_scan(0) shows them too. */
enum store_result journal_put_note(struct journal *j, const char *name, struct slice value) MUST_CHECK;
enum store_result journal_delete_note(struct journal *j, const char *name) MUST_CHECK;
bool journal_get_note(struct journal *j, const char *name, struct buf *value) MUST_CHECK; /* false: there is none */
/* All notes whose names begin so; fn gets the names. */
enum store_result journal_scan_notes(struct journal *j, const char *prefix,
				     void (*fn)(void *arg, struct slice name, struct slice value),
				     void *arg) MUST_CHECK;
bool journal_key_is_note(struct slice key);
bool journal_is_dirty(const struct journal *j);
enum store_result journal_sync(struct journal *j) MUST_CHECK;
#endif
