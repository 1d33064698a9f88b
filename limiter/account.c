/* account.c - see account.h. A limit counts in a rolling window (window.c) or in the clock's periods (calendar.c). */
#include "limiter/account.h"
#include <stdlib.h>

enum { SHARED_AGAIN_MS = 1000 /* what is free again when another host says so: when to look */ };

struct account_limit *account_find_limit(struct account *a, uint8_t kind, enum limit_unit unit, uint64_t width_ms,
					 unsigned slot)
{
	for (unsigned i = 0; i < a->limit_count; i++) {
		struct account_limit *limit = &a->limit[i];

		if (limit->unit == unit && limit->kind == kind && limit->width_ms == width_ms && limit->slot == slot)
			return limit;
	}
	return NULL;
}

static struct account_limit *add_limit(struct account *a, const struct account_limit *made)
{
	a->limit = xrealloc(a->limit, a->limit_count + 1, sizeof(*a->limit));
	a->limit[a->limit_count] = *made;
	return &a->limit[a->limit_count++];
}

struct account_limit *account_add_dormant(struct account *a, uint8_t kind, enum limit_unit unit, uint64_t width_ms,
					  unsigned slot, int64_t since)
{
	struct account_limit limit = {
		.text = "",
		.unit = unit,
		.kind = kind,
		.slot = (uint8_t)slot,
		.amount = UINT64_MAX,
		.width_ms = width_ms,
		.dormant_since = since > 0 ? since : 1,
		.is_known = true,
	};

	if (!(kind & LIMIT_CALENDAR))
		limit.window = window_new(UINT64_MAX, width_ms);
	return add_limit(a, &limit);
}

static bool calendars_are_alike(const struct calendar *a, const struct calendar *b)
{
	return a == b ||
	       (a && b && a->period == b->period && a->hour == b->hour && a->minute == b->minute && a->zone == b->zone);
}

static void take_spec(struct account *a, const struct limit_spec *spec, uint8_t kind, uint64_t amount, const char *text)
{
	struct account_limit *same, limit = {
		.text = text,
		.unit = spec->unit,
		.kind = (uint8_t)(kind | (spec->calendar ? LIMIT_CALENDAR : 0)),
		.amount = amount,
		.width_ms = spec->width_ms,
		.calendar = spec->calendar,
	};

	while ((same = account_find_limit(a, limit.kind, limit.unit, limit.width_ms, limit.slot)) &&
	       !calendars_are_alike(same->calendar, spec->calendar))
		limit.slot++;
	if (same && same->amount <= amount)
		return;
	if (!spec->calendar)
		limit.window = window_new(amount, spec->width_ms);
	if (!same) {
		add_limit(a, &limit);
		return;
	}
	window_free(&same->window);
	*same = limit;
}

/* The share that the usual mail may not touch; never all. */
static uint64_t reserved_of(uint64_t amount, unsigned percent)
{
	uint64_t part = amount / 100 * percent + amount % 100 * percent / 100;

	return amount > 0 && part >= amount ? amount - 1 : part;
}

static void set_pace(struct account *a, const struct limit_spec *spec)
{
	double interval_us = spec->amount > 0 ? (double)spec->width_ms * 1000 / (double)spec->amount : 0;

	if (interval_us > a->pace_us[spec->unit]) {
		if (interval_us > a->pace_us[UNIT_MESSAGES] && interval_us > a->pace_us[UNIT_RECIPIENTS])
			a->pace_text = spec->text;
		a->pace_us[spec->unit] = interval_us;
	}
}

/* The widest amount of the steps decides how its window counts. */
static void set_ramp(struct account *a, const struct account_spec *spec)
{
	uint64_t most = 0;

	for (unsigned i = 0; i < spec->ramp_count; i++)
		most = spec->ramp[i].amount > most ? spec->ramp[i].amount : most;
	take_spec(a, &spec->ramp[0], LIMIT_RAMP, most, spec->ramp[0].text);
	a->ramp = spec->ramp;
	a->ramp_count = spec->ramp_count;
	a->ramp_calendar = spec->ramp_calendar;
}

