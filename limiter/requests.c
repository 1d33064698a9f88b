/* requests.c - see requests.h. What has to wait for the shared store is parked there and taken up again. */
#include "limiter/requests.h"
#include "lib/log.h"
#include <errno.h>

enum {
	TROUBLE_RETRY_MS = 60000, /* no counters: when the scheduler is told to ask again */
	STORE_RETRY_MS = 2000,    /* the shared store is away, likewise */
	LIMIT_TEXT_MAX = 64,
	STATES_PER_PORTION = 400 /* of an answer to a LIMIT_QUERY for all */
};

/* --- answers --- */

static void hold(struct limiter *l, const struct packet *p)
{
	buf_put(&l->held, &p->len, sizeof(p->len));
	buf_put(&l->held, p->bytes, p->len);
	if (l->held.failed)
		BUG("answers pile up");
	if (l->held.len >= LIMITER_HELD_PAUSE_BYTES && !l->is_paused) {
		l->is_paused = true;
		channel_pause_input(l->scheduler, true);
	}
}

int64_t limiter_now(struct limiter *l)
{
	int64_t now = ledger_now(l->ledger, clock_mono().ms);

	ledger_set_wall(l->ledger, now, clock_wall().ms);
	return now;
}

/* Limiter time as the wall clock reads it now: what the other side compares with. */
static uint64_t to_wall(int64_t now, int64_t at)
{
	return at <= 0 ? 0 : (uint64_t)(clock_wall().ms + (at - now));
}

static struct slice short_text(const char *text)
{
	size_t len = strlen(text);

	return (struct slice){ text, len > LIMIT_TEXT_MAX ? LIMIT_TEXT_MAX : len };
}

/* --- requests --- */

/* What rests on nothing that must be durable need not wait. */
static void answer(struct limiter *l, const struct packet *p)
{
	if (channel_is_full(l->scheduler))
		hold(l, p);
	else
		channel_send(l->scheduler, p);
}

static void refuse(struct limiter *l, const struct msg_permit_ask *ask, const char *why, int64_t delay_ms)
{
	struct msg_head head = channel_head(l->scheduler);
	struct msg_permit m = { .request = ask->request,
				.free_at = (uint64_t)(clock_wall().ms + delay_ms),
				.limit = short_text(why) };
	struct packet p;

	msg_encode_permit(&p, &head, &m);
	answer(l, &p);
}

/* How many calls the shared store had been sent when a request came. */
static uint64_t calls_so_far(const struct limiter *l)
{
	return l->shared ? shared_book(l->shared)->calls : 0;
}

/* Why the shared store is in the way, if that is what it is. */
static void explain_refusal(struct limiter *l, int64_t now, struct permit *permit)
{
	const char *trouble = l->shared && permit->messages == 0 ? shared_trouble(l->shared) : NULL;

	if (!trouble)
		return;
	permit->limit = trouble;
	permit->free_at = now + STORE_RETRY_MS;
}

static struct permit decide(struct limiter *l, int64_t now, const struct msg_permit_ask *ask, uint64_t since)
{
	struct permit_wish wish = { ask->scopes,   ask->class ? CLASS_HIGH : CLASS_USUAL,
				    ask->messages, ask->recipients,
				    ask->first,    since };
	struct permit permit;

	if (l->shared)
		shared_look_at_clock(l->shared, now);
	permit = permits_ask(l->permits, now, ask->request, &wish);
	explain_refusal(l, now, &permit);
	return permit;
}

static bool answer_ask(struct limiter *l, const struct packet *packet, uint64_t since)
{
	struct msg_head head = channel_head(l->scheduler);
	struct msg_permit_ask ask;
	struct permit permit;
	struct packet p;
	int64_t now = 0;

	if (!msg_decode_permit_ask(packet, &ask))
		return false;
	if (l->trouble || l->is_full) {
		refuse(l, &ask, l->trouble ? l->trouble : "no disk space for the counters",
		       l->trouble ? TROUBLE_RETRY_MS : LIMITER_FULL_RETRY_MS);
		return true;
	}
	if (l->ledger) {
		now = limiter_now(l);
		permit = decide(l, now, &ask, since);
		if (permit.is_pending && shared_park(l->shared, packet, since))
			return true;
	} else {
		permit = (struct permit){ .messages = ask.messages, .recipients = ask.recipients, .limit = "" };
	}
	msg_encode_permit(&p, &head,
			  &(struct msg_permit){ .request = ask.request,
						.messages = permit.messages,
						.recipients = permit.recipients,
						.free_at = to_wall(now, permit.free_at),
						.limit = short_text(permit.limit),
						.scope_at = (uint8_t)permit.scope_at });
	hold(l, &p);
	return true;
}

