/* finish.c - S4 -> S5 and on: the record says done before the file goes, the report is durable before either. */
#include "scheduler/finish.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "scheduler/bounce.h"
#include "scheduler/dispatch.h"
#include "scheduler/events.h"
#include "scheduler/intake.h"
#include "scheduler/lane.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { SWEEP_COUNT = 2000, SWEEP_MS = 10000, REPORT_WAIT_MS = 5000 };

static void must(struct scheduler *s, enum store_result result, const char *doing)
{
	if (result != STORE_OK)
		scheduler_fail(s, result, doing);
}

/* --- all records of one message --- */

struct record_list {
	struct record **record;
	unsigned count, room;
};

static bool collect(void *arg, struct slice key, struct slice value)
{
	struct record_list *list = arg;
	struct record *r = record_decode(key, value);

	if (r)
		*(struct record **)array_add((void **)&list->record, &list->count, &list->room, sizeof(r)) = r;
	return true;
}

static void read_records(struct scheduler *s, uint64_t id, struct record_list *list)
{
	must(s, journal_scan(s->journal, id, collect, list), "reading a message's records");
}

static void record_list_release(struct record_list *list)
{
	for (unsigned i = 0; i < list->count; i++)
		record_free(&list->record[i]);
	free(list->record);
}

/* --- done --- */

void finish_add_done(struct scheduler *s, uint64_t id, uint16_t group, const char *why)
{
	*(struct done_message *)array_add((void **)&s->done, &s->done_count, &s->done_room,
					  sizeof(struct done_message)) = (struct done_message){ id, group, why };
}

static void put_done(struct scheduler *s, uint64_t id, uint16_t group)
{
	char nothing[] = "";
	struct record r = {
		.id = id, .group = group, .group_count = 1, .state = RECORD_DONE, .domain = nothing, .sender = nothing
	};

	must(s, journal_put(s->journal, &r), "recording that a message is done");
}

static void forget_message(struct scheduler *s, uint64_t id)
{
	struct message *m = message_find(s, id);

	if (!m)
		return;
	table_remove(&s->messages, &m->node);
	free(m);
}

/* The lowest group's record becomes the done mark, the others go. */
static void mark_done(struct scheduler *s, const struct record_list *list, const char *why)
{
	uint64_t id = list->record[0]->id;

	must(s, journal_begin(s->journal), "recording that a message is done");
	for (unsigned i = 1; i < list->count; i++)
		must(s, journal_delete(s->journal, id, list->record[i]->group), "dropping a record");
	put_done(s, id, list->record[0]->group);
	must(s, journal_commit(s->journal), "recording that a message is done");
	forget_message(s, id);
	finish_add_done(s, id, list->record[0]->group, why);
}

static const char *outcome_word(const struct record_list *list)
{
	bool sent = false, failed = false;

	for (unsigned i = 0; i < list->count; i++) {
		for (unsigned k = 0; k < list->record[i]->rcpt_count; k++) {
			sent |= list->record[i]->rcpt[k].state == RCPT_DELIVERED;
			failed |= list->record[i]->rcpt[k].state != RCPT_DELIVERED;
		}
	}
	return sent && failed ? "mixed" : failed ? "bounced" : "sent";
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
	must(s, journal_put(s->journal, r), "recording an outcome");
	if (m && --m->open_groups > 0)
		return;
	finish_message(s, r->id);
}

/* --- reports --- */

struct report {
	struct scheduler *s;
	struct queuefile qf;
	int fd;
	struct bounce_rcpt *rcpt;
	unsigned count, room;
	enum bounce_kind kind;
};

enum report_source { SOURCE_OPEN, SOURCE_GONE, SOURCE_LATER };

static enum report_source report_open(struct report *report, struct scheduler *s, uint64_t id)
{
	enum queuefile_result result = QUEUEFILE_IO;
	char path[SPOOL_PATH_MAX];
	bool is_gone;

