/* proc.h - one start-up for every child process: descriptors, log, configuration, jail, readiness, loop. */
#ifndef LIB_PROC_H
#define LIB_PROC_H
#include "lib/channel.h"
#include "lib/conf.h"
#include "lib/loop.h"

/*
 * Descriptors that master hands to every child; everything else is closed on exec.
 * The peers: k-th partner's pipes at PROC_FD_PEER(k): in, out, board. scheduler: 0 pickup, 1 resolver, 2 limiter,
 * 3+i smtpout i. All others: 0 scheduler (smtpout with its board).
 */
enum proc_fd {
	PROC_FD_LOG = 3,    /* as PROC_LOG says in conf.log_target: /dev/log socket, file; absent for stderr */
	PROC_FD_CONF = 4,   /* sealed memfd: the configuration's text as master accepted it */
	PROC_FD_CTL_IN = 5, /* from master */
	PROC_FD_CTL_OUT = 6,
	PROC_FD_EXTRA = 7, /* scheduler: listening control socket; smtpout: sealed memfd with secrets; resolver: with
			      policies */
	PROC_FD_LOCK = 9,  /* run/lock, locked: while any child lives, no new master begins to work on the spool */
	PROC_FD_PEER_FIRST = 16
};
#define PROC_FD_PEER(k)       (PROC_FD_PEER_FIRST + 3 * (int)(k))
#define PROC_FD_PEER_OUT(k)   (PROC_FD_PEER(k) + 1)
#define PROC_FD_PEER_BOARD(k) (PROC_FD_PEER(k) + 2)
enum { PROC_WORKERS_MAX = 64 };

struct proc;

enum proc_chroot { PROC_CHROOT_SPOOL, PROC_CHROOT_QUEUE, PROC_CHROOT_LIMITS, PROC_CHROOT_EMPTY };
enum proc_identity { PROC_AS_USER, PROC_AS_SMTP_USER };

/* What a process is; one static const per program. Hooks return 0, or an exit status that ends the process. */
struct proc_spec {
	enum proc_role role;
	enum proc_chroot chroot;
	enum proc_identity identity;
	bool wants_network;                          /* else socket(2) is refused */
	bool (*needs_network)(const struct conf *c); /* may be NULL: whether this configuration makes it want one */
	bool wants_write;                            /* else opening for writing is refused */
	unsigned cpu_max_s;                 /* of CPU between two of master's PINGs, else it dies; 0: no limit */
	int (*before_jail)(struct proc *p); /* still privileged: load what the jail hides. Reads nothing untrusted */
	int (*after_jail)(struct proc *p);  /* open channels, stores; the last step before READY */
	void (*on_drain)(struct proc *p);   /* SIGTERM or DRAIN: finish, then proc_exit() */
	void (*on_hand_over)(
		struct proc *p); /* SIGHUP: make durable what is decided and proc_exit() at once; NULL: as drain */
	/* What master says to this process alone; false: not understood. NULL: there is nothing of that kind. */
	bool (*on_master)(struct proc *p, const struct msg_head *head, const struct packet *packet);
	void (*on_peer)(struct proc *p, enum proc_role role, unsigned index, uint32_t generation, bool is_alive);
};

/*
 * Started only by master: argv is [program, "--child", "--index", N, "--generation", N, "--spool-root", DIR, "--conf",
 * PATH,
 * "--workers", N] (how many smtpouts there are: what the configuration says about it counts only when master starts)
 * and, when master is root, the ids to become ("--uid", N, "--gid", N, "--groups", N,N). By hand: prints what it is and
 * exits with EXIT_STATUS_USAGE (--help 0, --version 0).
 */
int proc_main(int argc, char **argv, const struct proc_spec *spec);

/* For the hooks and everything that runs in the loop. */
struct loop *proc_loop(struct proc *p);
const struct conf *proc_conf(struct proc *p);
uint32_t proc_generation(struct proc *p);
int proc_spool_fd(struct proc *p); /* directory that is "the spool" inside the jail (queue/ for PROC_CHROOT_QUEUE) */
void *proc_context(struct proc *p);
void proc_set_context(struct proc *p, void *context);
void proc_ready(struct proc *p); /* once mail can flow: called by after_jail, or by a later event that it waits for */
void proc_exit(struct proc *p, enum exit_status status); /* ends the loop after this turn; log flushed */
/* To master; the header is made here. A full pipe means that master is busy, and loses it. */
struct msg_head proc_master_head(const struct proc *p);
void proc_tell_master(const struct packet *packet);
/* The partner was asked to end (reload): give it nothing new, its successor will be announced. */
bool proc_peer_is_ending(const struct proc *p, unsigned k);
/* Tells master of a partner that sent what no honest one sends; master ends it. A generation is accused once. */
void proc_accuse(struct proc *p, unsigned k, uint32_t generation);
/* Channel to the k-th partner; generation of the peer is set and kept current; malformed packets accuse it. */
struct channel *proc_channel(struct proc *p, unsigned k, const char *name, channel_cb on_packet, void *arg);
#endif
