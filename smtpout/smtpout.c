/* smtpout.c - the SMTP client; the only process that talks to mail servers and that knows passwords.
 *
 * Started by:    master, one per CPU (option `workers`); never by hand
 * Runs as:       smtp-user, chrooted into queue/, which it can only read; network; no writing, no exec
 * Before jail:   certificates, keys and certificate store of the servers that use TLS; passwords, from a sealed memfd
 * Messages in:   CONNECT, DELIVER, HANGUP, REPORT_ACK, RESYNC, POP_LOGIN from the scheduler; NEW_TOKEN from master
 * Messages out:  SESSION_UP, SESSION_DOWN, REPORT, SESSION_OPEN, INFLIGHT, RESYNCED, POP_DONE to the scheduler;
 *                TOKEN_TAKEN to master
 * Board:         one slot per transaction between its final dot and its report in the pipe
 * Logs:          the `to=` line of each recipient's outcome, once the scheduler has recorded it
 * Signals:       SIGTERM: what has not begun is handed back, what is under way ends, then exit 0
 * Killed:        loses nothing; what stands on the board may be sent again, and the scheduler says so in the log
 * Limits:        WORKER_SESSIONS_MAX sessions, SESSION_QUEUE_MAX deliveries each, REPORT_KEPT_MAX reports not
 *                acknowledged; one timer and a few KiB per idle session, some 40 KiB more with TLS
 */
#include "lib/destination.h"
#include "lib/log.h"
#include "lib/proc.h"
#include "smtpout/pop_visit.h"
#include "smtpout/secrets.h"
#include "smtpout/session.h"
#include <errno.h>
#include <unistd.h>

/* How long the last reports wait for their acknowledgement; they are in the pipe and survive us. */
enum { LAST_ACK_WAIT_MS = 10 * 1000 };

struct smtpout {
	struct proc *p;
	struct channel *scheduler;
	struct loop_timer *last_wait;
	bool is_board_ours; /* our predecessor's entries are gone */
	struct worker w;
};

/* --- messages --- */

static bool on_connect(struct smtpout *me, const struct packet *p)
{
	struct msg_connect m;

	return msg_decode_connect(p, &m) && session_open(&me->w, &m);
}

static bool on_deliver(struct smtpout *me, const struct packet *p)
{
	struct msg_deliver m;
	struct session *s;

	if (!msg_decode_deliver(p, &m) || m.rcpts.count == 0)
		return false;
	s = session_find(&me->w, m.session);
	if (s)
		session_deliver(s, &m);
	else
		session_refuse(&me->w, &m);
	return true;
}

static bool on_hangup(struct smtpout *me, const struct packet *p)
{
	struct msg_hangup m;
	struct session *s;

	if (!msg_decode_hangup(p, &m))
		return false;
	s = session_find(&me->w, m.session);
	if (s)
		session_hang_up(s);
	return true;
}

static bool on_pop_login(struct smtpout *me, const struct packet *p)
{
	struct msg_pop_login m;

	return msg_decode_pop_login(p, &m) && pop_visit_begin(&me->w, &m);
}

static void wake(void *arg UNUSED, struct table_node *node)
{
	session_wake(session_of_node(node));
}

static bool on_report_ack(struct smtpout *me, const struct packet *p)
{
	struct msg_report_ack m;
	bool was_full = report_book_is_full(me->w.book);

	if (!msg_decode_report_ack(p, &m) || m.triples.count % 3 != 0)
		return false;
	report_book_acknowledge(me->w.book, &m);
	if (was_full && !report_book_is_full(me->w.book))
		table_each(&me->w.sessions, wake, NULL);
	return true;
}

static void tell(void *arg UNUSED, struct table_node *node)
{
	session_tell(session_of_node(node));
}

