/* attempt.c - see attempt.h. */
#include "scheduler/attempt.h"
#include "scheduler/age.h"
#include "scheduler/dispatch.h"
#include "scheduler/events.h"
#include "scheduler/finish.h"
#include "scheduler/job.h"
#include "scheduler/report.h"
#include "scheduler/verdict.h"

static int64_t age_ms(const struct scheduler *s, const struct record *r)
{
	return age_of(s, r->id, r->known) - (int64_t)r->held_s * 1000;
}

static void mark_pending(struct record *r, enum rcpt_state state, bool only_permanent)
{
	for (unsigned i = 0; i < r->rcpt_count; i++)
		if (r->rcpt[i].state == RCPT_PENDING && !(only_permanent && r->rcpt[i].is_temporary_seen))
			r->rcpt[i].state = (uint8_t)state;
}

static void expire(struct scheduler *s, struct record *r)
{
	event_expired(s, r);
	s->expired_count += record_pending_count(r);
	mark_pending(r, RCPT_EXPIRED, false);
}

static bool is_warning_due(const struct scheduler *s, const struct record *r)
{
	return !(r->flags & (RECORD_WARNED | RECORD_DELAY_DUE)) && s->conf->retry.warn_after_ms > 0 &&
	       age_ms(s, r) >= (int64_t)s->conf->retry.warn_after_ms;
}

/* Into the record, and what its sender is to hear of it; the next attempt begins anew. */
static void note_attempt(struct scheduler *s, struct record *r, entry_index i)
{
	struct entry *e = entry_get(s->entries, i);

	for (unsigned k = 0; k < r->rcpt_count; k++)
		r->rcpt[k].is_temporary_seen = false;
	report_failed(s, r);
	if (r->state == RECORD_WAITING && is_warning_due(s, r))
		report_delay(s, r);
	job_record(s, r);
	e->attempts = r->attempts;
	e->flags &= (uint8_t) ~(ENTRY_TRIED | ENTRY_FORCED | ENTRY_GREYLISTED);
	e->server_at = 0;
}

static void wait_for_retry(struct scheduler *s, struct record *r, entry_index i, uint64_t wait_ms)
{
	int64_t now_ms = clock_mono().ms, left = (int64_t)s->conf->retry.max_age_ms - age_ms(s, r);

	/* The last attempt comes when the message's time is over, not long after. */
	if (left > 0 && (int64_t)wait_ms > left)
		wait_ms = (uint64_t)left;
	r->due.ms = clock_wall().ms + (int64_t)wait_ms;
	note_attempt(s, r, i);
	entries_push(s->entries, i, (struct mono){ now_ms + (int64_t)wait_ms });
}

/* An operator held it while it was under way. */
static void stay_held(struct scheduler *s, struct record *r, entry_index i)
{
	r->attempts++;
	note_attempt(s, r, i);
	entry_get(s->entries, i)->place = ENTRY_HELD;
}

uint64_t attempt_wait_ms(const struct scheduler *s, const struct record *r, unsigned attempts)
{
	return retry_wait_ms(s->conf, attempts, r->flags & RECORD_MAYBE_REPEATED);
}

/* All servers were tried. `r` is the caller's. */
static void end_attempt(struct scheduler *s, struct record *r, entry_index i, uint64_t wait_ms, bool is_counted)
{
	if ((entry_get(s->entries, i)->flags & ENTRY_GREYLISTED) &&
	    (wait_ms == 0 || s->conf->retry.greylist_after_ms < wait_ms))
		wait_ms = s->conf->retry.greylist_after_ms; /* no other server took it */
	if (is_counted)
		r->attempts++;
	mark_pending(r, RCPT_BOUNCED, true);
	if (record_pending_count(r) > 0 && retry_is_over(s->conf, r->attempts, age_ms(s, r)))
		expire(s, r);
	if (record_pending_count(r) == 0) {
		finish_delivery(s, r, i);
		return;
	}
	wait_for_retry(s, r, i, wait_ms ? wait_ms : attempt_wait_ms(s, r, r->attempts));
}

bool attempt_has_next_server(const struct scheduler *s, const struct job *job)
{
	const struct entry *e = entry_get(s->entries, job->entry);
	unsigned next = job->is_outside ? 0 : e->server_at + 1u;

	return next < domain_get(&s->domains, e->domain)->plan.count;
}

void attempt_go_on(struct scheduler *s, struct job *job)
{
	struct record *r;
	bool is_unknown = job->is_unknown, is_outside = job->is_outside, has_next = attempt_has_next_server(s, job);
	uint64_t wait_ms = job->wait_ms;
	entry_index i = job_end(s, job, &r);
	struct entry *e = entry_get(s->entries, i);

	e->flags |= ENTRY_TRIED;
	/* What else failed here for a reason that another server might not have waits with it: nothing is final yet. */
	for (unsigned k = 0; is_unknown && k < r->rcpt_count; k++)
		r->rcpt[k].is_temporary_seen = true;
	if (record_pending_count(r) == 0) {
		finish_delivery(s, r, i);
	} else if (r->state == RECORD_HELD) {
		stay_held(s, r, i);
	} else if (!is_unknown && has_next) {
		job_record(s, r);
		e->server_at = is_outside ? 0 : (uint8_t)(e->server_at + 1);
		dispatch_route(s, i);
	} else {
		end_attempt(s, r, i, wait_ms, true);
	}
	record_free(&r);
}

