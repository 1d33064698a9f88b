/* supervisor.h - master's children: who they are, and what is done when something happens to one. */
#ifndef MASTER_SUPERVISOR_H
#define MASTER_SUPERVISOR_H
#include "lib/channel.h"
#include "lib/conf.h"
#include "lib/loop.h"
#include "lib/proc.h"
#include "master/identity.h"
#include "master/lock.h"
#include "master/pipes.h"
#include "master/service.h"

enum { SUPERVISOR_CHILDREN_MAX = 4 + PROC_WORKERS_MAX };

struct master;
struct policies;
struct secrets;
struct tokens;

struct child {
	struct master *master;
	struct service service;
	struct pipes pipes;
	struct channel *control;
	struct loop_timer *due; /* of a WAITING service */
	char name[24];          /* "smtpout-2", for messages */
	uint32_t token_serial;  /* of a smtpout: up to which one it knows the access tokens */
};

/* The one object of this program. */
struct master {
	struct loop *loop;
	const char *conf_path; /* absolute */
	struct conf *conf;
	char *conf_text; /* as accepted */
	size_t conf_len;
	char *folder; /* where the programs are */
	struct identities identities;
	struct lock lock;
	int run_fd, log_fd, control_fd;                  /* SPOOL/run; -1: stderr; run/control, listening */
	int ready_fd;                                    /* `postern start` waits at the other end; -1 */
	struct child *children[SUPERVISOR_CHILDREN_MAX]; /* in the order of their start */
	unsigned child_count;
	unsigned workers, worker_places; /* how many are to run; and may, while those of the last configuration end */
	uint32_t generation;             /* counts every start of everything */
	struct loop_timer *heartbeat, *hurry;
	struct secrets *secrets;
	struct tokens *tokens;
	struct policies *policies;
	uint32_t beat;
	unsigned heartbeat_ms;
	unsigned reloads, refused_reloads;
	struct wall started_at;
	bool is_stopping, is_hurried, is_last_call, is_ready, was_ready;
	enum exit_status status;
};

/*
 * Makes the children's pipes for `workers` smtpouts (more than there are: adds them), and as many again: who is
 * replaced may have to wait for a server's reply for minutes, and its successor works meanwhile. 0, or -1 with errno.
 */
int supervisor_open(struct master *m, unsigned workers) MUST_CHECK;
void supervisor_close(struct master *m);
void supervisor_start(struct master *m);   /* whatever is not running */
void supervisor_replace(struct master *m); /* all, for a new configuration */
/* Passwords of these servers have changed: workers that know them replace the others, then the scheduler hears of it.
 */
void supervisor_renew_secrets(struct master *m, const uint32_t *servers, unsigned count);
/* Only the latter. is_token: a token was fetched, nobody has changed anything. */
void supervisor_tell_secrets(struct master *m, const uint32_t *servers, unsigned count, bool is_token);
/* Collects dead children; as PID 1 also everybody else's. */
void supervisor_reap(struct master *m);
void supervisor_apply(struct child *c, enum service_event event);
/* Nothing happens to one that does not run. */
void supervisor_signal(const struct child *c, int signal);
#endif
