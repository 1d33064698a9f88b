/* limits.c - see limits.h. */
#include "scheduler/limits.h"
#include "lib/log.h"
#include "scheduler/filter.h"
#include "scheduler/permit.h"
#include <stdlib.h>

enum { WHAT_SET, WHAT_RESET, WHAT_FULL }; /* enum correction_kind of limiter/permits.h */
enum { PORTION_BYTES = CONTROL_STEP_MAX };

/* A question that an operator waits for. */
struct limits_query {
	struct limits_query *next;
	struct scheduler *s;
	struct control_client *client;
	uint32_t request;
	uint32_t next_from; /* of a list: where the next portion begins */
	struct buf answer;
	bool is_answered, is_over, is_lost;
	char *scope; /* of a correction */
	bool is_done;
	uint64_t before;
	uint64_t messages, held; /* of a forecast */
	struct wall done_at;
	char text[220];
};

static struct limits_query *query_new(struct scheduler *s, struct control_reply *reply)
{
	struct limits_query *q = xcalloc(1, sizeof(*q));

	q->s = s;
	q->client = reply->client;
	buf_init(&q->answer, PORTION_BYTES);
	q->next = s->limits_queries;
	s->limits_queries = q;
	reply->iterator = q;
	return q;
}

static void query_release(void *iterator)
{
	struct limits_query *q = iterator, **at = &q->s->limits_queries;

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	buf_release(&q->answer);
	free(q->scope);
	free(q);
}

static struct limits_query *find_query(struct scheduler *s, uint32_t request)
{
	for (struct limits_query *q = s->limits_queries; q; q = q->next)
		if (q->request == request)
			return q;
	return NULL;
}

static bool may_ask(struct scheduler *s, struct control_reply *reply)
{
	if (s->is_limiter_up && !channel_is_full(s->limiter))
		return true;
	control_refuse(reply, EXIT_STATUS_TEMPORARY, "the limiter is being started: ask again");
	return false;
}

/* When it is well again, there may be room for all who were told that it was not. */
void limits_on_store_state(struct scheduler *s, const struct msg_store_state *m)
{
	(void)snprintf(s->store_state, sizeof(s->store_state), "%.*s", (int)m->text.len, m->text.ptr);
	if (m->text.len == 0)
		permit_ask_again(s, slice_of(""));
}

void limits_limiter_lost(struct scheduler *s)
{
	for (struct limits_query *q = s->limits_queries; q; q = q->next) {
		q->is_lost = q->is_answered = true;
		control_wake(q->client);
	}
}

/* --- the list --- */

static void put_scope(struct buf *out, struct slice scope)
{
	static const char *const KINDS[] = { "sender", "destination", "route", "instance" };
	const char *kind = "server";

	for (unsigned i = 0; i < ARRAY_LEN(KINDS); i++) {
		size_t len = strlen(KINDS[i]);

		if (scope.len <= len || memcmp(scope.ptr, KINDS[i], len) != 0 || scope.ptr[len] != ':')
			continue;
		kind = KINDS[i];
		scope.ptr += len + 1;
		scope.len -= len + 1;
		break;
	}
	json_put_member(out, "scope", slice_of(kind));
	json_put_member(out, "name", scope);
}

void limits_put(struct buf *out, const struct msg_limit_state *m)
{
	struct buf time;

	buf_put_char(out, '{');
	put_scope(out, m->scope);
	json_put_member(out, "limit", m->limit);
	json_put_member(out, "unit", slice_of(m->is_recipients ? "recipients" : "messages"));
	json_put_member_u64(out, "window_seconds", m->window_ms / 1000);
	json_put_member_u64(out, "used", m->used);
	json_put_member_u64(out, "allowed", m->allowed);
	if (m->shared)
		json_put_member_u64(out, "leased", m->leased);
	json_put_key(out, "free_at");
	if (m->free_at == 0) {
		buf_put_str(out, "null}");
		return;
	}
	buf_init(&time, 64);
	clock_format_rfc3339(&time, (struct wall){ (int64_t)m->free_at });
	json_put_string(out, buf_slice(&time));
	buf_put_char(out, '}');
	buf_release(&time);
}

