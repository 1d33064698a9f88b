/*
 * limiter - says how many messages may go through a server now
 *
 * One process per instance, asked by the scheduler before every transaction that falls under limits. It knows no mail:
 * names of scopes (a server, a destination, a sender ...), numbers, and windows of time. Runs as `user`, chrooted to
 * SPOOL/db/limits, which holds its counters and nothing else; no network, no secrets. But when a fleet shares its
 * limits: then it has a connection to their store (shared.h), and that store's password.
 *
 * The scheduler sends, the limiter answers; request ids are the scheduler's, one row for all kinds:
 *
 *   PERMIT_ASK { request, scopes, class, messages, recipients, first }
 *   PERMIT     { request, messages, recipients, free_at, limit, scope_at }
 *       As many as fit every limit of all the scopes (see permits_ask()), durable before it is said. They count
 *       against every limit, without expiring, until they are settled: settle soon, whatever came of them.
 *       Nothing granted: `limit` of the scope number `scope_at` is the one in the way, free_at when to ask again, as
 *       the wall clock now reads (0: never). It supposes that what is under way is used; a refund that was settled may
 *       make room earlier. A message with more recipients than a limit's whole amount has to be sent in parts.
 *
 *   SETTLE     { request, scopes, class, used_*, refund_* }
 *   SETTLED    { request }
 *       Used: the server saw MAIL FROM, or nobody knows. Refunded: it never saw it. Any part of what was granted,
 *       of several grants at once too; the time of settlement is the time of use.
 *
 *   ADOPT      { request, scope, class, messages, recipients }
 *   SETTLED    { request }
 *       Due once for each scope with something under way whenever either process was started anew: this much of what
 *       was granted is still under way, or is in a SETTLE without an answer, which is then repeated. One without a
 *       scope ends it: all else is taken as used now. What is settled beyond what is outstanding counts as used all
 *       the same: no error opens a window.
 *
 *   LIMIT_QUERY { request, scope, from }
 *   LIMIT_STATE { request, scope, limit, is_recipients, window_ms, used, allowed, free_at, shared, leased, last, next }
 *       One for each limit, `used` with what is under way; a scope without limits gets one with an empty limit.
 *
 *   LIMIT_CORRECT   { request, scope, limit, what, used, window_ms }
 *   LIMIT_CORRECTED { request, is_done, before, text }
 *       See permits_correct(). With damaged counters a correction of a scope begins new ones, in which everything else
 *       is taken to be used up.
 *
 *   STORE_STATE { text }
 *       Unasked, whenever it changes: what is wrong with the shared store. While an answer needs that store it may wait
 *       for it, for some seconds; what the store's absence refuses says so in `limit`.
 *
 * A request may be repeated until 2048 later ones of its kind were sent: the answer is the same and counts once.
 *
 * With counters that are damaged or cannot be read nothing is granted: the process lives, says so in the log and in
 * each PERMIT's `limit`, until an operator has acted and it is started again. On a full disk it grants nothing, keeps
 * what it was told in memory, and goes on when there is room. Signals: SIGTERM ends it at once, all that was answered
 * is on disk. Exit: 75 when the store failed under way (master starts it again, the store recovers), when another
 * process still holds it, or when there is no room to recover it.
 */
#include "lib/log.h"
#include "lib/proc.h"
#include "limiter/forecast.h"
#include "limiter/setup.h"
#include "limiter/shared.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	FULL_RETRY_MS = 5000,       /* the disk is full: when to try again */
	TROUBLE_RETRY_MS = 60000,   /* no counters: when the scheduler is told to ask again */
	STORE_RETRY_MS = 2000,      /* the shared store is away, likewise */
	HELD_PAUSE_BYTES = 1 << 19, /* answers that wait for disk or pipe: read nothing new */
	HELD_MAX_BYTES = 1 << 22,
	LIMIT_TEXT_MAX = 64,
	STATES_PER_PORTION = 400 /* of an answer to a LIMIT_QUERY for all */
};

