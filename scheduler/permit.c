/* permit.c - the scheduler's side of limits. One open question per server, settlements repeated until answered. */
#include "scheduler/permit.h"
#include "lib/log.h"
#include "scheduler/dispatch.h"
#include <stdlib.h>

enum { ASK_MESSAGES_MAX = 100 };

/* A SETTLE under way; kept until SETTLED. */
struct settlement {
	struct settlement *next;
	struct msg_settle m; /* m.scopes points into the configuration */
	unsigned server;
};

bool permit_is_needed(const struct scheduler *s, unsigned server)
{
	return s->conf->server[server].limits.count > 0;
}

static struct slice name_of(const struct scheduler *s, unsigned server)
{
	return slice_of(s->conf->server[server].name);
}

static void send_ask(struct scheduler *s, unsigned server)
{
	struct server_state *state = &s->server[server];
	struct msg_permit_ask m = { .request = state->ask_request, .scopes = name_of(s, server) };
	struct msg_head head = channel_head(s->limiter);
	struct packet p;

	if (!s->is_limiter_up)
		return; /* permit_resync() repeats it */
	m.messages = state->ask_messages;
	m.recipients = state->ask_recipients;
	m.first = state->next_rcpts;
	msg_encode_permit_ask(&p, &head, &m);
	channel_send(s->limiter, &p);
}

static void ask(struct scheduler *s, unsigned server, unsigned rcpts)
{
	struct server_state *state = &s->server[server];
	unsigned messages = state->waiting + 1;

	if (state->ask_request)
		return;
	if (state->blocked_until.ms && state->blocked_until.ms > clock_wall().ms)
		return;
	state->ask_request = ++s->next_request;
	state->ask_messages = messages < ASK_MESSAGES_MAX ? messages : ASK_MESSAGES_MAX;
	state->ask_recipients = state->ask_messages - 1 + rcpts;
	send_ask(s, server);
}

bool permit_is_ready(struct scheduler *s, unsigned server)
{
	struct server_state *state = &s->server[server];

	if (!permit_is_needed(s, server) || (state->permit_messages > 0 && state->permit_recipients > 0))
		return true;
	ask(s, server, state->next_rcpts > 0 ? state->next_rcpts : 1);
	return false;
}

bool permit_take(struct scheduler *s, unsigned server, unsigned rcpts)
{
	struct server_state *state = &s->server[server];

	if (!permit_is_needed(s, server))
		return true;
	if (state->permit_messages < 1 || state->permit_recipients < rcpts) {
		state->next_rcpts = rcpts; /* the head of the line needs so many at once */
		ask(s, server, rcpts);
		return false;
	}
	state->next_rcpts = 0;
	state->permit_messages--;
	state->permit_recipients -= rcpts;
	state->flight_messages++;
	state->flight_recipients += rcpts;
	return true;
}

void permit_adopt(struct scheduler *s, unsigned server, unsigned rcpts)
{
	if (!permit_is_needed(s, server))
		return;
	s->server[server].flight_messages++;
	s->server[server].flight_recipients += rcpts;
}

void permit_settle(struct scheduler *s, unsigned server, bool was_used, unsigned rcpts)
{
	struct server_state *state = &s->server[server];

	if (!permit_is_needed(s, server) || state->flight_messages == 0)
		return;
	state->flight_messages--;
	state->flight_recipients -= rcpts < state->flight_recipients ? rcpts : state->flight_recipients;
	if (was_used) {
		state->settle_used_messages++;
		state->settle_used_recipients += rcpts;
	} else {
		state->settle_refund_messages++;
		state->settle_refund_recipients += rcpts;
	}
}

/* --- held back --- */

void permit_hold_begin(struct scheduler *s, unsigned server)
{
	if (s->server[server].holds++ == 0)
		s->server[server].held_since = clock_mono();
}

void permit_hold_end(struct scheduler *s, unsigned server)
{
	struct server_state *state = &s->server[server];

	if (--state->holds == 0)
		state->hold_counter_s += (uint32_t)((clock_mono().ms - state->held_since.ms + 999) / 1000);
}

/* --- blocked until a window opens --- */

static void unblock(struct scheduler *s, unsigned server)
{
	struct server_state *state = &s->server[server];

	if (!state->blocked_until.ms)
		return;
	permit_hold_end(s, server);
	state->blocked_until.ms = 0;
	loop_timer_cancel(state->unblock);
	dispatch_server_changed(s, server);
}

struct unblock_arg {
	struct scheduler *s;
	unsigned server;
};

static void on_unblock(void *arg)
{
	struct unblock_arg *a = arg;
	struct server_state *state = &a->s->server[a->server];
	int64_t left = state->blocked_until.ms - clock_wall().ms;

	if (left > 0) { /* the wall clock was set back, or the wait is longer than one timer */
		loop_timer_set_ms(state->unblock, left < 3600 * 1000 ? (uint64_t)left : 3600u * 1000);
		return;
	}
	unblock(a->s, a->server);
}

