/* finish.c - S4 -> S5 and on: the record says done before the file goes, the report is durable before either. */
#include "scheduler/finish.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "scheduler/dispatch.h"
#include "scheduler/events.h"
#include "scheduler/intake.h"
#include "scheduler/lane.h"
#include "scheduler/report.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { SWEEP_COUNT = 2000, SWEEP_MS = 10000 };

/* --- done --- */

void finish_add_done(struct scheduler *s, uint64_t id, uint32_t group, const char *why)
{
	*(struct done_message *)array_add((void **)&s->done, &s->done_count, &s->done_room,
					  sizeof(struct done_message)) = (struct done_message){ id, group, why };
}

static void put_done(struct scheduler *s, uint64_t id, uint32_t group)
{
	char nothing[] = "";
	struct record r = {
		.id = id, .group = group, .group_count = 1, .state = RECORD_DONE, .domain = nothing, .sender = nothing
	};

	scheduler_must(s, journal_put(s->journal, &r), "recording that a message is done");
}

static void forget_message(struct scheduler *s, uint64_t id)
{
	struct message *m = message_find(s, id);

	if (!m)
		return;
	table_remove(&s->messages, &m->node);
	free(m);
}

void finish_mark_done(struct scheduler *s, const struct record_list *list, const char *why)
{
	uint64_t id = list->record[0]->id;

	scheduler_must(s, journal_begin(s->journal), "recording that a message is done");
	for (unsigned i = 1; i < list->count; i++)
		scheduler_must(s, journal_delete(s->journal, id, list->record[i]->group), "dropping a record");
	put_done(s, id, list->record[0]->group);
	scheduler_must(s, journal_commit(s->journal), "recording that a message is done");
	forget_message(s, id);
	finish_add_done(s, id, list->record[0]->group, why);
}

static bool is_all_delivered(const struct record *r)
{
	for (unsigned i = 0; i < r->rcpt_count; i++)
		if (r->rcpt[i].state != RCPT_DELIVERED)
			return false;
	return true;
}

void finish_delivery(struct scheduler *s, struct record *r, entry_index i)
{
	struct message *m = message_find(s, r->id);

	entry_forget(s, i);
	if (!m && is_all_delivered(r)) { /* nearly all mail: one record, one change */
		put_done(s, r->id, r->group);
		finish_add_done(s, r->id, r->group, "sent");
		return;
	}
	r->state = RECORD_FINAL;
	scheduler_must(s, journal_put(s->journal, r), "recording an outcome");
	if (m && --m->open_groups > 0)
		return;
	finish_message(s, r->id);
}

void finish_message(struct scheduler *s, uint64_t id)
{
	struct record_list list = { 0 };

	records_read(s, id, &list);
	if (list.count == 0)
		forget_message(s, id);
	else if (records_need_report(&list))
		report_final(s, &list);
	else
		finish_mark_done(s, &list, records_outcome(&list));
	records_release(&list);
}

/* --- after the sync --- */

/* False: it is still there, and so must be the record that says done, for the next start. */
static bool unlink_done(struct scheduler *s, const struct done_message *done)
{
	char path[SPOOL_PATH_MAX];
	int rc;

	spool_queue_path(done->id, path);
	rc = unlinkat(s->spool_fd, path, 0);
	if (rc < 0 && errno == ENOENT) { /* never renamed: done before the first sync after its arrival */
		spool_incoming_path(done->id, path);
		rc = unlinkat(s->spool_fd, path, 0);
	}
	if (rc < 0 && errno != ENOENT) {
		log_error("cannot remove %s: %s; tried again at the next start", path, strerror(errno));
		return false;
	}
	if (done->why)
		event_removed(s, done->id, done->why);
	return true;
}

