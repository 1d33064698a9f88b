/* scheduler.c - owns the queue: what goes when, through which server.
 *
 * Purpose    takes messages over from pickup, decides when and through which server each delivery goes, hands it to a
 *            worker, records what became of it, retries, reports to senders, answers the operator.
 * Runs as    `user`, chrooted into the spool; no network, no secrets.
 * Files      incoming/ (reads, renames away, writes reports), queue/, db/queue (its own database), history/, dead/.
 * Messages   lib/msg.def: pickup ADMIT/ADMITTED; resolver RESOLVE/RESOLVED; limiter PERMIT_ASK ... LIMIT_STATE;
 *            smtpout CONNECT, DELIVER, HANGUP / SESSION_UP, SESSION_DOWN, REPORT, and RESYNC after our own restart.
 * Signals    SIGTERM drains: nothing new is begun, it ends when the last outcome is recorded. SIGHUP hands over: what
 *            is decided is made durable, then it ends at once; workers go on and tell our successor.
 * Turn       events change records and entries; then one journal sync; then everything that stands on it: renames,
 *            acknowledgements, reports, unlinks; then new deliveries are handed out.
 * Exit       0 done; 75 database trouble (master starts it again); 78 configuration.
 */
#include "scheduler/scheduler.h"
#include "lib/log.h"
#include "lib/replies.h"
#include "scheduler/age.h"
#include "scheduler/bounce.h"
#include "scheduler/control.h"
#include "scheduler/dispatch.h"
#include "scheduler/finish.h"
#include "scheduler/fuse.h"
#include "scheduler/gate.h"
#include "scheduler/history.h"
#include "scheduler/incarnation.h"
#include "scheduler/intake.h"
#include "scheduler/limits.h"
#include "scheduler/load.h"
#include "scheduler/operator.h"
#include "scheduler/outcome.h"
#include "scheduler/pause.h"
#include "scheduler/permit.h"
#include "scheduler/refusal.h"
#include "scheduler/session.h"
#include "scheduler/slots.h"
#include "scheduler/status.h"
#include "scheduler/stepwise.h"
#include "scheduler/target.h"
#include <stdlib.h>
#include <unistd.h>

enum { SYNC_RETRY_MS = 2000 };

void scheduler_fail(struct scheduler *s, enum store_result result, const char *doing)
{
	log_error("%s: %s", doing, result == STORE_FULL ? "no space left for the queue database" : store_error());
	log_flush();
	(void)s;
	_exit(EXIT_STATUS_TEMPORARY); /* nothing acknowledged is lost: partners repeat what was not */
}

/* --- the turn --- */

static void send_acks(struct worker *w)
{
	enum { MOST = 300 * 3 };

	if (w->state == WORKER_DOWN)
		w->ack_count = 0;
	for (unsigned at = 0; at < w->ack_count; at += MOST) {
		unsigned count = w->ack_count - at < MOST ? w->ack_count - at : MOST;
		struct msg_report_ack m = { .triples = { .values = w->acks + at, .count = (uint16_t)count } };
		struct msg_head head = channel_head(w->channel);
		struct packet p;

		msg_encode_report_ack(&p, &head, &m);
		channel_send(w->channel, &p);
	}
	w->ack_count = 0;
}

static bool make_durable(struct scheduler *s)
{
	enum store_result result = journal_sync(s->journal); /* with nothing to sync: tells whether it is sound */

	if (result == STORE_FATAL)
		scheduler_fail(s, result, "queue database");
	if (result != STORE_OK && !s->is_full)
		log_error("no space left for the queue database: outcomes wait to be recorded, nothing new is sent");
	else if (result == STORE_OK && s->is_full)
		log_info("there is room for the queue database again");
	s->is_full = result != STORE_OK;
	if (s->is_full && !loop_timer_is_set(s->retry_sync_timer))
		loop_timer_set_ms(s->retry_sync_timer, SYNC_RETRY_MS);
	return !s->is_full;
}

static void end_if_drained(struct scheduler *s)
{
	unsigned busy = 0;

	for (unsigned i = 0; i < s->worker_count; i++)
		busy += s->worker[i].in_flight;
	if (s->is_draining && busy == 0 && s->jobs.count == 0 && !journal_is_dirty(s->journal))
		s->is_over = true;
}

