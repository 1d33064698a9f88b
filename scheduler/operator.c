/* operator.c - answers on the control socket. Long ones are made in portions; entries may change between two of them.
 */
#include "scheduler/operator.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "scheduler/age.h"
#include "scheduler/dispatch.h"
#include "scheduler/filter.h"
#include "scheduler/finish.h"
#include "scheduler/intake.h"
#include "scheduler/lane.h"
#include "scheduler/limits.h"
#include "scheduler/pause.h"
#include "scheduler/permit.h"
#include "scheduler/status.h"
#include <stdlib.h>

enum {
	PORTION_BYTES = 48 * 1024,
	LINE_MAX_BYTES = 15 << 20 /* the operator's command reads 16: tens of thousands of recipients */
};

/* --- queue --- */

struct listing {
	struct scheduler *s;
	struct filter filter;
	struct entry_ref *ref;
	unsigned count, at, shown;
	struct buf line; /* of the message before `at`, told as far as `told` */
	size_t told;
};

static void put_time(struct buf *out, const char *key, int64_t ms)
{
	struct buf text;

	json_put_key(out, key);
	if (ms <= 0) {
		buf_put_str(out, "null");
		return;
	}
	buf_init(&text, 64);
	clock_format_rfc3339(&text, (struct wall){ ms });
	json_put_string(out, buf_slice(&text));
	buf_release(&text);
}

/* The purse in which it waits for a window to open; NULL: it does not. */
static const struct purse *waits_for(struct scheduler *s, const struct entry *e, unsigned server)
{
	struct purse *p = e->place == ENTRY_LISTED && lane_at(s, e->blame) && lane_at(s, e->blame)->server == server
				  ? permit_purse(s, server, e)
				  : NULL;

	return p && p->blocked_until.ms ? p : NULL;
}

/* In words why it is not gone yet; empty when it is under way or nobody knows. */
static void reason_of(struct buf *out, struct scheduler *s, const struct entry *e, const struct record *r,
		      const struct record_rcpt *rcpt)
{
	const struct plan *plan = &domain_get(&s->domains, e->domain)->plan;
	unsigned server = e->server_at < plan->count ? plan->server[e->server_at] : 0;
	const struct purse *purse;

	if (e->place == ENTRY_LISTED && plan->count > 0 && pause_is_on(s, server)) {
		pause_format(out, s, server);
	} else if ((purse = waits_for(s, e, server)) != NULL) {
		buf_put_str(out, "waiting for ");
		permit_format(out, purse);
	} else if (rcpt->outcome) {
		buf_put_str(out, r->outcome[rcpt->outcome - 1].text);
	} else if (e->place == ENTRY_HEAP && lane_at(s, e->blame) && lane_at(s, e->blame)->text) {
		buf_printf(out, "delivery temporarily suspended: %s", lane_at(s, e->blame)->text);
	}
}

/* Waits for a limit or a pause, though it was not tried yet. */
static bool is_put_off(struct scheduler *s, const struct entry *e)
{
	const struct lane *l = e->place == ENTRY_LISTED ? lane_at(s, e->blame) : NULL;

	return l && (pause_is_on(s, l->server) || waits_for(s, e, l->server));
}

/* Postfix's names. Active is what a worker has, as in `postern status`; incoming has nothing to wait for. */
static const char *queue_name(struct scheduler *s, const struct entry *e)
{
	switch (e->place) {
	case ENTRY_HELD:
		return "hold";
	case ENTRY_ACTIVE:
		return "active";
	case ENTRY_LISTED:
		return e->attempts > 0 || is_put_off(s, e) ? "deferred" : "incoming";
	default:
		return e->attempts > 0 || e->blame ? "deferred" : "incoming";
	}
}

static int64_t next_attempt(const struct entry *e)
{
	return e->place == ENTRY_HEAP ? clock_wall().ms + (e->due_ms - clock_mono().ms) : 0;
}

static void put_rcpts(struct buf *out, struct scheduler *s, const struct entry *e, const struct record *r,
		      bool *is_first)
{
	struct buf reason;

	buf_init(&reason, 1024);
	for (unsigned i = 0; i < r->rcpt_count; i++) {
		const struct record_rcpt *rcpt = &r->rcpt[i];

		if (rcpt->state != RCPT_PENDING)
			continue;
		buf_put_str(out, *is_first ? "{" : ",{");
		*is_first = false;
		json_put_member(out, "address", slice_of(rcpt->address));
		buf_clear(&reason);
		reason_of(&reason, s, e, r, rcpt);
		if (reason.len > 0)
			json_put_member(out, "delay_reason", buf_slice(&reason));
		buf_put_char(out, '}');
	}
	buf_release(&reason);
}

