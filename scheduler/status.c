/* status.c - see status.h. */
#include "scheduler/status.h"
#include "lib/json.h"
#include "scheduler/lane.h"
#include "scheduler/limits.h"
#include "scheduler/pause.h"
#include "scheduler/permit.h"
#include <stdlib.h>

enum {
	PORTION_BYTES = 48 * 1024,
	LIMITS_MAX = 64 * 1024, /* of one server, as JSON */
	OPEN_MAX = 256          /* questions at a time */
};

/* Waits until the limiter has told the windows of every server that has limits. */
struct status_query {
	struct status_query *next;
	struct scheduler *s;
	struct control_client *client;
	uint32_t first_request; /* request numbers: so many as there are servers */
	unsigned asked, answers_open, shown;
	struct buf *limits; /* JSON objects per server */
	bool is_over;
};

/* Some at a time: there may be more servers than the pipe has room for. */
static void ask_limits(struct status_query *q)
{
	struct scheduler *s = q->s;

	for (; q->asked < s->conf->server_count && q->answers_open < OPEN_MAX && s->is_limiter_up &&
	       !channel_is_full(s->limiter);
	     q->asked++) {
		struct msg_limit_query m = { .request = q->first_request + q->asked,
					     .scope = slice_of(s->conf->server[q->asked].name) };
		struct msg_head head = channel_head(s->limiter);
		struct packet p;

		if (!permit_has_limits(s, q->asked))
			continue;
		msg_encode_limit_query(&p, &head, &m);
		channel_send(s->limiter, &p);
		q->answers_open++;
	}
}

static void one_answered(struct status_query *q)
{
	if (q->answers_open == 0)
		return;
	q->answers_open--;
	ask_limits(q);
	if (q->answers_open == 0)
		control_wake(q->client);
}

void status_on_limit_state(struct scheduler *s, const struct msg_limit_state *m)
{
	if (limits_on_state(s, m))
		return;
	for (struct status_query *q = s->status_queries; q; q = q->next) {
		uint32_t server = m->request - q->first_request;

		if (server >= s->conf->server_count)
			continue;
		if (!m->last) {
			if (q->limits[server].len > 0)
				buf_put_char(&q->limits[server], ',');
			limits_put(&q->limits[server], m);
		}
		if (m->last)
			one_answered(q);
		return;
	}
}

void status_limiter_lost(struct scheduler *s)
{
	for (struct status_query *q = s->status_queries; q; q = q->next) {
		if (q->answers_open == 0)
			continue;
		q->answers_open = 0;
		control_wake(q->client);
	}
}

static const char *state_of(struct scheduler *s, unsigned server, struct buf *reason)
{
	if (pause_is_on(s, server)) {
		pause_format(reason, s, server);
		return "paused";
	}
	for (uint32_t i = 1; i < s->lane_limit; i++) {
		const struct lane *l = s->lane[i];

		if (!l || l->server != server || l->site != 0 || l->state == LANE_UP)
			continue;
		buf_put_str(reason, l->text ? l->text : "");
		return l->state == LANE_PROBING ? "probing" : "paused";
	}
	permit_format_server(reason, s, server);
	return "up";
}

static void put_server(struct buf *out, struct scheduler *s, unsigned i, const struct buf *limits)
{
	const struct conf_server *conf = &s->conf->server[i];
	const struct server_state *state = &s->server[i];
	const char *name;
	struct buf reason;

	buf_init(&reason, 4096);
	name = state_of(s, i, &reason);

	buf_put_str(out, i > 0 ? ",{" : "{");
	json_put_member(out, "name", slice_of(conf->name));
	json_put_member(out, "display_name", slice_of(conf->display_name));
	json_put_member(out, "method", slice_of(conf_method_word(conf)));
	json_put_member(out, "state", slice_of(name));
	json_put_member(out, "reason", buf_slice(&reason));
	buf_release(&reason);
	json_put_member_u64(out, "connections", state->slots.connections);
	json_put_member_u64(out, "sent", state->count.sent);
	json_put_member_u64(out, "deferred", state->count.deferred);
	json_put_member_u64(out, "bounced", state->count.bounced);
	json_put_key(out, "limits");
	buf_put_char(out, '[');
	buf_put_slice(out, buf_slice(limits));
	buf_put_str(out, "]}");
}

static void put_queue_sizes(struct buf *out, struct scheduler *s)
{
	uint64_t count[4] = { 0 };

	for (entry_index i = 1; i < entries_limit(s->entries); i++) {
		switch (entry_get(s->entries, i)->place) {
		case ENTRY_FREE:
			break;
		case ENTRY_ACTIVE:
			count[1]++;
			break;
		case ENTRY_HELD:
			count[2]++;
			break;
		default:
			count[0]++;
			break;
		}
	}
	json_put_key(out, "queue");
	buf_put_char(out, '{');
	json_put_member_u64(out, "waiting", count[0]);
	json_put_member_u64(out, "active", count[1]);
	json_put_member_u64(out, "held", count[2]);
	json_put_member_u64(out, "incoming", s->refused_count);
	buf_put_char(out, '}');
}

static void put_head(struct buf *out, struct scheduler *s)
{
	buf_put_char(out, '{');
	put_queue_sizes(out, s);
	json_put_key(out, "limits_store");
	if (s->store_state[0])
		json_put_string(out, slice_of(s->store_state));
	else
		buf_put_str(out, "null");

	json_put_key(out, "servers");
	buf_put_char(out, '[');
}

/* In portions, as many servers as there may be. */
static enum control_step status_step(void *iterator, struct control_reply *reply, struct buf *out)
{
	struct status_query *q = iterator;
	size_t begin = out->len;

	(void)reply;
	if (q->answers_open > 0)
		return CONTROL_WAIT;
	if (q->shown == 0)
		put_head(out, q->s);
	for (; q->shown < q->s->conf->server_count && out->len - begin < PORTION_BYTES; q->shown++)
		put_server(out, q->s, q->shown, &q->limits[q->shown]);
	if (q->shown < q->s->conf->server_count)
		return CONTROL_MORE;
	buf_put_str(out, "]}\n");
	return CONTROL_END;
}

static void status_release(void *iterator)
{
	struct status_query *q = iterator, **at = &q->s->status_queries;

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	for (unsigned i = 0; i < q->s->conf->server_count; i++)
		buf_release(&q->limits[i]);
	free(q->limits);
	free(q);
}

void status_command(void *arg, const struct control_request *request, struct control_reply *reply)
{
	struct scheduler *s = arg;
	struct status_query *q = xcalloc(1, sizeof(*q));

	(void)request;
	q->s = s;
	q->client = reply->client;
	q->limits = xcalloc(s->conf->server_count, sizeof(*q->limits));
	q->next = s->status_queries;
	s->status_queries = q;
	q->first_request = s->next_request + 1;
	s->next_request += s->conf->server_count;
	for (unsigned i = 0; i < s->conf->server_count; i++)
		buf_init(&q->limits[i], LIMITS_MAX);
	ask_limits(q);
	reply->iterator = q;
	reply->step = status_step;
	reply->release = status_release;
}
