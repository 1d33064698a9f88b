/* timebase.h - the limiter's own time, which no clock step moves; pure. */
#ifndef LIMITER_TIMEBASE_H
#define LIMITER_TIMEBASE_H
#include "lib/base.h"

enum { BOOT_ID_MAX = 40 };

/*
 * A point where the limiter's time met CLOCK_BOOTTIME. Limiter time looks like milliseconds since 1970 and never goes
 * back. While one boot lasts, over any number of restarts of the process, it advances with CLOCK_BOOTTIME alone: a step
 * of the wall clock neither empties a window nor holds mail back. Only after a reboot the wall clock says how much time
 * passed, and when it lies before what was stored (a clock that lost its battery) time goes on from there.
 */
struct timebase {
	char boot_id[BOOT_ID_MAX]; /* names the boot; "" when unknown: then every start counts as a reboot */
	int64_t boot_ms, time_ms;
};

/* `stored`: the point stored last, or NULL. boot_id is cut to BOOT_ID_MAX - 1 bytes. */
void timebase_start(struct timebase *t, const struct timebase *stored, const char *boot_id, int64_t boot_ms,
		    int64_t wall_ms);
/* Moves the point on to boot_ms and returns the time there. */
int64_t timebase_advance(struct timebase *t, int64_t boot_ms);
#endif
