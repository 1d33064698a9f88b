/* gate.c - see gate.h. */
#include "scheduler/gate.h"
#include "lib/log.h"
#include "scheduler/dispatch.h"
#include "scheduler/refusal.h"
#include "scheduler/target.h"
#include <stdlib.h>

/* What was on its way when the login was renewed may still be refused: so many are no sign that it did not help. */
enum { LATE_REFUSALS_MAX = 8 };

struct gate {
	struct mono valid_until;      /* 0: not logged in */
	const struct worker *visitor; /* NULL: nobody is under way */
	uint32_t request;
	bool is_doubted;   /* logged in anew because of a refusal; nothing was delivered since */
	unsigned refusals; /* since then */
};

static struct gate *get(struct scheduler *s, unsigned server)
{
	if (!s->server[server].gate)
		s->server[server].gate = xcalloc(1, sizeof(struct gate));
	return s->server[server].gate;
}

static void mark_lanes(struct scheduler *s, unsigned server)
{
	for (uint32_t k = 1; k < s->lane_limit; k++)
		if (s->lane[k] && s->lane[k]->server == server)
			lane_mark_dirty(s, s->lane[k]);
}

static struct worker *choose_visitor(struct scheduler *s)
{
	for (unsigned i = 0; i < s->worker_count; i++) {
		struct worker *w = &s->worker[i];

		if (w->state == WORKER_UP && !proc_peer_is_ending(s->proc, SCHEDULER_PEER_WORKER + i) &&
		    !channel_is_full(w->channel))
			return w;
	}
	return NULL; /* one that comes up makes all lanes try again */
}

static void send_visitor(struct scheduler *s, struct gate *g, unsigned server, struct slice hosts)
{
	struct worker *w = choose_visitor(s);
	struct msg_pop_login m = { .server = conf_server_key(&s->conf->server[server]), .hosts = hosts };
	struct msg_head head;
	struct packet p;

	if (!w)
		return;
	g->visitor = w;
	m.request = g->request = ++s->next_request;
	head = channel_head(w->channel);
	msg_encode_pop_login(&p, &head, &m);
	channel_send(w->channel, &p);
}

bool gate_is_open(struct scheduler *s, struct lane *l)
{
	const struct conf_pop *pop = &s->conf->server[l->server].pop;
	struct target *t;
	struct gate *g;

	if (!pop->is_set)
		return true;
	g = get(s, l->server);
	if (g->valid_until.ms > clock_mono().ms)
		return true;
	if (g->visitor)
		return false;
	t = target_get(s, l->server, pop->host);
	if (t->state == TARGET_KNOWN)
		send_visitor(s, g, l->server, (struct slice){ t->hosts, t->hosts_len });
	else if (t->state == TARGET_ASKED)
		t->is_lane_waiting = true;
	else
		lane_on_failure(s, l, FAILURE_DNS, 0, slice_of("4.4.3"), slice_of(t->text), slice_of("none"));
	return false;
}

static void fail_lanes(struct scheduler *s, unsigned server, const struct msg_pop_done *m)
{
	for (uint32_t k = 1; k < s->lane_limit; k++)
		if (s->lane[k] && s->lane[k]->server == server && s->lane[k]->ready_count > 0)
			lane_on_failure(s, s->lane[k], (enum failure_cause)m->cause, 0, slice_of("4.7.0"), m->text,
					m->relay);
}

void gate_on_done(struct scheduler *s, struct worker *w, const struct msg_pop_done *m)
{
	int server = conf_find_server_key(s->conf, m->server);
	struct gate *g = server >= 0 ? s->server[server].gate : NULL;

	if (!g || g->visitor != w || g->request != m->request)
		return;
	g->visitor = NULL;
	if (m->cause == FAILURE_NONE) {
		g->valid_until.ms = clock_mono().ms + (int64_t)s->conf->server[server].pop.valid_for_ms;
		log_info("server %s: logged in at %.*s, POP before SMTP", s->conf->server[server].name,
			 (int)m->relay.len, m->relay.ptr);
		mark_lanes(s, (unsigned)server);
	} else if (m->cause == FAILURE_AUTH) {
		refusal_note(s, (unsigned)server, 0, m->text);
	} else if (m->cause == FAILURE_LOCAL && proc_peer_is_ending(s->proc, SCHEDULER_PEER_WORKER + w->index)) {
		mark_lanes(s, (unsigned)server); /* somebody else has to go */
	} else {
		fail_lanes(s, (unsigned)server, m);
	}
}

void gate_worker_lost(struct scheduler *s, const struct worker *w)
{
	for (unsigned i = 0; i < s->conf->server_count; i++) {
		if (!s->server[i].gate || s->server[i].gate->visitor != w)
			continue;
		s->server[i].gate->visitor = NULL;
		mark_lanes(s, i);
	}
}

static bool speaks_of_relaying(struct slice text)
{
	static const char *const WORDS[] = { "relay",     "authent",    "pop before",      "pop-before",
					     "pop first", "check mail", "check your mail", "check for mail",
					     "rcpthosts", " 530 " };

	for (size_t at = 0; at < text.len; at++) {
		for (unsigned i = 0; i < ARRAY_LEN(WORDS); i++) {
			size_t len = strlen(WORDS[i]);

			if (text.len - at >= len &&
			    slice_equal_nocase((struct slice){ text.ptr + at, len }, (struct slice){ WORDS[i], len }))
				return true;
		}
	}
	return false;
}

bool gate_on_refusal(struct scheduler *s, unsigned server, struct slice text)
{
	struct gate *g = s->server[server].gate;

	if (!g || !s->conf->server[server].pop.is_set || !speaks_of_relaying(text))
		return false;
	if (g->valid_until.ms == 0) /* on its way since before the login is renewed */
		return true;
	if (g->is_doubted)
		return ++g->refusals <= LATE_REFUSALS_MAX;
	g->is_doubted = true;
	g->refusals = 0;
	g->valid_until.ms = 0;
	log_info("server %s does not relay for us: POP once more: %.*s", s->conf->server[server].name, (int)text.len,
		 text.ptr);
	return true;
}

void gate_on_delivered(struct scheduler *s, unsigned server)
{
	if (server < s->conf->server_count && s->server[server].gate)
		s->server[server].gate->is_doubted = false;
}