struct limiter {
	struct proc *proc;
	struct channel *scheduler;
	uint32_t partner;      /* the scheduler's generation */
	struct ledger *ledger; /* NULL: no limits at all, no counters (trouble), or ending */
	struct permits *permits;
	struct forecast *forecast; /* being asked for; NULL: none */
	struct setup *setup;       /* what the configuration says of limits */
	struct shared *shared;     /* the store that a fleet's limits share; NULL: they are ours alone */
	struct packet correction;  /* under way in that store; len 0: none */
	struct loop_timer *retry;
	struct buf held;     /* packets that wait until what they say is durable: u16 length, bytes */
	const char *trouble; /* why nothing can be granted, for people; NULL: all is well */
	bool is_full, is_paused, is_ending;
	char boot_id[BOOT_ID_MAX];
};

/* --- answers --- */

static void hold(struct limiter *l, const struct packet *p)
{
	buf_put(&l->held, &p->len, sizeof(p->len));
	buf_put(&l->held, p->bytes, p->len);
	if (l->held.failed)
		BUG("answers pile up");
	if (l->held.len >= HELD_PAUSE_BYTES && !l->is_paused) {
		l->is_paused = true;
		channel_pause_input(l->scheduler, true);
	}
}

static void send_held(struct limiter *l)
{
	size_t at = 0;

	while (at < l->held.len && !channel_is_full(l->scheduler)) {
		struct packet p;

		memcpy(&p.len, l->held.ptr + at, sizeof(p.len));
		memcpy(p.bytes, l->held.ptr + at + sizeof(p.len), p.len);
		channel_send(l->scheduler, &p);
		at += sizeof(p.len) + p.len;
	}
	buf_consume(&l->held, at);
	if (l->is_paused && l->held.len < HELD_PAUSE_BYTES / 2) {
		l->is_paused = false;
		channel_pause_input(l->scheduler, false);
	}
}

static int64_t now_of(struct limiter *l)
{
	int64_t now = ledger_now(l->ledger, clock_mono().ms);

	ledger_set_wall(l->ledger, now, clock_wall().ms);
	return now;
}

/* Group commit: everything that one turn of the loop decided, then everything that it has to say. */
static void on_turn(void *arg)
{
	struct limiter *l = arg;
	enum store_result result;

	if (l->shared && l->ledger && !l->is_full)
		shared_take_news(l->shared);
	if (l->ledger && !l->is_full && ledger_has_changes(l->ledger)) {
		result = ledger_commit(l->ledger, clock_wall().ms);
		if (result == STORE_FULL) {
			l->is_full = true;
			log_error("limits: no room for the counters: nothing is granted until there is: %s",
				  store_error());
			loop_timer_set_ms(l->retry, FULL_RETRY_MS);
		} else if (result != STORE_OK) {
			log_error("limits: the counters cannot be written: %s", store_error());
			buf_clear(&l->held); /* none of it is durable: never say it */
			l->is_ending = true;
			proc_exit(l->proc, EXIT_STATUS_TEMPORARY);
		}
	}
	if (l->shared && l->ledger && !l->is_full && !l->is_ending)
		shared_turn(l->shared, now_of(l));
	if (!l->is_full && l->held.len > 0)
		send_held(l);
}

static void on_retry(void *arg)
{
	struct limiter *l = arg;
	enum store_result result = l->ledger ? ledger_commit(l->ledger, clock_wall().ms) : STORE_OK;

	if (result == STORE_FULL) {
		loop_timer_set_ms(l->retry, FULL_RETRY_MS);
		return;
	}
	l->is_full = false; /* a failure shows again in on_turn() */
	if (result == STORE_OK)
		log_info("limits: there is room for the counters again");
}

/* Limiter time as the wall clock reads it now: what the other side compares with. */
static uint64_t to_wall(int64_t now, int64_t at)
{
	return at <= 0 ? 0 : (uint64_t)(clock_wall().ms + (at - now));
}

static struct slice short_text(const char *text)
{
	size_t len = strlen(text);

	return (struct slice){ text, len > LIMIT_TEXT_MAX ? LIMIT_TEXT_MAX : len };
}

/* --- requests --- */

/* What rests on nothing that must be durable need not wait. */
static void answer(struct limiter *l, const struct packet *p)
{
	if (channel_is_full(l->scheduler))
		hold(l, p);
	else
		channel_send(l->scheduler, p);
}

