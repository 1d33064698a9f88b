/*
 * report.c - see report.h. A report's id is durable before the report is, and the report before the record says that
 * its recipients are told: whoever comes after a crash sees by the id whether it was written.
 */
#include "scheduler/report.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "scheduler/age.h"
#include "scheduler/bounce.h"
#include "scheduler/events.h"
#include "scheduler/finish.h"
#include "scheduler/intake.h"
#include "scheduler/job.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REPORT_WAIT_MS = 5000 };

struct report {
	struct scheduler *s;
	struct queuefile qf;
	int fd;
	struct bounce_rcpt *rcpt;
	unsigned count, room;
	enum bounce_kind kind;
};

enum report_source { SOURCE_OPEN, SOURCE_GONE, SOURCE_DAMAGED, SOURCE_LATER };

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
	if (result == QUEUEFILE_DAMAGED)
		return SOURCE_DAMAGED;
	return is_gone ? SOURCE_GONE : SOURCE_LATER;
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

static struct bounce bounce_of(const struct report *report, struct wall retry_until)
{
	return (struct bounce){
		.kind = report->kind,
		.original = &report->qf,
		.fd = report->fd,
		.retry_until = retry_until,
		.rcpt_count = report->count,
		.rcpt = report->rcpt,
	};
}

static bool is_written(int rc)
{
	if (rc < 0)
		log_error("cannot write a report about undelivered mail: %s; tried again later", strerror(errno));
	return rc == 0;
}

static bool file_to_dead(const struct report *report)
{
	struct bounce b = bounce_of(report, (struct wall){ 0 });

	return is_written(bounce_file_to_dead(report->s->spool_fd, &b));
}

static uint64_t new_id(struct scheduler *s)
{
	s->last_id = spool_id_next(s->last_id, SPOOL_BY_SCHEDULER);
	return s->last_id;
}

/* Writes it to incoming/ under that id and takes it in. False: tried again later. */
static bool issue(struct report *report, uint64_t original_id, uint64_t id, struct wall retry_until)
{
	struct bounce b = bounce_of(report, retry_until);
	struct scheduler *s = report->s;
	char path[SPOOL_PATH_MAX];

	if (!is_written(bounce_write(s->spool_fd, s->conf, &b, id)))
		return false;
	spool_incoming_path(id, path);
	event_bounced(s, original_id, id);
	intake_admit(s, id, path, false);
	return true;
}

/* --- when all is over --- */

static void write_after_sync(struct scheduler *s, uint64_t id)
{
	if (s->report_count == 0 || s->report[s->report_count - 1] != id)
		*(uint64_t *)array_add((void **)&s->report, &s->report_count, &s->report_room, sizeof(id)) = id;
}

void report_final(struct scheduler *s, struct record_list *list)
{
	struct record *first = list->record[0];

	if (!first->bounce_id || first->flags & RECORD_REPORT_DUE) {
		first->bounce_id = new_id(s);
		first->flags &= (uint8_t)~RECORD_REPORT_DUE; /* this one tells all */
		scheduler_must(s, journal_put(s->journal, first), "naming a report");
	}
	write_after_sync(s, first->id);
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

	scheduler_must(s, journal_scan(s->journal, id, collect_nothing, &has_record), "looking for a report");
	return has_record;
}

/* What nobody can be told of is kept, for who repairs the file. */
static bool keep_damaged(struct scheduler *s, const struct record_list *list)
{
	struct buf words;
	bool ok;

	buf_init(&words, BOUNCE_FULL_MAX);
	buf_printf(&words,
		   "The queue file of this message from <%s> is damaged, so its sender was not told that these did not "
		   "get it:\n",
		   list->record[0]->sender);
	for (unsigned i = 0; i < list->count; i++) {
		const struct record *r = list->record[i];

		for (unsigned k = 0; k < r->rcpt_count; k++)
			if (r->rcpt[k].state == RCPT_BOUNCED || r->rcpt[k].state == RCPT_EXPIRED)
				buf_printf(&words, "<%s>: %s\n", r->rcpt[k].address,
					   r->rcpt[k].outcome ? r->outcome[r->rcpt[k].outcome - 1].text : "");
	}
	ok = is_written(bounce_put_aside(s->spool_fd, list->record[0]->id, buf_slice(&words)));
	buf_release(&words);
	return ok;
}

