/* permit.c - the scheduler's side of limits. One open question per purse, settlements repeated until answered. */
#include "scheduler/permit.h"
#include "lib/log.h"
#include "lib/text.h"
#include "scheduler/dispatch.h"
#include "scheduler/purse.h"
#include <stdlib.h>

enum { ASK_MESSAGES_MAX = 100, TIMER_MAX_MS = 3600 * 1000, SAY_AGAIN_MS = 3600 * 1000, LONG_MS = 60 * 1000 };

/* A SETTLE under way; kept until SETTLED. */
struct settlement {
	struct settlement *next;
	struct msg_settle m; /* m.scopes points into the purse, which stays as long */
	struct purse *purse;
};

static void mark_dirty(struct purse *p)
{
	if (p->is_dirty)
		return;
	p->is_dirty = true;
	p->next_dirty = p->owner->dirty_purses;
	p->owner->dirty_purses = p;
}

static bool may_send(struct scheduler *s)
{
	return s->is_limiter_up && !s->is_adopting && !channel_is_full(s->limiter);
}

/* --- asking --- */

static void send_ask(struct scheduler *s, struct purse *p)
{
	struct msg_permit_ask m = {
		.request = p->ask_request,
		.scopes = slice_of(p->scopes),
		.class = p->class,
		.messages = p->ask_messages,
		.recipients = p->ask_recipients,
		.first = p->ask_first,
	};
	struct msg_head head;
	struct packet packet;

	p->is_ask_unsent = !may_send(s) || p->settle_refund_messages > 0;
	if (p->is_ask_unsent) {
		mark_dirty(
			p); /* permit_turn() does it, behind what is given back: that may be the very room it needs */
		return;
	}
	head = channel_head(s->limiter);
	msg_encode_permit_ask(&packet, &head, &m);
	channel_send(s->limiter, &packet);
}

static void ask(struct scheduler *s, struct purse *p)
{
	if (p->ask_request || (p->blocked_until.ms && p->blocked_until.ms > clock_wall().ms))
		return;
	p->ask_request = ++s->next_request;
	p->ask_first = p->next_rcpts > 0 ? p->next_rcpts : 1;
	p->ask_messages = p->waiting < 1 ? 1 : p->waiting < ASK_MESSAGES_MAX ? p->waiting : ASK_MESSAGES_MAX;
	p->ask_recipients = p->ask_messages - 1 + p->ask_first;
	send_ask(s, p);
}

bool permit_is_ready(struct scheduler *s, struct purse *p)
{
	if (!p || (p->permit_messages > 0 && p->permit_recipients > 0 && p->permit_recipients >= p->next_rcpts))
		return true;
	ask(s, p);
	return false;
}

/* Few permits may stand in their own way: of those that are too small for the next delivery the limiter gets back all.
 */
static void give_back(struct purse *p)
{
	p->settle_refund_messages += p->permit_messages;
	p->settle_refund_recipients += p->permit_recipients;
	p->permit_messages = p->permit_recipients = 0;
	mark_dirty(p);
}

bool permit_take(struct scheduler *s, struct purse *p, struct job *job, unsigned rcpts)
{
	if (!p)
		return true;
	if (p->permit_messages < 1 || p->permit_recipients < rcpts) {
		p->next_rcpts = rcpts;
		give_back(p);
		ask(s, p);
		return false;
	}
	p->next_rcpts = 0;
	p->permit_messages--;
	p->permit_recipients -= rcpts;
	p->flight_messages++;
	p->flight_recipients += rcpts;
	p->job_count++;
	job->purse = p;
	job->permit_rcpts = (uint16_t)rcpts;
	if (p->permit_messages == 0)
		mark_dirty(p); /* for those that sleep: serve_sleepers() */
	return true;
}

void permit_adopt(struct scheduler *s, struct job *job, unsigned server)
{
	struct purse *p = job->purse ? NULL : permit_purse(s, server, entry_get(s->entries, job->entry));

	if (!p)
		return;
	p->flight_messages++;
	p->flight_recipients += job->rcpts_sent;
	p->job_count++;
	job->purse = p;
	job->permit_rcpts = job->rcpts_sent;
}

void permit_settle(struct scheduler *s, struct job *job, bool was_used)
{
	struct purse *p = job->purse;

	(void)s;
	if (!p)
		return;
	job->purse = NULL;
	p->job_count--;
	p->flight_messages--;
	p->flight_recipients -= job->permit_rcpts;
	if (was_used) {
		p->settle_used_messages++;
		p->settle_used_recipients += job->permit_rcpts;
	} else {
		p->settle_refund_messages++;
		p->settle_refund_recipients += job->permit_rcpts;
	}
	mark_dirty(p);
}

