/* job.c - outcomes into records; failover inside one attempt; retries. */
#include "scheduler/job.h"
#include "lib/log.h"
#include "lib/text.h"
#include "scheduler/dispatch.h"
#include "scheduler/events.h"
#include "scheduler/finish.h"
#include "scheduler/gate.h"
#include "scheduler/intake.h"
#include "scheduler/limits.h"
#include "scheduler/pause.h"
#include "scheduler/permit.h"
#include "scheduler/react.h"
#include "scheduler/verdict.h"
#include <stdlib.h>

static uint64_t job_hash(uint64_t id, uint16_t group)
{
	uint64_t key[2] = { id, group };

	return text_hash(key, sizeof(key));
}

struct job *job_find(struct scheduler *s, uint64_t id, uint16_t group)
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

	if (!r || r->state != RECORD_WAITING || record_pending_count(r) == 0) {
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
	table_add(&s->jobs, &job->node, job_hash(r->id, r->group));
	return job;
}

/* The entry stays, the caller decides where it goes; so does the record when `kept` takes it. */
static entry_index job_end(struct scheduler *s, struct job *job, struct record **kept)
{
	entry_index i = job->entry;

	permit_settle(s, job, true); /* unless it was */
	session_forget_job(s, job);
	table_remove(&s->jobs, &job->node);
	if (kept)
		*kept = job->record;
	else
		record_free(&job->record);
	free(job);
	entry_get(s->entries, i)->place = ENTRY_LISTED;
	return i;
}

unsigned job_rcpt_count(const struct job *job)
{
	return record_pending_count(job->record);
}

static void put_or_fail(struct scheduler *s, const struct record *r)
{
	enum store_result result = journal_put(s->journal, r);

	if (result != STORE_OK)
		scheduler_fail(s, result, "recording an outcome");
}

