/* supervisor.c - does what service.c's table says. */
#include "master/supervisor.h"
#include "master/heartbeat.h"
#include "master/notify.h"
#include "master/policies.h"
#include "master/snapshot.h"
#include "master/status.h"
#include "master/stop.h"
#include "master/tokens.h"
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct child *find_role(const struct master *m, enum proc_role role)
{
	for (unsigned i = 0; i < m->child_count; i++) {
		if (m->children[i]->service.role == role)
			return m->children[i];
	}
	return NULL;
}

/* A worker's place that no worker is to run in now; the last one there may still have something to finish. */
static bool is_spare(const struct child *c)
{
	return c->service.role == ROLE_SMTPOUT &&
	       (c->service.state == SERVICE_IDLE || c->service.state == SERVICE_STOPPING);
}

static struct child *find_pid(const struct master *m, pid_t pid)
{
	for (unsigned i = 0; i < m->child_count; i++) {
		if (m->children[i]->service.pid == pid)
			return m->children[i];
	}
	return NULL;
}

/* --- telling partners --- */

static void tell(struct child *to, const struct child *about, enum peer_life life)
{
	struct msg_peer peer = {
		.role = (uint8_t)about->service.role,
		.index = (uint16_t)about->service.index,
		.generation = about->service.generation,
		.alive = (uint8_t)life,
	};
	struct msg_head head = channel_head(to->control);
	struct packet packet;

	if (to->service.pid == 0)
		return;
	msg_encode_peer(&packet, &head, &peer);
	channel_send(to->control, &packet);
}

/* A star: the scheduler is everybody's partner, and everybody is the scheduler's. */
static void tell_partners(struct child *about, enum peer_life life)
{
	struct master *m = about->master;
	struct child *scheduler = find_role(m, ROLE_SCHEDULER);

	if (about != scheduler) {
		tell(scheduler, about, life);
		return;
	}
	for (unsigned i = 0; i < m->child_count; i++) {
		if (m->children[i] != about)
			tell(m->children[i], about, life);
	}
}

static void tell_newborn(struct child *newborn, struct child *partner)
{
	enum service_state state = partner->service.state;

	if (partner->service.pid != 0)
		tell(newborn, partner, state == SERVICE_ENDING || state == SERVICE_STOPPING ? PEER_ENDING : PEER_ALIVE);
}

static void introduce(struct child *newborn)
{
	struct master *m = newborn->master;

	if (newborn->service.role != ROLE_SCHEDULER)
		tell_newborn(newborn, find_role(m, ROLE_SCHEDULER));
	for (unsigned i = 0; newborn->service.role == ROLE_SCHEDULER && i < m->child_count; i++) {
		if (m->children[i] != newborn)
			tell_newborn(newborn, m->children[i]);
	}
	tell_partners(newborn, PEER_ALIVE);
}

/* --- starting --- */

static void give_peer(struct spawn *s, const struct child *c, const struct child *partner, unsigned place)
{
	bool is_scheduler = c->service.role == ROLE_SCHEDULER;
	const struct pipes *p = is_scheduler ? &partner->pipes : &c->pipes;

	spawn_give(s, is_scheduler ? p->to_scheduler.read_end : p->from_scheduler.read_end, PROC_FD_PEER(place));
	spawn_give(s, is_scheduler ? p->from_scheduler.write_end : p->to_scheduler.write_end, PROC_FD_PEER_OUT(place));
	spawn_give(s, p->board, PROC_FD_PEER_BOARD(place));
}

static void give_peers(struct spawn *s, const struct child *c)
{
	static const unsigned PLACES[ROLE_COUNT] = {
		[ROLE_PICKUP] = 0, [ROLE_RESOLVER] = 1, [ROLE_LIMITER] = 2, [ROLE_SMTPOUT] = 3
	};
	const struct master *m = c->master;

	if (c->service.role != ROLE_SCHEDULER) {
		give_peer(s, c, NULL, 0);
		return;
	}
	for (unsigned i = 0; i < m->child_count; i++) {
		const struct child *partner = m->children[i];

		if (partner != c)
			give_peer(s, c, partner, PLACES[partner->service.role] + partner->service.index);
	}
}