void permit_on_queue(struct purse *p, int queues, int entries)
{
	if (!p)
		return;
	p->queue_count = (unsigned)((int)p->queue_count + queues);
	p->waiting = (unsigned)((int)p->waiting + entries);
	if (p->waiting == 0 || queues < 0)
		mark_dirty(p);
}

/* --- held back --- */

uint32_t permit_hold_s(const struct scheduler *s, unsigned server, const struct purse *p)
{
	return hold_s(&s->server[server].hold) + (p ? hold_s(&p->hold) : 0);
}

uint32_t permit_hold_before_s(struct scheduler *s, unsigned server, struct purse *p, struct wall due)
{
	char name[PURSE_NAME_MAX];
	uint32_t held = hold_before(&s->server[server].hold, s->journal, s->conf->server[server].name, due, s->since);

	if (!p)
		return held;
	purse_name(p, name);
	return held + hold_before(&p->hold, s->journal, name, due, s->since);
}

/* --- blocked until a window opens --- */

static void end_block(struct purse *p)
{
	if (!p->blocked_until.ms)
		return;
	hold_end(&p->hold);
	p->blocked_until.ms = 0;
	loop_timer_cancel(p->unblock);
}

static void set_timer(struct purse *p)
{
	int64_t left = p->blocked_until.ms - clock_wall().ms;

	if (p->blocked_until.ms != INT64_MAX)
		loop_timer_set_ms(p->unblock, left <= 0 ? 1 : left < TIMER_MAX_MS ? (uint64_t)left : TIMER_MAX_MS);
}

static void ask_anew(struct scheduler *s, struct purse *p)
{
	end_block(p);
	if (p->waiting > 0)
		ask(s, p);
	else
		mark_dirty(p);
}

static void on_unblock(void *arg)
{
	struct purse *p = arg;

	if (p->blocked_until.ms > clock_wall().ms)
		set_timer(p); /* the wall clock was set back, or the wait is longer than one timer */
	else
		ask_anew(p->owner, p);
}

bool permit_is_server_full(const struct purse *p)
{
	return p && p->blocked_until.ms && p->blocked_scope &&
	       strcmp(p->blocked_scope, p->owner->conf->server[p->server].name) == 0;
}

/* One line when mail begins to wait, and not again for each of many short waits. */
static void say_blocked(struct purse *p)
{
	struct mono now = clock_mono();
	struct buf text;

	if (p->said.ms && now.ms - p->said.ms < SAY_AGAIN_MS)
		return;
	p->said = now;
	buf_init(&text, 1024);
	permit_format(&text, p);
	log_info("server %s: mail waits for %s", p->owner->conf->server[p->server].name, buf_text(&text));
	buf_release(&text);
}

static void keep_scope(struct purse *p, unsigned at)
{
	const char *start = p->scopes, *end;

	while (at-- > 0 && (end = strchr(start, '\n')))
		start = end + 1;
	end = strchr(start, '\n');
	free(p->blocked_scope);
	p->blocked_scope = xstrndup(start, end ? (size_t)(end - start) : strlen(start));
}

/* Mail may be here because another server was full: that one may now be the first that has room again. */
static bool has_mail_of_others(const struct scheduler *s, const struct purse *p)
{
	for (unsigned i = 0; i < s->conf->server_count; i++)
		if (i != p->server && s->conf->server[i].on_limit == ON_LIMIT_NEXT)
			return true;
	return false;
}

/* Worth looking at each message that sleeps there. */
static bool is_long(const struct purse *p)
{
	return p->blocked_until.ms - clock_wall().ms >= LONG_MS;
}

static void block(struct scheduler *s, struct purse *p, const struct msg_permit *m)
{
	bool was_blocked = p->blocked_until.ms != 0;
	char name[PURSE_NAME_MAX];

	snprintf(p->blocked_limit, sizeof(p->blocked_limit), "%.*s", (int)m->limit.len, m->limit.ptr);
	keep_scope(p, m->scope_at);
	p->blocked_until.ms = m->free_at ? (int64_t)m->free_at : INT64_MAX;
	purse_name(p, name);
	if (was_blocked)
		hold_change(&p->hold, s->journal, name, p->blocked_until);
	else
		hold_begin(&p->hold, s->journal, name, p->blocked_until);
	if (p->permit_messages + p->permit_recipients > 0)
		give_back(p); /* too little for anything here, but others may use it */
	if (!p->unblock)
		p->unblock = loop_timer_new(s->loop, on_unblock, p);
	set_timer(p);
	say_blocked(p);
	if (permit_is_server_full(p) && (s->conf->server[p->server].on_limit == ON_LIMIT_NEXT ||
					 (!was_blocked && is_long(p) && has_mail_of_others(s, p))))
		dispatch_purse_blocked(s, p);
}