static bool on_resync(struct smtpout *me, const struct packet *p)
{
	struct msg_resync m;
	struct msg_head head = channel_head(me->scheduler);
	struct packet answer;

	if (!msg_decode_resync(p, &m))
		return false;
	pop_visit_end_all(&me->w, false);
	report_book_resync(me->w.book);
	table_each(&me->w.sessions, tell, NULL);
	msg_encode_resynced(&answer, &head, &(struct msg_resynced){});
	report_book_send(me->w.book, &answer);
	return true;
}

static const struct handler {
	uint8_t type;
	bool (*fn)(struct smtpout *me, const struct packet *p);
} HANDLERS[] = {
	{ MSG_CONNECT, on_connect },     { MSG_DELIVER, on_deliver }, { MSG_HANGUP, on_hangup },
	{ MSG_POP_LOGIN, on_pop_login }, { MSG_RESYNC, on_resync },   { MSG_REPORT_ACK, on_report_ack },
};

/*
 * What a killed predecessor left on the board tells the scheduler which messages may go out twice. It has read that
 * before it sends the first packet to our generation; to erase any earlier would make it believe that nothing was sent.
 */
static void take_over_board(struct smtpout *me)
{
	if (!me->is_board_ours && me->w.board)
		board_erase_all(me->w.board);
	me->is_board_ours = true;
}

/* A scheduler's last words may come after its successor's first: generations only rise. */
static bool on_packet(void *arg, const struct msg_head *head, const struct packet *p)
{
	struct smtpout *me = arg;

	if (head->from_generation < channel_peer(me->scheduler))
		return true;
	channel_set_peer(me->scheduler, head->from_generation);
	take_over_board(me);
	for (unsigned i = 0; i < ARRAY_LEN(HANDLERS); i++) {
		if (HANDLERS[i].type == head->type)
			return HANDLERS[i].fn(me, p);
	}
	return false;
}

/* --- the end --- */

static void end_now(void *arg)
{
	struct smtpout *me = arg;

	proc_exit(me->p, EXIT_STATUS_DONE);
}

static void on_turn(void *arg)
{
	struct smtpout *me = arg;

	report_book_flush(me->w.book);
	if (!me->w.is_draining || me->w.sessions.count > 0)
		return;
	if (report_book_is_empty(me->w.book))
		end_now(me);
	else if (!loop_timer_is_set(me->last_wait))
		loop_timer_set_ms(me->last_wait, LAST_ACK_WAIT_MS);
}

static void drain(void *arg UNUSED, struct table_node *node)
{
	session_drain(session_of_node(node));
}

static void on_drain(struct proc *p)
{
	struct smtpout *me = proc_context(p);

	if (me->w.is_draining)
		return;
	me->w.is_draining = true;
	pop_visit_end_all(&me->w, true);
	table_each(&me->w.sessions, drain, NULL);
}

/* The successor sends RESYNC, which starts everything again; it may have come before this, by the other pipe. */
static void on_peer(struct proc *p, enum proc_role role, unsigned index UNUSED, uint32_t generation, bool is_alive)
{
	struct smtpout *me = proc_context(p);

	if (me && role == ROLE_SCHEDULER && !is_alive && generation >= channel_peer(me->scheduler))
		report_book_pause(me->w.book);
}

/* --- the beginning --- */

/* A server whose certificates cannot be loaded is refused (session_open); the others work. */
static struct tls_policy *load_policy(const struct conf_server *server)
{
	struct tls_policy *policy;
	char *error = NULL;

	if (server->tls == TLS_NONE && !server->is_tls_wrapper)
		return NULL;
	policy = tls_policy_new(server, &error);
	if (error)
		log_error("server %s cannot be used: %s", server->name, error);
	free(error);
	return policy;
}

static void load_policies(struct smtpout *me, const struct conf *conf)
{
	for (unsigned i = 0; i < conf->server_count; i++) {
		struct conf_server pop = pop_visit_server(&conf->server[i]), server = conf->server[i];

		server.tls = destination_highest_tls(conf, &server);
		me->w.policy[i] = load_policy(&server);
		if (conf->server[i].pop.is_set)
			me->w.pop_policy[i] = load_policy(&pop);
	}
}