struct account *account_new(const struct account_spec *spec)
{
	struct account *a = xcalloc(1, sizeof(*a));

	a->name = xstrdup(spec->name);
	a->pace_text = "";
	for (unsigned i = 0; i < spec->limit_count; i++) {
		const struct limit_spec *s = &spec->limit[i];
		uint64_t reserved = reserved_of(s->amount, spec->reserve_percent);

		take_spec(a, s, 0, s->amount, s->text);
		if (spec->is_paced)
			set_pace(a, s);
		if (reserved == 0)
			continue;
		take_spec(a, s, LIMIT_USUAL, s->amount - reserved, s->text);
	}
	if (spec->ramp_count > 0)
		set_ramp(a, spec);
	for (unsigned i = 0; i < a->limit_count && spec->book; i++)
		a->limit[i].lease = lease_new(spec->book, a, i);
	return a;
}

struct account *account_copy(const struct account *a, struct moment t)
{
	struct account *copy = xmalloc(sizeof(*copy));

	*copy = *a;
	copy->node = (struct table_node){ 0 };
	copy->name = xstrdup(a->name);
	copy->next_changed = copy->older = copy->newer = NULL;
	copy->limit = xcalloc(a->limit_count + 1, sizeof(*copy->limit));
	for (unsigned i = 0; i < a->limit_count; i++) {
		uint64_t ours, all;

		copy->limit[i] = a->limit[i];
		if (a->limit[i].window)
			copy->limit[i].window = window_copy(a->limit[i].window);
		copy->limit[i].lease = NULL;
		ours = limit_used_in_all(copy, &copy->limit[i], t);
		all = limit_used_in_all(a, &a->limit[i], t);
		if (all > ours)
			limit_add(&copy->limit[i], t, all - ours);
	}
	return copy;
}

void account_free(struct account **a)
{
	if (!*a)
		return;
	for (unsigned i = 0; i < (*a)->limit_count; i++) {
		window_free(&(*a)->limit[i].window);
		lease_free(&(*a)->limit[i].lease);
	}
	free((*a)->limit);
	free((*a)->name);
	free(*a);
	*a = NULL;
}

/* --- one limit --- */

uint64_t account_outstanding(const struct account *a, const struct account_limit *limit)
{
	uint64_t usual = a->outstanding[CLASS_USUAL][limit->unit] + a->inherited[CLASS_USUAL][limit->unit];

	if (limit->kind & LIMIT_USUAL)
		return usual;
	return usual + a->outstanding[CLASS_HIGH][limit->unit] + a->inherited[CLASS_HIGH][limit->unit];
}

/* A calendar that the configuration does not have any more cannot say when its period ends: it keeps its count. */
static uint64_t calendar_used(struct account_limit *limit, struct moment t)
{
	if (limit->calendar)
		(void)calendar_count_advance(&limit->count, limit->calendar, t.now, t.wall);
	return limit->count.count;
}

uint64_t limit_used(struct account_limit *limit, struct moment t)
{
	return limit->window ? window_used(limit->window, t.now) : calendar_used(limit, t);
}

uint64_t limit_used_in_all(const struct account *a, struct account_limit *limit, struct moment t)
{
	if (limit->lease && limit->lease->answered > 0)
		return limit->lease->used;
	return limit_used(limit, t) + account_outstanding(a, limit);
}

uint64_t limit_room(const struct account *a, struct account_limit *limit, struct moment t)
{
	if (limit->lease && limit->amount != UINT64_MAX)
		return lease_room(limit->lease, account_outstanding(a, limit));
	uint64_t used = limit_used(limit, t) + account_outstanding(a, limit);

	return used >= limit->amount ? 0 : limit->amount - used;
}

int64_t limit_free_at(const struct account *a, struct account_limit *limit, struct moment t, uint64_t need)
{
	if (need > limit->amount)
		return -1;
	if (limit_room(a, limit, t) >= need)
		return t.now;
	if (limit->lease)
		return limit->lease->free_at > t.now ? limit->lease->free_at : t.now + SHARED_AGAIN_MS;
	if (limit->window)
		return window_free_at(limit->window, t.now, account_outstanding(a, limit), need);
	return calendar_count_free_at(&limit->count, t.now, t.wall);
}

