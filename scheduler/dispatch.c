/* dispatch.c - the scheduler's turn: routes what is due, fills sessions, opens connections. */
#include "scheduler/dispatch.h"
#include "lib/log.h"
#include "scheduler/attempt.h"
#include "scheduler/gate.h"
#include "scheduler/grouping.h"
#include "scheduler/intake.h"
#include "scheduler/job.h"
#include "scheduler/pause.h"
#include "scheduler/permit.h"
#include "scheduler/slots.h"
#include "scheduler/target.h"
#include <stdlib.h>

enum { DUE_PER_TURN = 2000 }; /* entries routed in one turn: the loop stays responsive */

void entry_forget(struct scheduler *s, entry_index i)
{
	struct entry *e = entry_get(s->entries, i);

	if (e->domain)
		domain_unref(&s->domains, e->domain);
	entry_free(s->entries, i);
}

uint8_t dispatch_server_at(struct scheduler *s, entry_index i, unsigned server)
{
	const struct plan *plan = &domain_get(&s->domains, entry_get(s->entries, i)->domain)->plan;

	for (uint8_t at = 0; at < plan->count; at++)
		if (plan->server[at] == server)
			return at;
	return DISPATCH_OUTSIDE;
}

void dispatch_entry(struct scheduler *s, entry_index i)
{
	struct entry *e = entry_get(s->entries, i);

	e->server_at = 0;
	e->blame = BLAME_NOBODY;
	e->flags &= (uint8_t)~ENTRY_TRIED;
	dispatch_route(s, i);
}

/* --- routing --- */

static void no_server(struct scheduler *s, entry_index i, const char *domain)
{
	char *text = xasprintf("no server may carry mail for %s", domain);
	struct failure f = {
		.verdict = VERDICT_PERMANENT,
		.is_final = true,
		.server = "",
		.dsn = slice_of("5.7.1"),
		.text = slice_of(text),
		.relay = slice_of("none"),
	};

	attempt_fail_entry(s, i, &f);
	free(text);
}

static void fail_dns(struct scheduler *s, entry_index i, const struct target *t)
{
	static const char *const DSN[] = {
		[RESOLVE_TEMPORARY] = "4.4.3", [RESOLVE_NO_DOMAIN] = "5.1.2", [RESOLVE_NULL_MX] = "5.1.10",
		[RESOLVE_DENIED] = "5.4.6",    [RESOLVE_POLICY] = "4.7.5",
	};
	bool is_final = t->state == TARGET_PERMANENT && t->status != RESOLVE_DENIED;
	struct failure f = {
		.verdict = t->state == TARGET_PERMANENT ? VERDICT_PERMANENT : VERDICT_TEMPORARY,
		.is_final = is_final,
		.server = s->conf->server[t->server].name,
		.dsn = slice_of(t->status < ARRAY_LEN(DSN) && DSN[t->status] ? DSN[t->status] : "4.4.3"),
		.text = slice_of(t->text),
		.relay = slice_of("none"),
		.blame = target_is_dns_failure(t) ? BLAME_DNS : BLAME_NOBODY,
	};

	attempt_fail_entry(s, i, &f);
}

/* Every server was passed over because its lane is down: wait for the first that may be probed. */
static void park_for_lanes(struct scheduler *s, entry_index i, const struct lane *down)
{
	char *why = xasprintf("delivery temporarily suspended: %s", down->text ? down->text : "the server is down");

	attempt_park(s, i, down->retry_at, down->index, slice_of(why));
	free(why);
}

/* Some server was really tried, the others are known not to answer: the attempt is over. */
static void all_failed(struct scheduler *s, entry_index i, const struct lane *l)
{
	struct entry *e = entry_get(s->entries, i);
	struct failure f = {
		.verdict = VERDICT_TEMPORARY,
		.is_counted = true,
		.code = l->code,
		.server = s->conf->server[l->server].name,
		.dsn = slice_of(l->dsn ? l->dsn : "4.3.2"),
		.text = slice_of(l->text ? l->text : "the server is being held back"),
		.relay = slice_of("none"),
		.blame = l->index,
	};

	e->server_at = (uint8_t)(domain_get(&s->domains, e->domain)->plan.count - 1);
	attempt_fail_entry(s, i, &f);
}

enum lane_offer { LANE_TAKEN, LANE_PASSED };