static void refuse(struct limiter *l, const struct msg_permit_ask *ask, const char *why, int64_t delay_ms)
{
	struct msg_head head = channel_head(l->scheduler);
	struct msg_permit m = { .request = ask->request,
				.free_at = (uint64_t)(clock_wall().ms + delay_ms),
				.limit = short_text(why) };
	struct packet p;

	msg_encode_permit(&p, &head, &m);
	answer(l, &p);
}

/* How many calls the shared store had been sent when a request came. */
static uint64_t calls_so_far(const struct limiter *l)
{
	return l->shared ? shared_book(l->shared)->calls : 0;
}

/* Why the shared store is in the way, if that is what it is. */
static void explain_refusal(struct limiter *l, int64_t now, struct permit *permit)
{
	const char *trouble = l->shared && permit->messages == 0 ? shared_trouble(l->shared) : NULL;

	if (!trouble)
		return;
	permit->limit = trouble;
	permit->free_at = now + STORE_RETRY_MS;
}

static struct permit decide(struct limiter *l, int64_t now, const struct msg_permit_ask *ask, uint64_t since)
{
	struct permit_wish wish = { ask->scopes,   ask->class ? CLASS_HIGH : CLASS_USUAL,
				    ask->messages, ask->recipients,
				    ask->first,    since };
	struct permit permit;

	if (l->shared)
		shared_look_at_clock(l->shared, now);
	permit = permits_ask(l->permits, now, ask->request, &wish);
	explain_refusal(l, now, &permit);
	return permit;
}

static bool answer_ask(struct limiter *l, const struct packet *packet, uint64_t since)
{
	struct msg_head head = channel_head(l->scheduler);
	struct msg_permit_ask ask;
	struct permit permit;
	struct packet p;
	int64_t now = 0;

	if (!msg_decode_permit_ask(packet, &ask))
		return false;
	if (l->trouble || l->is_full) {
		refuse(l, &ask, l->trouble ? l->trouble : "no disk space for the counters",
		       l->trouble ? TROUBLE_RETRY_MS : FULL_RETRY_MS);
		return true;
	}
	if (l->ledger) {
		now = now_of(l);
		permit = decide(l, now, &ask, since);
		if (permit.is_pending && shared_park(l->shared, packet, since))
			return true;
	} else {
		permit = (struct permit){ .messages = ask.messages, .recipients = ask.recipients, .limit = "" };
	}
	msg_encode_permit(&p, &head,
			  &(struct msg_permit){ .request = ask.request,
						.messages = permit.messages,
						.recipients = permit.recipients,
						.free_at = to_wall(now, permit.free_at),
						.limit = short_text(permit.limit),
						.scope_at = (uint8_t)permit.scope_at });
	hold(l, &p);
	return true;
}

static void hold_settled(struct limiter *l, uint32_t request)
{
	struct msg_head head = channel_head(l->scheduler);
	struct packet p;

	msg_encode_settled(&p, &head, &(struct msg_settled){ .request = request });
	hold(l, &p);
}

static bool on_settle(struct limiter *l, const struct packet *packet)
{
	struct msg_settle m;
	struct settlement s;

	if (!msg_decode_settle(packet, &m))
		return false;
	s = (struct settlement){ { m.used_messages, m.used_recipients }, { m.refund_messages, m.refund_recipients } };
	if (l->ledger)
		permits_settle(l->permits, now_of(l), m.request, m.scopes, m.class ? CLASS_HIGH : CLASS_USUAL, &s);
	hold_settled(l, m.request);
	return true;
}

static bool on_adopt(struct limiter *l, const struct packet *packet)
{
	struct msg_adopt m;

	if (!msg_decode_adopt(packet, &m))
		return false;
	if (l->ledger)
		permits_adopt(l->permits, now_of(l), m.request, m.scope, m.class ? CLASS_HIGH : CLASS_USUAL, m.messages,
			      m.recipients);
	hold_settled(l, m.request);
	return true;
}

static void hold_state(struct limiter *l, struct msg_limit_state *m, const struct account *a,
		       struct account_limit *limit)
{
	struct msg_head head = channel_head(l->scheduler);
	struct moment t = ledger_moment(l->ledger, now_of(l));
	int64_t free_at = limit_free_at(a, limit, t, 1);
	struct packet p;

