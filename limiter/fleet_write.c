/* fleet_write.c - what a host says to the store of its fleet, in words. */
#include "limiter/fleet_private.h"
#include <inttypes.h>

enum {
	CALL_BYTES_MAX = 1 << 20,
	TELL_BYTES = 200 * 1024 /* a call that tells of charges ends here */
};
static const uint64_t COUNT_MAX = 1ull << 53; /* the store counts in doubles */

/* --- words --- */

void fleet_call_release(struct fleet_call *call)
{
	buf_release(&call->words);
}

static void put_word(struct fleet_call *c, const char *text)
{
	buf_put(&c->words, text, strlen(text) + 1);
	c->count++;
}

static void put_number(struct fleet_call *c, uint64_t number)
{
	buf_printf(&c->words, "%" PRIu64, number < COUNT_MAX ? number : COUNT_MAX);
	buf_put_char(&c->words, '\0');
	c->count++;
}

/* What hosts agree on without a word: scope, unit, window; for calendars when a day begins. Not the amount. */
static void put_key(struct fleet *f, struct fleet_call *c, const struct lease *l)
{
	const struct account_limit *limit = &l->account->limit[l->limit];

	buf_printf(&c->words, "{postern}:%s:%u.%u.%u.%" PRIu64, f->epoch, (unsigned)limit->unit, (unsigned)limit->kind,
		   (unsigned)limit->slot, limit->width_ms);
	if (limit->calendar)
		buf_printf(&c->words, ".%02d%02d", limit->calendar->hour, limit->calendar->minute);
	buf_printf(&c->words, ":%s", l->account->name);
	buf_put_char(&c->words, '\0');
	c->count++;
}

static int64_t period_end(const struct fleet *f, int64_t now, const struct account_limit *limit)
{
	return limit->calendar && f->store_time > 0
		       ? calendar_end_ms(limit->calendar, f->store_time + (now - f->store_time_at))
		       : 0;
}

static void put_window(struct fleet *f, struct fleet_call *c, int64_t now, const struct account_limit *limit)
{
	put_word(c, limit->kind & LIMIT_CALENDAR ? "c" : "r");
	put_number(c, limit->width_ms);
	put_number(c, (uint64_t)period_end(f, now, limit));
}

/* Keys come first and words after them: the latter are written aside. */
struct writing {
	struct fleet_call *call, rest;
};

static struct writing begin_call(struct fleet *f, struct fleet_call *out)
{
	struct writing w = { .call = out };

	*out = (struct fleet_call){ 0 };
	buf_init(&out->words, CALL_BYTES_MAX);
	buf_init(&w.rest.words, CALL_BYTES_MAX);
	put_word(out, "{postern}:fleet");
	return w;
}

static void put_head(struct fleet *f, struct fleet_call *c, const char *step)
{
	char session[40];

	(void)snprintf(session, sizeof(session), "%016" PRIx64 "-%" PRIu64, f->o.nonce, f->sessions);
	put_word(c, step);
	put_word(c, f->epoch);
	put_word(c, f->id);
	put_word(c, session);
	put_word(c, f->run);
}

static void put_member(struct fleet *f, struct fleet_call *c, int64_t now, const char *step)
{
	put_head(f, c, step);
	put_word(c, f->state == MEMBER ? "1" : "0");
	put_number(c, f->known);
	put_number(c, f->o.widest_window_ms);
	put_number(c, (uint64_t)now);
}

static void end_call(struct fleet *f, struct writing *w, int64_t now, enum fleet_step step)
{
	w->call->keys = w->call->count;
	buf_put_slice(&w->call->words, buf_slice(&w->rest.words));
	w->call->count += w->rest.count;
	if (w->call->words.failed || w->rest.words.failed)
		BUG("a call to the limits-store is longer than it can be");
	buf_release(&w->rest.words);
	f->step = step;
	f->sent_at = now;
}

void fleet_write_join(struct fleet *f, int64_t now, struct fleet_call *out)
{
	const char *note = ledger_note(f->o.ledger);
	struct writing w = begin_call(f, out);
	char fresh[40];

	(void)snprintf(fresh, sizeof(fresh), "%016" PRIx64 ".%" PRIu64, f->o.nonce, f->sessions);
	put_head(f, &w.rest, "join");
	put_word(&w.rest, fresh);
	put_word(&w.rest, f->doubted);
	put_number(&w.rest, f->o.widest_window_ms);
	put_number(&w.rest, (uint64_t)now);
	put_word(&w.rest, note + strcspn(note, " "));
	end_call(f, &w, now, JOIN);
}