static void scheduler_turn(void *arg)
{
	struct scheduler *s = arg;

	if (!s->journal)
		return;
	age_watch_clock(s);
	if (!s->is_full)
		dispatch_turn(s);
	permit_turn(s);
	if (journal_is_dirty(s->journal))
		age_keep(s);
	if (make_durable(s)) {
		intake_after_sync(s);
		for (unsigned i = 0; i < s->worker_count; i++)
			send_acks(&s->worker[i]);
		finish_after_sync(s);
		dispatch_turn(s);                 /* what was just taken in */
		if (journal_is_dirty(s->journal)) /* reports that were written: durable in the next turn */
			loop_timer_set_ms(s->retry_sync_timer, 0);
	}
	history_flush(s->history);
	end_if_drained(s);
	if (s->is_over) {
		journal_close(&s->journal);
		proc_exit(s->proc, EXIT_STATUS_DONE);
	}
}

static void do_nothing(void *arg)
{
	(void)arg; /* a turn follows every timer */
}

static void on_sweep(void *arg)
{
	finish_sweep(arg);
}

static void on_refused(void *arg)
{
	intake_retry_refused(arg);
}

/* --- packets --- */

#define HANDLE(NAME, name, call)               \
	case MSG_##NAME: {                     \
		struct msg_##name m;           \
		if (!msg_decode_##name(p, &m)) \
			return false;          \
		call;                          \
		return true;                   \
	}

static bool on_pickup(void *arg, const struct msg_head *head, const struct packet *p)
{
	struct scheduler *s = arg;

	switch (head->type) {
		HANDLE(ADMIT, admit, intake_on_admit(s, &m))
		HANDLE(REJECTED, rejected, s->rejected_count += m.count)
	default:
		return false;
	}
}

static bool on_resolver(void *arg, const struct msg_head *head, const struct packet *p)
{
	struct scheduler *s = arg;

	switch (head->type) {
		HANDLE(RESOLVED, resolved, target_on_resolved(s, &m))
	default:
		return false;
	}
}

static bool on_limiter(void *arg, const struct msg_head *head, const struct packet *p)
{
	struct scheduler *s = arg;

	switch (head->type) {
		HANDLE(PERMIT, permit, permit_on_granted(s, &m))
		HANDLE(SETTLED, settled, permit_on_settled(s, &m))
		HANDLE(LIMIT_STATE, limit_state, status_on_limit_state(s, &m))
		HANDLE(LIMIT_CORRECTED, limit_corrected, limits_on_corrected(s, &m))
		HANDLE(LIMIT_FORESEEN, limit_foreseen, limits_on_foreseen(s, &m))
		HANDLE(STORE_STATE, store_state, limits_on_store_state(s, &m))
	default:
		return false;
	}
}

/* Our predecessor's: what hung behind a final dot. The worker tells of all that it still knows about. */
static void read_board(struct worker *w)
{
	struct suspect found;

	for (unsigned slot = 0; slot < BOARD_SLOTS; slot++) {
		if (board_read(w->board, slot, &found.id, &found.group))
			*(struct suspect *)array_add((void **)&w->suspects, &w->suspect_count, &w->suspect_room,
						     sizeof(found)) = found;
	}
}

static void settle_suspects(struct worker *w)
{
	for (unsigned i = 0; i < w->suspect_count; i++)
		outcome_on_orphan(w->owner, w, w->suspects[i].id, w->suspects[i].group);
	free(w->suspects);
	w->suspects = NULL;
	w->suspect_count = w->suspect_room = 0;
}

static void on_resynced(struct worker *w)
{
	struct scheduler *s = w->owner;

	if (w->state != WORKER_SYNCING)
		return;
	settle_suspects(w);
	w->state = WORKER_UP;
	dispatch_workers_changed(s); /* what found no worker */
	if (--s->syncing_count == 0 && s->is_limiter_up)
		permit_resync(s);
}

static bool on_worker(void *arg, const struct msg_head *head, const struct packet *p)
{
	struct worker *w = arg;
	struct scheduler *s = w->owner;

	switch (head->type) {
		HANDLE(SESSION_OPEN, session_open, session_foreign(s, w, &m))
		HANDLE(INFLIGHT, inflight, outcome_on_inflight(s, w, &m))
		HANDLE(RESYNCED, resynced, on_resynced(w))
		HANDLE(SESSION_UP, session_up, session_on_up(s, w, &m))
		HANDLE(SESSION_DOWN, session_down, session_on_down(s, w, &m))
		HANDLE(REPORT, report, outcome_on_report(s, w, &m))
		HANDLE(POP_DONE, pop_done, gate_on_done(s, w, &m))
	default:
		return false;
	}
}

