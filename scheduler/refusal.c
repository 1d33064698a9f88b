/* refusal.c - see refusal.h. The count is written down in the journal as "refused/NAME": decimal. */
#include "scheduler/refusal.h"
#include "lib/log.h"
#include "lib/text.h"
#include "scheduler/pause.h"
#include <stdlib.h>

enum {
	FIRST_PAUSE_MS = 15 * 60 * 1000,
	LONGEST_PAUSE_MS = 6 * 3600 * 1000,
	FIRST_OUTAGE_MS = 60 * 1000, /* the server cannot judge passwords now: nobody has to mend anything here */
	LONGEST_OUTAGE_MS = 3600 * 1000,
	COUNT_MAX = 100
};

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

static uint64_t pause_ms(uint64_t first, uint64_t longest, unsigned count)
{
	uint64_t wait = first;

	while (--count > 0 && wait < longest)
		wait *= 2;
	return wait < longest ? wait : longest;
}

bool refusal_is_one(const struct scheduler *s, unsigned server, const struct msg_session_down *m)
{
	return m->cause == FAILURE_AUTH && s->conf->server[server].method == METHOD_RELAY;
}

/* The access token may have been called back before its time: master fetches another. */
static void tell_master(struct scheduler *s, unsigned server)
{
	const struct msg_login_refused m = { .server = conf_server_key(&s->conf->server[server]) };
	struct msg_head head = proc_master_head(s->proc);
	struct packet p;

	msg_encode_login_refused(&p, &head, &m);
	proc_tell_master(&p);
}

/* 454 and its like say nothing of the password. 432, "a password transition is needed", does. RFC 4954 6 */
static bool is_outage(unsigned code)
{
	return code >= 400 && code < 500 && code != 432;
}

void refusal_note(struct scheduler *s, unsigned server, unsigned code, struct slice why)
{
	struct server_state *state = &s->server[server];
	unsigned *count = is_outage(code) ? &state->login_outages : &state->refusals;

	if (pause_is_on(s, server))
		return; /* sessions that were opened together are refused together: once */
	if (*count < COUNT_MAX)
		++*count;
	if (is_outage(code)) {
		pause_begin(s, server, pause_ms(FIRST_OUTAGE_MS, LONGEST_OUTAGE_MS, *count), why);
		return;
	}
	write_down(s, server);
	pause_begin(s, server, pause_ms(FIRST_PAUSE_MS, LONGEST_PAUSE_MS, *count), why);
	if (s->conf->server[server].oauth2.is_set)
		tell_master(s, server);
}

void refusal_forget(struct scheduler *s, unsigned server)
{
	char *name;

	if (s->server[server].refusals == 0 && s->server[server].login_outages == 0)
		return;
	if (pause_is_on(s, server))
		return; /* it was on its way when another was refused: what has changed since, it does not know */
	s->server[server].refusals = s->server[server].login_outages = 0;
	name = note_name(s, server);
	if (journal_delete_note(s->journal, name) != STORE_OK)
		log_warn("%s stays written down: the queue database has no room", name);
	free(name);
	log_warn("server %s: logged in again", s->conf->server[server].name);
}

void refusal_on_new_secrets(struct scheduler *s, const struct msg_new_secrets *m)
{
	/* Refusals of what went before: they are to be heard first. */
	for (unsigned i = 0; i < s->worker_count; i++)
		channel_drain_input(s->worker[i].channel);
	for (unsigned i = 0; i < m->servers.count; i++) {
		unsigned server = msg_u32(&m->servers, i);

		if (server >= s->conf->server_count ||
		    (s->server[server].refusals == 0 && s->server[server].login_outages == 0))
			continue;
		/* Refused once more, the wait begins as if for the second time; but a token fetched by itself is no
		 * hope of that kind. */
		if (s->server[server].refusals > 0 && !m->is_token)
			s->server[server].refusals = 1;
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