	m->scope = slice_of(a->name);
	m->limit = short_text(limit->text);
	m->is_recipients = limit->unit == UNIT_RECIPIENTS;
	m->window_ms = limit->width_ms;
	m->used = limit_used_in_all(a, limit, t);
	m->shared = limit->lease != NULL;
	m->leased = limit->lease ? lease_room(limit->lease, account_outstanding(a, limit)) : 0;
	m->allowed = limit->amount;
	m->free_at = free_at > t.now ? to_wall(t.now, free_at) : 0;
	msg_encode_limit_state(&p, &head, m);
	answer(l, &p);
}

/* What people see: not what a reserve leaves, no warm-up that is over. */
static bool is_shown(const struct account_limit *limit)
{
	return limit->dormant_since == 0 && !(limit->kind & LIMIT_USUAL) && limit->amount != UINT64_MAX;
}

static unsigned hold_states(struct limiter *l, struct msg_limit_state *m, struct account *a)
{
	unsigned count = 0;

	if (account_advance(a, ledger_moment(l->ledger, now_of(l))))
		ledger_touch(l->ledger, a);
	for (unsigned i = 0; i < a->limit_count; i++)
		if (is_shown(&a->limit[i])) {
			hold_state(l, m, a, &a->limit[i]);
			count++;
		}
	return count;
}

/* Shared limits of which there is no news since then: they are asked for. */
static bool lacks_news(struct limiter *l, struct account *a, uint64_t since)
{
	bool is_lacking = false;

	for (unsigned i = 0; i < a->limit_count; i++) {
		struct lease *lease = a->limit[i].lease;

		if (!lease || a->limit[i].amount == UINT64_MAX || lease_is_answered(lease, since))
			continue;
		is_lacking = true;
		if (!lease->is_asked)
			lease_touch(lease, now_of(l));
	}
	return is_lacking;
}

/* The accounts that the answer will be about. */
static bool must_wait(struct limiter *l, const struct msg_limit_query *query, uint64_t since)
{
	struct account *a = query->scope.len > 0 ? ledger_find(l->ledger, query->scope) : NULL;
	bool is_lacking = a && lacks_news(l, a, since);
	unsigned count = 0;

	for (unsigned at = query->from; query->scope.len == 0 && at < ledger_account_count(l->ledger); at++) {
		a = ledger_account(l->ledger, at);
		is_lacking |= lacks_news(l, a, since);
		if ((count += a->limit_count) >= STATES_PER_PORTION)
			break;
	}
	return is_lacking;
}

static bool answer_query(struct limiter *l, const struct packet *packet, uint64_t since)
{
	struct msg_head head = channel_head(l->scheduler);
	struct msg_limit_query query;
	struct msg_limit_state m = { 0 }, end = { .last = 1 };
	struct account *a;
	unsigned count = 0, all = l->ledger ? ledger_account_count(l->ledger) : 0, at;
	struct packet p;

	if (!msg_decode_limit_query(packet, &query))
		return false;
	if (l->shared && l->ledger && must_wait(l, &query, since) && shared_park(l->shared, packet, since))
		return true;
	m.request = end.request = query.request;
	end.scope = query.scope;
	end.limit = l->trouble ? short_text(l->trouble) : slice_of("");
	if (query.scope.len > 0) {
		a = l->ledger ? ledger_find(l->ledger, query.scope) : NULL;
		if (a)
			(void)hold_states(l, &m, a);
	} else {
		for (at = query.from; at < all && count < STATES_PER_PORTION; at++)
			count += hold_states(l, &m, ledger_account(l->ledger, at));
		end.next = at;
		end.last = at < all ? 2 : 1;
	}
	msg_encode_limit_state(&p, &head, &end);
	answer(l, &p);
	return true;
}

/* --- corrections --- */

static void share(struct limiter *l);

/*
 * Sets the damaged files aside and begins anew, with everything used up: the operator knows of one scope only. A shared
 * store knows better; what it was not told is on lease, and so counts there.
 */
