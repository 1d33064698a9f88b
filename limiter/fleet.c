/* fleet.c - see fleet.h. Words of calls and answers: store.lua. */
#include "lib/log.h"
#include "lib/text.h"
#include "limiter/fleet_private.h"
#include <inttypes.h>
#include <stdlib.h>

enum {
	JUMP_MS = 20, /* the store's clock may run so much ahead of ours between two answers, and a thousandth faster */
	TWIN_PAUSE_MS = 60000,
	JOIN_WORDS = 6,
	HEAD_WORDS = 7, /* of an answer to anything but a join */
	SYNC_WORDS = 3  /* and for each counter */
};

/* --- the roll: "OURSELVES HOST HOST ..." --- */

static void read_note(struct fleet *f)
{
	const char *note = ledger_note(f->o.ledger);
	size_t len = strcspn(note, " ");
	char *fresh;

	if (len > 0) {
		f->id = xstrndup(note, len);
		return;
	}
	fresh = xasprintf("%s-%08" PRIx32, f->o.hostname, (uint32_t)(f->o.nonce ^ f->o.nonce >> 32));
	f->id = fresh;
	ledger_set_note(f->o.ledger, fresh);
}

static void store_roll(struct fleet *f, struct slice hosts, uint64_t version)
{
	char *note = xasprintf("%s%.*s", f->id, (int)hosts.len, hosts.ptr);

	if (strcmp(note, ledger_note(f->o.ledger)) != 0)
		ledger_set_note(f->o.ledger, note);
	f->roll = version;
	free(note);
}

struct fleet *fleet_new(const struct fleet_options *o)
{
	struct fleet *f = xcalloc(1, sizeof(*f));

	f->o = *o;
	f->epoch = xstrdup("-");
	f->doubted = xstrdup("");
	f->run = xstrdup("-");
	f->heard_at = INT64_MIN / 2;
	f->correction.state = FLEET_CORRECTED;
	o->book->is_open = true; /* the first connection may take a moment */
	read_note(f);
	return f;
}

static void forget_asked(struct fleet *f)
{
	for (unsigned i = 0; i < f->asked_count; i++)
		f->asked[i]->is_asked = false;
	f->asked_count = 0;
}

static void end_correction(struct fleet *f, enum fleet_correction state)
{
	for (unsigned i = 0; i < f->correction.count; i++)
		f->correction.lease[i]->is_asked = false;
	f->correction.count = 0;
	f->correction.state = state;
}

void fleet_free(struct fleet **f)
{
	if (!*f)
		return;
	free((*f)->id);
	free((*f)->run);
	free((*f)->epoch);
	free((*f)->doubted);
	free(*f);
	*f = NULL;
}

/* --- the connection --- */

static void replace(char **text, const char *with)
{
	free(*text);
	*text = xstrdup(with);
}

void fleet_look_at_clock(struct fleet *f, int64_t now)
{
	bool is_in_time = now < f->heard_at + FLEET_USE_MS;

	f->o.book->is_usable = f->has_begun && (f->state == MEMBER || f->o.may_share) && is_in_time;
}

static void begin_session(struct fleet *f)
{
	forget_asked(f);
	lease_book_begin_session(f->o.book);
	f->sessions++;
	f->state = JOINING;
	f->step = NOTHING;
	f->known = f->roll = 0;
	f->has_begun = false;
	f->store_time = 0;
}

/* A member goes on where it was: the store says when it is another one, or has lost something. */
void fleet_connected(struct fleet *f, int64_t now, const char *run)
{
	bool is_other = strcmp(run, f->run) != 0;

	replace(&f->run, run);
	f->o.book->is_open = true;
	f->sent_at = INT64_MIN / 2;
	f->state = MEMBER;
	if (is_other || !f->has_begun)
		begin_session(f);
	fleet_look_at_clock(f, now);
}

void fleet_disconnected(struct fleet *f, int64_t now, const char *why)
{
	for (unsigned i = 0; i < f->asked_count; i++)
		lease_touch(f->asked[i], now);
	forget_asked(f);
	if (f->correction.state == FLEET_CORRECTING)
		end_correction(f, FLEET_CORRECTION_LOST);
	f->state = AWAY;
	f->step = NOTHING;
	f->o.book->is_open = false;
	(void)snprintf(f->trouble, sizeof(f->trouble), "limits-store is away: %s", why);
	fleet_look_at_clock(f, now);
}

bool fleet_is_away(const struct fleet *f)
{
	return !f->o.book->is_open;
}

