/* stop.c - the order of the end: first who begins things, then who ends them. */
#include "master/stop.h"
#include "lib/log.h"
#include "master/notify.h"
#include "master/status.h"
#include <signal.h>

enum {
	HURRY_MS = 500,             /* between the second request to stop and the end of the workers */
	LAST_WORDS_MS = 5000,       /* then, for the scheduler to record what they told it, and what they left */
	STOP_MAX_MS = 11 * 60000,   /* no transaction takes longer: a reply to the final dot is waited for 10 minutes */
	WORKERS_STOP_MAX_MS = 15000 /* once the scheduler is gone nothing is under way any more */
};

static bool has_process(const struct child *c)
{
	return c->service.pid != 0;
}

static bool is_last_to_go(const struct child *c)
{
	return c->service.role != ROLE_SCHEDULER && c->service.role != ROLE_PICKUP;
}

void stop_go_on(struct master *m)
{
	bool first_are_gone = true, all_are_gone = true;

	for (unsigned i = 0; i < m->child_count; i++) {
		all_are_gone &= !has_process(m->children[i]);
		first_are_gone &= is_last_to_go(m->children[i]) || !has_process(m->children[i]);
	}
	if (all_are_gone) {
		loop_stop(m->loop);
		return;
	}
	if (!first_are_gone)
		return;
	for (unsigned i = 0; i < m->child_count; i++) {
		struct child *c = m->children[i];

		if (is_last_to_go(c) && has_process(c) && c->service.state != SERVICE_STOPPING) {
			supervisor_apply(c, SERVICE_STOP);
			if (!m->is_hurried)
				loop_timer_set_ms(m->hurry, WORKERS_STOP_MAX_MS);
		}
	}
}

static bool is_worker(const struct child *c)
{
	return c->service.role == ROLE_SMTPOUT;
}

/*
 * Workers go first, and the scheduler sees them go: only it knows how to record what they told it last, and says of
 * what hung at its final dot that it may be repeated. With them its work is over, and it ends as it always does.
 */
static void hurry(struct master *m)
{
	log_warn("stopping at once");
	m->is_hurried = true;
	for (unsigned i = 0; i < m->child_count; i++) {
		if (is_worker(m->children[i]))
			supervisor_apply(m->children[i], SERVICE_STOP);
	}
	loop_timer_set_ms(m->hurry, HURRY_MS);
}

static void kill_if(struct master *m, bool (*is_meant)(const struct child *))
{
	for (unsigned i = 0; i < m->child_count; i++) {
		struct child *c = m->children[i];

		if (!has_process(c) || !is_meant(c))
			continue;
		log_warn("%s does not end: killed", c->name);
		supervisor_signal(c, SIGKILL);
	}
}

void stop_on_timer(void *arg)
{
	struct master *m = arg;

	if (!m->is_hurried) {
		hurry(m);
	} else if (!m->is_last_call) {
		m->is_last_call = true;
		kill_if(m, is_worker);
		loop_timer_set_ms(m->hurry, LAST_WORDS_MS);
	} else {
		kill_if(m, has_process);
	}
}

void stop_begin(struct master *m, enum exit_status status)
{
	if (m->is_stopping) {
		if (!m->is_hurried)
			hurry(m);
		return;
	}
	m->is_stopping = true;
	m->status = status;
	notify_send("STOPPING=1\nSTATUS=finishing transactions");
	log_info("stopping");
	loop_timer_set_ms(m->hurry, STOP_MAX_MS);
	for (unsigned i = 0; i < m->child_count; i++) {
		if (!is_last_to_go(m->children[i]) || !has_process(m->children[i]))
			supervisor_apply(m->children[i], SERVICE_STOP);
	}
	stop_go_on(m);
	status_write(m);
}
