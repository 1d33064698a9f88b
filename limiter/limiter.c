/*
 * limiter - says how many messages may go through a server now
 *
 * One process per instance, asked by the scheduler before every transaction through a server that has limits. It knows
 * no mail: a server's name, two numbers, and windows of time. Runs as `user`, chrooted to SPOOL/db/limits, which holds
 * its counters and nothing else; no network, no secrets.
 *
 * The scheduler sends, the limiter answers; request ids are the scheduler's, one row for all kinds:
 *
 *   PERMIT_ASK { request, server, messages, recipients }
 *   PERMIT     { request, server, messages, recipients, free_at, limit }
 *       As many as fit every limit of the server (see permits_ask()), durable before it is said. They count
 *       against every limit, without expiring, until they are settled: settle soon, whatever came of them.
 *       Nothing granted: `limit` is the one in the way, free_at when to ask again, as the wall clock now reads (0:
 *       never). It supposes that what is under way is used; a refund that was settled may make room earlier. A
 *       message with more recipients than a limit's whole amount has to be sent in parts.
 *
 *   SETTLE     { request, server, used_*, refund_* }
 *   SETTLED    { request }
 *       Used: the server saw MAIL FROM, or nobody knows. Refunded: it never saw it. Any part of what was granted,
 *       of several grants at once too; the time of settlement is the time of use.
 *
 *   ADOPT      { request, server, messages, recipients }
 *   SETTLED    { request }
 *       Due once for each server with limits whenever either process was started anew: this much of what was granted
 *       is still under way, or is in a SETTLE without an answer, which is then repeated. All else is taken as used
 *       now. What is settled beyond what is outstanding counts as used all the same: no error opens a window.
 *
 *   LIMIT_QUERY { request, server }
 *   LIMIT_STATE { request, server, limit, is_recipients, window_ms, used, allowed, free_at, last }
 *       One for each limit, `used` with what is under way; a server without limits gets one with an empty limit.
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
#include "limiter/permits.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	FULL_RETRY_MS = 5000,       /* the disk is full: when to try again */
	TROUBLE_RETRY_MS = 60000,   /* no counters: when the scheduler is told to ask again */
	HELD_PAUSE_BYTES = 1 << 19, /* answers that wait for disk or pipe: read nothing new */
	HELD_MAX_BYTES = 1 << 22,
	LIMIT_TEXT_MAX = 64
};

struct limiter {
	struct proc *proc;
	struct channel *scheduler;
	uint32_t partner;      /* the scheduler's generation */
	struct ledger *ledger; /* NULL: no limits at all, no counters (trouble), or ending */
	struct permits *permits;
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

/* Group commit: everything that one turn of the loop decided, then everything that it has to say. */
static void on_turn(void *arg)
{
	struct limiter *l = arg;
	enum store_result result;

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

static int64_t now_of(struct limiter *l)
{
	return ledger_now(l->ledger, clock_mono().ms);
}

/* Limiter time as the wall clock reads it now: what the other side compares with. */
static uint64_t to_wall(struct limiter *l, int64_t now, int64_t at)
{
	return at <= 0 ? 0 : (uint64_t)(clock_wall().ms + (at - now));
}

static struct slice short_text(const char *text)
{
	size_t len = strlen(text);

	return (struct slice){ text, len > LIMIT_TEXT_MAX ? LIMIT_TEXT_MAX : len };
}

/* --- requests --- */

/* Rests on nothing, so it need not wait. */
static void refuse(struct limiter *l, const struct msg_permit_ask *ask, const char *why, int64_t delay_ms)
{
	struct msg_head head = channel_head(l->scheduler);
	struct msg_permit m = { .request = ask->request,
				.server = ask->server,
				.free_at = (uint64_t)(clock_wall().ms + delay_ms),
				.limit = short_text(why) };
	struct packet p;

	msg_encode_permit(&p, &head, &m);
	if (channel_is_full(l->scheduler))
		hold(l, &p);
	else
		channel_send(l->scheduler, &p);
}

static bool on_permit_ask(struct limiter *l, const struct packet *packet)
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
		permit = permits_ask(l->permits, now, ask.request, ask.server, ask.messages, ask.recipients);
	} else {
		permit = (struct permit){ ask.messages, ask.recipients, 0, "" };
	}
	msg_encode_permit(&p, &head,
			  &(struct msg_permit){ ask.request,
						ask.server,
						permit.messages,
						permit.recipients,
						to_wall(l, now, permit.free_at),
						short_text(permit.limit),
						{} });
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
		permits_settle(l->permits, now_of(l), m.request, m.server, &s);
	hold_settled(l, m.request);
	return true;
}

static bool on_adopt(struct limiter *l, const struct packet *packet)
{
	struct msg_adopt m;

	if (!msg_decode_adopt(packet, &m))
		return false;
	if (l->ledger)
		permits_adopt(l->permits, now_of(l), m.request, m.server, m.messages, m.recipients);
	hold_settled(l, m.request);
	return true;
}