static int snapshot_of_policies(const struct master *m)
{
	struct buf lines;
	int fd;

	buf_init(&lines, SNAPSHOT_POLICIES_MAX);
	policies_collect(m->policies, &lines);
	fd = snapshot_create("postern.policies", buf_slice(&lines));
	buf_release(&lines);
	return fd;
}

/* The extra descriptor of a role. *owned: to be closed here once the child has it. */
static int extra_of(const struct child *c, bool *owned)
{
	const struct master *m = c->master;
	struct buf secrets;
	int fd;

	*owned = c->service.role == ROLE_SMTPOUT || c->service.role == ROLE_RESOLVER;
	if (c->service.role == ROLE_SCHEDULER)
		return m->control_fd;
	if (c->service.role == ROLE_RESOLVER)
		return snapshot_of_policies(m);
	if (c->service.role != ROLE_SMTPOUT)
		return -1;
	buf_init(&secrets, SNAPSHOT_SECRETS_MAX);
	snapshot_collect_secrets(m->conf, &secrets);
	tokens_collect(m->tokens, &secrets);
	fd = snapshot_create("postern.secrets", buf_slice(&secrets));
	if (secrets.ptr)
		explicit_bzero(secrets.ptr, secrets.cap);
	buf_release(&secrets);
	return fd;
}

static pid_t spawn_with_descriptors(struct child *c)
{
	const struct master *m = c->master;
	bool is_extra_owned;
	int conf = snapshot_create("postern.conf", (struct slice){ m->conf_text, m->conf_len });
	int extra = extra_of(c, &is_extra_owned), saved;
	struct spawn s = {
		.folder = m->folder,
		.program = role_name(c->service.role),
		.index = c->service.index,
		.workers = m->worker_places,
		.generation = c->service.generation,
		.spool = m->conf->spool,
		.conf_path = m->conf_path,
		.identity = identity_of(&m->identities, c->service.role),
	};
	pid_t pid = -1;

	spawn_give(&s, m->log_fd, PROC_FD_LOG);
	spawn_give(&s, conf, PROC_FD_CONF);
	spawn_give(&s, c->pipes.to_child.read_end, PROC_FD_CTL_IN);
	spawn_give(&s, c->pipes.from_child.write_end, PROC_FD_CTL_OUT);
	spawn_give(&s, extra, PROC_FD_EXTRA);
	spawn_give(&s, m->lock.family_fd, PROC_FD_LOCK);
	give_peers(&s, c);
	if (conf >= 0)
		pid = spawn_child(&s);
	saved = errno;
	if (conf >= 0)
		close(conf);
	if (is_extra_owned && extra >= 0)
		close(extra);
	errno = saved;
	return pid;
}

static void on_spawn_failed(void *arg)
{
	supervisor_apply(arg, SERVICE_DIED);
}

static void do_spawn(struct child *c)
{
	struct master *m = c->master;
	pid_t pid;

	c->service.generation = ++m->generation;
	channel_set_peer(c->control, c->service.generation);
	pid = spawn_with_descriptors(c);
	if (pid < 0) {
		log_error("cannot start %s: %s", c->name, strerror(errno));
		loop_defer(m->loop, on_spawn_failed, c);
		return;
	}
	c->service.pid = pid;
	c->token_serial = tokens_serial(m->tokens);
	log_debug("%s started, pid %ld", c->name, (long)pid);
	introduce(c);
}

/* --- the other actions --- */

static void do_wait(struct child *c)
{
	uint64_t delay_ms = service_delay_ms(&c->service);

	if (delay_ms > 0)
		log_warn("%s died %u times in a row: starting it again in %llu s", c->name, c->service.failures,
			 (unsigned long long)delay_ms / 1000);
	loop_timer_set_ms(c->due, delay_ms);
}

static void do_give_up(struct child *c)
{
	log_error("%s cannot work with this configuration: it stays down until `postern reload` or restart", c->name);
	if (!c->master->was_ready)
		stop_begin(c->master, EXIT_STATUS_CONFIG); /* whoever started us is still looking */
}

