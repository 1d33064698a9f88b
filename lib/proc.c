/* proc.c - one start-up for every child process. */
#include "lib/proc.h"
#include "lib/jail.h"
#include "lib/proc_options.h"
#include "lib/text.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	PROC_PEERS_MAX = 3 + PROC_WORKERS_MAX,
	/* Without a master nobody restarts anything: finish what hangs at a final dot (twice 5 minutes), then go. */
	PROC_ORPHAN_MAX_MS = 11 * 60 * 1000
};

struct proc_peer {
	struct proc *proc;
	struct channel *channel;
	uint32_t generation, accused;
	bool is_ending;
};

struct proc {
	const struct proc_spec *spec;
	struct proc_options options;
	struct loop *loop;
	struct conf *conf;
	void *context;
	int spool_fd;
	struct loop_io *control;
	struct loop_timer *orphan_timer;
	struct proc_peer peers[PROC_PEERS_MAX];
	unsigned peer_count;
	bool is_draining, is_ready, is_ended;
	enum exit_status status;
};

/* What a process may reach below its folder, and how many descriptors it may need. */
struct proc_rights {
	const char *const *reachable;
	unsigned long max_files;
};

static const struct proc_rights *rights_of(enum proc_role role)
{
	static const char *const DROPS[] = { "drop", "incoming", "rejected", NULL };
	static const char *const QUEUES[] = { "incoming", "queue", "db/queue", "history", "dead", NULL };
	static const char *const ITSELF[] = { ".", NULL };
	static const char *const NOTHING[] = { NULL };
	static const struct proc_rights RIGHTS[] = {
		[ROLE_PICKUP] = { DROPS, 4096 },     [ROLE_SCHEDULER] = { QUEUES, 4096 },
		[ROLE_RESOLVER] = { NOTHING, 8192 }, [ROLE_LIMITER] = { ITSELF, 1024 },
		[ROLE_SMTPOUT] = { ITSELF, 20000 },
	};
	_Static_assert(ARRAY_LEN(RIGHTS) == ROLE_COUNT, "rights out of step with roles");
	return &RIGHTS[role];
}

/* --- descriptors --- */

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* Whatever else the parent had open is nobody's business here. */
static void close_strays(const struct proc *p)
{
	(void)close_range(PROC_FD_LOCK + 1, PROC_FD_PEER_FIRST - 1, 0);
	(void)close_range((unsigned)PROC_FD_PEER(p->peer_count), ~0u, 0);
}

static int check_descriptors(struct proc *p)
{
	for (int fd = 0; fd <= 2; fd++) {
		if (!is_open(fd) && open("/dev/null", O_RDWR) != fd)
			return -1;
	}
	p->peer_count = p->spec->role == ROLE_SCHEDULER ? 3 + p->options.workers : 1;
	close_strays(p);
	if (!is_open(PROC_FD_CONF) || !is_open(PROC_FD_CTL_IN) || !is_open(PROC_FD_CTL_OUT))
		return -1;
	for (unsigned k = 0; k < p->peer_count; k++) {
		if (!is_open(PROC_FD_PEER(k)) || !is_open(PROC_FD_PEER_OUT(k)))
			return -1;
	}
	return 0;
}

/* --- configuration and log --- */

static int read_configuration(struct proc *p)
{
	struct conf_errors errors = { 0 };

	p->conf = conf_read(p->options.conf_path, PROC_FD_CONF, &errors);
	for (unsigned i = 0; i < errors.count; i++)
		log_error("%s", errors.text[i]);
	conf_errors_release(&errors);
	if (!p->conf)
		return EXIT_STATUS_CONFIG;
	if (p->options.workers > 0)
		p->conf->workers = p->options.workers;
	close(PROC_FD_CONF);
	return 0;
}

static void open_log(const struct proc *p)
{
	char host[256];
	bool is_stderr = p->conf->log_target == LOG_TARGET_STDERR || !is_open(PROC_FD_LOG);

	if (gethostname(host, sizeof(host)) < 0)
		host[0] = '\0';
	host[sizeof(host) - 1] = '\0';
	host[strcspn(host, ".")] = '\0';
	log_open(is_stderr ? LOG_TARGET_STDERR : p->conf->log_target, p->conf->log_format,
		 is_stderr ? STDERR_FILENO : PROC_FD_LOG, role_name(p->spec->role), host);
}

