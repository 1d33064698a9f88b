/* service.h - when a process is started, ended and started again: one table of states and events; pure. */
#ifndef MASTER_SERVICE_H
#define MASTER_SERVICE_H
#include "lib/clock.h"
#include "lib/msg.h"
#include <sys/types.h>

enum service_state {
	SERVICE_IDLE,     /* not wanted */
	SERVICE_STARTING, /* has not said READY yet */
	SERVICE_UP,
	SERVICE_ENDING,   /* asked to end, to be started again (reload) */
	SERVICE_STOPPING, /* asked to end for good */
	SERVICE_WAITING,  /* died; will be started when its wait is over */
	SERVICE_DOWN,     /* said that it cannot work with this configuration: waits for another one */
	SERVICE_STATE_COUNT
};

enum service_event {
	SERVICE_START,
	SERVICE_READY,
	SERVICE_DIED,
	SERVICE_REFUSED, /* died with EXIT_STATUS_CONFIG */
	SERVICE_DUE,     /* the wait is over */
	SERVICE_REPLACE, /* new configuration */
	SERVICE_STOP,
	SERVICE_MUTE, /* heartbeats unanswered */
	SERVICE_EVENT_COUNT
};

/* What master has to do about it. */
enum service_action {
	SERVICE_DO_NOTHING,
	SERVICE_DO_SPAWN,
	SERVICE_DO_WAIT,     /* arm the timer with service_delay_ms() */
	SERVICE_DO_GIVE_UP,  /* say so; stays down */
	SERVICE_DO_ASK_END,  /* politely, to be replaced */
	SERVICE_DO_ASK_STOP, /* politely, for good */
	SERVICE_DO_KILL,
	SERVICE_DO_ANNOUNCE, /* it is ready */
	SERVICE_DO_FORGET,   /* it is gone, as wanted */
	SERVICE_ACTION_COUNT
};

enum {
	SERVICE_STABLE_MS = 1000,          /* who lived this long did not die of its start */
	SERVICE_FREE_RESTARTS = 3,         /* deaths in a row after READY that are answered at once */
	SERVICE_DELAY_MIN_MS = 1000,       /* between later starts, doubling */
	SERVICE_DELAY_READY_MAX_MS = 4000, /* for who was ready each time: between two deaths it did some work */
	SERVICE_DELAY_MAX_MS = 60000
};

struct service {
	enum proc_role role;
	unsigned index;
	enum service_state state;
	uint32_t generation; /* of the present or last process; counted by master over all services */
	pid_t pid;           /* 0: no process */
	unsigned starts;     /* in all */
	unsigned failures;   /* deaths in a row, none of them after a stable life */
	unsigned unready;    /* of these, how many never were READY */
	bool was_ready;      /* this process */
	bool was_killed;     /* by somebody's SIGKILL: says nothing about its health; set before SERVICE_DIED */
	unsigned missed_beats;
	struct mono started;
	struct wall started_at;
};

/* The only writer of state. Says what to do; the caller does it. */
enum service_action service_step(struct service *s, enum service_event event, struct mono now);
/* How long to wait before the next start: 0 for the first few deaths of a process that worked, then 1 s doubling to 60
 * s. */
uint64_t service_delay_ms(const struct service *s);
const char *service_state_name(enum service_state state);
#endif