/* --- partners come and go --- */

static void open_intake(struct scheduler *s)
{
	struct msg_intake_open m = { .last_id = s->last_id };
	struct msg_head head = channel_head(s->pickup);
	struct packet p;

	msg_encode_intake_open(&p, &head, &m);
	channel_send(s->pickup, &p);
}

static void worker_lost(struct scheduler *s, struct worker *w)
{
	if (w->state == WORKER_DOWN)
		return;
	channel_drain_input(w->channel); /* outcomes that it told before it died count */
	if (w->state == WORKER_SYNCING)
		s->syncing_count--;
	w->state = WORKER_DOWN;
	w->ack_count = 0; /* the numbers were its own */
	session_lose_all(s, w);
	gate_worker_lost(s, w);
}

static void worker_found(struct scheduler *s, struct worker *w)
{
	struct msg_resync m = {};
	struct msg_head head;
	struct packet p;

	worker_lost(s, w); /* when its death went unnoticed */
	w->state = WORKER_SYNCING;
	s->syncing_count++;
	head = channel_head(w->channel);
	msg_encode_resync(&p, &head, &m);
	channel_send(w->channel, &p);
}

static bool is_ending(struct scheduler *s, enum proc_role role, unsigned index)
{
	switch (role) {
	case ROLE_PICKUP:
		return proc_peer_is_ending(s->proc, SCHEDULER_PEER_PICKUP);
	case ROLE_RESOLVER:
		return proc_peer_is_ending(s->proc, SCHEDULER_PEER_RESOLVER);
	case ROLE_LIMITER:
		return proc_peer_is_ending(s->proc, SCHEDULER_PEER_LIMITER);
	default:
		return proc_peer_is_ending(s->proc, SCHEDULER_PEER_WORKER + index);
	}
}

static void on_peer(struct proc *p, enum proc_role role, unsigned index, uint32_t generation, bool is_alive)
{
	struct scheduler *s = proc_context(p);

	(void)generation;
	if (is_alive && is_ending(s, role, index)) {
		/* Asked to go: its successor will be announced. What it has under way a new scheduler must hear of. */
		if (role == ROLE_SMTPOUT && index < s->worker_count && s->worker[index].state == WORKER_DOWN)
			worker_found(s, &s->worker[index]);
		return;
	}
	switch (role) {
	case ROLE_PICKUP:
		if (is_alive)
			open_intake(s);
		break;
	case ROLE_RESOLVER:
		s->is_resolver_up = is_alive;
		if (is_alive)
			target_ask_again(s);
		break;
	case ROLE_LIMITER:
		s->is_limiter_up = is_alive;
		if (is_alive && s->syncing_count == 0)
			permit_resync(s);
		if (!is_alive) {
			status_limiter_lost(s);
			limits_limiter_lost(s);
		}
		break;
	case ROLE_SMTPOUT:
		if (index < s->worker_count && is_alive)
			worker_found(s, &s->worker[index]);
		else if (index < s->worker_count)
			worker_lost(s, &s->worker[index]);
		break;
	default:
		break;
	}
}

/* --- start and end --- */

static void make_tables(struct scheduler *s)
{
	s->entries = entries_new();
	domains_init(&s->domains, s->conf);
	table_init(&s->jobs);
	table_init(&s->messages);
	table_init(&s->sessions);
	table_init(&s->targets);
	table_init(&s->asked);
	table_init(&s->lanes);
	table_init(&s->sender_queues);
	table_init(&s->purses);
	s->server = xcalloc(s->conf->server_count + 1, sizeof(*s->server));
	slots_init(s);
	s->next_session = proc_generation(s->proc) << 16;
	s->next_request = proc_generation(s->proc) << 16;
	s->due_timer = loop_timer_new(s->loop, do_nothing, s);
	s->retry_sync_timer = loop_timer_new(s->loop, do_nothing, s);
	s->sweep_timer = loop_timer_new(s->loop, on_sweep, s);
	s->refused_timer = loop_timer_new(s->loop, on_refused, s);
	s->admit_timer = loop_timer_new(s->loop, do_nothing, s);
}

static void on_worker_room(void *arg)
{
	dispatch_workers_changed(arg);
}