static void hold_settled(struct limiter *l, uint32_t request)
{
	struct msg_head head = channel_head(l->scheduler);
	struct packet p;

	msg_encode_settled(&p, &head, &(struct msg_settled){ .request = request });
	hold(l, &p);
}

static bool on_settle(struct limiter *l, const struct packet *packet)
{
	struct msg_settle m;
	struct settlement s;

	if (!msg_decode_settle(packet, &m))
		return false;
	s = (struct settlement){ { m.used_messages, m.used_recipients }, { m.refund_messages, m.refund_recipients } };
	if (l->ledger)
		permits_settle(l->permits, limiter_now(l), m.request, m.scopes, m.class ? CLASS_HIGH : CLASS_USUAL, &s);
	hold_settled(l, m.request);
	return true;
}

static bool on_adopt(struct limiter *l, const struct packet *packet)
{
	struct msg_adopt m;

	if (!msg_decode_adopt(packet, &m))
		return false;
	if (l->ledger)
		permits_adopt(l->permits, limiter_now(l), m.request, m.scope, m.class ? CLASS_HIGH : CLASS_USUAL,
			      m.messages, m.recipients);
	hold_settled(l, m.request);
	return true;
}

static void hold_state(struct limiter *l, struct msg_limit_state *m, const struct account *a,
		       struct account_limit *limit)
{
	struct msg_head head = channel_head(l->scheduler);
	struct moment t = ledger_moment(l->ledger, limiter_now(l));
	int64_t free_at = limit_free_at(a, limit, t, 1);
	struct packet p;

	m->scope = slice_of(a->name);
	m->limit = short_text(limit->text);
	m->is_recipients = limit->unit == UNIT_RECIPIENTS;
	m->window_ms = limit->width_ms;
	m->used = limit_used_in_all(a, limit, t);
	m->shared = limit->lease != NULL;
	m->leased = limit->lease ? lease_room(limit->lease, account_outstanding(a, limit)) : 0;
	m->allowed = limit->amount;
	m->free_at = free_at > t.now ? to_wall(t.now, free_at) : 0;
	msg_encode_limit_state(&p, &head, m);
	answer(l, &p);
}

/* What people see: not what a reserve leaves, no warm-up that is over. */
static bool is_shown(const struct account_limit *limit)
{
	return limit->dormant_since == 0 && !(limit->kind & LIMIT_USUAL) && limit->amount != UINT64_MAX;
}

static unsigned hold_states(struct limiter *l, struct msg_limit_state *m, struct account *a)
{
	unsigned count = 0;

	if (account_advance(a, ledger_moment(l->ledger, limiter_now(l))))
		ledger_touch(l->ledger, a);
	for (unsigned i = 0; i < a->limit_count; i++)
		if (is_shown(&a->limit[i])) {
			hold_state(l, m, a, &a->limit[i]);
			count++;
		}
	return count;
}

/* Shared limits of which there is no news since then: they are asked for. */
static bool lacks_news(struct limiter *l, struct account *a, uint64_t since)
{
	bool is_lacking = false;

	for (unsigned i = 0; i < a->limit_count; i++) {
		struct lease *lease = a->limit[i].lease;

		if (!lease || a->limit[i].amount == UINT64_MAX || lease_is_answered(lease, since))
			continue;
		is_lacking = true;
		if (!lease->is_asked)
			lease_touch(lease, limiter_now(l));
	}
	return is_lacking;
}

/* The accounts that the answer will be about. */
static bool must_wait(struct limiter *l, const struct msg_limit_query *query, uint64_t since)
{
	struct account *a = query->scope.len > 0 ? ledger_find(l->ledger, query->scope) : NULL;
	bool is_lacking = a && lacks_news(l, a, since);
	unsigned count = 0;

	for (unsigned at = query->from; query->scope.len == 0 && at < ledger_account_count(l->ledger); at++) {
		a = ledger_account(l->ledger, at);
		is_lacking |= lacks_news(l, a, since);
		if ((count += a->limit_count) >= STATES_PER_PORTION)
			break;
	}
	return is_lacking;
}

