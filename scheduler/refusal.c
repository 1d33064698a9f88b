/* refusal.c - see refusal.h. The count is written down in the journal as "refused/NAME": decimal. */
#include "scheduler/refusal.h"
#include "lib/log.h"
#include "lib/text.h"
#include "scheduler/pause.h"
#include <stdlib.h>

enum { FIRST_PAUSE_MS = 15 * 60 * 1000, LONGEST_PAUSE_MS = 6 * 3600 * 1000, COUNT_MAX = 100 };

static char *note_name(const struct scheduler *s, unsigned server)
{
	return xasprintf("refused/%s", s->conf->server[server].name);
}

static void write_down(struct scheduler *s, unsigned server)
{
	char *name = note_name(s, server), *count = xasprintf("%u", s->server[server].refusals);

	if (journal_put_note(s->journal, name, slice_of(count)) != STORE_OK)
		log_warn("no room to write down that server %s refuses our login", s->conf->server[server].name);
	free(name);
	free(count);
}

static uint64_t pause_ms(unsigned refusals)
{
	uint64_t wait = FIRST_PAUSE_MS;

	while (--refusals > 0 && wait < LONGEST_PAUSE_MS)
		wait *= 2;
	return wait < LONGEST_PAUSE_MS ? wait : LONGEST_PAUSE_MS;
}

bool refusal_is_one(const struct scheduler *s, unsigned server, const struct msg_session_down *m)
{
	/* 4yz: its user database is away, and the password was not judged. */
	return m->cause == FAILURE_AUTH && (m->code == 0 || m->code >= 500) &&
	       s->conf->server[server].method == METHOD_RELAY;
}

void refusal_note(struct scheduler *s, unsigned server, struct slice why)
{
	struct server_state *state = &s->server[server];

	if (pause_is_on(s, server))
		return; /* sessions that were opened together are refused together: once */
	if (state->refusals < COUNT_MAX)
		state->refusals++;
	write_down(s, server);
	pause_begin(s, server, pause_ms(state->refusals), why);
}

void refusal_forget(struct scheduler *s, unsigned server)
{
	char *name;

	if (s->server[server].refusals == 0)
		return;
	s->server[server].refusals = 0;
	name = note_name(s, server);
	if (journal_delete_note(s->journal, name) != STORE_OK)
		log_warn("%s stays written down: the queue database has no room", name);
	free(name);
	log_warn("server %s: logged in again", s->conf->server[server].name);
}

void refusal_on_new_secrets(struct scheduler *s, const struct msg_new_secrets *m)
{
	for (unsigned i = 0; i < m->servers.count; i++) {
		unsigned server = msg_u32(&m->servers, i);

		if (server >= s->conf->server_count || s->server[server].refusals == 0)
			continue;
		s->server[server].refusals = 1; /* refused once more, the wait begins as if for the second time */
		pause_end(s, server);
	}
}

static void load_one(struct scheduler *s, unsigned server)
{
	char *name = note_name(s, server);
	struct buf value;
	uint64_t count;

	buf_init(&value, 64);
	if (journal_get_note(s->journal, name, &value) && text_parse_u64(buf_slice(&value), &count) && count > 0) {
		s->server[server].refusals = count < COUNT_MAX ? (unsigned)count : COUNT_MAX;
		pause_end(s, server);
	}
	buf_release(&value);
	free(name);
}

void refusal_load(struct scheduler *s)
{
	for (unsigned i = 0; i < s->conf->server_count; i++)
		load_one(s, i);
}
