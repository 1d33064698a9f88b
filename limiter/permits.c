/*
 * permits.c - asking, settling, adopting.
 *
 * A request that comes again is answered alike, from a table by request id. It forgets with the partner: a new
 * scheduler numbers anew, and a limiter that was restarted is told by ADOPT what its predecessor's grants came to.
 */
#include "limiter/permits.h"
#include "lib/log.h"

struct answered {
	uint32_t request;
	bool is_set;
	struct permit permit;
};

struct permits {
	struct ledger *ledger;
	struct answered ask[PERMITS_REMEMBERED], settle[PERMITS_REMEMBERED], adopt[PERMITS_REMEMBERED];
};

struct permits *permits_new(struct ledger *ledger_borrowed)
{
	struct permits *p = xcalloc(1, sizeof(*p));

	p->ledger = ledger_borrowed;
	return p;
}

void permits_free(struct permits **p)
{
	free(*p);
	*p = NULL;
}

void permits_change_partner(struct permits *p)
{
	for (unsigned i = 0; i < ledger_account_count(p->ledger); i++) {
		struct account *a = ledger_account(p->ledger, i);

		for (unsigned unit = 0; unit < UNIT_COUNT; unit++) {
			a->inherited[unit] += a->outstanding[unit];
			a->outstanding[unit] = 0;
		}
	}
	for (unsigned i = 0; i < PERMITS_REMEMBERED; i++)
		p->ask[i].is_set = p->settle[i].is_set = p->adopt[i].is_set = false;
}

/* Ids follow one another, so the latest PERMITS_REMEMBERED have places of their own. True: seen before. */
static bool find_answered(struct answered *table, uint32_t request, struct answered **place)
{
	*place = &table[request % PERMITS_REMEMBERED];
	if ((*place)->is_set && (*place)->request == request)
		return true;
	**place = (struct answered){ request, true, { 0, 0, 0, "" } };
	return false;
}

static uint64_t account_outstanding(const struct account *a, enum limit_unit unit)
{
	return a->outstanding[unit] + a->inherited[unit];
}

/* How much of `wanted` fits every window of the unit; *amount: the smallest of their amounts. */
static uint64_t account_room(struct account *a, enum limit_unit unit, int64_t now, uint64_t wanted, uint64_t *amount)
{
	uint64_t room = wanted;

	*amount = UINT64_MAX;
	for (unsigned i = 0; i < a->limit_count; i++) {
		struct account_limit *limit = &a->limit[i];
		uint64_t fits;

		if (limit->unit != unit)
			continue;
		fits = window_room(limit->window, now, account_outstanding(a, unit));
		room = fits < room ? fits : room;
		*amount = window_amount(limit->window) < *amount ? window_amount(limit->window) : *amount;
	}
	return room;
}

/* Nothing fits: which window opens last, and when. */
static struct permit refuse(struct account *a, int64_t now, const uint64_t need[UNIT_COUNT])
{
	struct permit permit = { 0, 0, now, "" };

	for (unsigned i = 0; i < a->limit_count; i++) {
		struct account_limit *limit = &a->limit[i];
		int64_t free_at =
			window_free_at(limit->window, now, account_outstanding(a, limit->unit), need[limit->unit]);

		if (free_at < 0) {
			permit.free_at = 0;
			permit.limit = limit->text;
			return permit;
		}
		if (free_at > permit.free_at) {
			permit.free_at = free_at;
			permit.limit = limit->text;
		}
	}
	return permit;
}

static struct permit decide(struct account *a, int64_t now, uint32_t messages, uint32_t recipients)
{
	uint64_t smallest, need[UNIT_COUNT] = { 1, 1 };
	uint64_t fit_messages = account_room(a, UNIT_MESSAGES, now, messages, &smallest);
	uint64_t fit_recipients = account_room(a, UNIT_RECIPIENTS, now, recipients, &smallest);

	if (messages == 1)
		need[UNIT_RECIPIENTS] = recipients < smallest ? recipients : smallest;
	if (need[UNIT_RECIPIENTS] == 0)
		need[UNIT_RECIPIENTS] = 1; /* an amount of 0 */
	if (fit_messages == 0 || fit_recipients < need[UNIT_RECIPIENTS])
		return refuse(a, now, need);
	if (fit_messages > fit_recipients)
		fit_messages = fit_recipients; /* a transaction has a recipient */
	return (struct permit){ (uint32_t)fit_messages, (uint32_t)fit_recipients, 0, "" };
}

struct permit permits_ask(struct permits *p, int64_t now, uint32_t request, struct slice server, uint32_t messages,
			  uint32_t recipients)
{
	struct account *a = ledger_find(p->ledger, server);
	struct answered *place;

	if (find_answered(p->ask, request, &place))
		return place->permit;
	if (recipients < messages)
		recipients = messages;
	if (!a || messages == 0) {
		place->permit = (struct permit){ messages, recipients, 0, "" };
		return place->permit;
	}
	place->permit = decide(a, now, messages, recipients);
	if (place->permit.messages > 0) {
		a->outstanding[UNIT_MESSAGES] += place->permit.messages;
		a->outstanding[UNIT_RECIPIENTS] += place->permit.recipients;
		ledger_touch(p->ledger, a);
	}
	return place->permit;
}

static void stamp(struct account *a, enum limit_unit unit, int64_t now, uint64_t used)
{
	for (unsigned i = 0; i < a->limit_count && used > 0; i++)
		if (a->limit[i].unit == unit)
			window_add(a->limit[i].window, now, used);
}

/* From what was granted to this scheduler first; more than there is counts as used all the same, to be safe. */
static void take_outstanding(struct account *a, enum limit_unit unit, uint64_t count)
{
	uint64_t part = count < a->outstanding[unit] ? count : a->outstanding[unit];

	a->outstanding[unit] -= part;
	count -= part;
	part = count < a->inherited[unit] ? count : a->inherited[unit];
	a->inherited[unit] -= part;
	if (count > part)
		log_warn("limits: %s settled %llu more than was granted", a->server,
			 (unsigned long long)(count - part));
}

void permits_settle(struct permits *p, int64_t now, uint32_t request, struct slice server, const struct settlement *s)
{
	struct account *a = ledger_find(p->ledger, server);
	struct answered *place;

	if (find_answered(p->settle, request, &place) || !a)
		return;
	for (unsigned unit = 0; unit < UNIT_COUNT; unit++) {
		take_outstanding(a, unit, (uint64_t)s->used[unit] + s->refunded[unit]);
		stamp(a, unit, now, s->used[unit]);
	}
	ledger_touch(p->ledger, a);
}

void permits_adopt(struct permits *p, int64_t now, uint32_t request, struct slice server, uint32_t messages,
		   uint32_t recipients)
{
	const uint64_t kept[UNIT_COUNT] = { messages, recipients };
	struct account *a = ledger_find(p->ledger, server);
	struct answered *place;

	if (find_answered(p->adopt, request, &place) || !a)
		return;
	for (unsigned unit = 0; unit < UNIT_COUNT; unit++) {
		if (a->inherited[unit] > kept[unit])
			stamp(a, unit, now, a->inherited[unit] - kept[unit]);
		a->inherited[unit] = 0;
		a->outstanding[unit] += kept[unit];
	}
	ledger_touch(p->ledger, a);
}