/* Puts the entry into the lane, unless the lane is down and another server or a later probe is better. */
static enum lane_offer offer_to_lane(struct scheduler *s, entry_index i, struct lane *l, bool has_next,
				     bool has_fallback)
{
	struct entry *e = entry_get(s->entries, i);

	if (l->state == LANE_DOWN && clock_mono().ms < l->retry_at.ms && !(e->flags & ENTRY_FORCED))
		return LANE_PASSED;
	if (pause_is_on(s, l->server) && (has_next || (e->flags & ENTRY_TRIED)) && !(e->flags & ENTRY_FORCED))
		return LANE_PASSED;
	if (l->state == LANE_PROBING && has_next && l->sessions + l->ready_count > 0)
		return LANE_PASSED; /* one probe is enough */
	if ((has_next ? lane_server(s, l)->on_limit == ON_LIMIT_NEXT : has_fallback && !(e->flags & ENTRY_TRIED)) &&
	    permit_is_server_full(permit_purse(s, l->server, e)))
		return LANE_PASSED;
	if (l->state == LANE_DOWN)
		l->state = LANE_PROBING;
	e->flags &= (uint8_t)~ENTRY_FORCED; /* an operator's wish is good for one try, not for one after the other */
	lane_push(s, l, i);
	return LANE_TAKEN;
}

static struct lane *lane_of_target(struct scheduler *s, const struct target *t)
{
	struct lane *l = lane_get(s, t->server, t->site, t->name);

	if (l->is_name_stale) {
		free(l->name);
		l->name = xstrdup(t->name);
		l->is_name_stale = false;
	}
	l->destination = t->destination ? &s->conf->destination[t->destination - 1] : NULL;
	return l;
}

/* The lane of the entry's present server; NULL: it waits for DNS or failed, and is gone from here. */
static struct lane *find_lane(struct scheduler *s, entry_index i, unsigned server)
{
	const struct conf_server *conf = &s->conf->server[server];
	struct target *t;

	if (conf->method == METHOD_RELAY)
		return lane_get(s, server, 0, conf->host);
	t = target_get(s, server, domain_get(&s->domains, entry_get(s->entries, i)->domain)->name);
	if (t->state == TARGET_KNOWN)
		return lane_of_target(s, t);
	if (t->state == TARGET_ASKED)
		target_wait(s, t, i);
	else
		fail_dns(s, i, t);
	return NULL;
}

/* A lane that was passed over though it is not down, and when mail there may go. */
struct fallback {
	struct lane *lane;
	int64_t free_ms; /* of clock_mono() */
	uint8_t server_at;
};

/* When the pause of its server is over, or its limit's window opens. */
static int64_t free_ms(struct scheduler *s, const struct lane *l, const struct entry *e)
{
	const struct purse *p = permit_purse(s, l->server, e);
	struct wall until = { pause_is_on(s, l->server) ? pause_until(s, l->server).ms : 0 };
	int64_t now = clock_wall().ms;

	if (p && p->blocked_until.ms > until.ms)
		until = p->blocked_until;
	return until.ms == INT64_MAX ? INT64_MAX : clock_mono().ms + (until.ms > now ? until.ms - now : 0);
}

static void consider_fallback(struct scheduler *s, struct lane *l, const struct entry *e, struct fallback *best)
{
	int64_t at = free_ms(s, l, e);

	if (!best->lane || at < best->free_ms)
		*best = (struct fallback){ l, at, e->server_at };
}

/* Every server was passed over: mail waits for the one that comes first. */
static void wait_for_first(struct scheduler *s, entry_index i, const struct fallback *best, const struct lane *down)
{
	if (!best->lane || (down && down->retry_at.ms < best->free_ms)) {
		park_for_lanes(s, i, down);
		return;
	}
	entry_get(s->entries, i)->server_at = best->server_at;
	lane_push(s, best->lane, i);
}

void dispatch_route(struct scheduler *s, entry_index i)
{
	struct entry *e = entry_get(s->entries, i);
	const struct domain *domain = domain_get(&s->domains, e->domain);
	const struct lane *first_down = NULL;
	struct fallback best = { 0 };

	e->place = ENTRY_LISTED;
	if ((e->flags & ENTRY_MIXED_PLANS) ||
	    ((e->flags & ENTRY_MIXED_DOMAINS) && grouping_is_by_domain(s, &domain->plan))) {
		intake_split(s, i, (struct grouping_bounds){ RECORD_RCPT_MAX, false });
		return;
	}
	if (domain->plan.count == 0) {
		no_server(s, i, domain->name);
		return;
	}
	if (e->server_at >= domain->plan.count)
		BUG("a delivery beyond the last of its servers");
	for (; e->server_at < domain->plan.count; e->server_at++) {
		struct lane *l = find_lane(s, i, domain->plan.server[e->server_at]);

		if (!l ||
		    offer_to_lane(s, i, l, e->server_at + 1u < domain->plan.count, best.lane != NULL) == LANE_TAKEN)
			return;
		if (l->state != LANE_DOWN)
			consider_fallback(s, l, e, &best);
		else if (!first_down || l->retry_at.ms < first_down->retry_at.ms)
			first_down = l;
	}
	if (e->flags & ENTRY_TRIED)
		all_failed(s, i, first_down ? first_down : best.lane);
	else
		wait_for_first(s, i, &best, first_down);
}