static void put_message_head(struct buf *out, struct scheduler *s, const struct entry *e, const struct record *r)
{
	char id[SPOOL_ID_TEXT];

	spool_id_format(e->id, id);
	buf_put_char(out, '{');
	json_put_member(out, "queue_name", slice_of(queue_name(s, e)));
	json_put_member(out, "queue_id", slice_of(id));
	json_put_member_u64(out, "arrival_time", (e->id >> 12) / 1000000);
	json_put_member_u64(out, "message_size", r->size_bytes);
	json_put_member_bool(out, "forced_expire", false);
	json_put_member(out, "sender", slice_of(r->sender));
	json_put_key(out, "recipients");
	buf_put_char(out, '[');
}

static void put_message_tail(struct buf *out, struct scheduler *s, const struct entry *e)
{
	const struct plan *plan = &domain_get(&s->domains, e->domain)->plan;

	buf_put_char(out, ']');
	json_put_member(out, "server",
			slice_of(e->server_at < plan->count ? s->conf->server[plan->server[e->server_at]].name : ""));
	json_put_member_u64(out, "attempts", e->attempts);
	put_time(out, "next_attempt", next_attempt(e));
	buf_put_str(out, "}\n");
}

/* All groups of one message as one object. */
static void list_message(struct listing *l)
{
	struct scheduler *s = l->s;
	struct buf *out = &l->line;
	uint64_t id = l->ref[l->at].id;
	const struct entry *first = NULL;
	bool is_first = true;

	buf_clear(out);
	l->told = 0;
	for (; l->at < l->count && l->ref[l->at].id == id; l->at++) {
		struct entry *e = entry_get(s->entries, l->ref[l->at].index);
		struct record *r = NULL;

		if (e->place != ENTRY_FREE && e->id == id) /* else it went while we were listing */
			r = journal_get(s->journal, e->id, e->group);
		if (r && filter_takes_record(&l->filter, s, e, r)) {
			if (!first) {
				first = e;
				put_message_head(out, s, e, r);
			}
			put_rcpts(out, s, e, r, &is_first);
		}
		record_free(&r);
	}
	if (!first)
		return;
	put_message_tail(out, s, first);
	l->shown++;
}

/* What is left of the line, as far as it fits into this portion. */
static void tell_line(struct listing *l, struct buf *out, size_t room)
{
	size_t len = l->line.len - l->told < room ? l->line.len - l->told : room;

	if (len > 0)
		buf_put(out, l->line.ptr + l->told, len);
	l->told += len;
}

static enum control_step list_step(void *iterator, struct control_reply *reply, struct buf *out)
{
	struct listing *l = iterator;
	size_t start = out->len;

	if (!l->s->journal) {
		control_refuse(reply, EXIT_STATUS_UNAVAILABLE, "the scheduler is being replaced: ask again");
		return CONTROL_END;
	}
	for (;;) {
		tell_line(l, out, PORTION_BYTES - (out->len - start));
		if (out->len - start == PORTION_BYTES)
			return CONTROL_MORE;
		if (l->at == l->count)
			break;
		list_message(l);
		if (l->line.failed) {
			control_refuse(reply, EXIT_STATUS_SOFTWARE,
				       "a message has more recipients than a line can tell");
			return CONTROL_END;
		}
	}
	if (l->shown == 0 && !filter_is_empty(&l->filter) && !l->filter.is_all)
		reply->status = EXIT_STATUS_NO_MATCH;
	return CONTROL_END;
}

static void list_release(void *iterator)
{
	struct listing *l = iterator;

	filter_release(&l->filter);
	buf_release(&l->line);
	free(l->ref);
	free(l);
}

static void command_queue(void *arg, const struct control_request *request, struct control_reply *reply)
{
	struct scheduler *s = arg;
	struct listing *l = xcalloc(1, sizeof(*l));

	l->s = s;
	buf_init(&l->line, LINE_MAX_BYTES);
	if (!filter_read(&l->filter, s, request, reply)) {
		free(l);
		return;
	}
	l->ref = filter_collect(s, &l->filter, &l->count);
	reply->iterator = l;
	reply->step = list_step;
	reply->release = list_release;
}

/* --- retry, hold, release, delete --- */

static bool act_retry(struct scheduler *s, entry_index i, struct record *r)
{
	struct entry *e = entry_get(s->entries, i);

	if (e->place != ENTRY_HEAP || record_waits_for_date(r))
		return false;
	entries_remove(s->entries, i);
	e->flags |= ENTRY_FORCED;
	entries_push(s->entries, i, clock_mono());
	return true;
}