static void hold_state(struct limiter *l, struct msg_limit_state *m, const struct account *a,
		       const struct account_limit *limit)
{
	struct msg_head head = channel_head(l->scheduler);
	uint64_t outstanding = a->outstanding[limit->unit] + a->inherited[limit->unit];
	int64_t now = now_of(l), free_at = window_free_at(limit->window, now, outstanding, 1);
	struct packet p;

	m->limit = short_text(limit->text);
	m->is_recipients = limit->unit == UNIT_RECIPIENTS;
	m->window_ms = window_width_ms(limit->window);
	m->used = window_used(limit->window, now) + outstanding;
	m->allowed = window_amount(limit->window);
	m->free_at = free_at > now ? to_wall(l, now, free_at) : 0;
	msg_encode_limit_state(&p, &head, m);
	hold(l, &p);
}

static bool on_limit_query(struct limiter *l, const struct packet *packet)
{
	struct msg_head head = channel_head(l->scheduler);
	struct msg_limit_query query;
	struct msg_limit_state m = { 0 };
	const struct account *a;
	unsigned left = 0;
	struct packet p;

	if (!msg_decode_limit_query(packet, &query))
		return false;
	m.request = query.request;
	m.server = query.server;
	m.limit = slice_of("");
	a = l->ledger ? ledger_find(l->ledger, query.server) : NULL;
	for (unsigned i = 0; a && i < a->limit_count; i++)
		left += a->limit[i].dormant_since == 0;
	for (unsigned i = 0; a && i < a->limit_count; i++)
		if (a->limit[i].dormant_since == 0) {
			m.last = --left == 0;
			hold_state(l, &m, a, &a->limit[i]);
		}
	if (!m.last) {
		m.last = 1;
		if (l->trouble)
			m.limit = short_text(l->trouble);
		msg_encode_limit_state(&p, &head, &m);
		hold(l, &p);
	}
	return true;
}

/* --- the partner --- */

/* What was not said to the old scheduler is of no use to the new one: it adopts. */
static void change_partner(struct limiter *l, uint32_t generation)
{
	l->partner = generation;
	channel_set_peer(l->scheduler, generation);
	buf_clear(&l->held);
	if (l->is_paused)
		channel_pause_input(l->scheduler, false);
	l->is_paused = false;
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
		return on_permit_ask(l, packet);
	case MSG_SETTLE:
		return on_settle(l, packet);
	case MSG_ADOPT:
		return on_adopt(l, packet);
	case MSG_LIMIT_QUERY:
		return on_limit_query(l, packet);
	default:
		return false;
	}
}

/* --- start and end --- */

/* For the time base; out of reach once in the jail. Without it every start counts as a reboot. */
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
	proc_set_context(p, l);
	return 0;
}

/* Limits of the configuration that limit something. A calendar window counts as a rolling one of its length: stricter.
 */
static unsigned gather_limits(const struct conf_limits *from, struct limit_spec *to)
{
	unsigned count = 0;

	for (unsigned i = 0; i < from->count; i++) {
		const struct conf_limit *c = &from->limit[i];

		if (c->is_unlimited || c->window_ms == 0)
			continue;
		to[count++] = (struct limit_spec){ c->text, c->is_recipients ? UNIT_RECIPIENTS : UNIT_MESSAGES,
						   c->amount, c->window_ms };
	}
	return count;
}

static enum store_open_result open_ledger(struct limiter *l, const struct account_spec *spec, unsigned count,
					  const char **why)
{
	struct ledger_options o = { ".", count, spec, l->boot_id, clock_mono().ms, clock_wall().ms };
	enum store_open_result result = ledger_open(&l->ledger, &o, why);

	if (l->ledger)
		l->permits = permits_new(l->ledger);
	return result;
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
	case STORE_FAILED:
		l->trouble = "the counters in db/limits cannot be opened";
		break;
	}
	log_error("limits: %s (%s): nothing is sent through servers with limits. To begin with all counters at zero: "
		  "stop, move "
		  "the files in db/limits of the spool elsewhere, start",
		  l->trouble, why);
	return 0;
}

static int after_jail(struct proc *p)
{
	struct limiter *l = proc_context(p);
	const struct conf *c = proc_conf(p);
	struct account_spec *spec = xcalloc(c->server_count + 1, sizeof(*spec));
	unsigned limited = 0;
	const char *why = "";
	int status = 0;

	for (unsigned i = 0; i < c->server_count; i++) {
		const struct conf_limits *from = &c->server[i].limits;
		struct limit_spec *to = xcalloc(from->count + 1, sizeof(*to));

		spec[i] = (struct account_spec){ c->server[i].name, gather_limits(from, to), to };
		limited += spec[i].limit_count > 0;
	}
	buf_init(&l->held, HELD_MAX_BYTES);
	l->retry = loop_timer_new(proc_loop(p), on_retry, l);
	if (limited > 0)
		status = judge_opening(l, open_ledger(l, spec, c->server_count, &why), why);
	for (unsigned i = 0; i < c->server_count; i++)
		free((void *)(uintptr_t)spec[i].limit);
	free(spec);
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
	permits_free(&l->permits);
	ledger_close(&l->ledger);
	proc_exit(p, EXIT_STATUS_DONE);
}

int main(int argc, char **argv)
{
	static const struct proc_spec SPEC = {
		.role = ROLE_LIMITER,
		.chroot = PROC_CHROOT_LIMITS,
		.identity = PROC_AS_USER,
		.wants_network = false,
		.wants_write = true,
		.before_jail = before_jail,
		.after_jail = after_jail,
		.on_drain = on_drain,
		.on_peer = on_peer,
	};

	return proc_main(argc, argv, &SPEC);
}
