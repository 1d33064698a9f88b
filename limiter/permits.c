/*
 * permits.c - asking, settling, adopting.
 *
 * A request that comes again is answered alike, from a table by request id. It forgets with the partner: a new
 * scheduler numbers anew, and a limiter that was restarted is told by ADOPT what its predecessor's grants came to.
 */
#include "limiter/permits.h"
#include "lib/log.h"
#include <stdlib.h>

/* A paced server gives at once what falls into so much time: asking again for each would cost more than it smooths. */
static const int64_t PACE_STEP_US = 20000;

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

		for (unsigned class = 0; class < CLASS_COUNT; class ++)
			for (unsigned unit = 0; unit < UNIT_COUNT; unit++) {
				a->inherited[class][unit] += a->outstanding[class][unit];
				a->outstanding[class][unit] = 0;
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
	**place = (struct answered){ request, true, { .limit = "" } };
	return false;
}

/* --- scopes --- */

static struct account *account_of(struct permits *p, struct slice name, struct moment t)
{
	size_t len = sizeof(SCOPE_SENDER) - 1;

	if (name.len > len && name.len <= SCOPE_NAME_MAX && memcmp(name.ptr, SCOPE_SENDER, len) == 0)
		return ledger_get_sender(p->ledger, name, t);
	return ledger_find(p->ledger, name);
}

/* NULL where a scope has no limits. Returns how many. */
static unsigned resolve(struct permits *p, struct slice scopes, struct moment t,
			struct account *out[PERMITS_SCOPES_MAX])
{
	unsigned count = 0;

	while (scopes.len > 0 && count < PERMITS_SCOPES_MAX) {
		const char *end = memchr(scopes.ptr, '\n', scopes.len);
		size_t len = end ? (size_t)(end - scopes.ptr) : scopes.len;
		struct account *a = account_of(p, (struct slice){ scopes.ptr, len }, t);

		for (unsigned i = 0; i < count; i++)
			if (out[i] == a)
				a = NULL; /* named twice: counted once */
		out[count++] = a;
		len += end != NULL;
		scopes.ptr += len;
		scopes.len -= len;
	}
	return count;
}

static bool is_for(const struct account_limit *limit, enum mail_class class)
{
	return limit->dormant_since == 0 && !(class == CLASS_HIGH && (limit->kind & LIMIT_USUAL));
}

/* --- asking --- */

struct decision {
	struct account *account[PERMITS_SCOPES_MAX];
	unsigned count;
	struct moment t;
	enum mail_class class;
	uint64_t room[UNIT_COUNT], smallest[UNIT_COUNT]; /* of all windows; smallest: of their amounts */
	uint64_t wanted[UNIT_COUNT], since;
};

static void look_at_room(struct decision *d, struct account *a)
{
	for (unsigned i = 0; i < a->limit_count; i++) {
		struct account_limit *limit = &a->limit[i];
		uint64_t room;

		if (!is_for(limit, d->class))
			continue;
		room = limit_room(a, limit, d->t);
		if (room < d->room[limit->unit])
			d->room[limit->unit] = room;
		if (limit->amount < d->smallest[limit->unit])
			d->smallest[limit->unit] = limit->amount;
	}
	if (a->pace_us[UNIT_MESSAGES] > 0 && d->room[UNIT_MESSAGES] > 1) {
		double step = (double)PACE_STEP_US / a->pace_us[UNIT_MESSAGES];
		uint64_t most = step > 1 ? (uint64_t)step : 1;

		if (most < d->room[UNIT_MESSAGES])
			d->room[UNIT_MESSAGES] = most;
	}
}

/* The last of the limits in the way to open again; one that never does beats all. */
static void note_refusal(struct permit *permit, unsigned scope_at, const char *limit, int64_t free_at)
{
	if (permit->limit[0] && (permit->free_at == 0 || (free_at != 0 && free_at <= permit->free_at)))
		return;
	permit->free_at = free_at;
	permit->limit = limit;
	permit->scope_at = scope_at;
}

