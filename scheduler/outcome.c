/* outcome.c - see outcome.h. */
#include "scheduler/outcome.h"
#include "lib/log.h"
#include "scheduler/attempt.h"
#include "scheduler/detour.h"
#include "scheduler/dispatch.h"
#include "scheduler/events.h"
#include "scheduler/fuse.h"
#include "scheduler/gate.h"
#include "scheduler/intake.h"
#include "scheduler/job.h"
#include "scheduler/limits.h"
#include "scheduler/permit.h"
#include "scheduler/react.h"
#include "scheduler/verdict.h"

/* Sent with the end of the turn, once all is durable. */
static void ack(struct worker *w, const struct msg_report *m, enum disposition d, uint64_t wait_ms)
{
	uint32_t *triple;

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
	bool has_next = attempt_has_next_server(s, job);

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
		if (m->after_dot && !rule)
			job->record->flags |= RECORD_MAYBE_REPEATED;
		rcpt->is_temporary_seen = true;
		return has_next ? DISPOSITION_PASSED_ON : DISPOSITION_DEFERRED;
	}
}

static uint64_t wait_after(struct scheduler *s, struct job *job, const struct reply_rule *rule)
{
	uint64_t wait_ms = react_wait_ms(s, rule);

	if (wait_ms == 0)
		wait_ms = attempt_wait_ms(s, job->record, job->record->attempts + 1u);
	if (job->wait_ms == 0 || (wait_ms < job->wait_ms && !job->is_wait_fixed))
		job->wait_ms = wait_ms;
	if ((rule && rule->scope == REPLY_MESSAGE && rule->wait_ms) ||
	    (!rule && (job->record->flags & RECORD_MAYBE_REPEATED))) {
		job->wait_ms = wait_ms;
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
	detour_on_report(session, m, rule);
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
static struct job *job_recover(struct scheduler *s, const struct worker *w, uint64_t id, uint32_t group,
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
static void acquit(struct worker *w, uint64_t id, uint32_t group)
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
	job_write(s, job);
	job_requeue(s, job, counts(s, job, m));
	return true;
}

/* Edited by hand, or by a broken disk: held as it is, for it can become nothing but what nobody wrote. */
static bool hold_if_damaged(struct scheduler *s, struct job *job, const struct msg_report *m)
{
	struct record *r;
	entry_index i;

	if (m->cause != FAILURE_LOCAL || record_pending_count(job->record) == 0 ||
	    !intake_is_damaged(s, job->record->id))
		return false;
	permit_settle(s, job, counts(s, job, m));
	i = job_end(s, job, &r);
	record_hold(r);
	job_record(s, r);
	entry_get(s->entries, i)->place = ENTRY_HELD;
	record_free(&r);
	return true;
}

static void finish_report(struct scheduler *s, struct job *job, const struct msg_report *m)
{
	struct session *session = job->session;

	if (hold_if_damaged(s, job, m)) {
		if (session)
			session_on_progress(s, session);
		return;
	}
	if (go_again(s, job, m)) {
		if (session)
			session_on_progress(s, session);
		return;
	}
	permit_settle(s, job, counts(s, job, m));
	attempt_go_on(s, job);
	if (session)
		session_on_progress(s, session);
}

static const struct reply_rule *rule_for(const struct scheduler *s, const struct msg_report *m)
{
	return m->cause == FAILURE_REPLY ? react_find(s, m->server, m->code, m->dsn, m->text) : NULL;
}

/* Into the record, and to whoever asks; the acknowledgement goes with this turn. */
static void note_report(struct scheduler *s, struct worker *w, struct job *job, const struct msg_report *m,
			const struct reply_rule *rule)
{
	uint64_t wait_ms;
	enum disposition d = judge(s, job, m, rule, &wait_ms);

	ack(w, m, d, wait_ms);
	event_attempt(s, job->record, m, d, wait_ms);
}

/* Nobody else is asked, and no rule decides otherwise. */
static bool is_last_word(const struct scheduler *s, const struct job *job, const struct msg_report *m,
			 const struct reply_rule *rule)
{
	bool is_relay;

	if (m->verdict != VERDICT_PERMANENT || m->cause != FAILURE_REPLY || m->server >= s->conf->server_count)
		return false;
	if (rule && (rule->action == REPLY_BOUNCE || react_spares_recipient(rule)))
		return false;
	is_relay = s->conf->server[m->server].method == METHOD_RELAY;
	return !attempt_has_next_server(s, job) || (!rule && verdict_is_final(is_relay, m->code, m->dsn));
}

/* What is to be made of a reply: what a rule says, or that the server refuses everything. */
static const struct reply_rule *judge_reply(struct scheduler *s, const struct job *job, const struct msg_report *m)
{
	const struct reply_rule *rule = rule_for(s, m), *blown = NULL;

	if (is_last_word(s, job, m, rule))
		blown = fuse_on_refusal(s, m->server, job->record, m->code, m->dsn, m->text);
	return blown ? blown : rule;
}

static void on_delivered(struct scheduler *s, unsigned server)
{
	gate_on_delivered(s, server);
	if (server < s->conf->server_count)
		fuse_on_delivered(s, server);
}

static void take_report(struct scheduler *s, struct worker *w, struct job *job, const struct msg_report *m)
{
	const struct reply_rule *rule = judge_reply(s, job, m);

	if (m->verdict == VERDICT_UNSENT) { /* the session's end will tell why */
		ack(w, m, DISPOSITION_IGNORED, 0);
		if (!job->session)
			job_requeue(s, job, false);
		return;
	}
	job->was_taken |= m->verdict == VERDICT_DELIVERED || m->verdict == VERDICT_UNKNOWN;
	tell_lane(s, job->session, m, rule);
	if (m->verdict == VERDICT_DELIVERED)
		on_delivered(s, m->server);
	job->goes_again |= react_to_reply(s, rule, job->session, m->server, m->text);
	note_report(s, w, job, m, rule);
	if (m->last)
		finish_report(s, job, m);
	else
		job_write(s, job); /* it is acknowledged with this turn: the rest may come to our successor */
}

/*
 * What an earlier server of the attempt said, repeated to us, the successor of the scheduler that was told: the other
 * recipients have gone on meanwhile, and are in another worker's hands.
 */
static void take_repeated(struct scheduler *s, struct worker *w, struct job *job, const struct msg_report *m)
{
	if (m->verdict == VERDICT_UNSENT) {
		ack(w, m, DISPOSITION_IGNORED, 0);
		return;
	}
	note_report(s, w, job, m, rule_for(s, m));
	job_write(s, job);
}

void outcome_on_report(struct scheduler *s, struct worker *w, const struct msg_report *m)
{
	struct job *job = job_find(s, m->queue_id, m->group);
	struct msg_report known = *m;

	acquit(w, m->queue_id, m->group);
	if (job && job->session && job->session->worker != w && w->state != WORKER_SYNCING) {
		log_error("smtpout %u reports on a delivery that it was not given: ignored", w->index);
		if (w->state == WORKER_UP)
			proc_accuse(s->proc, SCHEDULER_PEER_WORKER + w->index, channel_peer(w->channel));
		return;
	}
	known.server = session_server_at(s, m->server); /* the outcome counts, whatever became of the server */
	if (!job)
		job = job_recover(s, w, m->queue_id, m->group, known.server);
	if (job && job->session && job->session->worker != w)
		take_repeated(s, w, job, &known);
	else if (job)
		take_report(s, w, job, &known);
	else /* recorded before, the acknowledgement was lost */
		ack(w, m, by_verdict(m), 0);
}

void outcome_on_inflight(struct scheduler *s, struct worker *w, const struct msg_inflight *m)
{
	struct job *job = job_find(s, m->queue_id, m->group);
	struct session *session = session_find(s, m->session);

	acquit(w, m->queue_id, m->group);
	if (!session || session->worker != w)
		return;
	if (!job)
		job = job_recover(s, w, m->queue_id, m->group, session->server);
	if (!job || job->session)
		return;
	job->rcpts_sent = m->rcpt_count;
	session_attach(session, job);
	if (session->server < s->conf->server_count)
		permit_adopt(s, job, session->server);
}

/* --- the end of a session, or of its worker --- */

void outcome_on_session_failure(struct scheduler *s, struct job *job, const struct lane *l,
				const struct msg_session_down *m)
{
	const struct conf_server *server = &s->conf->server[l->server];
	/* All MX hosts refused in their greetings, or are ourselves. */
	bool is_for_good = server->method == METHOD_DIRECT && m->cause == FAILURE_GREETING &&
			   (m->code >= 500 || (m->code == 0 && m->dsn.len > 0 && m->dsn.ptr[0] == '5'));
	struct failure f = {
		.verdict = is_for_good ? VERDICT_PERMANENT : VERDICT_TEMPORARY,
		.is_counted = true,
		.code = m->code,
		.server = server->name,
		.dsn = m->dsn,
		.text = m->text,
		.relay = m->relay,
	};

	if (is_for_good && !attempt_has_next_server(s, job) &&
	    fuse_on_refusal(s, l->server, job->record, m->code, m->dsn, m->text))
		f.verdict = VERDICT_TEMPORARY;
	permit_settle(s, job, false);
	entry_get(s->entries, job->entry)->blame = l->index;
	attempt_fail_job(s, job, &f);
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
	attempt_fail_job(s, job, &f);
}

void outcome_on_worker_death(struct scheduler *s, struct job *job, const struct worker *w)
{
	unsigned server = job->session->server;

	if (!board_has(w->board, job->record->id, job->record->group)) {
		job_requeue(s, job, job->session->was_up); /* MAIL may have been sent */
		return;
	}
	permit_settle(s, job, true);
	fail_unknown(s, job, session_server_name(s, server));
}

void outcome_on_orphan(struct scheduler *s, struct worker *w, uint64_t id, uint32_t group)
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