static void take_token(struct smtpout *me, unsigned index, struct slice token)
{
	const struct conf_server *server = &me->w.conf->server[index];

	if (!me->w.account[index])
		me->w.account[index] =
			sasl_account_new(server->username, (struct slice){ "", 0 }, server->host, server->port);
	sasl_account_set_token(me->w.account[index], token);
}

static void take_secret(void *arg, unsigned index, struct slice name, struct slice value)
{
	struct smtpout *me = arg;
	const struct conf_server *server = index < me->w.conf->server_count ? &me->w.conf->server[index] : NULL;

	if (server && server->pop.is_set && slice_is(name, "pop-password")) {
		sasl_account_free(&me->w.pop_account[index]);
		me->w.pop_account[index] =
			sasl_account_new(server->pop.username, value, server->pop.host, server->pop.port);
	}
	if (server && server->username && slice_is(name, "password")) {
		sasl_account_free(&me->w.account[index]);
		me->w.account[index] = sasl_account_new(server->username, value, server->host, server->port);
	}
	if (server && server->username && slice_is(name, "token"))
		take_token(me, index, value); /* comes behind the password */
}

/* A server whose password is missing is refused (session_open); the others work. */
static bool load_secrets(struct smtpout *me)
{
	if (!sasl_init()) {
		log_error("the library for logins does not work");
		return false;
	}
	if (!secrets_read(PROC_FD_EXTRA, take_secret, me) && errno != EBADF) {
		log_error("the passwords cannot be read: %m");
		return false;
	}
	close(PROC_FD_EXTRA);
	return true;
}

static int before_jail(struct proc *p)
{
	struct smtpout *me = xcalloc(1, sizeof(*me));
	const struct conf *conf = proc_conf(p);

	me->p = p;
	worker_init(&me->w, proc_loop(p), conf, -1);
	load_policies(me, conf);
	if (!load_secrets(me))
		return EXIT_STATUS_OS;
	me->w.board = board_map(PROC_FD_PEER_BOARD(0), true);
	if (!me->w.board && errno != EBADF) {
		log_error("the board cannot be mapped: %m");
		return EXIT_STATUS_OS;
	}
	proc_set_context(p, me);
	return 0;
}

/* A token lives shorter than we do. Master is told, so that no mail is sent our way for its sake before it is here. */
static bool on_master(struct proc *p, const struct msg_head *head, const struct packet *packet)
{
	struct smtpout *me = proc_context(p);
	struct msg_head back = proc_master_head(p);
	struct msg_new_token m;
	struct packet answer;
	int index;

	if (!me || head->type != MSG_NEW_TOKEN || !msg_decode_new_token(packet, &m))
		return false;
	index = conf_find_server_key(me->w.conf, m.server);
	if (index >= 0 && me->w.conf->server[index].username)
		take_token(me, (unsigned)index, m.token);
	msg_encode_token_taken(&answer, &back, &(struct msg_token_taken){ .serial = m.serial });
	proc_tell_master(&answer);
	return true;
}

static int after_jail(struct proc *p)
{
	struct smtpout *me = proc_context(p);

	me->w.queue_fd = proc_spool_fd(p);
	me->scheduler = proc_channel(p, 0, "scheduler", on_packet, me);
	me->w.book = report_book_new(me->scheduler, me->w.board, proc_conf(p), worker_give_slot, &me->w);
	me->last_wait = loop_timer_new(proc_loop(p), end_now, me);
	loop_on_turn(proc_loop(p), on_turn, me);
	proc_ready(p);
	return 0;
}

static const struct proc_spec SPEC = {
	.role = ROLE_SMTPOUT,
	.chroot = PROC_CHROOT_QUEUE,
	.identity = PROC_AS_SMTP_USER,
	.wants_network = true,
	.wants_write = false,
	.before_jail = before_jail,
	.after_jail = after_jail,
	.on_drain = on_drain,
	.on_master = on_master,
	.on_peer = on_peer,
};

int main(int argc, char **argv)
{
	return proc_main(argc, argv, &SPEC);
}