static void open_channels(struct scheduler *s)
{
	s->pickup = proc_channel(s->proc, SCHEDULER_PEER_PICKUP, "pickup", on_pickup, s);
	s->resolver = proc_channel(s->proc, SCHEDULER_PEER_RESOLVER, "resolver", on_resolver, s);
	channel_on_room(s->resolver, target_ask_unsent, s);
	s->limiter = proc_channel(s->proc, SCHEDULER_PEER_LIMITER, "limiter", on_limiter, s);
	s->worker_count = s->conf->workers;
	s->worker = xcalloc(s->worker_count, sizeof(*s->worker));
	for (unsigned i = 0; i < s->worker_count; i++) {
		struct worker *w = &s->worker[i];

		w->index = i;
		w->owner = s;
		w->board = board_map(PROC_FD_PEER_BOARD(SCHEDULER_PEER_WORKER + i), false);
		w->channel = proc_channel(s->proc, SCHEDULER_PEER_WORKER + i, "smtpout", on_worker, w);
		channel_on_room(w->channel, on_worker_room, s);
	}
}

static bool read_boards(struct scheduler *s)
{
	for (unsigned i = 0; i < s->worker_count; i++) {
		if (!s->worker[i].board) {
			log_error("cannot map the board of smtpout %u", i);
			return false;
		}
		read_board(&s->worker[i]);
	}
	return true;
}

/* The rules are files that the jail hides. master has checked them; what changed since then counts as far as it is
 * right. */
static int before_jail(struct proc *p)
{
	struct conf_errors errors = { 0 };

	(void)clock_boot_id();
	proc_set_context(p, replies_load(proc_conf(p), &errors));
	for (unsigned i = 0; i < errors.count; i++)
		log_error("%s", errors.text[i]);
	conf_errors_release(&errors);
	return 0;
}

static int after_jail(struct proc *p)
{
	struct scheduler *s = xcalloc(1, sizeof(*s));
	enum load_result found;
	bool is_rebuilt;

	s->rules = proc_context(p);
	proc_set_context(p, s);
	s->proc = p;
	s->loop = proc_loop(p);
	s->conf = proc_conf(p);
	s->spool_fd = proc_spool_fd(p);
	s->since = clock_wall();
	make_tables(s);
	s->journal = journal_open("db/queue", &is_rebuilt);
	if (!s->journal)
		return EXIT_STATUS_TEMPORARY;
	s->history = history_new(s->spool_fd, s->conf->history_ms);
	open_channels(s);
	bounce_sweep(s->spool_fd);
	age_load(s, clock_boot_id());
	if (!read_boards(s) || (found = load_spool(s)) == LOAD_FAILED)
		return EXIT_STATUS_TEMPORARY;
	if (found == LOAD_NEWER)
		return EXIT_STATUS_CONFIG; /* no restart helps */
	incarnation_check(s);
	hold_sweep(s->journal);
	pause_load(s);
	age_begin(s);
	refusal_load(s);
	fuse_load(s);
	stepwise_load(s);
	s->control = operator_open(s, PROC_FD_EXTRA);
	loop_on_turn(s->loop, scheduler_turn, s);
	loop_timer_set_ms(s->retry_sync_timer, 0); /* the first turn: what was found on disk */
	proc_ready(p);
	return 0;
}

static void on_drain(struct proc *p)
{
	struct scheduler *s = proc_context(p);

	s->is_draining = true;
	if (s->journal)
		age_keep(s);
	session_hang_up_all(s);
}

static bool on_master(struct proc *p, const struct msg_head *head, const struct packet *packet)
{
	struct scheduler *s = proc_context(p);
	struct msg_new_secrets m;

	if (head->type != MSG_NEW_SECRETS || !msg_decode_new_secrets(packet, &m))
		return false;
	if (s && s->journal)
		refusal_on_new_secrets(s, &m);
	return true;
}

static void on_hand_over(struct proc *p)
{
	struct scheduler *s = proc_context(p);

	s->is_draining = true; /* nothing new; what is decided is made durable in this turn */
	s->is_over = true;
}

static const struct proc_spec SPEC = {
	.role = ROLE_SCHEDULER,
	.chroot = PROC_CHROOT_SPOOL,
	.identity = PROC_AS_USER,
	.wants_write = true,
	.before_jail = before_jail,
	.after_jail = after_jail,
	.on_drain = on_drain,
	.on_hand_over = on_hand_over,
	.on_master = on_master,
	.on_peer = on_peer,
};

int main(int argc, char **argv)
{
	return proc_main(argc, argv, &SPEC);
}
