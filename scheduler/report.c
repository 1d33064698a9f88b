/* report.c - see report.h. A report's id is durable before the report is, and the report before its message is done. */
#include "scheduler/report.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "scheduler/bounce.h"
#include "scheduler/events.h"
#include "scheduler/finish.h"
#include "scheduler/intake.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
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
	*(uint64_t *)array_add((void **)&s->report, &s->report_count, &s->report_room, sizeof(id)) = id;
}

void report_final(struct scheduler *s, struct record_list *list)
{
	/* The report's id is durable before the report is: a crash in between writes the same one again. */
	if (!list->record[0]->bounce_id) {
		list->record[0]->bounce_id = new_id(s);
		scheduler_must(s, journal_put(s->journal, list->record[0]), "naming a report");
	}
	write_after_sync(s, list->record[0]->id);
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
	return ok && source != SOURCE_LATER; /* when it is gone nothing is left to tell from: said in the log */
}

static void write_report(struct scheduler *s, uint64_t id)
{
	struct record_list list = { 0 };

	records_read(s, id, &list);
	if (list.count > 0 && list.record[0]->state != RECORD_DONE) {
		if (write_reports(s, &list, list.record[0]->bounce_id))
			finish_mark_done(s, &list, records_outcome(&list));
		else
			write_after_sync(s, id);
	}
	records_release(&list);
}

void report_after_sync(struct scheduler *s)
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

/* --- while it goes on --- */

/* Another delivery of the message that waits too: one notice serves them all. */
static bool is_delayed_too(const struct record *other, const struct record *r)
{
	return other->group != r->group && other->state == RECORD_WAITING && other->attempts > 0 &&
	       !(other->flags & RECORD_WARNED);
}

static void add_others(struct report *report, const struct record_list *list, const struct record *r)
{
	for (unsigned i = 0; i < list->count; i++)
		if (is_delayed_too(list->record[i], r))
			report_add(report, list->record[i], BOUNCE_DELAYED, true);
}

static void mark_others(struct scheduler *s, const struct record_list *list, const struct record *r)
{
	for (unsigned i = 0; i < list->count; i++) {
		if (!is_delayed_too(list->record[i], r))
			continue;
		list->record[i]->flags |= RECORD_WARNED;
		scheduler_must(s, journal_put(s->journal, list->record[i]), "recording a delay notice");
	}
}

static struct wall retry_until(const struct scheduler *s, const struct record *r)
{
	return (struct wall){ (int64_t)(r->id >> 12) / 1000 + (int64_t)s->conf->retry.max_age_ms +
			      (int64_t)r->held_s * 1000 };
}

void report_delay(struct scheduler *s, struct record *r)
{
	struct message *message = message_find(s, r->id);
	struct record_list others = { 0 };
	enum report_source source;
	struct report report;

	if (message && message->is_warned) {
		r->flags |= RECORD_WARNED;
		return;
	}
	if (message)
		records_read(s, r->id, &others);
	source = report_open(&report, s, r->id);
	if (source == SOURCE_OPEN) {
		report_add(&report, r, BOUNCE_DELAYED, true);
		add_others(&report, &others, r);
	}
	if (source != SOURCE_LATER && (report.count == 0 || issue(&report, r->id, new_id(s), retry_until(s, r)))) {
		mark_others(s, &others, r);
		r->flags |= RECORD_WARNED;
		if (message)
			message->is_warned |= report.count > 0;
	}
	report_close(&report);
	records_release(&others);
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
	struct report report;

	if (!has_failed(r) || !*r->sender) /* without a sender it is the postmaster's, in one report at the end */
		return;
	if (report_open(&report, s, r->id) == SOURCE_OPEN)
		report_add(&report, r, BOUNCE_FAILED, false);
	if (report.count > 0 && issue(&report, r->id, new_id(s), (struct wall){ 0 })) {
		for (unsigned i = 0; i < r->rcpt_count; i++)
			if (r->rcpt[i].state == RCPT_BOUNCED)
				r->rcpt[i].state = RCPT_TOLD;
	}
	report_close(&report);
}