const char *fleet_trouble(const struct fleet *f)
{
	if (f->state == AWAY && !f->o.book->is_open)
		return f->trouble;
	if (f->waits_for[0] && f->state == MEMBER)
		return f->waits_for;
	return NULL;
}

/* --- calls --- */

static bool has_correction(const struct fleet *f)
{
	return f->correction.state == FLEET_CORRECTING && !f->correction.is_sent;
}

int64_t fleet_next_at(const struct fleet *f)
{
	int64_t due, wake = lease_book_wake_at(f->o.book);

	if (f->state == AWAY || f->step != NOTHING)
		return INT64_MAX;
	if (f->state != MEMBER)
		return f->not_before;
	if (has_correction(f))
		return INT64_MIN;
	due = f->sent_at + FLEET_HEARTBEAT_MS;
	due = f->o.book->due_at < due ? f->o.book->due_at : due;
	due = wake < due ? wake : due;
	return due > f->not_before ? due : f->not_before;
}

bool fleet_next(struct fleet *f, int64_t now, struct fleet_call *out)
{
	fleet_look_at_clock(f, now);
	f->known = f->roll;
	if (now < fleet_next_at(f))
		return false;
	if (f->state == MEMBER)
		lease_book_wake(f->o.book, now);
	if (f->state == JOINING)
		fleet_write_join(f, now, out);
	else if (f->state == TELLING)
		fleet_write_tell(f, now, out);
	else if (has_correction(f))
		fleet_write_correction(f, now, out);
	else
		fleet_write_sync(f, now, out);
	return true;
}

/* --- reading answers --- */

static bool read_number(struct slice word, int64_t *out)
{
	bool is_negative = word.len > 0 && word.ptr[0] == '-';
	struct slice digits = { word.ptr + is_negative, word.len - is_negative };
	uint64_t number;

	if (!text_parse_u64(digits, &number) || number > INT64_MAX / 2)
		return false;
	*out = is_negative ? -(int64_t)number : (int64_t)number;
	return true;
}

static void lose(struct fleet *f, const char *why)
{
	log_warn("limits: %s: counting begins anew, with what every host has used", why);
	begin_session(f);
}

/* Whether the store's clock did what ours did since last time; when it ran ahead, windows were emptied by it. */
static bool is_clock_sane(struct fleet *f, int64_t now, int64_t store_time)
{
	int64_t ours = now - f->store_time_sent_at;
	bool is_sane = f->store_time == 0 || store_time - f->store_time <= ours + ours / 1000 + JUMP_MS;

	f->store_time = store_time;
	f->store_time_at = now;
	f->store_time_sent_at = f->sent_at;
	return is_sane;
}

static bool doubt_clock(struct fleet *f)
{
	replace(&f->doubted, f->epoch);
	lose(f, "the limits-store's clock has jumped");
	return true;
}

/* joined, time, epoch, whether we told in it what we used, when it heard of us last, by its clock and by ours */
static bool take_join(struct fleet *f, int64_t now, const struct slice *word, unsigned count)
{
	int64_t store_time, heard, heard_here;
	char *epoch;

	if (count != JOIN_WORDS || !slice_is(word[0], "joined") || !read_number(word[1], &store_time) ||
	    word[2].len == 0 || !read_number(word[4], &heard) || !read_number(word[5], &heard_here))
		return false;
	epoch = xstrndup(word[2].ptr, word[2].len);
	replace(&f->epoch, epoch);
	replace(&f->doubted, "");
	free(epoch);
	f->has_told = slice_is(word[3], "1");
	f->store_time = heard;
	f->store_time_sent_at = heard_here;
	if (!is_clock_sane(f, now, store_time))
		return doubt_clock(f);
	f->heard_at = f->sent_at;
	f->state = TELLING;
	f->tell_at = 0;
	return true;
}

/* ok, time, version of the roll, the roll when ours is another, who is waited for, how many they are, corrections */
static bool take_head(struct fleet *f, int64_t now, const struct slice *word, unsigned count)
{
	int64_t store_time, version, members, corrected;

	if (count < HEAD_WORDS || !read_number(word[1], &store_time) || !read_number(word[2], &version) ||
	    !read_number(word[5], &members) || !read_number(word[6], &corrected))
		return false;
	f->has_correction_news |= corrected != f->corrected;
	f->corrected = corrected;
	f->heard_at = f->sent_at;
	f->o.book->members = members > 0 ? (unsigned)members : 1;
	f->waits_for[0] = '\0';
	if (word[4].len > 0)
		(void)snprintf(f->waits_for, sizeof(f->waits_for), "limits-store waits for %.*s", (int)word[4].len,
			       word[4].ptr);
	if (word[3].len > 0) {
		store_roll(f, word[3], (uint64_t)version);
		f->o.book->due_at = now; /* others wait until it is known that we have it */
	}
	return true;
}