static bool act_hold(struct scheduler *s, entry_index i, struct record *r)
{
	if (entry_get(s->entries, i)->place == ENTRY_HELD || !finish_take_out(s, i))
		return false;
	record_hold(r);
	if (journal_put(s->journal, r) != STORE_OK) {
		entries_push(s->entries, i, clock_mono());
		return false;
	}
	entry_get(s->entries, i)->place = ENTRY_HELD;
	return true;
}

/* How long it has been held; less than 0: it is, for a date that comes so much later. */
static int64_t held_ms(const struct scheduler *s, const struct record *r)
{
	const int64_t most = (int64_t)(UINT64_MAX >> 12) / 1000; /* what an id can say */

	return age_of(s, (uint64_t)(r->due.ms < most ? r->due.ms : most) * 1000 << 12, r->due);
}

static bool act_release(struct scheduler *s, entry_index i, struct record *r)
{
	int64_t held = r->due.ms > 0 ? held_ms(s, r) : 0, wait = held < 0 && record_waits_for_date(r) ? -held : 0;

	if (r->state == RECORD_HELD && r->rcpt_count == 0) /* its file could not be understood */
		return intake_look_again(s, i);
	if (entry_get(s->entries, i)->place != ENTRY_HELD || record_pending_count(r) == 0)
		return false;
	r->state = RECORD_WAITING;
	if (held > 0)
		r->held_s += (uint32_t)(held / 1000);
	if (journal_put(s->journal, r) != STORE_OK)
		return false;
	entry_get(s->entries, i)->place = ENTRY_LISTED;
	entries_push(s->entries, i, (struct mono){ clock_mono().ms + wait });
	return true;
}

/* The whole message, all groups. */
static bool act_delete(struct scheduler *s, entry_index i, struct record *r)
{
	if (!finish_forget(s, r->id, i))
		return false;
	s->deleted_count++;
	return true;
}

struct action {
	const char *name, *done; /* "retry", "will be retried now" */
	bool (*act)(struct scheduler *s, entry_index i, struct record *r);
};

static void run_action(struct scheduler *s, const struct action *action, struct filter *f, struct control_reply *reply)
{
	unsigned count, matched = 0, acted = 0;
	struct entry_ref *refs = filter_collect(s, f, &count);
	uint64_t last = 0;

	for (unsigned i = 0; i < count; i++) {
		struct entry *e = entry_get(s->entries, refs[i].index);
		struct record *r = NULL;

		if (e->place != ENTRY_FREE && e->id == refs[i].id)
			r = journal_get(s->journal, e->id, e->group);
		if (r && filter_takes_record(f, s, e, r)) {
			bool is_new = r->id != last;

			last = r->id;
			matched += is_new;
			acted += action->act(s, refs[i].index, r) && is_new;
		}
		record_free(&r);
	}
	free(refs);
	reply->status = matched == 0 ? EXIT_STATUS_NO_MATCH : 0;
	snprintf(reply->text, sizeof(reply->text), "%u message%s %s%s", acted, acted == 1 ? "" : "s", action->done,
		 acted < matched ? " (others are under way, or there was nothing to do)" : "");
}

static void command_action(void *arg, const struct control_request *request, struct control_reply *reply)
{
	static const struct action ACTIONS[] = {
		{ "retry", "will be tried now", act_retry },
		{ "hold", "held", act_hold },
		{ "release", "released", act_release },
		{ "delete", "deleted", act_delete },
	};
	struct scheduler *s = arg;
	const char *name = control_get_string(request, "command");
	struct filter f;

	if (!filter_read(&f, s, request, reply))
		return;
	if (filter_is_empty(&f)) {
		control_refuse(reply, EXIT_STATUS_USAGE, "say which messages: IDs, a filter, or --all");
	} else {
		for (unsigned i = 0; i < ARRAY_LEN(ACTIONS); i++)
			if (strcmp(name, ACTIONS[i].name) == 0)
				run_action(s, &ACTIONS[i], &f, reply);
		log_info("operator uid %u: %s: %s", (unsigned)request->uid, name, reply->text);
	}
	filter_release(&f);
}

struct control *operator_open(struct scheduler *s, int listener)
{
	static const struct control_command COMMANDS[] = {
		{ "status", status_command },
		{ "queue", command_queue },
		{ "retry", command_action },
		{ "hold", command_action },
		{ "release", command_action },
		{ "delete", command_action },
		{ "forecast", limits_command_forecast },
		{ "limits", limits_command_list },
		{ "limits-set", limits_command_correct },
		{ "limits-reset", limits_command_correct },
	};

	return control_new(s->loop, listener, COMMANDS, ARRAY_LEN(COMMANDS), s);
}