static void block(struct scheduler *s, unsigned server, const struct msg_permit *m)
{
	struct server_state *state = &s->server[server];
	bool was_blocked = state->blocked_until.ms != 0;
	int64_t left = (int64_t)m->free_at - clock_wall().ms;

	snprintf(state->blocked_limit, sizeof(state->blocked_limit), "%.*s", (int)m->limit.len, m->limit.ptr);
	if (!was_blocked)
		permit_hold_begin(s, server);
	state->blocked_until.ms = m->free_at ? (int64_t)m->free_at : INT64_MAX;
	if (!state->unblock) {
		struct unblock_arg *a = xmalloc(sizeof(*a));

		*a = (struct unblock_arg){ s, server };
		state->unblock_arg = a;
		state->unblock = loop_timer_new(s->loop, on_unblock, a);
	}
	if (m->free_at)
		loop_timer_set_ms(state->unblock, left > 0 ? (uint64_t)left : 1);
	if (!was_blocked) {
		struct buf when;

		buf_init(&when, 64);
		clock_format_rfc3339(&when, state->blocked_until);
		log_info("server %s: limit %s is used up, mail waits until %s", s->conf->server[server].name,
			 state->blocked_limit, m->free_at ? buf_text(&when) : "it is changed");
		buf_release(&when);
		dispatch_server_blocked(s, server);
	}
}

void permit_on_granted(struct scheduler *s, const struct msg_permit *m)
{
	int server = -1;

	for (unsigned i = 0; i < s->conf->server_count && server < 0; i++)
		if (s->server[i].ask_request == m->request)
			server = (int)i;
	struct server_state *state;

	if (server < 0)
		return;
	state = &s->server[server];
	state->ask_request = 0;
	if (m->messages == 0) {
		block(s, (unsigned)server, m);
		return;
	}
	state->permit_messages += m->messages;
	state->permit_recipients += m->recipients;
	unblock(s, (unsigned)server);
	dispatch_server_changed(s, (unsigned)server);
}

/* --- settlements --- */

static void send_settlement(struct scheduler *s, const struct settlement *at)
{
	struct msg_head head = channel_head(s->limiter);
	struct packet p;

	if (!s->is_limiter_up)
		return;
	msg_encode_settle(&p, &head, &at->m);
	channel_send(s->limiter, &p);
}

static void settle_server(struct scheduler *s, unsigned server)
{
	struct server_state *state = &s->server[server];
	struct settlement *at;

	if (state->waiting == 0 && !state->ask_request) { /* nobody needs what is left */
		state->settle_refund_messages += state->permit_messages;
		state->settle_refund_recipients += state->permit_recipients;
		state->permit_messages = state->permit_recipients = 0;
	}
	if (!(state->settle_used_messages | state->settle_used_recipients | state->settle_refund_messages |
	      state->settle_refund_recipients))
		return;
	at = xcalloc(1, sizeof(*at));
	at->server = server;
	at->m = (struct msg_settle){
		.request = ++s->next_request,
		.scopes = name_of(s, server),
		.used_messages = state->settle_used_messages,
		.used_recipients = state->settle_used_recipients,
		.refund_messages = state->settle_refund_messages,
		.refund_recipients = state->settle_refund_recipients,
	};
	state->settle_used_messages = state->settle_used_recipients = 0;
	state->settle_refund_messages = state->settle_refund_recipients = 0;
	at->next = s->settlements;
	s->settlements = at;
	send_settlement(s, at);
}

void permit_turn(struct scheduler *s)
{
	if (s->syncing_count > 0 || !s->is_limiter_up || channel_is_full(s->limiter))
		return;
	for (unsigned i = 0; i < s->conf->server_count; i++)
		if (permit_is_needed(s, i))
			settle_server(s, i);
}

void permit_on_settled(struct scheduler *s, const struct msg_settled *m)
{
	for (struct settlement **at = &s->settlements; *at; at = &(*at)->next) {
		if ((*at)->m.request == m->request) {
			struct settlement *done = *at;

			*at = done->next;
			free(done);
			return;
		}
	}
}

void permit_resync(struct scheduler *s)
{
	for (unsigned i = 0; i < s->conf->server_count; i++) {
		struct server_state *state = &s->server[i];
		struct msg_adopt m = { .request = ++s->next_request, .scope = name_of(s, i) };
		struct msg_head head = channel_head(s->limiter);
		struct packet p;

		if (!permit_is_needed(s, i))
			continue;
		m.messages = state->flight_messages + state->permit_messages;
		m.recipients = state->flight_recipients + state->permit_recipients;
		m.messages += state->settle_used_messages + state->settle_refund_messages;
		m.recipients += state->settle_used_recipients + state->settle_refund_recipients;
		for (const struct settlement *at = s->settlements; at; at = at->next) {
			if (at->server != i)
				continue;
			m.messages += at->m.used_messages + at->m.refund_messages;
			m.recipients += at->m.used_recipients + at->m.refund_recipients;
		}
		msg_encode_adopt(&p, &head, &m);
		channel_send(s->limiter, &p);
		if (state->ask_request)
			send_ask(s, i);
	}
	for (const struct settlement *at = s->settlements; at; at = at->next)
		send_settlement(s, at);
}

void permit_release_all(struct scheduler *s)
{
	while (s->settlements) {
		struct settlement *next = s->settlements->next;

		free(s->settlements);
		s->settlements = next;
	}
	for (unsigned i = 0; i < s->conf->server_count; i++) {
		loop_timer_free(&s->server[i].unblock);
		free(s->server[i].unblock_arg);
	}
}
