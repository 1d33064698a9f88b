/* timebase.c - the limiter's own time. */
#include "limiter/timebase.h"

/* Small corrections of the wall clock do not make it a liar. */
enum { WALL_TOLERANCE_MS = 60000 };
/* More than the widest window: a clock that says so is wrong, or else it is a window at most that is opened too late.
 */
static const int64_t OFF_MAX_MS = INT64_C(366) * 86400000;

static int64_t time_over_reboot(const struct timebase *stored, int64_t wall_ms)
{
	int64_t since = stored->wall_ms > stored->time_ms ? stored->wall_ms : stored->time_ms;
	bool was_behind = stored->wall_ms < stored->time_ms - WALL_TOLERANCE_MS;
	bool is_believed = !was_behind && wall_ms >= since && wall_ms - since <= OFF_MAX_MS;

	return stored->time_ms + (is_believed ? wall_ms - since : 0);
}

void timebase_start(struct timebase *t, const struct timebase *stored, const char *boot_id, int64_t boot_ms,
		    int64_t wall_ms)
{
	snprintf(t->boot_id, sizeof(t->boot_id), "%s", boot_id);
	t->boot_ms = boot_ms;
	t->wall_ms = wall_ms < 0 ? 0 : wall_ms;
	if (!stored)
		t->time_ms = t->wall_ms;
	else if (t->boot_id[0] && strcmp(t->boot_id, stored->boot_id) == 0 && boot_ms >= stored->boot_ms)
		t->time_ms = stored->time_ms + (boot_ms - stored->boot_ms);
	else
		t->time_ms = time_over_reboot(stored, t->wall_ms);
}

int64_t timebase_advance(struct timebase *t, int64_t boot_ms)
{
	if (boot_ms > t->boot_ms) {
		t->time_ms += boot_ms - t->boot_ms;
		t->boot_ms = boot_ms;
	}
	return t->time_ms;
}