static void refuse_by(struct permit *permit, const struct decision *d, unsigned at, const uint64_t need[UNIT_COUNT])
{
	struct account *a = d->account[at];

	for (unsigned i = 0; i < a->limit_count; i++) {
		struct account_limit *limit = &a->limit[i];
		int64_t free_at;

		if (!is_for(limit, d->class) || limit_room(a, limit, d->t) >= need[limit->unit])
			continue;
		free_at = limit_free_at(a, limit, d->t, need[limit->unit]);
		if (limit->lease && free_at >= 0 && !lease_is_answered(limit->lease, d->since)) {
			lease_demand(limit->lease, d->t.now, d->wanted[limit->unit], need[limit->unit]);
			permit->is_pending = true;
		}
		note_refusal(permit, at, limit->text, free_at < 0 ? 0 : free_at > d->t.now ? free_at : d->t.now + 1);
	}
	if (a->pace_next_us > d->t.now * 1000)
		note_refusal(permit, at, a->pace_text, (a->pace_next_us + 999) / 1000);
}

static bool is_paced_out(const struct decision *d)
{
	for (unsigned i = 0; i < d->count; i++)
		if (d->account[i] && d->account[i]->pace_next_us > d->t.now * 1000)
			return true;
	return false;
}

static struct permit decide(struct decision *d, const struct permit_wish *wish, uint32_t recipients)
{
	uint64_t need[UNIT_COUNT] = { 1, wish->first }, fit[UNIT_COUNT];
	struct permit permit = { .limit = "" };

	for (unsigned unit = 0; unit < UNIT_COUNT; unit++)
		d->room[unit] = d->smallest[unit] = UINT64_MAX;
	for (unsigned i = 0; i < d->count; i++)
		if (d->account[i])
			look_at_room(d, d->account[i]);
	if (need[UNIT_RECIPIENTS] > d->smallest[UNIT_RECIPIENTS])
		need[UNIT_RECIPIENTS] = d->smallest[UNIT_RECIPIENTS];
	if (need[UNIT_RECIPIENTS] == 0)
		need[UNIT_RECIPIENTS] = 1; /* not said; or an amount of 0 */
	if (d->room[UNIT_MESSAGES] == 0 || d->room[UNIT_RECIPIENTS] < need[UNIT_RECIPIENTS] || is_paced_out(d)) {
		for (unsigned i = 0; i < d->count; i++)
			if (d->account[i])
				refuse_by(&permit, d, i, need);
		return permit;
	}
	fit[UNIT_MESSAGES] = d->room[UNIT_MESSAGES] < wish->messages ? d->room[UNIT_MESSAGES] : wish->messages;
	fit[UNIT_RECIPIENTS] = d->room[UNIT_RECIPIENTS] < recipients ? d->room[UNIT_RECIPIENTS] : recipients;
	if (fit[UNIT_MESSAGES] > fit[UNIT_RECIPIENTS])
		fit[UNIT_MESSAGES] = fit[UNIT_RECIPIENTS]; /* a transaction has a recipient */
	permit.messages = (uint32_t)fit[UNIT_MESSAGES];
	permit.recipients = (uint32_t)fit[UNIT_RECIPIENTS];
	return permit;
}

static void pace(struct account *a, struct moment t, const struct permit *permit)
{
	double messages_us = a->pace_us[UNIT_MESSAGES] * permit->messages;
	double recipients_us = a->pace_us[UNIT_RECIPIENTS] * permit->recipients;
	double step = messages_us > recipients_us ? messages_us : recipients_us;

	if (step <= 0)
		return;
	if (a->pace_next_us < t.now * 1000)
		a->pace_next_us = t.now * 1000;
	a->pace_next_us += (int64_t)step;
}

struct permit permits_decide(struct account *const account[], unsigned count, struct moment t,
			     const struct permit_wish *wish)
{
	struct decision d = { .count = count, .t = t, .class = wish->class };

	for (unsigned i = 0; i < count; i++) {
		d.account[i] = account[i];
		if (account[i])
			(void)account_advance(account[i], t);
	}
	return decide(&d, wish, wish->recipients < wish->messages ? wish->messages : wish->recipients);
}