	*report = (struct report){ .s = s, .fd = -1 };
	spool_queue_path(id, path);
	report->fd = openat(s->spool_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (report->fd < 0) { /* not renamed yet */
		spool_incoming_path(id, path);
		report->fd = openat(s->spool_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	}
	is_gone = report->fd < 0 && errno == ENOENT;
	if (report->fd >= 0)
		result = queuefile_read(report->fd, &report->qf);
	if (result == QUEUEFILE_OK)
		return SOURCE_OPEN;
	log_error("%s: cannot be read for a report to its sender: %s", path,
		  result == QUEUEFILE_IO ? strerror(errno) : "it is damaged");
	return result == QUEUEFILE_IO && !is_gone ? SOURCE_LATER : SOURCE_GONE;
}

static void report_close(struct report *report)
{
	if (report->fd >= 0)
		close(report->fd);
	queuefile_release(&report->qf);
	free(report->rcpt);
}

/* Recipients of one kind of report; the strings stay the record's. */
static void report_add(struct report *report, const struct record *r, enum bounce_kind kind, bool is_delay)
{
	const struct conf *conf = report->s->conf;

	for (unsigned i = 0; i < r->rcpt_count; i++) {
		const struct record_rcpt *rcpt = &r->rcpt[i];
		bool is_failed = rcpt->state == RCPT_BOUNCED || rcpt->state == RCPT_EXPIRED;
		const struct record_outcome *o = rcpt->outcome ? &r->outcome[rcpt->outcome - 1] : NULL;
		int server = o ? conf_find_server(conf, slice_of(o->server)) : -1;

		if (is_delay ? rcpt->state != RCPT_PENDING : !is_failed)
			continue;
		if (rcpt->index >= report->qf.rcpt_count ||
		    bounce_kind_of(conf, &report->qf, rcpt->index, is_delay) != kind)
			continue;
		*(struct bounce_rcpt *)array_add((void **)&report->rcpt, &report->count, &report->room,
						 sizeof(struct bounce_rcpt)) = (struct bounce_rcpt){
			.index = rcpt->index,
			.is_expired = rcpt->state == RCPT_EXPIRED,
			.code = o ? o->code : 0,
			.dsn = slice_of(rcpt->state == RCPT_EXPIRED ? "4.4.7"
					: o                         ? o->dsn
								    : ""),
			.server = slice_of(server >= 0 ? conf->server[server].display_name : ""),
			.relay = slice_of(o ? o->relay : ""),
			.text = slice_of(o ? o->text : ""),
			.when = o ? o->when : (struct wall){ 0 },
		};
	}
	report->kind = kind;
}

static bool report_write(struct report *report, uint64_t new_id, struct wall retry_until)
{
	struct bounce b = {
		.kind = report->kind,
		.original = &report->qf,
		.fd = report->fd,
		.retry_until = retry_until,
		.rcpt_count = report->count,
		.rcpt = report->rcpt,
	};
	int rc = report->kind == BOUNCE_DEAD ? bounce_file_to_dead(report->s->spool_fd, &b)
					     : bounce_write(report->s->spool_fd, report->s->conf, &b, new_id);

	if (rc < 0)
		log_error("cannot write a report about undelivered mail: %s; tried again later", strerror(errno));
	return rc == 0;
}

static uint64_t new_id(struct scheduler *s)
{
	s->last_id = spool_id_next(s->last_id);
	return s->last_id;
}

static bool needs_report(const struct record_list *list)
{
	for (unsigned i = 0; i < list->count; i++)
		for (unsigned k = 0; k < list->record[i]->rcpt_count; k++)
			if (list->record[i]->rcpt[k].state == RCPT_BOUNCED ||
			    list->record[i]->rcpt[k].state == RCPT_EXPIRED)
				return true;
	return false;
}

void finish_message(struct scheduler *s, uint64_t id)
{
	struct record_list list = { 0 };

	read_records(s, id, &list);
	if (list.count == 0) {
		forget_message(s, id);
	} else if (!needs_report(&list)) {
		mark_done(s, &list, outcome_word(&list));
	} else {
		/* The report's id is durable before the report is: a crash in between writes the same one again. */
		if (!list.record[0]->bounce_id) {
			list.record[0]->bounce_id = new_id(s);
			must(s, journal_put(s->journal, list.record[0]), "naming a report");
		}
		*(uint64_t *)array_add((void **)&s->report, &s->report_count, &s->report_room, sizeof(id)) = id;
	}
	record_list_release(&list);
}

static bool collect_nothing(void *arg, struct slice key UNUSED, struct slice value UNUSED)
{
	*(bool *)arg = true;
	return false;
}

/* A crash may have come after the report was taken in and before its original was marked done. */
static bool report_exists(struct scheduler *s, uint64_t id)
{
	bool has_record = false;

	must(s, journal_scan(s->journal, id, collect_nothing, &has_record), "looking for a report");
	return has_record;
}

/* Failed recipients of all kinds: to the sender, to the postmaster, or aside. At most one report is written. */
static bool write_reports(struct scheduler *s, const struct record_list *list, uint64_t report_id)
{
	static const enum bounce_kind KINDS[] = { BOUNCE_FAILED, BOUNCE_DOUBLE, BOUNCE_DEAD };
	struct report report;
	enum report_source source;
	char path[SPOOL_PATH_MAX];
	bool ok = true;

	if (report_exists(s, report_id))
		return true; /* taken in already */
	source = report_open(&report, s, list->record[0]->id);
	for (unsigned k = 0; ok && source == SOURCE_OPEN && k < ARRAY_LEN(KINDS); k++) {
		report.count = 0;
		for (unsigned i = 0; i < list->count; i++)
			report_add(&report, list->record[i], KINDS[k], false);
		if (report.count == 0)
			continue;
		ok = report_write(&report, report_id, (struct wall){ 0 });
		if (ok && KINDS[k] != BOUNCE_DEAD) {
			spool_incoming_path(report_id, path);
			event_bounced(s, list->record[0]->id, report_id);
			intake_admit(s, report_id, path, false);
		}
		if (KINDS[k] == BOUNCE_FAILED)
			break; /* a message with a sender has no other kind but this and none */
	}
	report_close(&report);
	return ok && source != SOURCE_LATER; /* when it is gone nothing is left to tell from: said in the log */
}

static void write_report(struct scheduler *s, uint64_t id)
{
	struct record_list list = { 0 };

	read_records(s, id, &list);
	if (list.count > 0 && list.record[0]->state != RECORD_DONE) {
		if (write_reports(s, &list, list.record[0]->bounce_id))
			mark_done(s, &list, outcome_word(&list));
		else
			*(uint64_t *)array_add((void **)&s->report, &s->report_count, &s->report_room, sizeof(id)) = id;
	}
	record_list_release(&list);
}

/* The other deliveries of the message that wait too: one notice serves them all. */
static void add_other_groups(struct scheduler *s, struct report *report, const struct record *r,
			     struct record_list *list)
{
	read_records(s, r->id, list);
	for (unsigned i = 0; i < list->count; i++) {
		struct record *other = list->record[i];

		if (other->group == r->group || other->state != RECORD_WAITING || other->attempts == 0 ||
		    (other->flags & RECORD_WARNED))
			continue;
		report_add(report, other, BOUNCE_DELAYED, true);
		other->flags |= RECORD_WARNED;
		must(s, journal_put(s->journal, other), "recording a delay notice");
	}
}

void finish_warn(struct scheduler *s, struct record *r)
{
	struct message *message = message_find(s, r->id);
	struct record_list list = { 0 };
	struct wall until = { (int64_t)(r->id >> 12) / 1000 + (int64_t)s->conf->retry.max_age_ms +
			      (int64_t)r->held_s * 1000 };
	struct report report;
	char path[SPOOL_PATH_MAX];
	uint64_t id;

	r->flags |= RECORD_WARNED;
	if (message && message->is_warned)
		return;
	if (report_open(&report, s, r->id) == SOURCE_OPEN) {
		report_add(&report, r, BOUNCE_DELAYED, true);
		if (message)
			add_other_groups(s, &report, r, &list);
	}
	if (report.count > 0) {
		id = new_id(s);
		spool_incoming_path(id, path);
		if (report_write(&report, id, until)) {
			event_bounced(s, r->id, id);
			intake_admit(s, id, path, false);
		}
		if (message)
			message->is_warned = true;
	}
	report_close(&report);
	record_list_release(&list);
}

void finish_tell_failed(struct scheduler *s, struct record *r)
{
	struct report report;
	char path[SPOOL_PATH_MAX];
	bool has_failed = false;
	uint64_t id;

	for (unsigned i = 0; i < r->rcpt_count; i++)
		has_failed |= r->rcpt[i].state == RCPT_BOUNCED;
	if (!has_failed || !*r->sender) /* without a sender it is the postmaster's, in one report at the end */
		return;
	if (report_open(&report, s, r->id) == SOURCE_OPEN)
		report_add(&report, r, BOUNCE_FAILED, false);
	if (report.count > 0) {
		id = new_id(s);
		spool_incoming_path(id, path);
		if (report_write(&report, id, (struct wall){ 0 })) {
			for (unsigned i = 0; i < r->rcpt_count; i++)
				if (r->rcpt[i].state == RCPT_BOUNCED)
					r->rcpt[i].state = RCPT_TOLD;
			event_bounced(s, r->id, id);
			intake_admit(s, id, path, false);
		}
	}
	report_close(&report);
}

/* --- after the sync --- */

static void write_all_reports(struct scheduler *s)
{
	struct mono now = clock_mono();
	unsigned count = s->report_count;
	uint64_t *ids = s->report;

	if (now.ms < s->report_again.ms)
		return;
	s->report = NULL;
	s->report_count = s->report_room = 0;
	for (unsigned i = 0; i < count; i++)
		write_report(s, ids[i]);
	free(ids);
	if (s->report_count > 0) { /* no room on the disk: not with every turn */
		s->report_again.ms = now.ms + REPORT_WAIT_MS;
		loop_timer_set_ms(s->refused_timer, REPORT_WAIT_MS);
	}
}

static void unlink_done(struct scheduler *s, const struct done_message *done)
{
	char path[SPOOL_PATH_MAX];
	int rc;

	spool_queue_path(done->id, path);
	rc = unlinkat(s->spool_fd, path, 0);
	if (rc < 0 && errno == ENOENT) { /* never renamed: done before the first sync after its arrival */
		spool_incoming_path(done->id, path);
		rc = unlinkat(s->spool_fd, path, 0);
	}
	if (rc < 0 && errno != ENOENT)
		log_error("cannot remove %s: %s", path, strerror(errno));
	if (done->why)
		event_removed(s, done->id, done->why);
}

void finish_after_sync(struct scheduler *s)
{
	struct done_message *done = s->done;
	unsigned count = s->done_count;

	/* What reports add to the list is durable only after the next sync. */
	s->done = NULL;
	s->done_count = s->done_room = 0;
	if (s->report_count > 0)
		write_all_reports(s);
	for (unsigned i = 0; i < count; i++) {
		unlink_done(s, &done[i]);
		*(struct done_message *)array_add((void **)&s->sweep, &s->sweep_count, &s->sweep_room,
						  sizeof(struct done_message)) = done[i];
	}
	free(done);
	if (s->sweep_count >= SWEEP_COUNT)
		finish_sweep(s);
	else if (s->sweep_count > 0 && !loop_timer_is_set(s->sweep_timer))
		loop_timer_set_ms(s->sweep_timer, SWEEP_MS);
}

void finish_sweep(struct scheduler *s)
{
	bool is_synced[SPOOL_SHARDS] = { false };

	loop_timer_cancel(s->sweep_timer);
	for (unsigned i = 0; i < s->sweep_count; i++) {
		unsigned shard = spool_shard(s->sweep[i].id);
		char path[SPOOL_PATH_MAX], *slash;

		if (is_synced[shard])
			continue;
		spool_queue_path(s->sweep[i].id, path);
		slash = strrchr(path, '/');
		*slash = '\0';
		if (spool_sync_dir(s->spool_fd, path) < 0) {
			log_error("cannot sync %s: %s", path, strerror(errno));
			loop_timer_set_ms(s->sweep_timer, SWEEP_MS);
			return;
		}
		is_synced[shard] = true;
	}
	must(s, journal_begin(s->journal), "dropping records of messages that are gone");
	for (unsigned i = 0; i < s->sweep_count; i++)
		must(s, journal_delete(s->journal, s->sweep[i].id, s->sweep[i].group), "dropping a record");
	must(s, journal_commit(s->journal), "dropping records of messages that are gone");
	s->sweep_count = 0;
}

/* Out of the place where it waits; it is in nobody's then. */
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
	read_records(s, id, &list);
	if (list.count > 0)
		mark_done(s, &list, "deleted");
	record_list_release(&list);
	return true;
}