/* Failed recipients of all kinds: to the sender, to the postmaster, or aside. At most one report is written. */
static bool write_reports(struct scheduler *s, const struct record_list *list, uint64_t report_id)
{
	static const enum bounce_kind KINDS[] = { BOUNCE_FAILED, BOUNCE_DOUBLE, BOUNCE_DEAD };
	struct report report;
	enum report_source source;
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
		if (KINDS[k] == BOUNCE_DEAD)
			ok = file_to_dead(&report);
		else
			ok = issue(&report, list->record[0]->id, report_id, (struct wall){ 0 });
		if (KINDS[k] == BOUNCE_FAILED)
			break; /* a message with a sender has no other kind but this and none */
	}
	report_close(&report);
	if (source == SOURCE_DAMAGED)
		ok = keep_damaged(s, list);
	return ok && source != SOURCE_LATER; /* when it is gone nothing is left to tell from: said in the log */
}

/* --- while it goes on --- */

/* The first of a message's reports gives the process something to write; the others are found beside it. */
static void make_due(struct scheduler *s, struct record *r, enum record_flags kind)
{
	struct message *message = message_find(s, r->id);

	if (!r->bounce_id)
		r->bounce_id = new_id(s);
	r->flags |= (uint8_t)kind;
	if (!message || !message->is_report_due)
		write_after_sync(s, r->id);
	if (message)
		message->is_report_due = true;
}

static bool has_failed(const struct record *r)
{
	for (unsigned i = 0; i < r->rcpt_count; i++)
		if (r->rcpt[i].state == RCPT_BOUNCED)
			return true;
	return false;
}

void report_failed(struct scheduler *s, struct record *r)
{
	/* Without a sender it is the postmaster's, in one report at the end. */
	if (has_failed(r) && *r->sender && !(r->flags & RECORD_FAILURE_DUE))
		make_due(s, r, RECORD_FAILURE_DUE);
}

void report_delay(struct scheduler *s, struct record *r)
{
	const struct message *message = message_find(s, r->id);

	if (message && message->is_warned)
		r->flags |= RECORD_WARNED;
	else
		make_due(s, r, RECORD_DELAY_DUE);
}

/* Written: into the journal, and into the hands of whoever tries the delivery right now. */
static void note_told(struct scheduler *s, struct record *r, enum record_flags kind)
{
	enum { MINE = RECORD_WARNED | RECORD_REPORT_DUE };
	struct job *job = job_find(s, r->id, r->group);

	r->flags &= (uint8_t)~kind;
	if (kind == RECORD_DELAY_DUE)
		r->flags |= RECORD_WARNED;
	for (unsigned i = 0; i < r->rcpt_count && kind == RECORD_FAILURE_DUE; i++)
		if (r->rcpt[i].state == RCPT_BOUNCED)
			r->rcpt[i].state = RCPT_TOLD;
	if (!(r->flags & RECORD_REPORT_DUE)) {
		r->bounce_id = 0;
	} else if (kind == RECORD_FAILURE_DUE) { /* the delay notice is another report */
		r->bounce_id = new_id(s);
		write_after_sync(s, r->id);
	}
	scheduler_must(s, journal_put(s->journal, r), "recording a report");
	if (!job)
		return;
	job->record->flags = (uint8_t)((job->record->flags & ~MINE) | (r->flags & MINE));
	job->record->bounce_id = r->bounce_id;
	for (unsigned i = 0; i < r->rcpt_count; i++)
		if (r->rcpt[i].state == RCPT_TOLD)
			job->record->rcpt[i].state = RCPT_TOLD;
}

/* Its recipients are in the message's delay notice. */
static bool is_delayed(const struct record *r)
{
	return r->flags & RECORD_DELAY_DUE ||
	       (r->state == RECORD_WAITING && r->attempts > 0 && !(r->flags & RECORD_WARNED));
}

static void note_delay_told(struct scheduler *s, const struct record_list *list)
{
	struct message *message = message_find(s, list->record[0]->id);

	if (message)
		message->is_warned = true;
	for (unsigned i = 0; i < list->count; i++)
		if (is_delayed(list->record[i]))
			note_told(s, list->record[i], RECORD_DELAY_DUE);
}

/* The delivery after which the delay notice is named: its name is a failure report's as long as one of those is due. */
static const struct record *find_delay(const struct record_list *list)
{
	for (unsigned i = 0; i < list->count; i++)
		if ((list->record[i]->flags & RECORD_REPORT_DUE) == RECORD_DELAY_DUE)
			return list->record[i];
	return NULL;
}