void supervisor_signal(const struct child *c, int signal)
{
	if (c->service.pid > 0 && kill(c->service.pid, signal) < 0)
		log_error("cannot signal %s: %s", c->name, strerror(errno));
}

static void do_ask_end(struct child *c)
{
	tell_partners(c, PEER_ENDING);
	supervisor_signal(c, c->service.role == ROLE_SCHEDULER ? SIGHUP : SIGTERM);
}

static void do_ask_stop(struct child *c)
{
	struct msg_head head = channel_head(c->control);
	struct packet packet;

	if (c->service.role != ROLE_SCHEDULER) {
		supervisor_signal(c, SIGTERM);
		return;
	}
	msg_encode_drain(&packet, &head, &(struct msg_drain){});
	channel_send(c->control, &packet);
}

static void do_kill(struct child *c)
{
	supervisor_signal(c, SIGKILL);
}

static void do_announce(struct child *c)
{
	struct master *m = c->master;

	log_debug("%s is ready", c->name);
	for (unsigned i = 0; i < m->child_count; i++) {
		if (m->children[i]->service.state != SERVICE_UP && !is_spare(m->children[i]))
			return;
	}
	if (m->is_ready)
		return;
	m->is_ready = true;
	notify_send("READY=1\nMAINPID=%ld\nSTATUS=running", (long)getpid());
	log_info(m->was_ready ? "all processes run with the new configuration" : "started, version %s",
		 POSTERN_VERSION);
	m->was_ready = true;
	status_write(m); /* before `postern start` looks */
	if (m->ready_fd >= 0) {
		if (write(m->ready_fd, "\n", 1) < 0)
			log_debug("nobody waits for us to be ready");
		close(m->ready_fd);
		m->ready_fd = -1;
	}
}

/* --- events --- */

void supervisor_apply(struct child *c, enum service_event event)
{
	static void (*const DO[SERVICE_ACTION_COUNT])(struct child *) = {
		[SERVICE_DO_SPAWN] = do_spawn,       [SERVICE_DO_WAIT] = do_wait,
		[SERVICE_DO_GIVE_UP] = do_give_up,   [SERVICE_DO_ASK_END] = do_ask_end,
		[SERVICE_DO_ASK_STOP] = do_ask_stop, [SERVICE_DO_KILL] = do_kill,
		[SERVICE_DO_ANNOUNCE] = do_announce,
	};
	enum service_action action;

	if (event == SERVICE_REPLACE || event == SERVICE_STOP)
		loop_timer_cancel(c->due);
	action = service_step(&c->service, event, clock_mono());
	if (DO[action])
		DO[action](c);
}

static void on_due(void *arg)
{
	struct child *c = arg;

	supervisor_apply(c, SERVICE_DUE);
	status_write(c->master);
}

static void log_death(struct child *c, int status)
{
	bool is_expected = c->service.state == SERVICE_ENDING || c->service.state == SERVICE_STOPPING;

	c->service.was_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	if (WIFSIGNALED(status))
		log_warn("%s (pid %ld) was killed by signal %d (%s)", c->name, (long)c->service.pid, WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else if (!is_expected || WEXITSTATUS(status) != EXIT_STATUS_DONE)
		log_warn("%s (pid %ld) ended with status %d", c->name, (long)c->service.pid, WEXITSTATUS(status));
}

static void note_death(struct child *c, int status)
{
	bool is_refusal = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_STATUS_CONFIG;

	log_death(c, status);
	tell_partners(c, PEER_DEAD);
	supervisor_apply(c, is_refusal ? SERVICE_REFUSED : SERVICE_DIED);
	if (c->master->is_stopping)
		supervisor_apply(c, SERVICE_STOP); /* whatever it died of, it is not started again now */
	tokens_note_worker(c->master->tokens);
}

void supervisor_reap(struct master *m)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct child *c = find_pid(m, pid);

		if (c)
			note_death(c, status);
	}
	if (m->is_stopping)
		stop_go_on(m);
	status_write(m);
}

