/*
 * pickup - takes messages in: from drop/ to incoming/, where the scheduler finds them.
 *
 * Runs as     user, with drop-group beside it; chrooted into the spool. Not root: as who started it.
 * Touches     drop/ (rename away), incoming/ (write), rejected/ (write). No network, no secrets, no queue, no db.
 * Messages    out: ADMIT (again to each new scheduler until answered); in: INTAKE_OPEN, ADMITTED.
 * Signals     SIGTERM: ends at once; a batch is never half done between two turns of the loop. SIGIO is ignored.
 * Exits       0 asked to; 75 a folder could not be synced (started again, looks at what is there).
 * Blocks      in fsync and syncfs, and while it converts a batch: at most ADMIT_BATCH_MAX files, ADMIT_BATCH_BYTES.
 * Bounds      files known SCAN_FILES_MAX, batch ADMIT_BATCH_MAX, unanswered ids ANNOUNCE_MAX, header HEADER_BYTES_MAX;
 *             bodies are streamed by CONVERT_CHUNK_BYTES.
 */
#include "lib/conf.h"
#include "lib/log.h"
#include "lib/proc.h"
#include "pickup/admit.h"
#include "pickup/crumb.h"
#include "pickup/recover.h"
#include <errno.h>
#include <signal.h>
#include <unistd.h>

enum { PAUSE_MS = 5000 };

struct pickup {
	struct proc *proc;
	struct admit admit;
	struct recover recover;
	struct scan *scan;
	struct loop_timer *work, *pause;
	bool is_recovered, is_over;
};

/* The one instance: proc.h's hooks before the jail have no other place for what they load. */
static struct pickup pickup;

static void want_work(void *arg)
{
	struct pickup *p = arg;

	if (!p->is_over && p->work && !loop_timer_is_set(p->pause))
		loop_timer_set_ms(p->work, 0);
}

static void give_up(struct pickup *p)
{
	p->is_over = true;
	proc_exit(p->proc, EXIT_STATUS_TEMPORARY);
}

static void pause_work(struct pickup *p)
{
	loop_timer_cancel(p->work); /* what became ready during the batch */
	loop_timer_set_ms(p->pause, PAUSE_MS);
}

/* What could go neither on nor back waits in incoming/: it is looked for there, as after a start. */
static bool has_leftovers(struct pickup *p)
{
	if (!p->admit.has_leftovers)
		return false;
	p->admit.has_leftovers = p->is_recovered = false;
	pause_work(p);
	return true;
}

/* true: intake may go on. */
static bool go_on_recovering(struct pickup *p)
{
	switch (recover_step(&p->recover, &p->admit)) {
	case RECOVER_DONE:
		p->is_recovered = true;
		return !has_leftovers(p);
	case RECOVER_MORE:
		want_work(p);
		return false;
	case RECOVER_PAUSE:
		pause_work(p);
		return false;
	case RECOVER_FATAL:
		give_up(p);
	}
	return false;
}

/* One batch; the loop turns between two, so that events, answers and heartbeats have theirs. */
static void on_work(void *arg)
{
	struct pickup *p = arg;
	unsigned room = announce_room(p->admit.announce);

	if (p->is_over || room == 0 || (!p->is_recovered && !go_on_recovering(p)))
		return;
	room = announce_room(p->admit.announce);
	if (room == 0 || scan_ready_count(p->admit.scan) == 0)
		return;
	switch (admit_batch(&p->admit, room < ADMIT_BATCH_MAX ? room : ADMIT_BATCH_MAX)) {
	case ADMIT_OK:
		if (!has_leftovers(p) && scan_ready_count(p->admit.scan) > 0)
			want_work(p);
		return;
	case ADMIT_PAUSE:
		if (!has_leftovers(p))
			pause_work(p);
		return;
	case ADMIT_FATAL:
		give_up(p);
	}
}

static bool on_packet(void *arg, const struct msg_head *head, const struct packet *packet)
{
	struct pickup *p = arg;
	struct msg_intake_open open;
	struct msg_admitted admitted;

	switch (head->type) {
	case MSG_INTAKE_OPEN:
		if (!msg_decode_intake_open(packet, &open))
			return false;
		if (open.last_id > p->admit.last_id)
			p->admit.last_id = open.last_id;
		announce_open(p->admit.announce, head->from_generation);
		return true;
	case MSG_ADMITTED:
		if (!msg_decode_admitted(packet, &admitted))
			return false;
		announce_admitted(p->admit.announce, &admitted);
		return true;
	default:
		return false;
	}
}

static void on_peer(struct proc *proc, enum proc_role role, unsigned index UNUSED, uint32_t generation, bool is_alive)
{
	struct pickup *p = proc_context(proc);

	if (role == ROLE_SCHEDULER && p)
		announce_peer(p->admit.announce, generation, is_alive);
}

/* Who may look at whose files is over with the jail: so the scan begins here. */
static int before_jail(struct proc *proc)
{
	char *folder = xasprintf("%s/drop", proc_conf(proc)->spool);

	(void)signal(SIGIO, SIG_IGN); /* somebody opens a file in the moment in which we hold a lease on it */
	pickup.scan = scan_new(folder);
	free(folder);
	if (!pickup.scan) {
		log_error("cannot watch drop/: inotify_init: %s", strerror(errno));
		return EXIT_STATUS_OS;
	}
	pickup.admit.accounts = accounts_load();
	proc_set_context(proc, &pickup);
	pickup.proc = proc;
	pickup.admit.announce = announce_new(want_work, &pickup);
	return 0;
}

static int after_jail(struct proc *proc)
{
	struct pickup *p = proc_context(proc);
	struct accounts *accounts = p->admit.accounts;
	struct announce *announce = p->admit.announce;

	if (fchdir(proc_spool_fd(proc)) < 0) {
		log_error("cannot enter the spool: %s", strerror(errno));
		return EXIT_STATUS_OS;
	}
	crumb_install(proc_spool_fd(proc));
	admit_init(&p->admit, proc_conf(proc), proc_spool_fd(proc));
	p->admit.accounts = accounts;
	p->admit.announce = announce;
	p->work = loop_timer_new(proc_loop(proc), on_work, p);
	p->pause = loop_timer_new(proc_loop(proc), want_work, p);
	p->admit.scan = p->scan;
	scan_start(p->scan, proc_loop(proc), proc_spool_fd(proc), want_work, p);
	announce_set_channel(announce, proc_channel(proc, 0, "scheduler", on_packet, p));
	proc_ready(proc);
	return 0;
}

static void on_drain(struct proc *proc)
{
	struct pickup *p = proc_context(proc);

	if (p)
		p->is_over = true;
	proc_exit(proc, EXIT_STATUS_DONE);
}

static const struct proc_spec SPEC = {
	.role = ROLE_PICKUP,
	.chroot = PROC_CHROOT_SPOOL,
	.identity = PROC_AS_USER,
	.wants_write = true,
	.before_jail = before_jail,
	.after_jail = after_jail,
	.on_drain = on_drain,
	.on_peer = on_peer,
};

int main(int argc, char **argv)
{
	return proc_main(argc, argv, &SPEC);
}