static struct wall retry_until(const struct scheduler *s, const struct record *r)
{
	return (struct wall){ clock_wall().ms - age_of(s, r->id, r->known) + (int64_t)s->conf->retry.max_age_ms +
			      (int64_t)r->held_s * 1000 };
}

/* A report of what was collected, if anything was. False: tried again later. */
static bool is_issued(struct report *report, enum report_source source, const struct record *name, struct wall until)
{
	if (source == SOURCE_LATER)
		return false;
	return report->count == 0 || issue(report, name->id, name->bounce_id, until);
}

static bool write_delay(struct scheduler *s, const struct record_list *list)
{
	const struct record *name = find_delay(list);
	enum report_source source;
	struct report report;
	bool ok;

	if (!name)
		return true;
	source = report_open(&report, s, name->id);
	for (unsigned i = 0; i < list->count && source == SOURCE_OPEN; i++)
		if (is_delayed(list->record[i]))
			report_add(&report, list->record[i], BOUNCE_DELAYED, true);
	ok = is_issued(&report, source, name, retry_until(s, name));
	if (ok)
		note_delay_told(s, list);
	report_close(&report);
	return ok;
}

static bool write_failure(struct scheduler *s, struct record *r)
{
	struct report report;
	enum report_source source = report_open(&report, s, r->id);
	bool ok;

	if (source == SOURCE_OPEN)
		report_add(&report, r, BOUNCE_FAILED, false);
	ok = is_issued(&report, source, r, (struct wall){ 0 });
	if (ok)
		note_told(s, r, RECORD_FAILURE_DUE);
	report_close(&report);
	return ok;
}

static bool write_due(struct scheduler *s, const struct record_list *list)
{
	bool ok = write_delay(s, list);

	for (unsigned i = 0; i < list->count && ok; i++)
		if (list->record[i]->flags & RECORD_FAILURE_DUE)
			ok = write_failure(s, list->record[i]);
	return ok;
}

/* --- after the sync --- */

static bool is_all_final(const struct record_list *list)
{
	for (unsigned i = 0; i < list->count; i++)
		if (list->record[i]->state != RECORD_FINAL)
			return false;
	return true;
}

/* False: tried again later. */
static bool write_report(struct scheduler *s, uint64_t id)
{
	struct message *message = message_find(s, id);
	struct record_list list = { 0 };
	bool ok = true;

	if (message)
		message->is_report_due = false;
	records_read(s, id, &list);
	if (list.count > 0 && list.record[0]->state != RECORD_DONE) {
		if (!is_all_final(&list))
			ok = write_due(s, &list);
		else if ((ok = write_reports(s, &list, list.record[0]->bounce_id)))
			finish_mark_done(s, &list, records_outcome(&list));
	}
	records_release(&list);
	return ok;
}

void report_after_sync(struct scheduler *s)
{
	struct mono now = clock_mono();
	unsigned count = s->report_count;
	uint64_t *ids = s->report;
	bool ok = true;

	if (now.ms < s->report_again.ms)
		return;
	s->report = NULL;
	s->report_count = s->report_room = 0;
	for (unsigned i = 0; i < count; i++) {
		if (write_report(s, ids[i]))
			continue;
		ok = false;
		write_after_sync(s, ids[i]);
	}
	free(ids);
	if (!ok) { /* no room on the disk: not with every turn */
		s->report_again.ms = now.ms + REPORT_WAIT_MS;
		loop_timer_set_ms(s->refused_timer, REPORT_WAIT_MS);
	}
}

/* --- at start --- */

static bool is_written_before(struct scheduler *s, uint64_t id)
{
	char path[SPOOL_PATH_MAX];
	struct stat st;

	spool_incoming_path(id, path); /* there was no room for its record, it will be taken in later */
	return report_exists(s, id) || fstatat(s->spool_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

void report_resume(struct scheduler *s, uint64_t id)
{
	const struct record *delay;
	struct record_list list = { 0 };

	records_read(s, id, &list);
	delay = find_delay(&list);
	if (delay && is_written_before(s, delay->bounce_id))
		note_delay_told(s, &list);
	for (unsigned i = 0; i < list.count; i++)
		if (list.record[i]->flags & RECORD_FAILURE_DUE && is_written_before(s, list.record[i]->bounce_id))
			note_told(s, list.record[i], RECORD_FAILURE_DUE);
	write_after_sync(s, id);
	records_release(&list);
}