/* --- due times --- */

static void set_due_timer(struct scheduler *s)
{
	entry_index first = entries_first(s->entries);
	int64_t now = clock_mono().ms, due;

	if (!first || s->is_draining) {
		loop_timer_cancel(s->due_timer);
		s->due_armed_ms = 0;
		return;
	}
	due = entry_get(s->entries, first)->due_ms;
	if (s->due_armed_ms == due && loop_timer_is_set(s->due_timer))
		return;
	s->due_armed_ms = due;
	loop_timer_set_ms(s->due_timer, due > now ? (uint64_t)(due - now) : 0);
}

static void take_due(struct scheduler *s)
{
	int64_t now = clock_mono().ms;

	for (unsigned n = 0; n < DUE_PER_TURN; n++) {
		entry_index i = entries_first(s->entries);

		if (!i || entry_get(s->entries, i)->due_ms > now)
			break;
		entries_remove(s->entries, i);
		dispatch_entry(s, i);
	}
}

void dispatch_release_blamed(struct scheduler *s, uint32_t blame)
{
	struct mono now = clock_mono();

	for (entry_index i = 1; i < entries_limit(s->entries); i++) {
		struct entry *e = entry_get(s->entries, i);

		if (e->place != ENTRY_HEAP || e->blame != blame || e->due_ms <= now.ms)
			continue;
		entries_remove(s->entries, i);
		entries_push(s->entries, i, now);
	}
}

/* --- lanes into sessions --- */

static void mark_if_of_server(void *arg, struct table_node *node)
{
	struct scheduler *s = ((void **)arg)[0];
	unsigned server = *(unsigned *)((void **)arg)[1];
	struct lane *l = TABLE_OBJECT(node, struct lane, node);

	if (l->server == server && (l->ready_count > 0 || l->sessions > 0))
		lane_mark_dirty(s, l);
}

void dispatch_server_changed(struct scheduler *s, unsigned server)
{
	void *arg[2] = { s, &server };

	table_each(&s->lanes, mark_if_of_server, arg);
}

static void mark_if_waiting(void *arg, struct table_node *node)
{
	struct lane *l = TABLE_OBJECT(node, struct lane, node);

	if (l->ready_count > 0)
		lane_mark_dirty(arg, l);
}

void dispatch_workers_changed(struct scheduler *s)
{
	table_each(&s->lanes, mark_if_waiting, s);
}

/* Takes everything out of the lane and routes it again. */
static void reroute_all(struct scheduler *s, struct lane *l)
{
	unsigned count = l->ready_count;
	entry_index i;

	while (count-- > 0 && (i = lane_pop(s, l)) != 0)
		dispatch_route(s, i);
}

static void reroute_server(struct scheduler *s, unsigned server)
{
	for (uint32_t k = 1; k < s->lane_limit; k++)
		if (s->lane[k] && s->lane[k]->server == server)
			reroute_all(s, s->lane[k]);
}

/* What sleeps there is routed again: each once, wherever it ends. */
void dispatch_purse_blocked(struct scheduler *s, struct purse *p)
{
	for (unsigned k = 0; k < PRIORITY_COUNT; k++) {
		unsigned count = 0;

		for (struct sender_queue *q = p->asleep[k]; q; q = q->next == p->asleep[k] ? NULL : q->next)
			count += q->count;
		while (count-- > 0 && p->asleep[k]) {
			entry_index i = lane_pop_queue(s, p->asleep[k]);
			struct entry *e = entry_get(s->entries, i);

			if (!(e->flags & ENTRY_TRIED))
				e->server_at = 0; /* one that was full before may have room first */
			dispatch_route(s, i);
		}
	}
}

void dispatch_server_paused(struct scheduler *s, unsigned server)
{
	reroute_server(s, server);
}

void dispatch_server_resumed(struct scheduler *s, unsigned server)
{
	for (uint32_t k = 1; k < s->lane_limit; k++)
		if (s->lane[k] && s->lane[k]->server == server)
			lane_probe(s, s->lane[k]);
}

