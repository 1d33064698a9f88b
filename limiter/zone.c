/* zone.c - asks the C library where a zone's offset changes, and remembers. */
#include "limiter/zone.h"
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { NAME_MAX_BYTES = 256 };
static const int64_t FIRST_S = 946684800, LAST_S = 3155760000, STEP_S = 7 * 86400;

struct change {
	int64_t at_s, offset_s;
};

struct zone {
	struct change *change; /* the first is the offset before everything */
	unsigned count;
};

static int64_t offset_of(int64_t utc_s)
{
	time_t when = (time_t)utc_s;
	struct tm local;

	return localtime_r(&when, &local) ? local.tm_gmtoff : 0;
}

static void add_change(struct zone *z, int64_t at_s, int64_t offset_s)
{
	z->change = xrealloc(z->change, z->count + 1, sizeof(*z->change));
	z->change[z->count++] = (struct change){ at_s, offset_s };
}

/* Offsets differ at `before` and `after`: the second in between from which on it is another one. */
static void find_change(struct zone *z, int64_t before, int64_t after)
{
	int64_t old = offset_of(before);

	while (after - before > 1) {
		int64_t middle = before + (after - before) / 2;

		if (offset_of(middle) == old)
			before = middle;
		else
			after = middle;
	}
	add_change(z, after, offset_of(after));
}

static bool is_there(const char *name)
{
	const char *folder = getenv("TZDIR");
	char path[NAME_MAX_BYTES];

	return snprintf(path, sizeof(path), "%s/%s", folder ? folder : "/usr/share/zoneinfo", name) <
		       (int)sizeof(path) &&
	       access(path, R_OK) == 0;
}

static void set_zone(const char *name)
{
	if (name)
		(void)setenv("TZ", name, 1);
	else
		(void)unsetenv("TZ");
	tzset();
}

struct zone *zone_new(const char *name)
{
	const char *now = getenv("TZ");
	char *before = now ? xstrdup(now) : NULL;
	struct zone *z;

	if (name && strcmp(name, "UTC") != 0 && !is_there(name)) {
		free(before);
		return NULL;
	}
	if (name)
		set_zone(name);
	z = xcalloc(1, sizeof(*z));
	add_change(z, INT64_MIN, offset_of(FIRST_S));
	for (int64_t at = FIRST_S; at < LAST_S; at += STEP_S)
		if (offset_of(at) != offset_of(at + STEP_S))
			find_change(z, at, at + STEP_S);
	if (name)
		set_zone(before);
	free(before);
	return z;
}

void zone_free(struct zone **z)
{
	if (!*z)
		return;
	free((*z)->change);
	free(*z);
	*z = NULL;
}

static const struct change *change_at(const struct zone *z, int64_t utc_s)
{
	unsigned low = 0, high = z->count;

	while (high - low > 1) {
		unsigned middle = low + (high - low) / 2;

		if (z->change[middle].at_s <= utc_s)
			low = middle;
		else
			high = middle;
	}
	return &z->change[low];
}

int64_t zone_offset_s(const struct zone *z, int64_t utc_s)
{
	return change_at(z, utc_s)->offset_s;
}

int64_t zone_to_utc_s(const struct zone *z, int64_t local_s)
{
	const struct change *end = z->change + z->count, *c = change_at(z, local_s - 2 * 86400);

	for (;; c++) {
		int64_t utc_s = local_s - c->offset_s;

		if (utc_s < c->at_s)
			return c->at_s; /* the clocks jumped over it */
		if (c + 1 == end || utc_s < c[1].at_s)
			return utc_s;
	}
}