/*
 * The time zone file is out of reach later, and glibc looks for it again at every mktime() unless TZ names it.
 */
static void fix_time_zone(void)
{
	if (!getenv("TZ"))
		(void)setenv("TZ", ":/etc/localtime", 1);
	tzset();
}

static void seed_hashes(void)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), 0) == sizeof(seed))
		text_seed(seed);
}

/* --- jail --- */

static int enter_jail(struct proc *p)
{
	static const char *const FOLDERS[] = {
		[PROC_CHROOT_SPOOL] = "",
		[PROC_CHROOT_QUEUE] = "/queue",
		[PROC_CHROOT_LIMITS] = "/db/limits",
		[PROC_CHROOT_EMPTY] = "/run/empty",
	};
	const struct proc_options *o = &p->options;
	char *folder = xasprintf("%s%s", o->spool_root, FOLDERS[p->spec->chroot]);
	const struct proc_rights *rights = rights_of(p->spec->role);
	struct jail jail = {
		.folder = folder,
		.folder_fd = &p->spool_fd,
		.is_root_changed = o->uid != (uid_t)-1,
		.uid = o->uid,
		.gid = o->gid,
		.groups = o->groups,
		.group_count = o->group_count,
		.wants_network = p->spec->wants_network || (p->spec->needs_network && p->spec->needs_network(p->conf)),
		.wants_write = p->spec->wants_write,
		.cpu_max_s = p->spec->cpu_max_s,
		.reachable = rights->reachable,
		.max_files = rights->max_files,
	};
	const char *step = "";
	int rc = jail_enter(&jail, &step);

	if (rc < 0)
		log_error("cannot give up privileges: %s: %s (folder %s)", step, strerror(errno), folder);
	free(folder);
	return rc < 0 ? EXIT_STATUS_OS : 0;
}

/* --- life in the loop --- */

static void begin_drain(struct proc *p)
{
	if (p->is_draining)
		return;
	p->is_draining = true;
	if (p->spec->on_drain)
		p->spec->on_drain(p);
	else
		proc_exit(p, EXIT_STATUS_DONE);
}

static void on_signal(void *arg, int signal)
{
	struct proc *p = arg;

	if (signal == SIGHUP && p->spec->on_hand_over)
		p->spec->on_hand_over(p);
	else
		begin_drain(p);
}

struct msg_head proc_master_head(const struct proc *p)
{
	return (struct msg_head){ .from_generation = p->options.generation };
}

void proc_tell_master(const struct packet *packet)
{
	if (write(PROC_FD_CTL_OUT, packet->bytes, packet->len) < 0 && errno != EAGAIN && errno != EPIPE)
		log_warn("cannot write to master: %s", strerror(errno));
}

static void answer_ping(const struct proc *p, const struct packet *packet)
{
	struct msg_head head = proc_master_head(p);
	struct msg_ping ping;
	struct packet answer;

	if (!msg_decode_ping(packet, &ping))
		return;
	if (p->spec->cpu_max_s > 0)
		jail_renew_cpu(p->spec->cpu_max_s);
	msg_encode_pong(&answer, &head, &(struct msg_pong){ .sequence = ping.sequence });
	proc_tell_master(&answer);
}

/* The scheduler's partners before its workers. */
static const enum proc_role FIRST_PEERS[] = { ROLE_PICKUP, ROLE_RESOLVER, ROLE_LIMITER };

/* The place of a partner in PROC_FD_PEER, or -1. */
static int peer_place(const struct proc *p, const struct msg_peer *peer)
{
	unsigned k = 0;

	if (p->spec->role != ROLE_SCHEDULER)
		return peer->role == ROLE_SCHEDULER ? 0 : -1;
	while (k < ARRAY_LEN(FIRST_PEERS) && peer->role != FIRST_PEERS[k])
		k++;
	if (k == ARRAY_LEN(FIRST_PEERS))
		k += peer->index;
	return k < ARRAY_LEN(FIRST_PEERS) || (peer->role == ROLE_SMTPOUT && k < p->peer_count) ? (int)k : -1;
}