static bool begin_anew(struct limiter *l, const char **why)
{
	enum store_open_result result = STORE_FAILED;

	*why = "the damaged files cannot be moved away";
	if (store_set_aside(".") < 0) {
		log_error("limits: cannot move the damaged counters away: %s", strerror(errno));
		return false;
	}
	result = setup_open(l->setup, &l->ledger, l->boot_id, l->shared == NULL, why);
	if (result != STORE_CREATED)
		return false;
	l->permits = permits_new(l->ledger);
	l->trouble = NULL;
	if (l->shared)
		share(l);
	log_warn("limits: new counters; %s", l->shared
						     ? "the limits-store knows what was used"
						     : "all limits are taken to be used up but those that are reset or "
						       "set");
	return true;
}

static void hold_corrected(struct limiter *l, uint32_t request, const char *why_not, uint64_t before)
{
	struct msg_head head = channel_head(l->scheduler);
	struct msg_limit_corrected answer = { request, why_not == NULL, before, slice_of(why_not ? why_not : ""), {} };
	struct packet p;

	msg_encode_limit_corrected(&p, &head, &answer);
	hold(l, &p);
}

/* In the shared store first: what is told about it here follows. */
static void correct_shared(struct limiter *l, const struct packet *packet, uint32_t request, const struct correction *c)
{
	unsigned index[PERMITS_LIMITS_MAX], count;
	struct account *a;

	count = permits_find(l->permits, now_of(l), c, &a, index);
	if (count == 0) {
		hold_corrected(l, request, "there is no such limit", 0);
	} else if (l->correction.len == 0 && fleet_correct(shared_fleet(l->shared), a, index, count, c)) {
		l->correction.len = packet->len;
		memcpy(l->correction.bytes, packet->bytes, packet->len);
	} else if (fleet_is_away(shared_fleet(l->shared)) || !shared_park(l->shared, packet, 0)) {
		hold_corrected(l, request, "the limits-store is away: nothing was changed", 0);
	}
}

/* The one under way in the shared store, if that has answered: then here, too. */
static void end_correction(struct limiter *l)
{
	struct msg_limit_correct m;
	uint64_t before, before_here;
	enum fleet_correction state = fleet_correction_state(shared_fleet(l->shared), &before);

	if (l->correction.len == 0 || state == FLEET_CORRECTING)
		return;
	if (msg_decode_limit_correct(&l->correction, &m)) {
		struct correction c = { (enum correction_kind)m.what, m.scope, m.limit, m.used, m.window_ms };

		if (state == FLEET_CORRECTED && permits_correct(l->permits, now_of(l), &c, &before_here))
			hold_corrected(l, m.request, NULL, before);
		else
			hold_corrected(l, m.request, "the limits-store went away: look whether it was done", 0);
	}
	l->correction.len = 0;
}

static bool on_limit_correct(struct limiter *l, const struct packet *packet)
{
	struct msg_limit_correct m;
	struct correction c;
	const char *why = "";
	uint64_t before;

	if (!msg_decode_limit_correct(packet, &m) || m.what > CORRECT_FULL)
		return false;
	c = (struct correction){ (enum correction_kind)m.what, m.scope, m.limit, m.used, m.window_ms };
	if (l->trouble && m.what != CORRECT_FULL && !begin_anew(l, &why))
		hold_corrected(l, m.request, why, 0);
	else if (!l->ledger)
		hold_corrected(l, m.request, "no limits are configured", 0);
	else if (l->shared)
		correct_shared(l, packet, m.request, &c);
	else if (permits_correct(l->permits, now_of(l), &c, &before))
		hold_corrected(l, m.request, NULL, before);
	else
		hold_corrected(l, m.request, "there is no such limit", 0);
	return true;
}

/* --- forecasts --- */

static void foresee(struct limiter *l, uint32_t request)
{
	struct forecast_result result = forecast_run(l->forecast);
	struct msg_head head = channel_head(l->scheduler);
	struct msg_limit_foreseen m = { request,
					to_wall(now_of(l), result.done_at),
					result.is_complete,
					short_text(result.limit),
					slice_of(result.scope),
					{} };
	struct packet p;

	forecast_free(&l->forecast);
	msg_encode_limit_foreseen(&p, &head, &m);
	hold(l, &p);
}

