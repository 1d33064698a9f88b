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
#include "limiter/requests.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* --- answers --- */

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
	if (l->is_paused && l->held.len < LIMITER_HELD_PAUSE_BYTES / 2) {
		l->is_paused = false;
		channel_pause_input(l->scheduler, false);
	}
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
			loop_timer_set_ms(l->retry, LIMITER_FULL_RETRY_MS);
		} else if (result != STORE_OK) {
			log_error("limits: the counters cannot be written: %s", store_error());
			buf_clear(&l->held); /* none of it is durable: never say it */
			l->is_ending = true;
			proc_exit(l->proc, EXIT_STATUS_TEMPORARY);
		}
	}
	if (l->shared && l->ledger && !l->is_full && !l->is_ending)
		shared_turn(l->shared, limiter_now(l));
	if (!l->is_full && l->held.len > 0)
		send_held(l);
}

static void on_retry(void *arg)
{
	struct limiter *l = arg;
	enum store_result result = l->ledger ? ledger_commit(l->ledger, clock_wall().ms) : STORE_OK;

	if (result == STORE_FULL) {
		loop_timer_set_ms(l->retry, LIMITER_FULL_RETRY_MS);
		return;
	}
	l->is_full = false; /* a failure shows again in on_turn() */
	if (result == STORE_OK)
		log_info("limits: there is room for the counters again");
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
		requests_say_store_state(l);
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
	return requests_take(l, head->type, packet);
}

/* --- start and end --- */

/* Boot id and time zones are out of reach once in the jail. Without the former every start counts as a reboot. */
static int before_jail(struct proc *p)
{
	struct limiter *l = xcalloc(1, sizeof(*l));

	(void)clock_boot_id();
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

	buf_init(&l->held, LIMITER_HELD_MAX_BYTES);
	l->retry = loop_timer_new(proc_loop(p), on_retry, l);
	if (setup_missing_zone(l->setup)) {
		l->trouble = "a limit's time zone is not known on this host";
		log_error("limits: the time zone %s is not known on this host: nothing is sent where limits hold",
			  setup_missing_zone(l->setup));
	} else if (setup_has_limits(l->setup)) {
		result = setup_open(l->setup, &l->ledger, false, &why);
		status = judge_opening(l, result, why);
		if (l->ledger)
			l->permits = permits_new(l->ledger);
		if (l->ledger && l->shared)
			requests_share(l);
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
	setup_free(&l->setup);
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