/* Who is in that place. */
static void name_peer(const struct proc *p, unsigned k, struct msg_offender *m)
{
	bool is_worker = p->spec->role == ROLE_SCHEDULER && k >= ARRAY_LEN(FIRST_PEERS);

	m->role = (uint8_t)(p->spec->role != ROLE_SCHEDULER ? ROLE_SCHEDULER
			    : is_worker                     ? ROLE_SMTPOUT
							    : FIRST_PEERS[k]);
	m->index = (uint16_t)(is_worker ? k - ARRAY_LEN(FIRST_PEERS) : 0);
}

static void note_peer(struct proc *p, const struct packet *packet)
{
	struct msg_peer peer;
	struct proc_peer *known;
	int k;

	if (!msg_decode_peer(packet, &peer) || (k = peer_place(p, &peer)) < 0)
		return;
	known = &p->peers[k];
	known->is_ending = peer.alive == PEER_ENDING;
	if (peer.alive == PEER_DEAD) {
		/* Its last words are still in the pipe. */
		if (known->channel)
			channel_drain_input(known->channel);
	} else if (known->generation != peer.generation) {
		known->generation = peer.generation;
		if (known->channel)
			channel_set_peer(known->channel, peer.generation);
	}
	if (p->spec->on_peer)
		p->spec->on_peer(p, peer.role, peer.index, peer.generation, peer.alive != PEER_DEAD);
}

static void handle_control(struct proc *p, const struct packet *packet)
{
	struct msg_head head;

	/* What was meant for our predecessor is still in the pipe. */
	if (!msg_decode_head(packet, &head) || head.to_generation != p->options.generation)
		return;
	switch (head.type) {
	case MSG_PING:
		answer_ping(p, packet);
		break;
	case MSG_PEER:
		note_peer(p, packet);
		break;
	case MSG_DRAIN:
		begin_drain(p);
		break;
	default:
		if (!p->spec->on_master || !p->spec->on_master(p, &head, packet))
			log_warn("unexpected %s from master", msg_name(head.type));
	}
}

static void on_orphan_timer(void *arg)
{
	log_error("master is gone and work is still not finished; ending");
	proc_exit(arg, EXIT_STATUS_TEMPORARY);
}

static void become_orphan(struct proc *p)
{
	loop_io_free(&p->control);
	log_warn("master is gone; finishing what is under way");
	p->orphan_timer = loop_timer_new(p->loop, on_orphan_timer, p);
	loop_timer_set_ms(p->orphan_timer, PROC_ORPHAN_MAX_MS);
	begin_drain(p);
}

static void on_control(void *arg, int fd, unsigned events UNUSED)
{
	enum { PACKETS_A_TURN = 64 };
	struct proc *p = arg;
	struct packet packet;

	for (unsigned i = 0; i < PACKETS_A_TURN; i++) {
		ssize_t got = read(fd, packet.bytes, sizeof(packet.bytes));

		if (got > 0) {
			packet.len = (uint16_t)got;
			handle_control(p, &packet);
			continue;
		}
		if (got == 0)
			become_orphan(p);
		else if (errno != EAGAIN && errno != EINTR)
			log_error("cannot read from master: %s", strerror(errno));
		return;
	}
}

static void on_turn(void *arg UNUSED)
{
	log_flush();
}

static void start_loop(struct proc *p)
{
	p->loop = loop_new();
	loop_on_signal(p->loop, SIGTERM, on_signal, p);
	loop_on_signal(p->loop, SIGHUP, on_signal, p);
	p->control = loop_io_new(p->loop, PROC_FD_CTL_IN, LOOP_READ, on_control, p);
}