bool limits_on_state(struct scheduler *s, const struct msg_limit_state *m)
{
	struct limits_query *q = find_query(s, m->request);

	if (!q)
		return false;
	if (!m->last) {
		limits_put(&q->answer, m);
		buf_put_char(&q->answer, '\n');
		return true;
	}
	snprintf(q->text, sizeof(q->text), "%.*s", (int)m->limit.len, m->limit.ptr); /* why there are no counters */
	q->is_over = m->last == 1;
	q->next_from = m->next;
	q->is_answered = true;
	control_wake(q->client);
	return true;
}

static void ask_portion(struct limits_query *q)
{
	struct msg_limit_query m = { .scope = slice_of(""), .from = q->next_from };
	struct msg_head head = channel_head(q->s->limiter);
	struct packet p;

	m.request = q->request = ++q->s->next_request;
	q->is_answered = false;
	buf_clear(&q->answer);
	msg_encode_limit_query(&p, &head, &m);
	channel_send(q->s->limiter, &p);
}

static enum control_step list_step(void *iterator, struct control_reply *reply, struct buf *out)
{
	struct limits_query *q = iterator;

	if (!q->is_answered)
		return CONTROL_WAIT;
	buf_put_slice(out, buf_slice(&q->answer));
	if (q->is_lost || !may_ask(q->s, reply)) {
		control_refuse(reply, EXIT_STATUS_TEMPORARY, "the limiter was started anew: ask again");
		return CONTROL_END;
	}
	if (!q->is_over) {
		ask_portion(q);
		return CONTROL_WAIT;
	}
	if (q->text[0])
		control_refuse(reply, EXIT_STATUS_UNAVAILABLE, "%s", q->text);
	return CONTROL_END;
}

void limits_command_list(void *arg, const struct control_request *request, struct control_reply *reply)
{
	struct scheduler *s = arg;

	(void)request;
	if (!may_ask(s, reply))
		return;
	ask_portion(query_new(s, reply));
	reply->step = list_step;
	reply->release = query_release;
}

/* --- forecasts --- */

enum { SPEED_SPAN_MS = 5000 };

void limits_note_speed(struct scheduler *s, unsigned count)
{
	struct mono now = clock_mono();
	int64_t passed = now.ms - s->speed_since.ms;

	if (passed > 10 * SPEED_SPAN_MS) { /* nothing went for a while: begin anew */
		s->speed_since = now;
		s->speed_count = 0;
		passed = 0;
	}
	s->speed_count += count;
	if (passed < SPEED_SPAN_MS)
		return;
	s->speed = (double)s->speed_count * 1000 / (double)passed;
	s->speed_since = now;
	s->speed_count = 0;
}

/* Mail of one purse. */
struct heap {
	struct purse *purse; /* NULL: falls under no limit */
	uint32_t messages, recipients;
};

struct heaps {
	struct heap *heap;
	unsigned count, room;
	struct heap *last; /* mail of one kind often stands together */
};

static void add_to_heap(struct heaps *h, struct purse *purse, uint32_t recipients)
{
	struct heap *at = h->last && h->last->purse == purse ? h->last : NULL;

	for (unsigned i = 0; i < h->count && !at; i++)
		if (h->heap[i].purse == purse)
			at = &h->heap[i];
	if (!at) {
		at = array_add((void **)&h->heap, &h->count, &h->room, sizeof(*h->heap));
		*at = (struct heap){ .purse = purse };
	}
	at->messages++;
	at->recipients += recipients;
	h->last = at;
}

static void gather(struct scheduler *s, struct filter *f, struct heaps *h, struct limits_query *q)
{
	unsigned count;
	struct entry_ref *refs = filter_collect(s, f, &count);

	for (unsigned i = 0; i < count; i++) {
		struct entry *e = entry_get(s->entries, refs[i].index);
		const struct plan *plan = e->place == ENTRY_FREE ? NULL : &domain_get(&s->domains, e->domain)->plan;
		struct record *r = plan ? journal_get(s->journal, e->id, e->group) : NULL;

		if (r && filter_takes_record(f, s, e, r)) {
			q->messages++;
			if (e->place == ENTRY_HELD || plan->count == 0)
				q->held++;
			else
				add_to_heap(
					h,
					permit_purse(s, plan->server[e->server_at < plan->count ? e->server_at : 0], e),
					record_pending_count(r));
		}
		record_free(&r);
	}
	free(refs);
}

