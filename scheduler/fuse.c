/* fuse.c - see fuse.h. Written down in the journal as "fuse/NAME": how often it was paused for it, decimal. */
#include "scheduler/fuse.h"
#include "lib/log.h"
#include "lib/text.h"
#include "scheduler/pause.h"
#include "scheduler/verdict.h"
#include <stdlib.h>

enum { FIRST_PAUSE_MS = 3600 * 1000, LONGEST_PAUSE_MS = 6 * 3600 * 1000, TRIPS_MAX = 100, WHY_MAX = 600 };

struct fuse {
	unsigned trips; /* 0: whole */
	struct mono since;
	unsigned messages, domains;
	uint64_t last_id;
	uint64_t domain[FUSE_DOMAINS]; /* hashes */
};

static const struct reply_rule BLOWN = { .scope = REPLY_SERVER, .action = REPLY_PAUSE };

static char *note_name(const struct scheduler *s, unsigned server)
{
	return xasprintf("fuse/%s", s->conf->server[server].name);
}

static void write_down(struct scheduler *s, unsigned server)
{
	char *name = note_name(s, server), *trips = xasprintf("%u", s->server[server].fuse->trips);

	if (journal_put_note(s->journal, name, slice_of(trips)) != STORE_OK)
		log_warn("no room to write down that server %s refuses everything", s->conf->server[server].name);
	free(name);
	free(trips);
}

static struct fuse *get(struct scheduler *s, unsigned server)
{
	if (!s->server[server].fuse)
		s->server[server].fuse = xcalloc(1, sizeof(struct fuse));
	return s->server[server].fuse;
}

static void note_domain(struct fuse *f, const char *address)
{
	const char *at = strrchr(address, '@');
	uint64_t hash = text_hash(at ? at : address, strlen(at ? at : address));

	for (unsigned i = 0; i < f->domains; i++)
		if (f->domain[i] == hash)
			return;
	if (f->domains < FUSE_DOMAINS)
		f->domain[f->domains++] = hash;
}

/* True when that was one too many. Reports to senders follow from what is counted, and do not count themselves. */
static bool count(struct fuse *f, const struct record *r)
{
	struct mono now = clock_mono();

	if (!*r->sender)
		return false;
	if (f->messages == 0 || now.ms - f->since.ms > FUSE_WINDOW_MS)
		*f = (struct fuse){ .since = now };
	if (r->id != f->last_id)
		f->messages++;
	f->last_id = r->id;
	for (unsigned i = 0; i < r->rcpt_count && f->domains < FUSE_DOMAINS; i++)
		note_domain(f, r->rcpt[i].address);
	return f->messages >= FUSE_MESSAGES && f->domains >= FUSE_DOMAINS;
}

static void blow(struct scheduler *s, unsigned server, struct fuse *f, struct slice text)
{
	uint64_t wait_ms = FIRST_PAUSE_MS;
	struct buf why;

	for (unsigned i = 0; i < f->trips && wait_ms < LONGEST_PAUSE_MS; i++)
		wait_ms *= 2;
	if (f->trips < TRIPS_MAX)
		f->trips++;
	write_down(s, server);
	buf_init(&why, WHY_MAX);
	buf_printf(&why, "it refuses everything, so nothing bounces; the last: %.*s",
		   (int)(text.len < 400 ? text.len : 400), text.ptr);
	pause_begin(s, server, wait_ms < LONGEST_PAUSE_MS ? wait_ms : LONGEST_PAUSE_MS, buf_slice(&why));
	buf_release(&why);
}

const struct reply_rule *fuse_on_refusal(struct scheduler *s, unsigned server, const struct record *r, unsigned code,
					 struct slice dsn, struct slice text)
{
	bool is_direct = s->conf->server[server].method == METHOD_DIRECT;
	struct fuse *f;

	if (is_direct ? verdict_is_final(false, code, dsn) : verdict_is_about_message(code, dsn))
		return NULL;
	f = get(s, server);
	if (f->trips == 0 && !count(f, r))
		return NULL;
	if (!pause_is_on(s, server)) /* else it was on its way when the pause began */
		blow(s, server, f, text);
	return &BLOWN;
}

void fuse_on_delivered(struct scheduler *s, unsigned server)
{
	struct fuse *f = s->server[server].fuse;
	char *name;

	if (!f)
		return;
	if (f->trips > 0) {
		name = note_name(s, server);
		if (journal_delete_note(s->journal, name) != STORE_OK)
			log_warn("%s stays written down: the queue database has no room", name);
		free(name);
		log_warn("server %s: it takes mail again", s->conf->server[server].name);
		pause_end(s, server);
	}
	s->server[server].fuse = NULL;
	free(f);
}

static void load_one(struct scheduler *s, unsigned server)
{
	char *name = note_name(s, server);
	struct buf value;
	uint64_t trips;

	buf_init(&value, 64);
	if (journal_get_note(s->journal, name, &value) && text_parse_u64(buf_slice(&value), &trips) && trips > 0) {
		get(s, server)->trips = trips < TRIPS_MAX ? (unsigned)trips : TRIPS_MAX;
		pause_end(s, server);
	}
	buf_release(&value);
	free(name);
}

void fuse_load(struct scheduler *s)
{
	for (unsigned i = 0; i < s->conf->server_count; i++)
		load_one(s, i);
}