void limit_add(struct account_limit *limit, struct moment t, uint64_t count)
{
	if (limit->window)
		window_add(limit->window, t.now, count);
	else
		limit->count.count = calendar_used(limit, t) + count;
}

void limit_fill(const struct account *a, struct account_limit *limit, struct moment t)
{
	uint64_t used = limit_used(limit, t) + account_outstanding(a, limit);

	if (used < limit->amount)
		limit_add(limit, t, limit->amount - used);
}

void limit_clear(struct account_limit *limit)
{
	if (limit->window)
		window_clear(limit->window);
	limit->count.count = 0;
}

/* --- the account --- */

void account_stamp(struct account *a, enum mail_class class, enum limit_unit unit, struct moment t, uint64_t used)
{
	if (used == 0)
		return;
	if (a->ramp_count > 0) {
		(void)account_advance(a, t);
		a->ramp_day.count += used;
	}
	for (unsigned i = 0; i < a->limit_count; i++) {
		struct account_limit *limit = &a->limit[i];

		if (limit->unit != unit || ((limit->kind & LIMIT_USUAL) && class == CLASS_HIGH))
			continue;
		limit_add(limit, t, used);
		if (limit->lease)
			lease_settle(limit->lease, t.now, account_outstanding(a, limit), used, limit->width_ms);
	}
}

void account_look_at_leases(struct account *a, struct moment t)
{
	for (unsigned i = 0; i < a->limit_count; i++)
		if (a->limit[i].lease)
			lease_look_ahead(a->limit[i].lease, t.now, account_outstanding(a, &a->limit[i]));
}

bool account_advance(struct account *a, struct moment t)
{
	struct account_limit *limit = NULL;
	unsigned before = a->ramp_step;
	uint64_t sent = a->ramp_day.count;

	if (a->ramp_count == 0)
		return false;
	if (calendar_count_advance(&a->ramp_day, a->ramp_calendar, t.now, t.wall) && sent > 0 &&
	    a->ramp_step < a->ramp_count)
		a->ramp_step++;
	for (unsigned i = 0; i < a->limit_count && !limit; i++)
		if ((a->limit[i].kind & LIMIT_RAMP) && a->limit[i].dormant_since == 0)
			limit = &a->limit[i];
	if (!limit)
		return before != a->ramp_step;
	if (a->ramp_step < a->ramp_count) {
		limit->amount = a->ramp[a->ramp_step].amount;
		limit->text = a->ramp[a->ramp_step].text;
	} else {
		limit->amount = UINT64_MAX; /* warm: it only counts */
	}
	window_set_amount(limit->window, limit->amount);
	return before != a->ramp_step;
}

void account_fill(struct account *a, struct moment t)
{
	for (unsigned i = 0; i < a->limit_count; i++)
		if (a->limit[i].amount != UINT64_MAX)
			limit_fill(a, &a->limit[i], t);
}

bool account_has_outstanding(const struct account *a)
{
	for (unsigned class = 0; class < CLASS_COUNT; class ++)
		for (unsigned unit = 0; unit < UNIT_COUNT; unit++)
			if (a->outstanding[class][unit] + a->inherited[class][unit] > 0)
				return true;
	return false;
}

void account_copy_charges(struct account *to, struct account *from, struct moment t)
{
	for (unsigned i = 0; i < to->limit_count && i < from->limit_count; i++) {
		if (to->limit[i].window && from->limit[i].window)
			window_copy_charges(to->limit[i].window, from->limit[i].window, t.now);
		else
			limit_add(&to->limit[i], t, limit_used(&from->limit[i], t));
	}
}

bool account_is_idle(struct account *a, struct moment t)
{
	if (account_has_outstanding(a))
		return false;
	for (unsigned i = 0; i < a->limit_count; i++)
		if (limit_used(&a->limit[i], t) > 0 || (a->limit[i].lease && !lease_is_idle(a->limit[i].lease)))
			return false;
	return true;
}