void permits_use(struct account *const account[], unsigned count, struct moment t, enum mail_class class,
		 const struct permit *sent)
{
	for (unsigned i = 0; i < count; i++) {
		if (!account[i])
			continue;
		account_stamp(account[i], class, UNIT_MESSAGES, t, sent->messages);
		account_stamp(account[i], class, UNIT_RECIPIENTS, t, sent->recipients);
		pace(account[i], t, sent);
	}
}

struct permit permits_ask(struct permits *p, int64_t now, uint32_t request, const struct permit_wish *wish)
{
	struct decision d = { .t = ledger_moment(p->ledger, now), .class = wish->class };
	uint32_t recipients = wish->recipients < wish->messages ? wish->messages : wish->recipients;
	struct answered *place;

	if (find_answered(p->ask, request, &place))
		return place->permit;
	if (wish->messages == 0)
		return place->permit;
	d.count = resolve(p, wish->scopes, d.t, d.account);
	for (unsigned i = 0; i < d.count; i++)
		if (d.account[i] && account_advance(d.account[i], d.t))
			ledger_touch(p->ledger, d.account[i]);
	d.since = wish->since;
	d.wanted[UNIT_MESSAGES] = wish->messages;
	d.wanted[UNIT_RECIPIENTS] = recipients;
	place->permit = decide(&d, wish, recipients);
	place->is_set = !place->permit.is_pending;
	for (unsigned i = 0; i < d.count && place->permit.messages > 0; i++) {
		struct account *a = d.account[i];

		if (!a)
			continue;
		a->outstanding[wish->class][UNIT_MESSAGES] += place->permit.messages;
		a->outstanding[wish->class][UNIT_RECIPIENTS] += place->permit.recipients;
		pace(a, d.t, &place->permit);
		account_look_at_leases(a, d.t);
		ledger_touch(p->ledger, a);
	}
	return place->permit;
}

/* --- settling --- */

/* From what was granted to this scheduler first; more than there is counts as used all the same, to be safe. */
static void take_outstanding(struct account *a, enum mail_class class, enum limit_unit unit, uint64_t count)
{
	uint64_t *granted = &a->outstanding[class][unit], *inherited = &a->inherited[class][unit];
	uint64_t part = count < *granted ? count : *granted;

	*granted -= part;
	count -= part;
	part = count < *inherited ? count : *inherited;
	*inherited -= part;
	if (count > part)
		log_warn("limits: %s settled %llu more than was granted", a->name, (unsigned long long)(count - part));
}

void permits_settle(struct permits *p, int64_t now, uint32_t request, struct slice scopes, enum mail_class class,
		    const struct settlement *s)
{
	struct account *account[PERMITS_SCOPES_MAX];
	struct moment t = ledger_moment(p->ledger, now);
	struct answered *place;
	unsigned count;

	if (find_answered(p->settle, request, &place))
		return;
	count = resolve(p, scopes, t, account);
	for (unsigned i = 0; i < count; i++) {
		if (!account[i])
			continue;
		for (unsigned unit = 0; unit < UNIT_COUNT; unit++) {
			take_outstanding(account[i], class, unit, (uint64_t)s->used[unit] + s->refunded[unit]);
			account_stamp(account[i], class, unit, t, s->used[unit]);
		}
		account_look_at_leases(account[i], t);
		ledger_touch(p->ledger, account[i]);
	}
}

static void adopt(struct permits *p, struct account *a, enum mail_class class, struct moment t,
		  const uint64_t kept[UNIT_COUNT])
{
	for (unsigned unit = 0; unit < UNIT_COUNT; unit++) {
		if (a->inherited[class][unit] > kept[unit])
			account_stamp(a, class, unit, t, a->inherited[class][unit] - kept[unit]);
		a->inherited[class][unit] = 0;
		a->outstanding[class][unit] += kept[unit];
	}
	ledger_touch(p->ledger, a);
}