/* By this domain its site is not to be found any more. Mail for another one comes back, and names the lane anew. */
static void lose_name(struct scheduler *s, struct lane *l)
{
	l->is_name_stale = true;
	reroute_all(s, l);
}

/* The addresses to connect to. False: not known yet, or failed (the lane then knows it). */
static bool lane_hosts(struct scheduler *s, struct lane *l, struct slice *hosts)
{
	struct target *t = target_get(s, l->server, l->name);

	switch (t->state) {
	case TARGET_KNOWN:
		if (l->site != 0 && t->site != l->site) { /* the domain moved: so must its mail */
			lose_name(s, l);
			return false;
		}
		*hosts = (struct slice){ t->hosts, t->hosts_len };
		return true;
	case TARGET_ASKED:
		t->is_lane_waiting = true;
		return false;
	default:
		if (l->site != 0) { /* one domain's trouble is not its site's */
			lose_name(s, l);
			return false;
		}
		lane_on_failure(s, l, FAILURE_DNS, 0, slice_of("4.4.3"), slice_of(t->text), slice_of("none"));
		return false;
	}
}

static bool open_one(struct scheduler *s, struct lane *l)
{
	struct slice hosts;

	if (l->sessions >= lane_limit(s, l) || l->connecting >= l->ready_count)
		return false;
	if (!slots_ask(s, l) || !lane_hosts(s, l, &hosts))
		return false;
	session_on_hosts(s, l, hosts);
	return l->sessions < lane_limit(s, l) && session_open(s, l, hosts);
}

static struct grouping_bounds bounds_of(const struct scheduler *s, const struct lane *l, entry_index i)
{
	const struct domain *d = domain_get(&s->domains, entry_get(s->entries, i)->domain);
	unsigned most = grouping_rcpts_max(s, &d->plan, d->name);

	return (struct grouping_bounds){
		.rcpts_max = l->rcpt_limit > 0 && l->rcpt_limit < most ? l->rcpt_limit : most,
		.is_by_domain = l->domain_limit > 0,
	};
}

static bool is_within(struct grouping_bounds bounds, const struct job *job)
{
	return job_rcpt_count(job) <= bounds.rcpts_max &&
	       !(bounds.is_by_domain && job->record->flags & RECORD_MIXED_DOMAINS);
}

static void give_one(struct scheduler *s, struct lane *l, struct session *session)
{
	struct purse *purse = lane_next_purse(l);
	entry_index i = lane_pop(s, l);
	struct job *job = job_new(s, i);

	if (!job)
		return;
	if (!is_within(bounds_of(s, l, i), job)) {
		job_split(s, job, bounds_of(s, l, i));
		return;
	}
	if (!permit_take(s, purse, job, job_rcpt_count(job))) {
		job_give_back(s, job,
			      l); /* too few for this one: has_permit() finds it so, it sleeps until there are more */
		return;
	}
	session_deliver(s, session, job);
}

/* Puts to sleep what has no permit. False: nothing else is left. */
static bool has_permit(struct scheduler *s, struct lane *l)
{
	while (l->ready_count > 0) {
		if (permit_is_ready(s, lane_next_purse(l)))
			return true;
		lane_sleep(s, l);
	}
	return false;
}

static void pump(struct scheduler *s, struct lane *l)
{
	if (pause_is_on(s, l->server))
		return; /* what is here has nowhere else to go */
	if (l->state == LANE_DOWN) {
		reroute_all(s, l); /* on to the next server, or parked until the lane may be probed */
		return;
	}
	/* Without a permit no connection is opened: it would idle, be closed, and be opened again. */
	while (has_permit(s, l) && gate_is_open(s, l)) {
		struct session *session = session_choose(s, l);

		/* A busy session will do only when no more connections may be opened. */
		if ((!session || session->in_flight > 0) && open_one(s, l))
			session = session_choose(s, l);
		if (!session || l->ready_count == 0 || l->state == LANE_DOWN)
			break;
		give_one(s, l, session);
	}
	if (l->state == LANE_DOWN && l->ready_count > 0)
		lane_mark_dirty(s, l);
}

void dispatch_turn(struct scheduler *s)
{
	if (s->is_draining || s->syncing_count > 0)
		return;
	take_due(s);
	while (s->dirty_lanes) {
		struct lane *l = s->dirty_lanes;
		unsigned server = l->server;
		const struct conf_destination *destination = l->destination;

		s->dirty_lanes = l->next_dirty;
		l->is_dirty = false;
		pump(s, l);
		lane_collect(s, l);
		slots_pass_on(s, server, destination);
	}
	set_due_timer(s);
}