/* --- telling what there is --- */

static unsigned charges_of(struct fleet *f, struct account_limit *limit, struct moment t, struct window_charge *out)
{
	uint64_t used = limit_used(limit, t);

	if (f->has_told || used == 0)
		return 0;
	if (limit->window)
		return window_charges(limit->window, t.now, (limit->width_ms + LEASE_GRAINS - 1) / LEASE_GRAINS, out,
				      LEASE_GRAINS + 2);
	out[0] = (struct window_charge){ 0, used };
	return 1;
}

static void tell_limit(struct fleet *f, struct writing *w, struct moment t, struct account *a,
		       struct account_limit *limit)
{
	struct window_charge charge[LEASE_GRAINS + 2];
	unsigned count = charges_of(f, limit, t, charge);
	uint64_t outstanding = account_outstanding(a, limit);

	lease_begin(limit->lease, outstanding);
	if (count == 0 && outstanding == 0)
		return;
	put_key(f, w->call, limit->lease);
	put_window(f, &w->rest, t.now, limit);
	put_number(&w->rest, outstanding);
	put_number(&w->rest, count);
	for (unsigned i = 0; i < count; i++) {
		put_number(&w->rest, (uint64_t)charge[i].age_ms);
		put_number(&w->rest, charge[i].count);
	}
}

/* Accounts may change their places meanwhile. */
static bool is_told(const struct fleet *f, const struct account *a)
{
	for (unsigned i = 0; i < a->limit_count; i++)
		if (a->limit[i].lease && a->limit[i].lease->told != f->o.book->session)
			return false;
	return true;
}

bool fleet_has_told_all(struct fleet *f)
{
	for (unsigned i = 0; i < ledger_account_count(f->o.ledger); i++)
		if (!is_told(f, ledger_account(f->o.ledger, i)))
			return false;
	return true;
}

void fleet_write_tell(struct fleet *f, int64_t now, struct fleet_call *out)
{
	struct writing w = begin_call(f, out);
	struct moment t = ledger_moment(f->o.ledger, now);

	put_member(f, &w.rest, now, "tell");
	while (f->tell_at < ledger_account_count(f->o.ledger) && w.rest.words.len < TELL_BYTES &&
	       w.call->count < FLEET_BATCH) {
		struct account *a = ledger_account(f->o.ledger, f->tell_at++);

		for (unsigned i = 0; i < a->limit_count; i++)
			if (a->limit[i].lease && a->limit[i].lease->told != f->o.book->session)
				tell_limit(f, &w, t, a, &a->limit[i]);
	}
	end_call(f, &w, now, TELL);
}

/* --- asking --- */

static void sync_lease(struct fleet *f, struct writing *w, int64_t now, struct lease *l)
{
	const struct account_limit *limit = &l->account->limit[l->limit];
	uint64_t want = lease_want(l, now, account_outstanding(l->account, limit), limit->amount);

	put_key(f, w->call, l);
	put_window(f, &w->rest, now, limit);
	put_number(&w->rest, limit->amount);
	put_number(&w->rest, l->settled);
	put_number(&w->rest, l->returned);
	put_number(&w->rest, l->settled_known);
	put_number(&w->rest, l->returned_known);
	put_number(&w->rest, want);
	put_number(&w->rest, l->least);
	lease_note_sent(l);
	f->asked[f->asked_count++] = l;
}

void fleet_write_sync(struct fleet *f, int64_t now, struct fleet_call *out)
{
	struct writing w = begin_call(f, out);
	struct lease_book *book = f->o.book;

	put_member(f, &w.rest, now, "sync");
	while (book->due.first && f->asked_count < FLEET_BATCH)
		sync_lease(f, &w, now, book->due.first);
	book->due_at = book->due.first ? now : INT64_MAX;
	book->calls++;
	end_call(f, &w, now, SYNC);
}

void fleet_write_correction(struct fleet *f, int64_t now, struct fleet_call *out)
{
	struct writing w = begin_call(f, out);
	struct correction_job *job = &f->correction;

	put_member(f, &w.rest, now, "correct");
	for (unsigned i = 0; i < job->count; i++) {
		const struct account_limit *limit = &job->lease[i]->account->limit[job->lease[i]->limit];

		put_key(f, w.call, job->lease[i]);
		put_window(f, &w.rest, now, limit);
		put_number(&w.rest, (uint64_t)job->what);
		put_number(&w.rest, limit->amount);
		put_number(&w.rest, job->used);
	}
	job->is_sent = true;
	end_call(f, &w, now, CORRECT);
}