/* --- offenders --- */

static struct child *find_place(const struct master *m, enum proc_role role, unsigned index)
{
	for (unsigned i = 0; i < m->child_count; i++) {
		if (m->children[i]->service.role == role && m->children[i]->service.index == index)
			return m->children[i];
	}
	return NULL;
}

/* A subverted process that talks to the network must not be able to bring down the scheduler. */
static bool is_believed(const struct child *accuser)
{
	return accuser->service.role != ROLE_SMTPOUT && accuser->service.role != ROLE_RESOLVER;
}

static void take_accusation(const struct child *accuser, const struct msg_offender *m)
{
	struct child *c = find_place(accuser->master, m->role, m->index);

	if (!c || c->service.pid == 0 || c->service.generation != m->generation)
		return; /* it is gone already */
	if (!is_believed(accuser)) {
		log_warn("%s says that %s sends what it should not: nothing is done about it", accuser->name, c->name);
		return;
	}
	log_error("%s (pid %ld) sent %s what no process in its right mind sends: killed", c->name, (long)c->service.pid,
		  accuser->name);
	supervisor_apply(c, SERVICE_MUTE);
}

static void on_malformed(void *arg, uint32_t generation)
{
	struct child *c = arg;

	if (c->service.pid == 0 || c->service.generation != generation)
		return;
	log_error("%s (pid %ld) sent master what no process in its right mind sends: killed", c->name,
		  (long)c->service.pid);
	supervisor_apply(c, SERVICE_MUTE);
}

static bool on_packet(void *arg, const struct msg_head *head, const struct packet *p)
{
	struct child *c = arg;
	struct msg_ready ready;
	struct msg_pong pong;
	struct msg_token_taken taken;
	struct msg_login_refused refused;
	struct msg_policy_ask policy;
	struct msg_offender offender;

	if (head->from_generation != c->service.generation)
		return true; /* its predecessor's last words */
	switch (head->type) {
	case MSG_READY:
		if (!msg_decode_ready(p, &ready))
			return false;
		supervisor_apply(c, SERVICE_READY);
		status_write(c->master);
		return true;
	case MSG_PONG:
		if (!msg_decode_pong(p, &pong))
			return false;
		heartbeat_note_answer(c);
		return true;
	case MSG_TOKEN_TAKEN:
		if (c->service.role != ROLE_SMTPOUT || !msg_decode_token_taken(p, &taken))
			return false;
		c->token_serial = taken.serial;
		tokens_note_worker(c->master->tokens);
		return true;
	case MSG_LOGIN_REFUSED:
		if (c->service.role != ROLE_SCHEDULER || !msg_decode_login_refused(p, &refused))
			return false;
		tokens_note_refusal(c->master->tokens, refused.server);
		return true;
	case MSG_POLICY_ASK:
		return c->service.role == ROLE_RESOLVER && msg_decode_policy_ask(p, &policy) &&
		       policies_ask(c->master->policies, &policy);
	case MSG_OFFENDER:
		if (!msg_decode_offender(p, &offender))
			return false;
		take_accusation(c, &offender);
		return true;
	default:
		return false;
	}
}

/* --- making and unmaking --- */

static int add_child(struct master *m, enum proc_role role, unsigned index)
{
	struct child *c = xcalloc(1, sizeof(*c));

	if (pipes_open(&c->pipes, role == ROLE_SCHEDULER, role == ROLE_SMTPOUT) < 0) {
		free(c);
		return -1;
	}
	c->master = m;
	c->service.role = role;
	c->service.index = index;
	if (role == ROLE_SMTPOUT)
		(void)snprintf(c->name, sizeof(c->name), "%s-%u", role_name(role), index + 1);
	else
		(void)snprintf(c->name, sizeof(c->name), "%s", role_name(role));
	c->control = channel_new(m->loop, c->pipes.from_child.read_end, c->pipes.to_child.write_end, c->name, 0,
				 on_packet, c);
	channel_on_malformed(c->control, on_malformed, c);
	c->due = loop_timer_new(m->loop, on_due, c);
	m->children[m->child_count++] = c;
	return 0;
}