void permits_adopt(struct permits *p, int64_t now, uint32_t request, struct slice scope, enum mail_class class,
		   uint32_t messages, uint32_t recipients)
{
	static const uint64_t NOTHING[UNIT_COUNT] = { 0, 0 };
	const uint64_t kept[UNIT_COUNT] = { messages, recipients };
	struct moment t = ledger_moment(p->ledger, now);
	struct answered *place;
	struct account *a;

	if (find_answered(p->adopt, request, &place))
		return;
	if (scope.len > 0) {
		a = account_of(p, scope, t);
		if (a)
			adopt(p, a, class, t, kept);
		return;
	}
	for (unsigned i = 0; i < ledger_account_count(p->ledger); i++)
		for (unsigned c = 0; c < CLASS_COUNT; c++) {
			a = ledger_account(p->ledger, i);
			if (a->inherited[c][UNIT_MESSAGES] + a->inherited[c][UNIT_RECIPIENTS] > 0)
				adopt(p, a, (enum mail_class)c, t, NOTHING);
		}
}

/* --- corrections --- */

static void set_used(struct account *a, struct account_limit *limit, struct moment t, uint64_t used)
{
	uint64_t outstanding = account_outstanding(a, limit);

	limit_clear(limit);
	limit_add(limit, t, used > outstanding ? used - outstanding : 0);
}

/* The limit that is used up to the largest part: the one that a provider most likely speaks of. */
static struct account_limit *nearest(struct account *a, struct moment t, uint64_t window_ms)
{
	struct account_limit *best = NULL;
	double most = -1;

	for (unsigned i = 0; i < a->limit_count; i++) {
		struct account_limit *limit = &a->limit[i];
		double part;

		if (limit->dormant_since != 0 || (limit->kind & LIMIT_USUAL) || limit->amount == 0 ||
		    (window_ms != 0 && limit->width_ms != window_ms))
			continue;
		part = (double)limit_used_in_all(a, limit, t) / (double)limit->amount;
		if (part > most) {
			most = part;
			best = limit;
		}
	}
	return best;
}

static bool is_meant(const struct account_limit *limit, struct slice text)
{
	return limit->dormant_since == 0 && (text.len == 0 || slice_is(text, limit->text));
}

unsigned permits_find(struct permits *p, int64_t now, const struct correction *c, struct account **account,
		      unsigned index[PERMITS_LIMITS_MAX])
{
	struct moment t = ledger_moment(p->ledger, now);
	struct account *a = ledger_find(p->ledger, c->scope);
	struct account_limit *full = a && c->kind == CORRECT_FULL ? nearest(a, t, c->window_ms) : NULL;
	unsigned count = 0;

	if (a && a->is_sender)
		a = ledger_get_sender(p->ledger, c->scope, t); /* it may have been about to be forgotten */
	*account = a;
	if (!a || (c->kind == CORRECT_SET && c->limit.len == 0))
		return 0;
	for (unsigned i = 0; i < a->limit_count && count < PERMITS_LIMITS_MAX; i++)
		if (c->kind == CORRECT_FULL ? &a->limit[i] == full : is_meant(&a->limit[i], c->limit))
			index[count++] = i;
	return count;
}

bool permits_correct(struct permits *p, int64_t now, const struct correction *c, uint64_t *before)
{
	struct moment t = ledger_moment(p->ledger, now);
	unsigned index[PERMITS_LIMITS_MAX], count;
	struct account *a;

	count = permits_find(p, now, c, &a, index);
	*before = count > 0 ? limit_used_in_all(a, &a->limit[index[0]], t) : 0;
	for (unsigned i = 0; i < count; i++) {
		struct account_limit *at = &a->limit[index[i]];

		if (c->kind == CORRECT_FULL)
			limit_fill(a, at, t);
		else
			set_used(a, at, t, c->kind == CORRECT_SET ? c->used : 0);
	}
	if (count > 0)
		ledger_touch(p->ledger, a);
	return count > 0;
}
