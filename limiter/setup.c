/* setup.c - see setup.h. */
#include "limiter/setup.h"
#include "lib/clock.h"
#include <stdlib.h>

enum { HOUR_MS = 3600000, DAY_MS = 24 * HOUR_MS, WEEK_MS = 7 * DAY_MS };

struct named_zone {
	const char *name; /* NULL: the host's */
	struct zone *zone;
};

struct setup {
	struct account_spec *account;
	unsigned account_count, account_room;
	struct account_spec sender;
	char **name; /* made here */
	unsigned name_count, name_room;
	struct limit_spec **list;
	unsigned list_count, list_room;
	struct calendar **calendar;
	unsigned calendar_count, calendar_room;
	struct named_zone *zone;
	unsigned zone_count, zone_room;
	const char *missing_zone;
	struct lease_book *book;
};

static void *add(void *array_address, unsigned *count, unsigned *room, size_t bytes)
{
	void **array = array_address;

	if (*count == *room) {
		*room = *room ? *room * 2 : 16;
		*array = xrealloc(*array, *room, bytes);
	}
	return (char *)*array + bytes * (*count)++;
}

static const struct zone *zone_of(struct setup *s, const char *name)
{
	struct named_zone *made;

	for (unsigned i = 0; i < s->zone_count; i++)
		if (s->zone[i].name == name || (name && s->zone[i].name && strcmp(s->zone[i].name, name) == 0))
			return s->zone[i].zone;
	made = add(&s->zone, &s->zone_count, &s->zone_room, sizeof(*made));
	*made = (struct named_zone){ name, zone_new(name) };
	if (!made->zone)
		s->missing_zone = name;
	return made->zone;
}

static const struct calendar *calendar_of(struct setup *s, enum calendar_period period, int hour, int minute,
					  const char *zone)
{
	struct calendar *c = xcalloc(1, sizeof(*c));

	*c = (struct calendar){ period, hour, minute, zone_of(s, zone) };
	*(struct calendar **)add(&s->calendar, &s->calendar_count, &s->calendar_room, sizeof(c)) = c;
	return c;
}

static enum calendar_period period_of(uint64_t window_ms)
{
	if (window_ms == HOUR_MS)
		return CALENDAR_HOUR;
	if (window_ms == DAY_MS)
		return CALENDAR_DAY;
	return window_ms == WEEK_MS ? CALENDAR_WEEK : CALENDAR_MONTH;
}

/* Those that limit something. */
static const struct limit_spec *gather(struct setup *s, const struct conf_limits *from, unsigned *count)
{
	struct limit_spec *to = xcalloc(from->count + 1, sizeof(*to));

	*(struct limit_spec **)add(&s->list, &s->list_count, &s->list_room, sizeof(to)) = to;
	*count = 0;
	for (unsigned i = 0; i < from->count; i++) {
		const struct conf_limit *c = &from->limit[i];

		if (c->is_unlimited || c->window_ms == 0)
			continue;
		to[(*count)++] = (struct limit_spec){
			.text = c->text,
			.unit = c->is_recipients ? UNIT_RECIPIENTS : UNIT_MESSAGES,
			.amount = c->amount,
			.width_ms = c->window_ms,
			.calendar = c->is_calendar ? calendar_of(s, period_of(c->window_ms), c->calendar_hour,
								 c->calendar_minute, c->calendar_zone)
						   : NULL,
		};
	}
	return to;
}

static struct account_spec *add_account(struct setup *s, const char *prefix, const char *name,
					const struct conf_limits *limits)
{
	struct account_spec *spec = add(&s->account, &s->account_count, &s->account_room, sizeof(*spec));
	char *full = xasprintf("%s%s", prefix, name);

	*(char **)add(&s->name, &s->name_count, &s->name_room, sizeof(full)) = full;
	*spec = (struct account_spec){ .name = full, .book = s->book };
	spec->limit = gather(s, limits, &spec->limit_count);
	return spec;
}

static void add_server(struct setup *s, const struct conf_server *server)
{
	struct account_spec *spec = add_account(s, "", server->name, &server->limits);

	spec->initial = gather(s, &server->initial_used, &spec->initial_count);
	spec->ramp = gather(s, &server->ramp, &spec->ramp_count);
	if (spec->ramp_count > 0)
		spec->ramp_calendar = calendar_of(s, CALENDAR_DAY, 0, 0, NULL);
	spec->reserve_percent = server->reserve_percent;
	spec->is_paced = server->is_paced;
}

struct setup *setup_new(const struct conf *c, struct lease_book *book)
{
	struct setup *s = xcalloc(1, sizeof(*s));

	s->book = book;
	for (unsigned i = 0; i < c->server_count; i++)
		add_server(s, &c->server[i]);
	for (unsigned i = 0; i < c->destination_count; i++)
		add_account(s, SCOPE_DESTINATION, c->destination[i].name, &c->destination[i].limits);
	for (unsigned i = 0; i < c->route_count; i++)
		add_account(s, SCOPE_ROUTE, c->route[i].name, &c->route[i].limits);
	add_account(s, SCOPE_INSTANCE, "", &c->limits);
	s->sender.name = "";
	s->sender.book = book;
	s->sender.limit = gather(s, &c->limit_per_sender, &s->sender.limit_count);
	return s;
}

void setup_free(struct setup **s)
{
	struct setup *old = *s;

	if (!old)
		return;
	for (unsigned i = 0; i < old->name_count; i++)
		free(old->name[i]);
	for (unsigned i = 0; i < old->list_count; i++)
		free(old->list[i]);
	for (unsigned i = 0; i < old->calendar_count; i++)
		free(old->calendar[i]);
	for (unsigned i = 0; i < old->zone_count; i++)
		zone_free(&old->zone[i].zone);
	free(old->account);
	free(old->name);
	free(old->list);
	free(old->calendar);
	free(old->zone);
	free(old);
	*s = NULL;
}

bool setup_has_limits(const struct setup *s)
{
	for (unsigned i = 0; i < s->account_count; i++)
		if (s->account[i].limit_count + s->account[i].ramp_count > 0)
			return true;
	return s->sender.limit_count > 0;
}

static uint64_t widest_of(uint64_t widest, const struct limit_spec *limit, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		widest = limit[i].width_ms > widest ? limit[i].width_ms : widest;
	return widest;
}

uint64_t setup_widest_ms(const struct setup *s)
{
	uint64_t widest = widest_of(1, s->sender.limit, s->sender.limit_count);

	for (unsigned i = 0; i < s->account_count; i++) {
		widest = widest_of(widest, s->account[i].limit, s->account[i].limit_count);
		widest = widest_of(widest, s->account[i].ramp, s->account[i].ramp_count);
	}
	return widest;
}

const char *setup_missing_zone(const struct setup *s)
{
	return s->missing_zone;
}

enum store_open_result setup_open(const struct setup *s, struct ledger **out, bool are_counts_lost, const char **why)
{
	struct ledger_options o = {
		.dir = ".",
		.account_count = s->account_count,
		.account = s->account,
		.sender = s->sender.limit_count > 0 ? &s->sender : NULL,
		.are_counts_lost = are_counts_lost,
		.boot_id = clock_boot_id(),
		.boot_ms = clock_mono().ms,
		.wall_ms = clock_wall().ms,
	};

	return ledger_open(out, &o, why);
}
