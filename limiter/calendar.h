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
 * A count of one period. The next one begins when the wall clock says so, and not before as much time as the period had
 * left has really passed, by limiter time (`now`, which follows CLOCK_BOOTTIME): whichever of the two is later. So no
 * step of the clock makes room; one that sets it right makes a single period longer.
 */
struct calendar_count {
	int64_t end_ms;  /* of the period; 0: none yet */
	int64_t wall_ms; /* when last looked at */
	int64_t ready;   /* limiter time at which the period has really passed */
	uint64_t count;
};

/* True when another period has begun, with a count of zero. */
bool calendar_count_advance(struct calendar_count *k, const struct calendar *c, int64_t now, int64_t wall_ms);
int64_t calendar_count_free_at(const struct calendar_count *k, int64_t now, int64_t wall_ms); /* when one begins */
#endif
