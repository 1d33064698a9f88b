/* calendar.c - see calendar.h. Days since 1970 and back: Howard Hinnant's algorithms, proleptic Gregorian. */
#include "limiter/calendar.h"

enum { DAY_S = 86400, HOUR_S = 3600, JUMP_MS = 60000 /* more than corrections of a disciplined clock */ };

static int64_t divide_down(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

static int64_t days_of(int64_t year, int64_t month)
{
	int64_t y = month <= 2 ? year - 1 : year, era = divide_down(y, 400), year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static void month_of(int64_t days, int64_t *year, int64_t *month)
{
	int64_t z = days + 719468, era = divide_down(z, 146097), day_of_era = z - era * 146097;
	int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t shifted = (5 * day_of_year + 2) / 153;

	*month = shifted < 10 ? shifted + 3 : shifted - 9;
	*year = year_of_era + era * 400 + (*month <= 2);
}

/* Which period a local time (less hour:minute) lies in, counted from some first one; and where a period begins. */
static int64_t number_of(const struct calendar *c, int64_t local_s)
{
	int64_t days = divide_down(local_s, DAY_S), year, month;

	switch (c->period) {
	case CALENDAR_HOUR:
		return divide_down(local_s, HOUR_S);
	case CALENDAR_DAY:
		return days;
	case CALENDAR_WEEK:
		return divide_down(days + 3, 7); /* 1970 began on a Thursday */
	default:
		month_of(days, &year, &month);
		return year * 12 + month - 1;
	}
}

static int64_t start_of(const struct calendar *c, int64_t number)
{
	int64_t shift = c->minute * 60 + (c->period == CALENDAR_HOUR ? 0 : c->hour * HOUR_S);

	switch (c->period) {
	case CALENDAR_HOUR:
		return number * HOUR_S + shift;
	case CALENDAR_DAY:
		return number * DAY_S + shift;
	case CALENDAR_WEEK:
		return (number * 7 - 3) * DAY_S + shift;
	default:
		return days_of(divide_down(number, 12), number - divide_down(number, 12) * 12 + 1) * DAY_S + shift;
	}
}

/* Hours follow the real ones: an hour that the clocks show twice is two hours, so nothing is counted too leniently. */
static int64_t begin_s(const struct calendar *c, int64_t number, int64_t offset_s)
{
	int64_t local_s = start_of(c, number);

	return c->period == CALENDAR_HOUR ? local_s - offset_s : zone_to_utc_s(c->zone, local_s);
}

static void find_period(const struct calendar *c, int64_t wall_ms, int64_t *start_s, int64_t *end_s)
{
	int64_t utc_s = divide_down(wall_ms, 1000), offset_s = zone_offset_s(c->zone, utc_s);
	int64_t shift = c->minute * 60 + (c->period == CALENDAR_HOUR ? 0 : c->hour * HOUR_S);
	int64_t number = number_of(c, utc_s + offset_s - shift) - 1;

	/* The clocks may have been set back over the begin: then it has begun already. */
	*start_s = begin_s(c, number, offset_s);
	for (;; number++) {
		*end_s = begin_s(c, number + 1, offset_s);
		if (*end_s > utc_s)
			return;
		*start_s = *end_s;
	}
}

int64_t calendar_start_ms(const struct calendar *c, int64_t wall_ms)
{
	int64_t start_s, end_s;

	find_period(c, wall_ms, &start_s, &end_s);
	return start_s * 1000;
}

int64_t calendar_end_ms(const struct calendar *c, int64_t wall_ms)
{
	int64_t start_s, end_s;

	find_period(c, wall_ms, &start_s, &end_s);
	return end_s * 1000;
}

bool calendar_count_advance(struct calendar_count *k, const struct calendar *c, int64_t now, int64_t wall_ms)
{
	bool has_begun = k->end_ms != 0 && wall_ms >= k->end_ms && now >= k->ready - JUMP_MS;

	if (k->end_ms == 0 || has_begun) {
		k->end_ms = calendar_end_ms(c, wall_ms);
		k->ready = now + (k->end_ms - wall_ms);
	} else if (wall_ms < k->wall_ms - JUMP_MS) {
		k->end_ms = calendar_end_ms(c, wall_ms);
	} else if (wall_ms < k->wall_ms) {
		return false;
	}
	if (has_begun)
		k->count = 0;
	k->wall_ms = wall_ms;
	return has_begun;
}

int64_t calendar_count_free_at(const struct calendar_count *k, int64_t now, int64_t wall_ms)
{
	int64_t at = now + (k->end_ms > wall_ms ? k->end_ms - wall_ms : 1);

	return at < k->ready - JUMP_MS ? k->ready - JUMP_MS : at;
}
