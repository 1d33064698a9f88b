/* zone.h - a time zone's offsets from UTC, learnt once while its file can still be read. */
#ifndef LIMITER_ZONE_H
#define LIMITER_ZONE_H
#include "lib/base.h"

struct zone;

/*
 * `name`: of the time zone database; NULL: the host's local time. Covers the years 2000 to 2069, later ones as the
 * last. NULL when there is no such zone. Sets TZ for a moment: not beside other threads.
 */
struct zone *zone_new(const char *name);
void zone_free(struct zone **z);
int64_t zone_offset_s(const struct zone *z, int64_t utc_s); /* to be added to UTC */
/* The first moment at which the zone's clocks show `local_s` or later: where it falls into a gap, the gap's end. */
int64_t zone_to_utc_s(const struct zone *z, int64_t local_s);
#endif