static bool answer_query(struct limiter *l, const struct packet *packet, uint64_t since)
{
	struct msg_head head = channel_head(l->scheduler);
	struct msg_limit_query query;
	struct msg_limit_state m = { 0 }, end = { .last = 1 };
	struct account *a;
	unsigned count = 0, all = l->ledger ? ledger_account_count(l->ledger) : 0, at;
	struct packet p;

	if (!msg_decode_limit_query(packet, &query))
		return false;
	if (l->shared && l->ledger && must_wait(l, &query, since) && shared_park(l->shared, packet, since))
		return true;
	m.request = end.request = query.request;
	end.scope = query.scope;
	end.limit = l->trouble ? short_text(l->trouble) : slice_of("");
	if (query.scope.len > 0) {
		a = l->ledger ? ledger_find(l->ledger, query.scope) : NULL;
		if (a)
			(void)hold_states(l, &m, a);
	} else {
		for (at = query.from; at < all && count < STATES_PER_PORTION; at++)
			count += hold_states(l, &m, ledger_account(l->ledger, at));
		end.next = at;
		end.last = at < all ? 2 : 1;
	}
	msg_encode_limit_state(&p, &head, &end);
	answer(l, &p);
	return true;
}

/* --- corrections --- */

/*
 * Sets the damaged files aside and begins anew, with everything used up: the operator knows of one scope only. A shared
 * store knows better; what it was not told is on lease, and so counts there.
 */
static bool begin_anew(struct limiter *l, const char **why)
{
	enum store_open_result result = STORE_FAILED;

	*why = "the damaged files cannot be moved away";
	if (store_set_aside(".") < 0) {
		log_error("limits: cannot move the damaged counters away: %s", strerror(errno));
		return false;
	}
	result = setup_open(l->setup, &l->ledger, l->shared == NULL, why);
	if (result != STORE_CREATED)
		return false;
	l->permits = permits_new(l->ledger);
	l->trouble = NULL;
	if (l->shared)
		requests_share(l);
	log_warn("limits: new counters; %s", l->shared
						     ? "the limits-store knows what was used"
						     : "all limits are taken to be used up but those that are reset or "
						       "set");
	return true;
}

static void hold_corrected(struct limiter *l, uint32_t request, const char *why_not, uint64_t before)
{
	struct msg_head head = channel_head(l->scheduler);
	struct msg_limit_corrected answer = { request, why_not == NULL, before, slice_of(why_not ? why_not : ""), {} };
	struct packet p;

	msg_encode_limit_corrected(&p, &head, &answer);
	hold(l, &p);
}

/* In the shared store first: what is told about it here follows. */
static void correct_shared(struct limiter *l, const struct packet *packet, uint32_t request, const struct correction *c)
{
	unsigned index[PERMITS_LIMITS_MAX], count;
	struct account *a;

	count = permits_find(l->permits, limiter_now(l), c, &a, index);
	if (count == 0) {
		hold_corrected(l, request, "there is no such limit", 0);
	} else if (l->correction.len == 0 && fleet_correct(shared_fleet(l->shared), a, index, count, c)) {
		l->correction.len = packet->len;
		memcpy(l->correction.bytes, packet->bytes, packet->len);
	} else if (fleet_is_away(shared_fleet(l->shared)) || !shared_park(l->shared, packet, 0)) {
		hold_corrected(l, request, "the limits-store is away: nothing was changed", 0);
	}
}

/* The one under way in the shared store, if that has answered: then here, too. */
static void end_correction(struct limiter *l)
{
	struct msg_limit_correct m;
	uint64_t before, before_here;
	enum fleet_correction state = fleet_correction_state(shared_fleet(l->shared), &before);

	if (l->correction.len == 0 || state == FLEET_CORRECTING)
		return;
	if (msg_decode_limit_correct(&l->correction, &m)) {
		struct correction c = { (enum correction_kind)m.what, m.scope, m.limit, m.used, m.window_ms };

		if (state == FLEET_CORRECTED && permits_correct(l->permits, limiter_now(l), &c, &before_here))
			hold_corrected(l, m.request, NULL, before);
		else
			hold_corrected(l, m.request, "the limits-store went away: look whether it was done", 0);
	}
	l->correction.len = 0;
}

