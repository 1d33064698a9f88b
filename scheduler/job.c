/* job.c - see job.h. */
#include "scheduler/job.h"
#include "lib/log.h"
#include "lib/text.h"
#include "scheduler/dispatch.h"
#include "scheduler/intake.h"
#include "scheduler/pause.h"
#include "scheduler/permit.h"
#include <stdlib.h>

static uint64_t job_hash(uint64_t id, uint32_t group)
{
	uint64_t key[2] = { id, group };

	return text_hash(key, sizeof(key));
}

struct job *job_find(struct scheduler *s, uint64_t id, uint32_t group)
{
	for (struct table_node *n = table_first(&s->jobs, job_hash(id, group)); n; n = table_next(n)) {
		struct job *job = TABLE_OBJECT(n, struct job, node);

		if (job->record->id == id && job->record->group == group)
			return job;
	}
	return NULL;
}

struct job *job_new(struct scheduler *s, entry_index i)
{
	struct entry *e = entry_get(s->entries, i);
	struct record *r = journal_get(s->journal, e->id, e->group);
	struct job *job;

	if (!r || r->state != (e->place == ENTRY_HELD ? RECORD_HELD : RECORD_WAITING) || record_pending_count(r) == 0) {
		log_error("delivery %llu group %u has no record that waits: left alone until the next start",
			  (unsigned long long)e->id, e->group);
		record_free(&r);
		entry_forget(s, i);
		return NULL;
	}
	job = xcalloc(1, sizeof(*job));
	job->record = r;
	job->entry = i;
	e->place = ENTRY_ACTIVE;
	e->blame = BLAME_NOBODY;
	job->held_s = -e->held_mark;
	r->held_s += job->held_s;
	e->held_mark = 0;
	table_add(&s->jobs, &job->node, job_hash(r->id, r->group));
	return job;
}

entry_index job_end(struct scheduler *s, struct job *job, struct record **kept)
{
	entry_index i = job->entry;

	permit_settle(s, job, true); /* unless it was */
	session_forget_job(s, job);
	table_remove(&s->jobs, &job->node);
	if (kept) {
		*kept = job->record;
	} else {
		entry_get(s->entries, i)->held_mark = -job->held_s;
		record_free(&job->record);
	}
	free(job);
	entry_get(s->entries, i)->place = ENTRY_LISTED;
	return i;
}

void job_record(struct scheduler *s, const struct record *r)
{
	scheduler_must(s, journal_put(s->journal, r), "recording an outcome");
}

void job_write(struct scheduler *s, struct job *job)
{
	job_record(s, job->record);
	job->held_s = 0;
}

unsigned job_rcpt_count(const struct job *job)
{
	return record_pending_count(job->record);
}

void job_requeue(struct scheduler *s, struct job *job, bool was_seen)
{
	struct session *session = job->session;
	struct lane *l = session ? session->lane : NULL;
	bool is_held = job->record->state == RECORD_HELD;
	entry_index i;

	permit_settle(s, job, was_seen);
	i = job_end(s, job, NULL);
	if (is_held) {
		entry_get(s->entries, i)->place = ENTRY_HELD;
		return;
	}
	if (!l || l->state == LANE_DOWN || pause_is_on(s, l->server)) {
		dispatch_entry(s, i);
		return;
	}
	lane_push_front(s, l, i);
	lane_mark_dirty(s, l);
}

void job_give_back(struct scheduler *s, struct job *job, struct lane *l)
{
	lane_push_front(s, l, job_end(s, job, NULL));
}

void job_split(struct scheduler *s, struct job *job, struct grouping_bounds bounds)
{
	intake_split(s, job_end(s, job, NULL), bounds);
}
