/* slots.c - see slots.h. */
#include "scheduler/slots.h"
#include "scheduler/lane.h"
#include "scheduler/session.h"

void slots_init(struct scheduler *s)
{
	const struct conf *conf = s->conf;

	s->destination = xcalloc((size_t)conf->destination_count + 1, sizeof(*s->destination));
	for (unsigned i = 0; i < conf->server_count; i++)
		s->server[i].slots.most = conf->server[i].max_connections;
	for (unsigned i = 0; i < conf->destination_count; i++)
		s->destination[i].most = conf->destination[i].max_connections;
}

static struct slots *of_server(const struct scheduler *s, unsigned server)
{
	return &s->server[server].slots;
}

static struct slots *of_destination(const struct scheduler *s, const struct conf_destination *d)
{
	return d ? &s->destination[d - s->conf->destination] : NULL;
}

static bool is_full(const struct slots *at)
{
	return at && ((at->most > 0 && at->connections >= at->most) ||
		      (at->window > 0 && at->connections >= (unsigned)at->window));
}

/* --- the ring of lanes that wait --- */

static void leave(struct lane *l)
{
	struct slots *at = l->waits_for;

	if (l->next_wanting == l) {
		at->wanting = NULL;
	} else {
		l->prev_wanting->next_wanting = l->next_wanting;
		l->next_wanting->prev_wanting = l->prev_wanting;
		if (at->wanting == l)
			at->wanting = l->next_wanting;
	}
	l->waits_for = NULL;
	l->next_wanting = l->prev_wanting = NULL;
}

static void join(struct slots *at, struct lane *l)
{
	if (l->waits_for == at)
		return;
	if (l->waits_for)
		leave(l);
	l->waits_for = at;
	if (at->wanting) {
		l->next_wanting = at->wanting;
		l->prev_wanting = at->wanting->prev_wanting;
		l->prev_wanting->next_wanting = l->next_wanting->prev_wanting = l;
	} else {
		l->next_wanting = l->prev_wanting = l;
		at->wanting = l;
	}
}

static void offer(struct scheduler *s, struct slots *at)
{
	struct lane *l = at && !is_full(at) ? at->wanting : NULL;

	if (!l)
		return;
	leave(l);
	lane_mark_dirty(s, l);
}

bool slots_ask(struct scheduler *s, struct lane *l)
{
	struct slots *at = of_destination(s, l->destination);

	if (!is_full(at))
		at = of_server(s, l->server);
	if (!is_full(at))
		return true;
	join(at, l);
	session_hang_up_idle(s, at);
	return false;
}

void slots_take(struct scheduler *s, unsigned server, const struct conf_destination *d)
{
	of_server(s, server)->connections++;
	if (d)
		of_destination(s, d)->connections++;
}

void slots_give_back(struct scheduler *s, unsigned server, const struct conf_destination *d)
{
	of_server(s, server)->connections--;
	if (d)
		of_destination(s, d)->connections--;
	slots_pass_on(s, server, d);
}

/* Each lane that is asked leaves its ring, so this ends. */
void slots_pass_on(struct scheduler *s, unsigned server, const struct conf_destination *d)
{
	offer(s, of_server(s, server));
	offer(s, of_destination(s, d));
}

bool slots_are_wanted(const struct scheduler *s, unsigned server, const struct conf_destination *d)
{
	return of_server(s, server)->wanting || (d && of_destination(s, d)->wanting);
}

bool slots_include(const struct scheduler *s, const struct slots *at, unsigned server, const struct conf_destination *d)
{
	return at == of_server(s, server) || (d && at == of_destination(s, d));
}

/* --- fewer --- */

bool slots_use_fewer(struct scheduler *s, unsigned server)
{
	struct slots *at = of_server(s, server);

	if (at->connections < 2)
		return false;
	at->throttled = clock_mono();
	if (at->window == 0 || at->connections - 1 < at->window)
		at->window = at->connections - 1;
	return true;
}

void slots_on_success(struct scheduler *s, unsigned server)
{
	struct slots *at = of_server(s, server);

	if (at->window == 0 || clock_mono().ms < at->throttled.ms + LANE_GROWTH_PAUSE_MS)
		return;
	at->window += 1 / at->window; /* one more for each round of successes */
	if (at->window >= at->most)
		at->window = 0;
}