/* --- answers --- */

struct asked {
	uint32_t request;
	struct purse *found;
};

static void look_for_asked(void *arg, struct table_node *node)
{
	struct asked *asked = arg;
	struct purse *p = TABLE_OBJECT(node, struct purse, node);

	if (p->ask_request == asked->request)
		asked->found = p;
}

/* Higher priorities first, but every eighth is a lower one's. */
static struct sender_queue *next_asleep(struct purse *p)
{
	struct sender_queue *first = NULL, *lower = NULL;

	for (unsigned k = 0; k < PRIORITY_COUNT; k++) {
		if (!first)
			first = p->asleep[k];
		else if (p->asleep[k])
			lower = p->asleep[k];
	}
	return lower && ++p->wakes % 8 == 0 ? lower : first;
}

static void wake(struct scheduler *s, struct purse *p)
{
	struct sender_queue *q;

	for (uint32_t n = 0; n < p->permit_messages && (q = next_asleep(p)) != NULL; n++)
		lane_wake(s, q);
}

void permit_on_granted(struct scheduler *s, const struct msg_permit *m)
{
	struct asked asked = { m->request, NULL };
	struct purse *p;

	if (m->request == 0)
		return;
	table_each(&s->purses, look_for_asked, &asked);
	p = asked.found;
	if (!p)
		return;
	p->ask_request = 0;
	mark_dirty(p);
	if (m->messages == 0) {
		block(s, p, m);
		return;
	}
	p->permit_messages += m->messages;
	p->permit_recipients += m->recipients;
	end_block(p);
	wake(s, p);
}

struct again {
	struct scheduler *s;
	struct slice scopes; /* any of these; empty: all */
};

static bool names(struct slice scopes, const char *scope)
{
	size_t len = strlen(scope);

	while (scopes.len > 0) {
		const char *end = memchr(scopes.ptr, '\n', scopes.len);
		size_t part = end ? (size_t)(end - scopes.ptr) : scopes.len;

		if (part == len && memcmp(scopes.ptr, scope, len) == 0)
			return true;
		part += end != NULL;
		scopes.ptr += part;
		scopes.len -= part;
	}
	return false;
}

static void ask_if_blocked(void *arg, struct table_node *node)
{
	struct again *again = arg;
	struct purse *p = TABLE_OBJECT(node, struct purse, node);

	if (p->blocked_until.ms && (again->scopes.len == 0 || names(again->scopes, p->blocked_scope)))
		ask_anew(again->s, p);
}

void permit_ask_again(struct scheduler *s, struct slice scopes)
{
	struct again again = { s, scopes };

	table_each(&s->purses, ask_if_blocked, &again);
}

/* --- settlements --- */

static void send_settlement(struct scheduler *s, const struct settlement *at)
{
	struct msg_head head = channel_head(s->limiter);
	struct packet p;

	msg_encode_settle(&p, &head, &at->m);
	channel_send(s->limiter, &p);
}

static void settle_purse(struct scheduler *s, struct purse *p)
{
	struct settlement *at;

	if (p->waiting == 0 && !p->ask_request && p->permit_messages + p->permit_recipients > 0)
		give_back(p); /* nobody needs what is left */
	if (!(p->settle_used_messages | p->settle_used_recipients | p->settle_refund_messages |
	      p->settle_refund_recipients))
		return;
	at = xcalloc(1, sizeof(*at));
	at->purse = p;
	p->settlement_count++;
	at->m = (struct msg_settle){
		.request = ++s->next_request,
		.scopes = slice_of(p->scopes),
		.class = p->class,
		.used_messages = p->settle_used_messages,
		.used_recipients = p->settle_used_recipients,
		.refund_messages = p->settle_refund_messages,
		.refund_recipients = p->settle_refund_recipients,
	};
	p->settle_used_messages = p->settle_used_recipients = 0;
	p->settle_refund_messages = p->settle_refund_recipients = 0;
	at->next = s->settlements;
	s->settlements = at;
	send_settlement(s, at);
}