void job_requeue(struct scheduler *s, struct job *job, bool was_seen)
{
	struct session *session = job->session;
	struct lane *l = session ? session->lane : NULL;
	entry_index i;

	permit_settle(s, job, was_seen);
	i = job_end(s, job, NULL);
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

void job_split(struct scheduler *s, struct job *job)
{
	intake_split(s, job_end(s, job, NULL));
}

/* --- the end of an attempt --- */

static int64_t age_ms(const struct record *r)
{
	return clock_wall().ms - (int64_t)(r->id >> 12) / 1000 - (int64_t)r->held_s * 1000;
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
	return !(r->flags & RECORD_WARNED) && s->conf->retry.warn_after_ms > 0 &&
	       age_ms(r) >= (int64_t)s->conf->retry.warn_after_ms;
}

static void wait_for_retry(struct scheduler *s, struct record *r, entry_index i, uint64_t wait_ms)
{
	struct entry *e = entry_get(s->entries, i);
	struct mono now = clock_mono();
	struct wall wall = clock_wall();
	int64_t left = (int64_t)s->conf->retry.max_age_ms - age_ms(r);

	/* The last attempt comes when the message's time is over, not long after. */
	if (left > 0 && (int64_t)wait_ms > left)
		wait_ms = (uint64_t)left;
	r->due.ms = wall.ms + (int64_t)wait_ms;
	for (unsigned k = 0; k < r->rcpt_count; k++)
		r->rcpt[k].is_temporary_seen = false;
	finish_tell_failed(s, r);
	if (is_warning_due(s, r))
		finish_warn(s, r);
	put_or_fail(s, r);
	e->attempts = r->attempts;
	e->flags &= (uint8_t) ~(ENTRY_TRIED | ENTRY_FORCED | ENTRY_GREYLISTED);
	e->server_at = 0;
	entries_push(s->entries, i, (struct mono){ now.ms + (int64_t)wait_ms });
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
	if (record_pending_count(r) > 0 && retry_is_over(s->conf, r->attempts, age_ms(r)))
		expire(s, r);
	if (record_pending_count(r) == 0) {
		finish_delivery(s, r, i);
		return;
	}
	wait_for_retry(s, r, i, wait_ms ? wait_ms : retry_wait_ms(s->conf, r->attempts));
}

static bool has_next_server(const struct scheduler *s, const struct job *job)
{
	const struct entry *e = entry_get(s->entries, job->entry);
	unsigned next = job->is_outside ? 0 : e->server_at + 1u;

	return next < domain_get(&s->domains, e->domain)->plan.count;
}

/* The attempt at one server is over and recipients are left. Consumes the job. */
static void job_go_on(struct scheduler *s, struct job *job)
{
	struct record *r;
	bool is_unknown = job->is_unknown, is_outside = job->is_outside, has_next = has_next_server(s, job);
	uint64_t wait_ms = job->wait_ms;
	entry_index i = job_end(s, job, &r);
	struct entry *e = entry_get(s->entries, i);

	e->flags |= ENTRY_TRIED;
	/* What else failed here for a reason that another server might not have waits with it: nothing is final yet. */
	for (unsigned k = 0; is_unknown && k < r->rcpt_count; k++)
		r->rcpt[k].is_temporary_seen = true;
	if (record_pending_count(r) == 0) {
		finish_delivery(s, r, i);
	} else if (!is_unknown && has_next) {
		put_or_fail(s, r);
		e->server_at = is_outside ? 0 : (uint8_t)(e->server_at + 1);
		dispatch_route(s, i);
	} else {
		end_attempt(s, r, i, wait_ms, true);
	}
	record_free(&r);
}

/* --- reports --- */

static void ack(struct scheduler *s, struct worker *w, const struct msg_report *m, enum disposition d, uint64_t wait_ms)
{
	uint32_t *triple;

	(void)s;
	w->ack_count += 2;
	if (w->ack_count + 1 > w->ack_room) {
		w->ack_room = w->ack_room ? w->ack_room * 2 : 384;
		w->acks = xrealloc(w->acks, w->ack_room, sizeof(*w->acks));
	}
	w->ack_count++;
	triple = w->acks + w->ack_count - 3;
	triple[0] = m->sequence;
	triple[1] = (uint32_t)d;
	triple[2] = (uint32_t)((wait_ms + 999) / 1000);
}

static enum disposition by_verdict(const struct msg_report *m)
{
	switch (m->verdict) {
	case VERDICT_DELIVERED:
		return DISPOSITION_SENT;
	case VERDICT_PERMANENT:
		return DISPOSITION_BOUNCED;
	case VERDICT_UNSENT:
		return DISPOSITION_IGNORED;
	default:
		return DISPOSITION_DEFERRED;
	}
}

/* One recipient's verdict into its record. */
static enum disposition judge_rcpt(struct scheduler *s, struct job *job, struct record_rcpt *rcpt,
				   const struct msg_report *m, const struct reply_rule *rule)
{
	bool is_relay = m->server < s->conf->server_count && s->conf->server[m->server].method == METHOD_RELAY;
	bool has_next = has_next_server(s, job);

	if (rule && rule->action == REPLY_BOUNCE) {
		rcpt->state = RCPT_BOUNCED;
		return DISPOSITION_BOUNCED;
	}
	if (react_spares_recipient(rule)) {
		rcpt->is_temporary_seen = true;
		return has_next ? DISPOSITION_PASSED_ON : DISPOSITION_DEFERRED;
	}
	switch (m->verdict) {
	case VERDICT_DELIVERED:
		rcpt->state = RCPT_DELIVERED;
		return DISPOSITION_SENT;
	case VERDICT_PERMANENT:
		if ((rule || !verdict_is_final(is_relay, m->code, m->dsn)) && (has_next || rcpt->is_temporary_seen))
			return has_next ? DISPOSITION_PASSED_ON : DISPOSITION_DEFERRED;
		rcpt->state = RCPT_BOUNCED;
		return DISPOSITION_BOUNCED;
	case VERDICT_UNKNOWN:
		job->is_unknown = true;
		job->record->flags |= RECORD_MAYBE_REPEATED;
		rcpt->is_temporary_seen = true;
		return DISPOSITION_DEFERRED;
	default:
		rcpt->is_temporary_seen = true;
		return has_next ? DISPOSITION_PASSED_ON : DISPOSITION_DEFERRED;
	}
}

static uint64_t wait_after(struct scheduler *s, struct job *job, const struct reply_rule *rule)
{
	uint64_t wait_ms = react_wait_ms(s, rule);

	if (wait_ms == 0)
		wait_ms = retry_wait_ms(s->conf, job->record->attempts + 1u);
	if (job->wait_ms == 0 || (wait_ms < job->wait_ms && !job->is_wait_fixed))
		job->wait_ms = wait_ms;
	if (rule && rule->scope == REPLY_MESSAGE && rule->wait_ms) {
		job->wait_ms = rule->wait_ms;
		job->is_wait_fixed = true;
	}
	return wait_ms;
}

static void count_outcome(struct scheduler *s, unsigned server, enum disposition d, unsigned rcpts)
{
	struct counters *c[2] = { &s->total, &s->server[server].count };

	if (d == DISPOSITION_SENT)
		limits_note_speed(s, rcpts);
	for (unsigned i = 0; i < 2; i++) {
		c[i]->sent += d == DISPOSITION_SENT ? rcpts : 0;
		c[i]->deferred += d == DISPOSITION_DEFERRED ? rcpts : 0;
		c[i]->bounced += d == DISPOSITION_BOUNCED ? rcpts : 0;
	}
}

/* The connection, the site or the server is to blame: to the first server that takes mail now, no attempt counted. */
static bool may_go_again(struct scheduler *s, const struct job *job)
{
	return job->goes_again && !job->is_unknown && !(entry_get(s->entries, job->entry)->flags & ENTRY_TRIED);
}

/* All recipients of a report; returns how the worker shall log it. */
static enum disposition judge(struct scheduler *s, struct job *job, const struct msg_report *m,
			      const struct reply_rule *rule, uint64_t *wait_ms)
{
	struct record *r = job->record;
	const char *server = session_server_name(s, m->server);
	enum disposition d = DISPOSITION_IGNORED;
	uint8_t outcome = record_add_outcome(r, clock_wall(), server, m->relay, m->code, m->dsn, m->text);
	unsigned judged = 0;

	*wait_ms = 0;
	for (unsigned i = 0; i < m->rcpts.count; i++) {
		struct record_rcpt *rcpt = record_find_rcpt(r, msg_u32(&m->rcpts, i));

		if (!rcpt || rcpt->state != RCPT_PENDING)
			continue;
		rcpt->outcome = outcome;
		d = judge_rcpt(s, job, rcpt, m, rule);
		judged++;
	}
	if (rule && rule->is_greylist)
		entry_get(s->entries, job->entry)->flags |= ENTRY_GREYLISTED;
	if (d == DISPOSITION_DEFERRED && may_go_again(s, job))
		d = DISPOSITION_AGAIN;
	if (d == DISPOSITION_DEFERRED)
		*wait_ms = wait_after(s, job, rule);
	count_outcome(s, m->server, d, judged);
	return d;
}

/* The lane learns from it. */
static void tell_lane(struct scheduler *s, struct session *session, const struct msg_report *m,
		      const struct reply_rule *rule)
{
	if (!session || !session->lane)
		return;
	session->was_answered |= m->verdict == VERDICT_DELIVERED || (m->cause == FAILURE_REPLY && m->code != 421) ||
				 m->cause == FAILURE_CAPABILITY || m->cause == FAILURE_LOCAL;
	session->delivered_count += m->verdict == VERDICT_DELIVERED;
	if (rule && rule->scope >= REPLY_CONNECTION)
		return; /* the rule says what to learn from it */
	if (m->verdict == VERDICT_DELIVERED || m->verdict == VERDICT_PERMANENT)
		lane_on_success(s, session->lane);
	else if (m->verdict == VERDICT_TEMPORARY && m->cause == FAILURE_REPLY && m->code != 421)
		lane_on_answer(s, session->lane);
	else if (m->code == 421 || m->cause == FAILURE_LOST || m->cause == FAILURE_UNKNOWN ||
		 m->cause == FAILURE_PROTOCOL)
		lane_on_throttle(s, session->lane);
}

/* While a worker tells what it did for the scheduler before us: a delivery that we have not under way. */
static struct job *job_recover(struct scheduler *s, const struct worker *w, uint64_t id, uint16_t group,
			       unsigned server)
{
	entry_index i = w->state == WORKER_SYNCING ? entries_find(s->entries, id, group) : 0;
	struct entry *e;
	struct lane *l;
	struct job *job;
	uint8_t at;

	if (!i)
		return NULL;
	e = entry_get(s->entries, i);
	l = lane_at(s, e->blame);
	if (e->place == ENTRY_HEAP)
		entries_remove(s->entries, i);
	else if (e->place == ENTRY_LISTED && !(l && lane_remove(s, l, i)))
		return NULL;
	else if (e->place != ENTRY_LISTED && e->place != ENTRY_HELD)
		return NULL;
	at = dispatch_server_at(s, i, server);
	e->server_at = at == DISPATCH_OUTSIDE ? 0 : at;
	job = job_new(s, i);
	if (job)
		job->is_outside = at == DISPATCH_OUTSIDE;
	return job;
}

/* The worker that answers for it lives. */
static void acquit(struct worker *w, uint64_t id, uint16_t group)
{
	for (unsigned i = 0; i < w->suspect_count; i++) {
		if (w->suspects[i].id == id && w->suspects[i].group == group) {
			w->suspects[i] = w->suspects[--w->suspect_count];
			return;
		}
	}
}

/* A limit counts it: the server saw it and, where refusals are free, took it. */
static bool counts(const struct scheduler *s, const struct job *job, const struct msg_report *m)
{
	bool is_free = m->server < s->conf->server_count && s->conf->server[m->server].is_refused_free;

	return m->was_seen && (job->was_taken || !is_free);
}

static bool go_again(struct scheduler *s, struct job *job, const struct msg_report *m)
{
	if (!may_go_again(s, job) || record_pending_count(job->record) == 0)
		return false;
	put_or_fail(s, job->record);
	job_requeue(s, job, counts(s, job, m));
	return true;
}

static void finish_report(struct scheduler *s, struct job *job, const struct msg_report *m)
{
	struct session *session = job->session;

	if (go_again(s, job, m)) {
		if (session)
			session_on_progress(s, session);
		return;
	}
	permit_settle(s, job, counts(s, job, m));
	job_go_on(s, job);
	if (session)
		session_on_progress(s, session);
}

static void take_report(struct scheduler *s, struct worker *w, struct job *job, const struct msg_report *m)
{
	const struct reply_rule *rule =
		m->cause == FAILURE_REPLY ? react_find(s, m->server, m->code, m->dsn, m->text) : NULL;
	uint64_t wait_ms;
	enum disposition d;

	if (m->verdict == VERDICT_UNSENT) { /* the session's end will tell why */
		ack(s, w, m, DISPOSITION_IGNORED, 0);
		if (!job->session)
			job_requeue(s, job, false);
		return;
	}
	job->was_taken |= m->verdict == VERDICT_DELIVERED || m->verdict == VERDICT_UNKNOWN;
	tell_lane(s, job->session, m, rule);
	if (m->verdict == VERDICT_DELIVERED)
		gate_on_delivered(s, m->server);
	job->goes_again |= react_to_reply(s, rule, job->session, m->server, m->text);
	d = judge(s, job, m, rule, &wait_ms);
	ack(s, w, m, d, wait_ms);
	event_attempt(s, job->record, m, d, wait_ms);
	if (m->last)
		finish_report(s, job, m);
	else
		put_or_fail(s, job->record); /* it is acknowledged with this turn: the rest may come to our successor */
}

void job_on_report(struct scheduler *s, struct worker *w, const struct msg_report *m)
{
	struct job *job = job_find(s, m->queue_id, m->group);
	struct msg_report known = *m;

	acquit(w, m->queue_id, m->group);
	if (job && job->session && job->session->worker != w) {
		log_error("smtpout %u reports on a delivery that it was not given: ignored", w->index);
		return;
	}
	known.server = session_server_at(s, m->server); /* the outcome counts, whatever became of the server */
	if (!job)
		job = job_recover(s, w, m->queue_id, m->group, known.server);
	if (job)
		take_report(s, w, job, &known);
	else /* recorded before, the acknowledgement was lost */
		ack(s, w, m, by_verdict(m), 0);
}

void job_on_inflight(struct scheduler *s, struct worker *w, const struct msg_inflight *m)
{
	struct job *job = job_find(s, m->queue_id, m->group);
	unsigned server = session_server_at(s, m->server);
	struct session *session;

	acquit(w, m->queue_id, m->group);
	session_foreign(s, w, m->session, server);
	if (!job)
		job = job_recover(s, w, m->queue_id, m->group, server);
	if (!job || job->session)
		return;
	session = session_find(s, m->session);
	job->rcpts_sent = m->rcpt_count;
	session_attach(session, job);
	if (session->server < s->conf->server_count)
		permit_adopt(s, job, session->server);
}

/* --- failures without an answer --- */

static void fail_pending(struct scheduler *s, struct job *job, const struct failure *f)
{
	struct record *r = job->record;
	uint8_t outcome = record_add_outcome(r, clock_wall(), f->server, f->relay, f->code, f->dsn, f->text);
	bool has_next = !job->is_unknown && has_next_server(s, job);
	bool is_bounce = f->verdict == VERDICT_PERMANENT && (f->is_final || !has_next);
	enum disposition d = has_next && !f->is_final ? DISPOSITION_PASSED_ON : DISPOSITION_DEFERRED;

	for (unsigned i = 0; i < r->rcpt_count; i++) {
		struct record_rcpt *rcpt = &r->rcpt[i];

		if (rcpt->state != RCPT_PENDING)
			continue;
		rcpt->outcome = outcome;
		if (f->verdict == VERDICT_TEMPORARY)
			rcpt->is_temporary_seen = true;
	}
	if (is_bounce)
		d = DISPOSITION_BOUNCED;
	event_failure(s, r, f, d, d == DISPOSITION_DEFERRED ? retry_wait_ms(s->conf, r->attempts + 1u) : 0);
	s->total.deferred += d == DISPOSITION_DEFERRED ? record_pending_count(r) : 0;
	s->total.bounced += d == DISPOSITION_BOUNCED ? record_pending_count(r) : 0;
	if (is_bounce && f->is_final)
		mark_pending(r, RCPT_BOUNCED, false);
}

void job_on_session_failure(struct scheduler *s, struct job *job, const struct lane *l,
			    const struct msg_session_down *m)
{
	const struct conf_server *server = &s->conf->server[l->server];
	bool is_direct = server->method == METHOD_DIRECT;
	struct failure f = {
		.verdict = is_direct && m->cause == FAILURE_GREETING && m->code >= 500 ? VERDICT_PERMANENT
										       : VERDICT_TEMPORARY,
		.is_counted = true,
		.code = m->code,
		.server = server->name,
		.dsn = m->dsn,
		.text = m->text,
		.relay = m->relay,
	};

	permit_settle(s, job, false);
	entry_get(s->entries, job->entry)->blame = l->index;
	fail_pending(s, job, &f);
	job_go_on(s, job);
}

void job_fail_entry(struct scheduler *s, entry_index i, const struct failure *f)
{
	struct job *job = job_new(s, i);
	struct record *r;
	struct entry *e;

	if (!job)
		return;
	entry_get(s->entries, i)->blame = f->blame;
	fail_pending(s, job, f);
	if (f->is_counted || f->is_final || has_next_server(s, job)) {
		job_go_on(s, job);
		return;
	}
	job_end(s, job, &r);
	e = entry_get(s->entries, i);
	end_attempt(s, r, i, retry_wait_ms(s->conf, r->attempts + 1u), (e->flags & ENTRY_TRIED) != 0);
	record_free(&r);
}

/* Sent, as far as anybody knows, and never answered: it waits, for no other server may have it at once. */
static void fail_unknown(struct scheduler *s, struct job *job, const char *server)
{
	struct failure f = {
		.verdict = VERDICT_TEMPORARY,
		.is_counted = true,
		.server = server,
		.dsn = slice_of("4.4.2"),
		.text = slice_of("the sending process died between the final dot and the reply: possibly delivered"),
		.relay = slice_of("none"),
	};

	event_possibly_repeated(s, job->record);
	job->is_unknown = true;
	job->record->flags |= RECORD_MAYBE_REPEATED;
	fail_pending(s, job, &f);
	job_go_on(s, job);
}

void job_on_worker_death(struct scheduler *s, struct job *job, const struct worker *w)
{
	unsigned server = job->session->server;

	if (!board_has(w->board, job->record->id, job->record->group)) {
		job_requeue(s, job, job->session->was_up); /* MAIL may have been sent */
		return;
	}
	permit_settle(s, job, true);
	fail_unknown(s, job, session_server_name(s, server));
}

void job_on_orphan(struct scheduler *s, struct worker *w, uint64_t id, uint16_t group)
{
	struct job *job = job_find(s, id, group);

	if (job) { /* on its way again by another worker */
		event_possibly_repeated(s, job->record);
		job->record->flags |= RECORD_MAYBE_REPEATED;
		return;
	}
	job = job_recover(s, w, id, group, s->conf->server_count);
	if (job)
		fail_unknown(s, job, "");
}

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

static bool is_age_over(const struct entry *e, uint64_t limit_ms)
{
	int64_t age = clock_wall().ms - (int64_t)(e->id >> 12) / 1000;

	return age >= 0 && (uint64_t)age >= limit_ms;
}

/* Its time may be over without an attempt: a site that is down for days; before that its sender hears of the delay. */
static bool expire_parked(struct scheduler *s, entry_index i, struct slice why)
{
	struct entry *e = entry_get(s->entries, i);
	uint64_t warn_ms = s->conf->retry.warn_after_ms;
	bool may_warn = !(e->flags & ENTRY_WARNED) && warn_ms > 0 && is_age_over(e, warn_ms);
	struct job *job = may_warn || is_age_over(e, s->conf->retry.max_age_ms) ? job_new(s, i) : NULL;
	bool is_over;
	struct record *r;

	if (!job)
		return entry_get(s->entries, i)->place == ENTRY_FREE; /* it had no record */
	job_end(s, job, &r);
	is_over = retry_is_over(s->conf, 0, age_ms(r));
	if (is_over) {
		say_why(r, why);
		expire(s, r);
		finish_delivery(s, r, i);
	} else if (is_warning_due(s, r)) {
		say_why(r, why);
		finish_warn(s, r);
		put_or_fail(s, r);
	}
	if (!is_over && (r->flags & RECORD_WARNED))
		e->flags |= ENTRY_WARNED;
	record_free(&r);
	return is_over;
}

void job_park(struct scheduler *s, entry_index i, struct mono due, uint32_t blame, struct slice why)
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
