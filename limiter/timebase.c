/* timebase.c - the limiter's own time. */
#include "limiter/timebase.h"

void timebase_start(struct timebase *t, const struct timebase *stored, const char *boot_id, int64_t boot_ms,
		    int64_t wall_ms)
{
	snprintf(t->boot_id, sizeof(t->boot_id), "%s", boot_id);
	t->boot_ms = boot_ms;
	t->time_ms = wall_ms < 0 ? 0 : wall_ms;
	if (!stored)
		return;
	if (t->boot_id[0] && strcmp(t->boot_id, stored->boot_id) == 0 && boot_ms >= stored->boot_ms)
		t->time_ms = stored->time_ms + (boot_ms - stored->boot_ms);
	else if (t->time_ms < stored->time_ms)
		t->time_ms = stored->time_ms;
}

int64_t timebase_advance(struct timebase *t, int64_t boot_ms)
{
	if (boot_ms > t->boot_ms) {
		t->time_ms += boot_ms - t->boot_ms;
		t->boot_ms = boot_ms;
	}
	return t->time_ms;
}