static bool on_limit_forecast(struct limiter *l, const struct packet *packet)
{
	struct msg_head head = channel_head(l->scheduler);
	struct msg_limit_forecast m;
	struct packet p;

	if (!msg_decode_limit_forecast(packet, &m))
		return false;
	if (!l->ledger) { /* no limits; or trouble: nobody knows */
		msg_encode_limit_foreseen(&p, &head,
					  &(struct msg_limit_foreseen){ m.request,
									l->trouble ? 0 : (uint64_t)clock_wall().ms,
									!l->trouble,
									short_text(l->trouble ? l->trouble : ""),
									slice_of(""),
									{} });
		if (m.last)
			hold(l, &p);
		return true;
	}
	if (!l->forecast)
		l->forecast = forecast_new(l->ledger, now_of(l));
	if (m.messages > 0)
		forecast_add(l->forecast, m.scopes, m.class ? CLASS_HIGH : CLASS_USUAL, m.messages, m.recipients);
	if (m.last)
		foresee(l, m.request);
	return true;
}

/* --- the shared store --- */

static void retry(void *arg, const struct packet *packet, uint64_t since)
{
	struct limiter *l = arg;
	struct msg_head head;

	if (!msg_decode_head(packet, &head))
		return;
	if (head.type == MSG_PERMIT_ASK)
		(void)answer_ask(l, packet, since);
	else if (head.type == MSG_LIMIT_QUERY)
		(void)answer_query(l, packet, since);
	else
		(void)on_limit_correct(l, packet);
}

static void on_news(void *arg)
{
	struct limiter *l = arg;

	end_correction(l);
	shared_retry_parked(l->shared, retry, l);
}

/* Not durable, and of no use later: said at once, or with the next change. */
static void on_store_state(void *arg)
{
	struct limiter *l = arg;
	const char *text = shared_state(l->shared);
	struct msg_store_state m = { .text = slice_of(text ? text : "") };
	struct msg_head head;
	struct packet p;

	if (!l->scheduler || l->partner == 0)
		return;
	head = channel_head(l->scheduler);
	msg_encode_store_state(&p, &head, &m);
	hold(l, &p);
}

static void share(struct limiter *l)
{
	shared_begin(l->shared, &(struct shared_options){ .loop = proc_loop(l->proc),
							  .ledger = l->ledger,
							  .widest_window_ms = setup_widest_ms(l->setup),
							  .on_news = on_news,
							  .on_state = on_store_state,
							  .arg = l });
}

/* --- the partner --- */

/* What was not said to the old scheduler is of no use to the new one: it adopts. */
static void change_partner(struct limiter *l, uint32_t generation)
{
	l->partner = generation;
	channel_set_peer(l->scheduler, generation);
	buf_clear(&l->held);
	forecast_free(&l->forecast);
	if (l->is_paused)
		channel_pause_input(l->scheduler, false);
	l->is_paused = false;
	l->correction.len = 0;
	if (l->shared) {
		shared_forget_parked(l->shared);
		on_store_state(l);
	}
	if (l->permits)
		permits_change_partner(l->permits);
}

static void on_peer(struct proc *p, enum proc_role role, unsigned index UNUSED, uint32_t generation, bool is_alive)
{
	struct limiter *l = proc_context(p);

	if (role == ROLE_SCHEDULER && is_alive && generation > l->partner)
		change_partner(l, generation);
}

/*
 * Generations only grow. A new scheduler may speak before master told us of it; what an old one left in the pipe is
 * passed over: its successor's ADOPT covers it.
 */
static bool on_packet(void *arg, const struct msg_head *head, const struct packet *packet)
{
	struct limiter *l = arg;

	if (l->is_ending || head->from_generation < l->partner)
		return true;
	if (head->from_generation > l->partner)
		change_partner(l, head->from_generation);
	switch (head->type) {
	case MSG_PERMIT_ASK:
		return answer_ask(l, packet, calls_so_far(l));
	case MSG_SETTLE:
		return on_settle(l, packet);
	case MSG_ADOPT:
		return on_adopt(l, packet);
	case MSG_LIMIT_QUERY:
		return answer_query(l, packet, calls_so_far(l));
	case MSG_LIMIT_FORECAST:
		return on_limit_forecast(l, packet);
	case MSG_LIMIT_CORRECT:
		return on_limit_correct(l, packet);
	default:
		return false;
	}
}

