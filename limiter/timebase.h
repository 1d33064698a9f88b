/* timebase.h - the limiter's own time, which no clock step moves; pure. */
#ifndef LIMITER_TIMEBASE_H
#define LIMITER_TIMEBASE_H
#include "lib/base.h"

enum { BOOT_ID_MAX = 40 };

/*
 * A point where the limiter's time met CLOCK_BOOTTIME and the wall clock. Limiter time looks like milliseconds since
 * 1970, never goes back, and is only ever used for differences. While one boot lasts, over any number of restarts of
 * the process, it advances with CLOCK_BOOTTIME alone: a step of the wall clock neither empties a window nor holds mail
 * back. Over a reboot it advances by what the wall clock did, when that can be believed: not when it went back, not
 * when it lay behind our own time before (a clock without battery, set right since), and not when it leapt by more than
 * the widest window. Then the time that passed is unknown and none is counted. What cannot be seen: a clock that is
 * ahead by less after the reboot.
 */
struct timebase {
	char boot_id[BOOT_ID_MAX]; /* names the boot; "" when unknown: then every start counts as a reboot */
	int64_t boot_ms, wall_ms, time_ms;
};

/* `stored`: the point stored last, or NULL. boot_id is cut to BOOT_ID_MAX - 1 bytes. */
void timebase_start(struct timebase *t, const struct timebase *stored, const char *boot_id, int64_t boot_ms,
		    int64_t wall_ms);
/* Moves the point on to boot_ms and returns the time there. */
int64_t timebase_advance(struct timebase *t, int64_t boot_ms);
#endif
