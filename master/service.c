/* service.c - the restart policy as a table. */
#include "master/service.h"

struct cell {
	enum service_state next;
	enum service_action action;
};

/* clang-format off */
#define STAY(state) { SERVICE_##state, SERVICE_DO_NOTHING }
#define GO(state, action) { SERVICE_##state, SERVICE_DO_##action }

static const struct cell TABLE[SERVICE_STATE_COUNT][SERVICE_EVENT_COUNT] = {
	[SERVICE_IDLE] = {
		[SERVICE_START] = GO(STARTING, SPAWN), [SERVICE_READY] = STAY(IDLE),
		[SERVICE_DIED] = STAY(IDLE),           [SERVICE_REFUSED] = STAY(IDLE),
		[SERVICE_DUE] = STAY(IDLE),            [SERVICE_REPLACE] = STAY(IDLE),
		[SERVICE_STOP] = STAY(IDLE),           [SERVICE_MUTE] = STAY(IDLE),
	},
	[SERVICE_STARTING] = {
		[SERVICE_START] = STAY(STARTING),      [SERVICE_READY] = GO(UP, ANNOUNCE),
		[SERVICE_DIED] = GO(WAITING, WAIT),    [SERVICE_REFUSED] = GO(DOWN, GIVE_UP),
		[SERVICE_DUE] = STAY(STARTING),        [SERVICE_REPLACE] = GO(ENDING, ASK_END),
		[SERVICE_STOP] = GO(STOPPING, ASK_STOP), [SERVICE_MUTE] = GO(STARTING, KILL),
	},
	[SERVICE_UP] = {
		[SERVICE_START] = STAY(UP),            [SERVICE_READY] = STAY(UP),
		[SERVICE_DIED] = GO(WAITING, WAIT),    [SERVICE_REFUSED] = GO(DOWN, GIVE_UP),
		[SERVICE_DUE] = STAY(UP),              [SERVICE_REPLACE] = GO(ENDING, ASK_END),
		[SERVICE_STOP] = GO(STOPPING, ASK_STOP), [SERVICE_MUTE] = GO(UP, KILL),
	},
	[SERVICE_ENDING] = {
		[SERVICE_START] = STAY(ENDING),        [SERVICE_READY] = STAY(ENDING),
		[SERVICE_DIED] = GO(STARTING, SPAWN),  [SERVICE_REFUSED] = GO(STARTING, SPAWN),
		[SERVICE_DUE] = STAY(ENDING),          [SERVICE_REPLACE] = STAY(ENDING),
		[SERVICE_STOP] = GO(STOPPING, ASK_STOP), [SERVICE_MUTE] = GO(ENDING, KILL),
	},
	[SERVICE_STOPPING] = {
		[SERVICE_START] = STAY(STOPPING),      [SERVICE_READY] = STAY(STOPPING),
		[SERVICE_DIED] = GO(IDLE, FORGET),     [SERVICE_REFUSED] = GO(IDLE, FORGET),
		[SERVICE_DUE] = STAY(STOPPING),        [SERVICE_REPLACE] = STAY(STOPPING),
		[SERVICE_STOP] = STAY(STOPPING),       [SERVICE_MUTE] = GO(STOPPING, KILL),
	},
	[SERVICE_WAITING] = {
		[SERVICE_START] = STAY(WAITING),       [SERVICE_READY] = STAY(WAITING),
		[SERVICE_DIED] = STAY(WAITING),        [SERVICE_REFUSED] = STAY(WAITING),
		[SERVICE_DUE] = GO(STARTING, SPAWN),   [SERVICE_REPLACE] = GO(STARTING, SPAWN),
		[SERVICE_STOP] = GO(IDLE, FORGET),     [SERVICE_MUTE] = STAY(WAITING),
	},
	[SERVICE_DOWN] = {
		[SERVICE_START] = STAY(DOWN),          [SERVICE_READY] = STAY(DOWN),
		[SERVICE_DIED] = STAY(DOWN),           [SERVICE_REFUSED] = STAY(DOWN),
		[SERVICE_DUE] = STAY(DOWN),            [SERVICE_REPLACE] = GO(STARTING, SPAWN),
		[SERVICE_STOP] = GO(IDLE, FORGET),     [SERVICE_MUTE] = STAY(DOWN),
	},
};
/* clang-format on */

static void note_start(struct service *s, struct mono now)
{
	s->starts++;
	s->was_ready = s->was_killed = false;
	s->missed_beats = 0;
	s->started = now;
	s->started_at = clock_wall();
}

static void note_death(struct service *s, struct mono now)
{
	s->pid = 0;
	if (s->was_ready && now.ms - s->started.ms >= SERVICE_STABLE_MS)
		s->failures = s->unready = 0; /* an accident, not a habit */
	s->failures++;
	if (!s->was_ready && !s->was_killed)
		s->unready++;
}

enum service_action service_step(struct service *s, enum service_event event, struct mono now)
{
	struct cell cell = TABLE[s->state][event];

	if (event == SERVICE_DIED || event == SERVICE_REFUSED)
		note_death(s, now);
	if (cell.action == SERVICE_DO_SPAWN)
		note_start(s, now);
	if (event == SERVICE_REPLACE || (event == SERVICE_START && cell.action == SERVICE_DO_SPAWN))
		s->failures = s->unready = 0; /* with another configuration it may work */
	if (cell.action == SERVICE_DO_ANNOUNCE)
		s->was_ready = true;
	s->state = cell.next;
	return cell.action;
}

uint64_t service_delay_ms(const struct service *s)
{
	enum { DOUBLINGS_MAX = 6 };
	unsigned free_restarts = s->unready > 0 ? 0 : SERVICE_FREE_RESTARTS, excess;
	uint64_t delay, most = s->unready > 0 ? SERVICE_DELAY_MAX_MS : SERVICE_DELAY_READY_MAX_MS;

	if (s->failures <= free_restarts)
		return 0;
	excess = s->failures - free_restarts - 1;
	delay = (uint64_t)SERVICE_DELAY_MIN_MS << (excess < DOUBLINGS_MAX ? excess : DOUBLINGS_MAX);
	return delay < most ? delay : most;
}

const char *service_state_name(enum service_state state)
{
	static const char *const NAMES[] = {
		[SERVICE_IDLE] = "idle",     [SERVICE_STARTING] = "starting", [SERVICE_UP] = "up",
		[SERVICE_ENDING] = "ending", [SERVICE_STOPPING] = "stopping", [SERVICE_WAITING] = "waiting",
		[SERVICE_DOWN] = "down",
	};
	_Static_assert(ARRAY_LEN(NAMES) == SERVICE_STATE_COUNT, "state names out of step");
	return NAMES[state];
}