static bool on_limit_correct(struct limiter *l, const struct packet *packet)
{
	struct msg_limit_correct m;
	struct correction c;
	const char *why = "";
	uint64_t before;

	if (!msg_decode_limit_correct(packet, &m) || m.what > CORRECT_FULL)
		return false;
	c = (struct correction){ (enum correction_kind)m.what, m.scope, m.limit, m.used, m.window_ms };
	if (l->trouble && m.what != CORRECT_FULL && !begin_anew(l, &why))
		hold_corrected(l, m.request, why, 0);
	else if (!l->ledger)
		hold_corrected(l, m.request, "no limits are configured", 0);
	else if (l->shared)
		correct_shared(l, packet, m.request, &c);
	else if (permits_correct(l->permits, limiter_now(l), &c, &before))
		hold_corrected(l, m.request, NULL, before);
	else
		hold_corrected(l, m.request, "there is no such limit", 0);
	return true;
}

/* --- forecasts --- */

static void foresee(struct limiter *l, uint32_t request)
{
	struct forecast_result result = forecast_run(l->forecast);
	struct msg_head head = channel_head(l->scheduler);
	struct msg_limit_foreseen m = { request,
					to_wall(limiter_now(l), result.done_at),
					result.is_complete,
					short_text(result.limit),
					slice_of(result.scope),
					{} };
	struct packet p;

	forecast_free(&l->forecast);
	msg_encode_limit_foreseen(&p, &head, &m);
	hold(l, &p);
}

static bool on_limit_forecast(struct limiter *l, const struct packet *packet)
{
	struct msg_head head = channel_head(l->scheduler);
	struct msg_limit_forecast m;
	struct packet p;

	if (!msg_decode_limit_forecast(packet, &m))
		return false;
	if (!l->ledger) { /* no limits; or trouble: nobody knows */
		msg_encode_limit_foreseen(&p, &head,
					  &(struct msg_limit_foreseen){ m.request,
									l->trouble ? 0 : (uint64_t)clock_wall().ms,
									!l->trouble,
									short_text(l->trouble ? l->trouble : ""),
									slice_of(""),
									{} });
		if (m.last)
			hold(l, &p);
		return true;
	}
	if (!l->forecast)
		l->forecast = forecast_new(l->ledger, limiter_now(l));
	if (m.messages > 0)
		forecast_add(l->forecast, m.scopes, m.class ? CLASS_HIGH : CLASS_USUAL, m.messages, m.recipients);
	if (m.last)
		foresee(l, m.request);
	return true;
}

/* --- the shared store --- */

static void retry(void *arg, const struct packet *packet, uint64_t since)
{
	struct limiter *l = arg;
	struct msg_head head;

	if (!msg_decode_head(packet, &head))
		return;
	if (head.type == MSG_PERMIT_ASK)
		(void)answer_ask(l, packet, since);
	else if (head.type == MSG_LIMIT_QUERY)
		(void)answer_query(l, packet, since);
	else
		(void)on_limit_correct(l, packet);
}

static void on_news(void *arg)
{
	struct limiter *l = arg;

	end_correction(l);
	shared_retry_parked(l->shared, retry, l);
}

/* Not durable, and of no use later: said at once, or with the next change. */
void requests_say_store_state(struct limiter *l)
{
	const char *text = shared_state(l->shared);
	struct msg_store_state m = { .text = slice_of(text ? text : "") };
	struct msg_head head;
	struct packet p;

	if (!l->scheduler || l->partner == 0)
		return;
	head = channel_head(l->scheduler);
	msg_encode_store_state(&p, &head, &m);
	hold(l, &p);
}

static void on_store_state(void *arg)
{
	requests_say_store_state(arg);
}

void requests_share(struct limiter *l)
{
	shared_begin(l->shared, &(struct shared_options){ .loop = proc_loop(l->proc),
							  .ledger = l->ledger,
							  .widest_window_ms = setup_widest_ms(l->setup),
							  .on_news = on_news,
							  .on_state = on_store_state,
							  .arg = l });
}

bool requests_take(struct limiter *l, uint8_t type, const struct packet *packet)
{
	switch (type) {
	case MSG_PERMIT_ASK:
		return answer_ask(l, packet, calls_so_far(l));
	case MSG_SETTLE:
		return on_settle(l, packet);
	case MSG_ADOPT:
		return on_adopt(l, packet);
	case MSG_LIMIT_QUERY:
		return answer_query(l, packet, calls_so_far(l));
	case MSG_LIMIT_FORECAST:
		return on_limit_forecast(l, packet);
	case MSG_LIMIT_CORRECT:
		return on_limit_correct(l, packet);
	default:
		return false;
	}
}