static void send_heap(struct scheduler *s, uint32_t request, const struct heap *h, bool is_last)
{
	struct msg_limit_forecast m = {
		.request = request,
		.scopes = slice_of(h->purse ? h->purse->scopes : ""),
		.class = h->purse ? h->purse->class : 0,
		.messages = h->messages,
		.recipients = h->recipients,
		.last = is_last,
	};
	struct msg_head head = channel_head(s->limiter);
	struct packet p;

	msg_encode_limit_forecast(&p, &head, &m);
	channel_send(s->limiter, &p);
}

void limits_on_foreseen(struct scheduler *s, const struct msg_limit_foreseen *m)
{
	struct limits_query *q = find_query(s, m->request);

	if (!q)
		return;
	q->done_at.ms = (int64_t)m->done_at;
	q->is_done = m->is_complete;
	free(q->scope);
	q->scope = xstrndup(m->scope.ptr, m->scope.len);
	snprintf(q->text, sizeof(q->text), "%.*s", (int)m->limit.len, m->limit.ptr);
	q->is_answered = true;
	control_wake(q->client);
}

static void put_decider(struct buf *out, const struct limits_query *q, bool is_speed)
{
	json_put_key(out, "decided_by");
	if (is_speed) {
		buf_put_str(out, "{\"scope\":\"speed\"}");
		return;
	}
	if (!q->text[0]) {
		buf_put_str(out, "null");
		return;
	}
	buf_put_char(out, '{');
	put_scope(out, slice_of(q->scope));
	json_put_member(out, "limit", slice_of(q->text));
	buf_put_char(out, '}');
}

static enum control_step forecast_step(void *iterator, struct control_reply *reply, struct buf *out)
{
	struct limits_query *q = iterator;
	double speed = q->s->speed;
	int64_t by_speed =
		clock_wall().ms + (speed > 0 ? (int64_t)((double)(q->messages - q->held) * 1000 / speed) : 0);
	bool is_speed;
	struct buf time;

	if (!q->is_answered)
		return CONTROL_WAIT;
	if (q->is_lost) {
		control_refuse(reply, EXIT_STATUS_TEMPORARY, "the limiter was started anew: ask again");
		return CONTROL_END;
	}
	is_speed = speed > 0 && q->done_at.ms > 0 && by_speed > q->done_at.ms;
	buf_put_char(out, '{');
	json_put_member_u64(out, "messages", q->messages);
	json_put_member_u64(out, "held", q->held);
	json_put_key(out, "done_at");
	if (q->done_at.ms == 0) {
		buf_put_str(out, "null");
	} else {
		buf_init(&time, 64);
		if (is_speed)
			q->done_at.ms = by_speed;
		clock_format_rfc3339(&time, q->done_at);
		json_put_string(out, buf_slice(&time));
		buf_release(&time);
	}
	json_put_member_bool(out, "never", q->done_at.ms == 0 && q->is_done);
	put_decider(out, q, is_speed);
	buf_put_str(out, "}\n");
	return CONTROL_END;
}

void limits_command_forecast(void *arg, const struct control_request *request, struct control_reply *reply)
{
	struct scheduler *s = arg;
	struct heaps h = { 0 };
	struct limits_query *q;
	struct filter f;

	if (!may_ask(s, reply) || !filter_read(&f, s, request, reply))
		return;
	q = query_new(s, reply);
	gather(s, &f, &h, q);
	if (q->messages == 0 && !filter_is_empty(&f))
		reply->status = EXIT_STATUS_NO_MATCH;
	filter_release(&f);
	q->scope = xstrdup("");
	q->request = ++s->next_request;
	for (unsigned i = 0; i < h.count && i < 900; i++)
		send_heap(s, q->request, &h.heap[i], false);
	send_heap(s, q->request, &(struct heap){ 0 }, true);
	free(h.heap);
	reply->step = forecast_step;
	reply->release = query_release;
}

