/* stepwise.c - see stepwise.h. */
#include "scheduler/stepwise.h"
#include "lib/hosts.h"
#include "lib/log.h"
#include "lib/text.h"
#include "scheduler/session.h"
#include <ctype.h>
#include <stdlib.h>

enum {
	SITES_MAX = 10000, /* written down: others are learnt again after a restart */
	PROOF_MESSAGES = 2 /* over one connection: the second envelope travelled behind the first's dot */
};

static const int64_t DAY_MS = INT64_C(86400000), STEPWISE_MS = 30 * INT64_C(86400000);

/* FNV-1a of each host's name, whatever their order: the same in every process, and no harm comes of a collision. */
static uint64_t key_of(struct slice encoded)
{
	static struct hosts hosts; /* 14 KiB, too much for a stack */
	uint64_t key = 0;

	if (!hosts_decode(encoded, &hosts))
		BUG("hosts that came from the resolver do not decode again");
	for (unsigned i = 0; i < hosts.count; i++) {
		uint64_t hash = UINT64_C(0xcbf29ce484222325);

		for (const char *at = hosts.host[i].name; *at; at++)
			hash = (hash ^ (unsigned char)tolower((unsigned char)*at)) * UINT64_C(0x100000001b3);
		key ^= hash;
	}
	return key ? key : 1;
}

static char *note_name(const struct scheduler *s, const struct lane *l)
{
	return xasprintf("stepwise/%s/%016llx", lane_server(s, l)->name, (unsigned long long)l->hosts_key);
}

static struct wall parse_until(struct slice value)
{
	uint64_t until;

	return (struct wall){ text_parse_u64(value, &until) && until <= INT64_MAX ? (int64_t)until : 0 };
}

void stepwise_begin(struct scheduler *s, struct lane *l, struct slice hosts)
{
	struct buf value;
	char *name;

	l->hosts_key = key_of(hosts);
	name = note_name(s, l);
	buf_init(&value, 64);
	if (journal_get_note(s->journal, name, &value))
		l->stepwise_until = parse_until(buf_slice(&value));
	buf_release(&value);
	free(name);
}

bool stepwise_is_on(const struct lane *l)
{
	return l->stepwise_until.ms > clock_wall().ms;
}

bool stepwise_is_in_doubt(const struct lane *l)
{
	return l->broken_flight_at.ms && clock_mono().ms < l->broken_flight_at.ms + DAY_MS;
}

static void write_down(struct scheduler *s, const struct lane *l)
{
	char *name = note_name(s, l), *value = xasprintf("%lld", (long long)l->stepwise_until.ms);

	if (s->stepwise_count >= SITES_MAX || journal_put_note(s->journal, name, slice_of(value)) != STORE_OK)
		log_warn("no room to write down that %s gets one command at a time: a restart would forget it",
			 l->name);
	else
		s->stepwise_count++;
	free(name);
	free(value);
}

void stepwise_on_down(struct scheduler *s, const struct session *session, bool is_flight_broken)
{
	struct lane *l = session->lane;

	if (!is_flight_broken) {
		if (session->delivered_count >= PROOF_MESSAGES)
			l->broken_flight_at.ms = 0;
		return;
	}
	if (!stepwise_is_in_doubt(l)) {
		l->broken_flight_at = clock_mono();
		return;
	}
	/* A network that fails breaks many flights at once: those are one mishap. */
	if (session->opened.ms < l->broken_flight_at.ms)
		return;
	l->broken_flight_at.ms = 0;
	l->stepwise_until.ms = clock_wall().ms + STEPWISE_MS;
	write_down(s, l);
	log_warn("server %s: %s offers PIPELINING and loses what is sent ahead: one command at a time from now on",
		 lane_server(s, l)->name, l->name);
}

/* --- at start --- */

struct stale {
	struct scheduler *s;
	struct wall now;
	char **name;
	unsigned count, room;
};

static void see_note(void *arg, struct slice name, struct slice value)
{
	struct stale *stale = arg;

	if (parse_until(value).ms > stale->now.ms)
		stale->s->stepwise_count++;
	else
		*(char **)array_add((void **)&stale->name, &stale->count, &stale->room, sizeof(char *)) =
			xstrndup(name.ptr, name.len);
}

void stepwise_load(struct scheduler *s)
{
	struct stale stale = { .s = s, .now = clock_wall() };

	if (journal_scan_notes(s->journal, "stepwise/", see_note, &stale) != STORE_OK)
		log_warn("which sites get one command at a time cannot be read");
	for (unsigned i = 0; i < stale.count; i++) {
		if (journal_delete_note(s->journal, stale.name[i]) != STORE_OK)
			log_warn("%s stays written down: the queue database has no room", stale.name[i]);
		free(stale.name[i]);
	}
	free(stale.name);
}