void finish_after_sync(struct scheduler *s)
{
	struct done_message *done = s->done;
	unsigned count = s->done_count;

	/* What reports add to the list is durable only after the next sync. */
	s->done = NULL;
	s->done_count = s->done_room = 0;
	if (s->report_count > 0)
		report_after_sync(s);
	for (unsigned i = 0; i < count; i++) {
		if (!unlink_done(s, &done[i]))
			continue;
		*(struct done_message *)array_add((void **)&s->sweep, &s->sweep_count, &s->sweep_room,
						  sizeof(struct done_message)) = done[i];
	}
	free(done);
	if (s->sweep_count >= SWEEP_COUNT)
		finish_sweep(s);
	else if (s->sweep_count > 0 && !loop_timer_is_set(s->sweep_timer))
		loop_timer_set_ms(s->sweep_timer, SWEEP_MS);
}

/* The folders in which their names stood: after a power failure the first of them may be back as well. */
static bool sync_swept(struct scheduler *s)
{
	bool is_synced[SPOOL_SHARDS] = { false };
	char path[SPOOL_PATH_MAX] = "incoming";
	int rc = s->sweep_count > 0 ? spool_sync_dir(s->spool_fd, path) : 0;

	for (unsigned i = 0; i < s->sweep_count && rc == 0; i++) {
		unsigned shard = spool_shard(s->sweep[i].id);

		if (is_synced[shard])
			continue;
		spool_queue_path(s->sweep[i].id, path);
		*strrchr(path, '/') = '\0';
		rc = spool_sync_dir(s->spool_fd, path);
		is_synced[shard] = true;
	}
	if (rc < 0)
		log_error("cannot sync %s: %s", path, strerror(errno));
	return rc == 0;
}

void finish_sweep(struct scheduler *s)
{
	loop_timer_cancel(s->sweep_timer);
	if (!sync_swept(s)) {
		loop_timer_set_ms(s->sweep_timer, SWEEP_MS);
		return;
	}
	scheduler_must(s, journal_begin(s->journal), "dropping records of messages that are gone");
	for (unsigned i = 0; i < s->sweep_count; i++)
		scheduler_must(s, journal_delete(s->journal, s->sweep[i].id, s->sweep[i].group), "dropping a record");
	scheduler_must(s, journal_commit(s->journal), "dropping records of messages that are gone");
	s->sweep_count = 0;
}

bool finish_take_out(struct scheduler *s, entry_index i)
{
	struct entry *e = entry_get(s->entries, i);
	struct lane *l;

	switch (e->place) {
	case ENTRY_HEAP:
		entries_remove(s->entries, i);
		return true;
	case ENTRY_HELD:
		e->place = ENTRY_LISTED;
		return true;
	case ENTRY_LISTED:
		l = lane_at(s, e->blame);
		return l && lane_remove(s, l, i);
	default:
		return false;
	}
}

static bool can_take_out(struct scheduler *s, const struct entry *e)
{
	return e->place == ENTRY_HEAP || e->place == ENTRY_HELD || (e->place == ENTRY_LISTED && lane_at(s, e->blame));
}

bool finish_forget(struct scheduler *s, uint64_t id, entry_index only)
{
	bool has_others = message_find(s, id) != NULL;
	entry_index from = has_others ? 1 : only, to = has_others ? entries_limit(s->entries) : only + 1;
	struct record_list list = { 0 };

	for (entry_index i = from; i < to; i++) {
		const struct entry *e = entry_get(s->entries, i);

		if (e->place != ENTRY_FREE && e->id == id && !can_take_out(s, e))
			return false;
	}
	for (entry_index i = from; i < to; i++) {
		const struct entry *e = entry_get(s->entries, i);

		if (e->place == ENTRY_FREE || e->id != id)
			continue;
		if (!finish_take_out(s, i))
			BUG("entry %u is not in the lane it names", i);
		entry_forget(s, i);
	}
	records_read(s, id, &list);
	if (list.count > 0)
		finish_mark_done(s, &list, "deleted");
	records_release(&list);
	return true;
}