/* --- corrections --- */

void limits_on_corrected(struct scheduler *s, const struct msg_limit_corrected *m)
{
	struct limits_query *q = find_query(s, m->request);

	permit_ask_again(s, slice_of(""));
	if (!q)
		return;
	q->is_answered = true;
	q->is_done = m->is_done;
	q->before = m->before;
	snprintf(q->text, sizeof(q->text), "%.*s", (int)m->text.len, m->text.ptr);
	control_wake(q->client);
}

static enum control_step correct_step(void *iterator, struct control_reply *reply, struct buf *out)
{
	struct limits_query *q = iterator;

	(void)out;
	if (!q->is_answered)
		return CONTROL_WAIT;
	if (q->is_lost)
		control_refuse(reply, EXIT_STATUS_TEMPORARY, "the limiter was started anew: look whether it was done");
	else if (!q->is_done)
		control_refuse(reply, EXIT_STATUS_NO_MATCH, "%s: %s", q->scope, q->text);
	else
		snprintf(reply->text, sizeof(reply->text), "%s: done, %llu had been used", q->scope,
			 (unsigned long long)q->before);
	return CONTROL_END;
}

static uint32_t send_correction(struct scheduler *s, struct msg_limit_correct *m)
{
	struct msg_head head = channel_head(s->limiter);
	struct packet p;

	m->request = ++s->next_request;
	msg_encode_limit_correct(&p, &head, m);
	channel_send(s->limiter, &p);
	return m->request;
}

/* A server by its name; other scopes as "sender:a@b", "route:NAME", "destination:DOMAIN", "instance". */
static char *scope_of(const char *name)
{
	return xstrdup(strcmp(name, "instance") == 0 ? "instance:" : name);
}

void limits_command_correct(void *arg, const struct control_request *request, struct control_reply *reply)
{
	struct scheduler *s = arg;
	const char *scope = control_get_string(request, "scope"), *limit = control_get_string(request, "limit");
	const char *why = control_get_string(request, "why");
	const json_t *used = json_object_get(request->object, "used");
	bool is_set = strcmp(control_get_string(request, "command"), "limits-set") == 0;
	struct msg_limit_correct m;
	struct limits_query *q;

	if (!scope || !*scope || !why || !*why || strlen(scope) > 330 || (limit && strlen(limit) > 64) ||
	    (is_set && (!limit || !json_is_integer(used) || json_integer_value(used) < 0))) {
		control_refuse(reply, EXIT_STATUS_USAGE, "say which server, which limit, how much, and why");
		return;
	}
	if (!may_ask(s, reply))
		return;
	q = query_new(s, reply);
	q->scope = scope_of(scope);
	m = (struct msg_limit_correct){ .scope = slice_of(q->scope),
					.limit = slice_of(is_set ? limit : ""),
					.what = is_set ? WHAT_SET : WHAT_RESET,
					.used = is_set ? (uint64_t)json_integer_value(used) : 0 };
	q->request = send_correction(s, &m);
	log_info("operator uid %u: limits %s %s%s%s: %s", (unsigned)request->uid, is_set ? "set" : "reset", scope,
		 is_set ? " " : "", is_set ? limit : "", why);
	if (is_set)
		log_info("operator uid %u: used is now %lld", (unsigned)request->uid,
			 (long long)json_integer_value(used));
	reply->step = correct_step;
	reply->release = query_release;
}

void limits_fill(struct scheduler *s, unsigned server, uint64_t window_ms)
{
	struct msg_limit_correct m = { .scope = slice_of(s->conf->server[server].name),
				       .limit = slice_of(""),
				       .what = WHAT_FULL,
				       .window_ms = window_ms };

	if (permit_has_limits(s, server) && s->is_limiter_up && !channel_is_full(s->limiter))
		(void)send_correction(s, &m);
}