static bool take_sync(struct fleet *f, int64_t now, const struct slice *word, unsigned count)
{
	if (count != HEAD_WORDS + SYNC_WORDS * f->asked_count)
		return false;
	for (unsigned i = 0; i < f->asked_count; i++) {
		const struct slice *at = word + HEAD_WORDS + SYNC_WORDS * i;
		struct lease *l = f->asked[i];
		int64_t granted, used, wait;

		if (!read_number(at[0], &granted) || !read_number(at[1], &used) || !read_number(at[2], &wait))
			return false;
		lease_take_answer(l, now, f->o.book->calls,
				  account_outstanding(l->account, &l->account->limit[l->limit]),
				  &(struct lease_answer){ (uint64_t)granted, (uint64_t)used, wait });
	}
	forget_asked(f);
	return true;
}

static bool take_correction(struct fleet *f, int64_t now, const struct slice *word, unsigned count)
{
	struct correction_job *job = &f->correction;
	int64_t before;

	if (count != HEAD_WORDS + job->count || !read_number(word[HEAD_WORDS], &before))
		return false;
	job->before = (uint64_t)before;
	for (unsigned i = 0; i < job->count; i++)
		lease_touch(job->lease[i], now);
	end_correction(f, FLEET_CORRECTED);
	return true;
}

static bool take_tell(struct fleet *f, unsigned count)
{
	if (count != HEAD_WORDS)
		return false;
	if (f->tell_at < ledger_account_count(f->o.ledger))
		return true;
	f->tell_at = 0;
	if (fleet_has_told_all(f)) {
		f->state = MEMBER;
		f->has_begun = true;
		f->o.book->due_at = INT64_MIN; /* say at once that we are ready */
	}
	return true;
}

/* The session is no longer ours: the store knows nothing of it, or another one goes by our name. */
static bool take_refusal(struct fleet *f, int64_t now, struct slice word)
{
	if (f->correction.state == FLEET_CORRECTING)
		end_correction(f, FLEET_CORRECTION_LOST);
	if (slice_is(word, "lost")) {
		lose(f, "the limits-store has lost what it knew, or was started anew");
		return true;
	}
	if (!slice_is(word, "replaced"))
		return false;
	log_error(
		"limits: another Postern goes by the name %s in the limits-store: is this spool, or that one, a copy? "
		"Nothing is granted for a minute",
		f->id);
	begin_session(f);
	f->not_before = now + TWIN_PAUSE_MS;
	return true;
}

bool fleet_take_answer(struct fleet *f, int64_t now, const struct slice *word, unsigned count)
{
	enum fleet_step step = f->step;
	int64_t store_time;

	f->step = NOTHING;
	if (count == 0 || step == NOTHING)
		return false;
	if (step == JOIN)
		return take_join(f, now, word, count);
	if (!slice_is(word[0], "ok"))
		return take_refusal(f, now, word[0]);
	if (count < 2 || !read_number(word[1], &store_time))
		return false;
	if (!is_clock_sane(f, now, store_time)) {
		if (f->correction.state == FLEET_CORRECTING)
			end_correction(f, FLEET_CORRECTION_LOST);
		return doubt_clock(f);
	}
	if (!take_head(f, now, word, count))
		return false;
	fleet_look_at_clock(f, now);
	if (step == TELL)
		return take_tell(f, count);
	return step == CORRECT ? take_correction(f, now, word, count) : take_sync(f, now, word, count);
}

/* --- corrections --- */

bool fleet_take_correction_news(struct fleet *f)
{
	bool has = f->has_correction_news;

	f->has_correction_news = false;
	return has;
}

bool fleet_correct(struct fleet *f, struct account *a, const unsigned index[], unsigned count,
		   const struct correction *c)
{
	struct correction_job *job = &f->correction;

	if (job->state == FLEET_CORRECTING || f->state != MEMBER)
		return false;
	*job = (struct correction_job){ .what = c->kind, .used = c->used, .state = FLEET_CORRECTING };
	for (unsigned i = 0; i < count; i++)
		if (a->limit[index[i]].lease) {
			job->lease[job->count++] = a->limit[index[i]].lease;
			a->limit[index[i]].lease->is_asked = true;
		}
	return true;
}

enum fleet_correction fleet_correction_state(struct fleet *f, uint64_t *before)
{
	*before = f->correction.before;
	return f->correction.state;
}