static int add_workers(struct master *m, unsigned workers)
{
	unsigned places = 2 * workers < PROC_WORKERS_MAX ? 2 * workers : PROC_WORKERS_MAX;

	for (; m->worker_places < places; m->worker_places++) {
		if (add_child(m, ROLE_SMTPOUT, m->worker_places) < 0)
			return -1;
	}
	m->workers = workers;
	return 0;
}

int supervisor_open(struct master *m, unsigned workers)
{
	if (workers > PROC_WORKERS_MAX)
		workers = PROC_WORKERS_MAX;
	if (m->child_count > 0)
		return add_workers(m, workers);
	m->hurry = loop_timer_new(m->loop, stop_on_timer, m);
	return add_child(m, ROLE_RESOLVER, 0) < 0 || add_child(m, ROLE_LIMITER, 0) < 0 || add_workers(m, workers) < 0 ||
			       add_child(m, ROLE_SCHEDULER, 0) < 0 || add_child(m, ROLE_PICKUP, 0) < 0
		       ? -1
		       : 0;
}

void supervisor_close(struct master *m)
{
	for (unsigned i = 0; i < m->child_count; i++) {
		struct child *c = m->children[i];

		loop_timer_free(&c->due);
		channel_free(&c->control);
		pipes_close(&c->pipes);
		free(c);
	}
	m->child_count = 0;
	loop_timer_free(&m->hurry);
	loop_timer_free(&m->heartbeat);
}

static unsigned count_workers(const struct master *m)
{
	unsigned count = 0;

	for (unsigned i = 0; i < m->child_count; i++)
		count += m->children[i]->service.role == ROLE_SMTPOUT && !is_spare(m->children[i]);
	return count;
}

void supervisor_start(struct master *m)
{
	for (unsigned i = 0; i < m->child_count; i++) {
		if (!is_spare(m->children[i]) || count_workers(m) < m->workers)
			supervisor_apply(m->children[i], SERVICE_START);
	}
	status_write(m);
}

/* A worker finishes in its place what is under way, and the next one begins in another, as far as there is one. */
static void replace_workers(struct master *m)
{
	unsigned free_places = 0;

	for (unsigned i = 0; i < m->child_count; i++)
		free_places += is_spare(m->children[i]) && m->children[i]->service.pid == 0;
	for (unsigned i = 0; i < m->child_count; i++) {
		struct child *c = m->children[i];

		if (c->service.role != ROLE_SMTPOUT || is_spare(c))
			continue;
		if (c->service.pid == 0 || c->service.state == SERVICE_ENDING || free_places == 0) {
			supervisor_apply(c, SERVICE_REPLACE);
			continue;
		}
		free_places--;
		tell_partners(c, PEER_ENDING);
		supervisor_apply(c, SERVICE_STOP);
	}
	supervisor_start(m);
}

void supervisor_replace(struct master *m)
{
	m->is_ready = false;
	for (unsigned i = 0; i < m->child_count; i++) {
		if (m->children[i]->service.role != ROLE_SMTPOUT)
			supervisor_apply(m->children[i], SERVICE_REPLACE);
	}
	replace_workers(m);
}

void supervisor_renew_secrets(struct master *m, const uint32_t *servers, unsigned count)
{
	replace_workers(m);
	supervisor_tell_secrets(m, servers, count, false);
}

void supervisor_tell_secrets(struct master *m, const uint32_t *servers, unsigned count, bool is_token)
{
	struct msg_new_secrets news = { .servers = { .values = servers, .count = (uint16_t)count },
					.is_token = is_token };
	struct child *scheduler = find_role(m, ROLE_SCHEDULER);
	struct msg_head head = channel_head(scheduler->control);
	struct packet packet;

	if (scheduler->service.pid == 0)
		return; /* the next one tries every server anyway */
	msg_encode_new_secrets(&packet, &head, &news);
	channel_send(scheduler->control, &packet);
}
