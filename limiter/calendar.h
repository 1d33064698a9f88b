/* calendar.h - the clock's hours, days, weeks and months, and a count within one of them; pure. */
#ifndef LIMITER_CALENDAR_H
#define LIMITER_CALENDAR_H
#include "limiter/zone.h"

enum calendar_period { CALENDAR_HOUR, CALENDAR_DAY, CALENDAR_WEEK, CALENDAR_MONTH };

/* Days begin at hour:minute of the zone's clocks, weeks on Mondays, months on the first. Hours use the minute only. */
struct calendar {
	enum calendar_period period;
	int hour, minute;
	const struct zone *zone; /* borrowed */
};

int64_t calendar_start_ms(const struct calendar *c, int64_t wall_ms); /* of the period that contains wall_ms */
int64_t calendar_end_ms(const struct calendar *c, int64_t wall_ms);   /* where the next one begins */

/*
 * A count of one period. The wall clock says where periods begin, but only while it can be believed: when it jumps
 * against limiter time (`now`, which follows CLOCK_BOOTTIME), the count goes along into whatever period it landed in.
 */
struct calendar_count {
	int64_t end_ms;       /* of the period; 0: none yet */
	int64_t wall_ms, now; /* when last looked at */
	uint64_t count;
};

/* True when another period has begun, with a count of zero. */
bool calendar_count_advance(struct calendar_count *k, const struct calendar *c, int64_t now, int64_t wall_ms);
#endif