void permit_on_settled(struct scheduler *s, const struct msg_settled *m)
{
	for (struct settlement **at = &s->settlements; *at; at = &(*at)->next) {
		struct settlement *done = *at;

		if (done->m.request != m->request)
			continue;
		*at = done->next;
		done->purse->settlement_count--;
		mark_dirty(done->purse);
		if (done->m.refund_messages + done->m.refund_recipients > 0)
			permit_ask_again(s, done->m.scopes); /* there is room that nobody had counted on */
		free(done);
		return;
	}
}

/* --- a new limiter --- */

static void send_adopt(struct scheduler *s, struct slice scopes, uint8_t class, uint32_t messages, uint32_t recipients)
{
	struct msg_adopt m = { ++s->next_request, scopes, class, messages, recipients, {} };
	struct msg_head head = channel_head(s->limiter);
	struct packet p;

	msg_encode_adopt(&p, &head, &m);
	channel_send(s->limiter, &p);
}

static void adopt(struct scheduler *s, struct purse *p)
{
	uint32_t messages =
		p->flight_messages + p->permit_messages + p->settle_used_messages + p->settle_refund_messages;
	uint32_t recipients =
		p->flight_recipients + p->permit_recipients + p->settle_used_recipients + p->settle_refund_recipients;

	for (const struct settlement *at = p->settlement_count > 0 ? s->settlements : NULL; at; at = at->next) {
		if (at->purse != p)
			continue;
		messages += at->m.used_messages + at->m.refund_messages;
		recipients += at->m.used_recipients + at->m.refund_recipients;
	}
	p->must_adopt = false;
	if (messages + recipients > 0)
		send_adopt(s, slice_of(p->scopes), p->class, messages, recipients);
}

static void mark_for_adoption(void *arg UNUSED, struct table_node *node)
{
	struct purse *p = TABLE_OBJECT(node, struct purse, node);

	p->must_adopt = true;
	p->is_ask_unsent |= p->ask_request != 0;
	mark_dirty(p);
}

void permit_resync(struct scheduler *s)
{
	s->is_adopting = true;
	table_each(&s->purses, mark_for_adoption, NULL);
}

/* All that is under way, then that this was all, then again what it did not answer. False: the pipe is full. */
static bool adopt_all(struct scheduler *s)
{
	for (struct purse *p = s->dirty_purses; p; p = p->next_dirty) {
		if (channel_is_full(s->limiter))
			return false;
		if (p->must_adopt)
			adopt(s, p);
	}
	send_adopt(s, slice_of(""), 0, 0, 0);
	s->is_adopting = false;
	for (const struct settlement *at = s->settlements; at; at = at->next)
		send_settlement(s, at);
	return true;
}

/* --- the turn --- */

static bool is_of_use(const struct purse *p)
{
	return p->queue_count + p->job_count + p->settlement_count > 0 || p->ask_request || p->blocked_until.ms ||
	       p->permit_messages + p->permit_recipients > 0 || p->is_dirty;
}

/*
 * Queues that sleep do not ask. When those that were woken took the last permit, or went away and left some, nobody but
 * us would ever think of the others.
 */
static void serve_sleepers(struct scheduler *s, struct purse *p)
{
	if (p->asleep_count == 0 || p->blocked_until.ms)
		return;
	if (p->permit_messages == 0)
		ask(s, p);
	else if (p->asleep_count == p->queue_count)
		wake(s, p);
}

static void forget_purse(struct scheduler *s, struct purse *p)
{
	char name[PURSE_NAME_MAX];

	purse_name(p, name);
	hold_forget(&p->hold, s->journal, name);
	purse_free(s, p);
}

void permit_turn(struct scheduler *s)
{
	struct purse *list, *p;

	if (s->syncing_count > 0 || !s->is_limiter_up)
		return;
	if (s->is_adopting && !adopt_all(s))
		return;
	list = s->dirty_purses;
	s->dirty_purses = NULL;
	while ((p = list) != NULL) {
		list = p->next_dirty;
		p->is_dirty = false;
		if (!may_send(s)) {
			mark_dirty(p);
			continue;
		}
		settle_purse(s, p);
		if (p->is_dirty) /* give_back() */
			continue;
		serve_sleepers(s, p);
		if (p->is_ask_unsent)
			send_ask(s, p);
		if (!is_of_use(p))
			forget_purse(s, p);
	}
}