/* --- start and end --- */

/* Boot id and time zones are out of reach once in the jail. Without the former every start counts as a reboot. */
static int before_jail(struct proc *p)
{
	struct limiter *l = xcalloc(1, sizeof(*l));
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? 0 : read(fd, l->boot_id, sizeof(l->boot_id) - 1);

	if (fd >= 0)
		close(fd);
	l->boot_id[len > 0 ? len : 0] = 0;
	l->boot_id[strcspn(l->boot_id, "\n")] = 0;
	l->proc = p;
	l->shared = shared_prepare(proc_conf(p));
	l->setup = setup_new(proc_conf(p), shared_book(l->shared));
	proc_set_context(p, l);
	return 0;
}

/* 0, or the exit status. */
static int judge_opening(struct limiter *l, enum store_open_result result, const char *why)
{
	switch (result) {
	case STORE_OPENED:
		return 0;
	case STORE_CREATED:
		log_info("limits: new counters, all at zero");
		return 0;
	case STORE_BUSY:
		log_warn("limits: another process still holds the counters");
		return EXIT_STATUS_TEMPORARY;
	case STORE_NO_SPACE:
		log_error("limits: no room to recover the counters; make room on the file system of the spool");
		return EXIT_STATUS_TEMPORARY;
	case STORE_DAMAGED:
		l->trouble = "the counters in db/limits are damaged";
		break;
	case STORE_FAILED: /* the system's reasons go by themselves, or when somebody mends them */
		log_error("limits: the counters in db/limits cannot be opened (%s): nothing is sent where limits hold",
			  why);
		return EXIT_STATUS_TEMPORARY;
	}
	log_error("limits: %s (%s): nothing is sent where limits hold. `postern limits reset SERVER` or `postern "
		  "limits set` "
		  "begin new counters, in which all others are taken to be used up",
		  l->trouble, why);
	return 0;
}

static int after_jail(struct proc *p)
{
	struct limiter *l = proc_context(p);
	enum store_open_result result;
	const char *why = "";
	int status = 0;

	buf_init(&l->held, HELD_MAX_BYTES);
	l->retry = loop_timer_new(proc_loop(p), on_retry, l);
	if (setup_missing_zone(l->setup)) {
		l->trouble = "a limit's time zone is not known on this host";
		log_error("limits: the time zone %s is not known on this host: nothing is sent where limits hold",
			  setup_missing_zone(l->setup));
	} else if (setup_has_limits(l->setup)) {
		result = setup_open(l->setup, &l->ledger, l->boot_id, false, &why);
		status = judge_opening(l, result, why);
		if (l->ledger)
			l->permits = permits_new(l->ledger);
		if (l->ledger && l->shared)
			share(l);
	}
	if (status != 0)
		return status;
	l->scheduler = proc_channel(p, 0, "scheduler", on_packet, l);
	channel_on_room(l->scheduler, on_turn, l);
	loop_on_turn(proc_loop(p), on_turn, l);
	proc_ready(p);
	return 0;
}

/* Nothing is under way here: what was asked is decided, what was decided is written. */
static void on_drain(struct proc *p)
{
	struct limiter *l = proc_context(p);

	on_turn(l);
	if (l->is_ending)
		return;
	l->is_ending = true;
	if (l->shared)
		shared_end(l->shared);
	permits_free(&l->permits);
	ledger_close(&l->ledger);
	proc_exit(p, EXIT_STATUS_DONE);
}

static bool needs_network(const struct conf *c)
{
	return strcmp(c->limits_store, "local") != 0;
}

int main(int argc, char **argv)
{
	static const struct proc_spec SPEC = {
		.role = ROLE_LIMITER,
		.chroot = PROC_CHROOT_LIMITS,
		.identity = PROC_AS_USER,
		.needs_network = needs_network,
		.wants_write = true,
		.before_jail = before_jail,
		.after_jail = after_jail,
		.on_drain = on_drain,
		.on_peer = on_peer,
	};

	return proc_main(argc, argv, &SPEC);
}
