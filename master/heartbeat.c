/* heartbeat.c - PING, PONG. */
#include "master/heartbeat.h"
#include "lib/text.h"
#include "master/reload.h"
#include <stdlib.h>

enum {
	HEARTBEAT_MS = 20000,
	HEARTBEAT_MISSED_MAX = 3,
	HEARTBEAT_MISSED_MAX_STARTING = 15 /* a database may have to be recovered first */
};

static unsigned allowed(const struct service *s)
{
	return s->state == SERVICE_STARTING ? HEARTBEAT_MISSED_MAX_STARTING : HEARTBEAT_MISSED_MAX;
}

static void ping(struct child *c, uint32_t sequence)
{
	struct msg_head head = channel_head(c->control);
	struct packet packet;

	c->service.missed_beats++;
	if (channel_is_full(c->control))
		return;
	msg_encode_ping(&packet, &head, &(struct msg_ping){ .sequence = sequence });
	channel_send(c->control, &packet);
}

static void on_beat(void *arg)
{
	struct master *m = arg;

	m->beat++;
	reload_reconnect_log(m);
	for (unsigned i = 0; i < m->child_count; i++) {
		struct child *c = m->children[i];

		if (c->service.pid == 0)
			continue;
		if (c->service.missed_beats < allowed(&c->service)) {
			ping(c, m->beat);
			continue;
		}
		log_error("%s (pid %ld) no longer answers: killed", c->name, (long)c->service.pid);
		supervisor_apply(c, SERVICE_MUTE);
	}
	loop_timer_set_ms(m->heartbeat, m->heartbeat_ms);
}

void heartbeat_start(struct master *m)
{
	const char *test = getenv("POSTERN_TEST_HEARTBEAT_MS");
	uint64_t ms;

	m->heartbeat_ms = test && text_parse_u64(slice_of(test), &ms) && ms > 0 && ms < HEARTBEAT_MS ? (unsigned)ms
												     : HEARTBEAT_MS;
	m->heartbeat = loop_timer_new(m->loop, on_beat, m);
	loop_timer_set_ms(m->heartbeat, m->heartbeat_ms);
}

void heartbeat_note_answer(struct child *c)
{
	c->service.missed_beats = 0;
}