/* --- failures without an answer --- */

static void fail_pending(struct scheduler *s, struct job *job, const struct failure *f)
{
	struct record *r = job->record;
	uint8_t outcome = record_add_outcome(r, clock_wall(), f->server, f->relay, f->code, f->dsn, f->text);
	bool has_next = !job->is_unknown && attempt_has_next_server(s, job) && !f->is_final;
	unsigned bounced = 0;

	for (unsigned i = 0; i < r->rcpt_count; i++) {
		struct record_rcpt *rcpt = &r->rcpt[i];

		if (rcpt->state != RCPT_PENDING)
			continue;
		rcpt->outcome = outcome;
		rcpt->is_temporary_seen |= f->verdict == VERDICT_TEMPORARY || job->is_unknown;
		if (!has_next && f->verdict == VERDICT_PERMANENT && (f->is_final || !rcpt->is_temporary_seen)) {
			rcpt->state = RCPT_BOUNCED;
			bounced++;
		}
	}
	s->total.bounced += bounced;
	if (bounced > 0)
		event_failure(s, r, f, outcome, DISPOSITION_BOUNCED, 0);
	if (record_pending_count(r) == 0)
		return;
	s->total.deferred += has_next ? 0 : record_pending_count(r);
	if (has_next)
		event_failure(s, r, f, outcome, DISPOSITION_PASSED_ON, 0);
	else
		event_failure(s, r, f, outcome, DISPOSITION_DEFERRED, attempt_wait_ms(s, r, r->attempts + 1u));
}

void attempt_fail_job(struct scheduler *s, struct job *job, const struct failure *f)
{
	fail_pending(s, job, f);
	attempt_go_on(s, job);
}

void attempt_fail_entry(struct scheduler *s, entry_index i, const struct failure *f)
{
	struct job *job = job_new(s, i);
	struct record *r;
	struct entry *e;

	if (!job)
		return;
	entry_get(s->entries, i)->blame = f->blame;
	fail_pending(s, job, f);
	if (f->is_counted || f->is_final || attempt_has_next_server(s, job)) {
		attempt_go_on(s, job);
		return;
	}
	job_end(s, job, &r);
	e = entry_get(s->entries, i);
	end_attempt(s, r, i, attempt_wait_ms(s, r, r->attempts + 1u), (e->flags & ENTRY_TRIED) != 0);
	record_free(&r);
}

/* --- waiting for a server that is down --- */

static void say_why(struct record *r, struct slice why)
{
	uint8_t outcome = 0;

	for (unsigned k = 0; k < r->rcpt_count; k++) {
		if (r->rcpt[k].state != RCPT_PENDING || r->rcpt[k].outcome != 0)
			continue;
		if (!outcome)
			outcome = record_add_outcome(r, clock_wall(), "", slice_of("none"), 0, slice_of("4.4.1"), why);
		r->rcpt[k].outcome = outcome;
	}
}

/* As far as can be told without its record. */
static bool may_be_older(const struct scheduler *s, const struct entry *e, uint64_t limit_ms)
{
	struct wall now = clock_wall();
	int64_t age = age_of(s, e->id, now);

	return (int64_t)(e->id >> 12) / 1000 > now.ms || (age >= 0 && (uint64_t)age >= limit_ms);
}

/* Its time may be over without an attempt: a site that is down for days; before that its sender hears of the delay. */
static bool expire_parked(struct scheduler *s, entry_index i, struct slice why)
{
	struct entry *e = entry_get(s->entries, i);
	uint64_t warn_ms = s->conf->retry.warn_after_ms;
	bool may_warn = !(e->flags & ENTRY_WARNED) && warn_ms > 0 && may_be_older(s, e, warn_ms);
	struct job *job = may_warn || may_be_older(s, e, s->conf->retry.max_age_ms) ? job_new(s, i) : NULL;
	bool is_over;
	uint32_t held_s;
	struct record *r;

	if (!job)
		return entry_get(s->entries, i)->place == ENTRY_FREE; /* it had no record */
	held_s = job->held_s;
	job_end(s, job, &r);
	is_over = retry_is_over(s->conf, 0, age_ms(s, r));
	if (is_over) {
		say_why(r, why);
		expire(s, r);
		finish_delivery(s, r, i);
	} else if (is_warning_due(s, r)) {
		say_why(r, why);
		report_delay(s, r);
		job_record(s, r);
	} else {
		e->held_mark = -held_s; /* as before: it is not worth a write */
	}
	if (!is_over && (r->flags & (RECORD_WARNED | RECORD_DELAY_DUE)))
		e->flags |= ENTRY_WARNED;
	record_free(&r);
	return is_over;
}

void attempt_park(struct scheduler *s, entry_index i, struct mono due, uint32_t blame, struct slice why)
{
	struct entry *e = entry_get(s->entries, i);

	e->place = ENTRY_LISTED;
	if (expire_parked(s, i, why))
		return;
	if (!(e->flags & ENTRY_SAID_SUSPENDED)) {
		e->flags |= ENTRY_SAID_SUSPENDED;
		event_suspended(s, i, why);
	}
	e->blame = blame;
	e->server_at = 0;
	entries_push(s->entries, i, due);
}