/* Everything before the loop; 0 or the status to end with. */
static int start_up(struct proc *p)
{
	int status;

	if (check_descriptors(p) < 0) {
		log_error("the descriptors that master gives are not there");
		return EXIT_STATUS_USAGE;
	}
	(void)umask(027);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGINT, SIG_IGN); /* the terminal's ^C is for master alone */
	status = read_configuration(p);
	if (status != 0)
		return status;
	fix_time_zone();
	open_log(p);
	seed_hashes();
	start_loop(p);
	if (p->spec->before_jail && (status = p->spec->before_jail(p)) != 0)
		return status;
	if ((status = enter_jail(p)) != 0)
		return status;
	return p->spec->after_jail ? p->spec->after_jail(p) : 0;
}

static void tear_down(struct proc *p)
{
	log_flush();
	for (unsigned k = 0; k < p->peer_count; k++)
		channel_free(&p->peers[k].channel);
	loop_timer_free(&p->orphan_timer);
	loop_io_free(&p->control);
	loop_free(&p->loop);
	conf_free(&p->conf);
}

int proc_main(int argc, char **argv, const struct proc_spec *spec)
{
	static struct proc process; /* what hangs below it stays reachable when leaks are looked for at exit */
	struct proc *p = &process;
	int status;

	p->spec = spec;
	p->spool_fd = -1;
	proc_options_parse(&p->options, argc, argv, role_name(spec->role));
	log_open(LOG_TARGET_STDERR, LOG_FORMAT_TEXT, STDERR_FILENO, role_name(spec->role), "");
	status = start_up(p);
	log_flush();
	if (status == 0) {
		loop_on_turn(p->loop, on_turn, NULL); /* last of the hooks: the others may have something to say */
		if (!p->is_ended)
			loop_run(p->loop);
		status = (int)p->status;
	}
	tear_down(p);
	return status;
}

/* --- for the hooks --- */

struct loop *proc_loop(struct proc *p)
{
	return p->loop;
}

const struct conf *proc_conf(struct proc *p)
{
	return p->conf;
}

uint32_t proc_generation(struct proc *p)
{
	return p->options.generation;
}

int proc_spool_fd(struct proc *p)
{
	return p->spool_fd;
}

void *proc_context(struct proc *p)
{
	return p->context;
}

void proc_set_context(struct proc *p, void *context)
{
	p->context = context;
}

void proc_ready(struct proc *p)
{
	struct msg_head head = proc_master_head(p);
	struct packet packet;

	if (p->is_ready)
		return;
	p->is_ready = true;
	msg_encode_ready(&packet, &head, &(struct msg_ready){});
	proc_tell_master(&packet);
}

void proc_exit(struct proc *p, enum exit_status status)
{
	p->status = status;
	p->is_ended = true;
	loop_stop(p->loop);
}

bool proc_peer_is_ending(const struct proc *p, unsigned k)
{
	return k < p->peer_count && p->peers[k].is_ending;
}

void proc_accuse(struct proc *p, unsigned k, uint32_t generation)
{
	struct msg_head head = proc_master_head(p);
	struct msg_offender m = { .generation = generation };
	struct packet packet;

	if (k >= p->peer_count || p->peers[k].accused == generation)
		return;
	p->peers[k].accused = generation;
	name_peer(p, k, &m);
	msg_encode_offender(&packet, &head, &m);
	proc_tell_master(&packet);
}

static void on_malformed(void *arg, uint32_t generation)
{
	struct proc_peer *peer = arg;

	proc_accuse(peer->proc, (unsigned)(peer - peer->proc->peers), generation);
}

struct channel *proc_channel(struct proc *p, unsigned k, const char *name, channel_cb on_packet, void *arg)
{
	struct proc_peer *peer;

	if (k >= p->peer_count || p->peers[k].channel)
		BUG("no partner %u, or its channel was asked for twice", k);
	peer = &p->peers[k];
	peer->channel =
		channel_new(p->loop, PROC_FD_PEER(k), PROC_FD_PEER_OUT(k), name, p->options.generation, on_packet, arg);
	peer->proc = p;
	channel_on_malformed(peer->channel, on_malformed, peer);
	if (peer->generation != 0)
		channel_set_peer(peer->channel, peer->generation);
	return peer->channel;
}
