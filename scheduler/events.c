/* events.c - log lines and history of messages. */
#include "scheduler/events.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "lib/text.h"
#include "scheduler/history.h"
#include "scheduler/session.h"

static const char *const STATUS[] = {
	[DISPOSITION_SENT] = "sent",           [DISPOSITION_DEFERRED] = "deferred", [DISPOSITION_BOUNCED] = "bounced",
	[DISPOSITION_PASSED_ON] = "passed-on", [DISPOSITION_IGNORED] = "ignored",   [DISPOSITION_AGAIN] = "again",
};

void event_arrived(struct scheduler *s, const struct queuefile *qf)
{
	char id[SPOOL_ID_TEXT], size[24], nrcpt[12];
	struct buf text, sender;

	spool_id_format(qf->id, id);
	buf_init(&text, 1024);
	buf_init(&sender, 1024);
	text_escape(&sender, qf->sender, 900);
	snprintf(size, sizeof(size), "%llu", (unsigned long long)qf->size_bytes);
	snprintf(nrcpt, sizeof(nrcpt), "%u", qf->rcpt_count);
	buf_printf(&text, "from=<%s>, size=%s, nrcpt=%s (queue active)", buf_text(&sender), size, nrcpt);
	log_message(id, "queued", buf_text(&text),
		    (const char *const[]){ "from", buf_text(&sender), "size", size, "nrcpt", nrcpt, NULL });
	history_arrived(s->history, clock_wall(), qf->id, qf->sender, qf->size_bytes, qf->rcpt_count, qf->uid);
	buf_release(&text);
	buf_release(&sender);
}

static struct wall next_time(struct wall now, uint64_t wait_ms)
{
	return (struct wall){ wait_ms ? now.ms + (int64_t)wait_ms : 0 };
}

void event_attempt(struct scheduler *s, const struct record *r, const struct msg_report *m, enum disposition d,
		   uint64_t wait_ms)
{
	struct wall now = clock_wall();
	char relay[321], dsn[17];
	struct history_outcome o = {
		.status = STATUS[d],
		.server = session_server_name(s, m->server),
		.relay = relay,
		.dsn = dsn,
		.text = m->text,
		.attempt = m->attempt,
		.next = next_time(now, wait_ms),
	};

	snprintf(relay, sizeof(relay), "%.*s", (int)m->relay.len, m->relay.ptr);
	snprintf(dsn, sizeof(dsn), "%.*s", (int)m->dsn.len, m->dsn.ptr);
	for (unsigned i = 0; i < m->rcpts.count; i++) {
		struct record_rcpt *rcpt = record_find_rcpt((struct record *)r, msg_u32(&m->rcpts, i));

		if (!rcpt)
			continue;
		o.recipient = slice_of(rcpt->address);
		history_outcome(s->history, now, r->id, &o);
	}
	if (d == DISPOSITION_AGAIN) { /* of one that was passed on the worker tells */
		char id[SPOOL_ID_TEXT];

		spool_id_format(r->id, id);
		log_info("%s: server %s: %.*s; tried again without counting this", id, o.server, (int)m->text.len,
			 m->text.ptr);
	}
	if (m->verdict == VERDICT_UNKNOWN)
		event_possibly_repeated(s, r);
}

/* What a `to=` line of ours says; Postfix's order, then our fields (postern.conf(5), LOG). */
struct outcome_line {
	const char *address, *relay, *dsn, *status, *server;
	struct slice text;
	unsigned attempt;
	struct wall next;
};

static void put_seconds(struct buf *out, int64_t ms)
{
	char digits[32];
	size_t len;

	if (ms < 0)
		ms = 0;
	if (ms >= 10000) {
		buf_printf(out, "%lld", (long long)(ms / 1000));
		return;
	}
	snprintf(digits, sizeof(digits), ms < 1000 ? "%.2f" : "%.1f", (double)ms / 1000);
	for (len = strlen(digits); len > 0 && digits[len - 1] == '0'; len--)
		digits[len - 1] = '\0';
	if (len > 0 && digits[len - 1] == '.')
		digits[len - 1] = '\0';
	buf_put_str(out, digits);
}

/* What the line's tail and the JSON form say alike. */
struct outcome_words {
	struct buf text, address, reply, delay, delays, next;
	char attempt[12];
};

static void words_make(struct outcome_words *w, const struct record *r, const struct outcome_line *l)
{
	int64_t arrived = (int64_t)(r->id >> 12) / 1000, age = clock_wall().ms - arrived;

	buf_init(&w->text, 4096);
	buf_init(&w->address, 1024);
	buf_init(&w->reply, 2048);
	buf_init(&w->delay, 64);
	buf_init(&w->delays, 128);
	buf_init(&w->next, 64);
	text_escape(&w->address, slice_of(l->address), 900);
	text_escape(&w->reply, l->text, 1800);
	put_seconds(&w->delay, age);
	put_seconds(&w->delays, r->known.ms - arrived);
	buf_put_char(&w->delays, '/');
	put_seconds(&w->delays, arrived + age - r->known.ms);
	buf_put_str(&w->delays, "/0/0");
	snprintf(w->attempt, sizeof(w->attempt), "%u", l->attempt);
	if (l->next.ms)
		clock_format_rfc3339(&w->next, l->next);
}

static void words_release(struct outcome_words *w)
{
	buf_release(&w->text);
	buf_release(&w->address);
	buf_release(&w->reply);
	buf_release(&w->delay);
	buf_release(&w->delays);
	buf_release(&w->next);
}

static void log_outcome(const struct record *r, const struct outcome_line *l)
{
	struct outcome_words w;
	char id[SPOOL_ID_TEXT];

	spool_id_format(r->id, id);
	words_make(&w, r, l);
	buf_printf(&w.text, "to=<%s>, relay=%s, delay=%s, delays=%s, dsn=%s, status=%s (%s), ", buf_text(&w.address),
		   l->relay, buf_text(&w.delay), buf_text(&w.delays), l->dsn, l->status, buf_text(&w.reply));
	if (*l->server)
		buf_printf(&w.text, "server=%s ", l->server);
	buf_printf(&w.text, "attempt=%s", w.attempt);
	if (l->next.ms)
		buf_printf(&w.text, " next=%s", buf_text(&w.next));

	const char *pairs[] = { "to",
				buf_text(&w.address),
				"relay",
				l->relay,
				"delay",
				buf_text(&w.delay),
				"delays",
				buf_text(&w.delays),
				"dsn",
				l->dsn,
				"status",
				l->status,
				"text",
				buf_text(&w.reply),
				"server",
				l->server,
				"attempt",
				w.attempt,
				l->next.ms ? "next" : NULL,
				buf_text(&w.next),
				NULL };

	log_message(id, "outcome", buf_text(&w.text), pairs);
	words_release(&w);
}

static void tell(struct scheduler *s, const struct record *r, const struct outcome_line *l)
{
	struct history_outcome o = {
		.recipient = slice_of(l->address),
		.status = l->status,
		.server = l->server,
		.relay = l->relay,
		.dsn = l->dsn,
		.text = l->text,
		.attempt = l->attempt,
		.next = l->next,
	};

	log_outcome(r, l);
	history_outcome(s->history, clock_wall(), r->id, &o);
}

/* All recipients that are in this state now, by this outcome; 0: by whatever. */
static void tell_all(struct scheduler *s, const struct record *r, const struct outcome_line *template,
		     enum rcpt_state state, uint8_t outcome)
{
	struct outcome_line l = *template;

	for (unsigned i = 0; i < r->rcpt_count; i++) {
		l.address = r->rcpt[i].address;
		if (r->rcpt[i].state == state && (outcome == 0 || r->rcpt[i].outcome == outcome))
			tell(s, r, &l);
	}
}

void event_failure(struct scheduler *s, const struct record *r, const struct failure *f, uint8_t outcome,
		   enum disposition d, uint64_t wait_ms)
{
	char relay[321], dsn[17], id[SPOOL_ID_TEXT];
	struct outcome_line l = {
		.relay = relay,
		.dsn = dsn,
		.status = STATUS[d],
		.server = f->server,
		.text = f->text,
		.attempt = r->attempts + 1u,
		.next = next_time(clock_wall(), wait_ms),
	};

	if (d == DISPOSITION_PASSED_ON) {
		spool_id_format(r->id, id);
		log_info("%s: server %s failed: %.*s; the next server is tried", id, f->server, (int)f->text.len,
			 f->text.ptr);
		return;
	}
	snprintf(relay, sizeof(relay), "%.*s", (int)f->relay.len, f->relay.ptr);
	snprintf(dsn, sizeof(dsn), "%.*s", (int)f->dsn.len, f->dsn.ptr);
	tell_all(s, r, &l, d == DISPOSITION_BOUNCED ? RCPT_BOUNCED : RCPT_PENDING, outcome);
}

void event_suspended(struct scheduler *s, entry_index i, struct slice why)
{
	struct entry *e = entry_get(s->entries, i);
	struct record *r = journal_get(s->journal, e->id, e->group);
	struct outcome_line l = {
		.relay = "none", .dsn = "4.3.2", .status = "deferred", .server = "", .text = why, .attempt = e->attempts
	};

	if (!r)
		return;
	tell_all(s, r, &l, RCPT_PENDING, 0);
	record_free(&r);
}

void event_expired(struct scheduler *s, const struct record *r)
{
	static const struct record_outcome never = { .server = (char *)"",
						     .relay = (char *)"none",
						     .text = (char *)"delivery time expired" };

	for (unsigned i = 0; i < r->rcpt_count; i++) {
		const struct record_rcpt *rcpt = &r->rcpt[i];
		const struct record_outcome *last = rcpt->outcome ? &r->outcome[rcpt->outcome - 1] : &never;
		struct outcome_line l = {
			.address = rcpt->address,
			.relay = last->relay,
			.dsn = "4.4.7",
			.status = "bounced",
			.server = last->server,
			.text = slice_of(last->text),
			.attempt = r->attempts,
		};

		if (rcpt->state == RCPT_PENDING)
			tell(s, r, &l);
	}
}

void event_possibly_repeated(struct scheduler *s, const struct record *r)
{
	char id[SPOOL_ID_TEXT];

	spool_id_format(r->id, id);
	log_warn("%s: no reply to the final dot: possibly repeated, some recipients may get a second copy", id);
	history_event(s->history, clock_wall(), r->id, "possibly-repeated", NULL);
}

void event_bounced(struct scheduler *s, uint64_t id, uint64_t bounce_id)
{
	char text[SPOOL_ID_TEXT], bounce[SPOOL_ID_TEXT];
	struct buf line;

	spool_id_format(id, text);
	spool_id_format(bounce_id, bounce);
	buf_init(&line, 128);
	buf_printf(&line, "sender notification: %s", bounce);
	log_message(text, "notified", buf_text(&line), (const char *const[]){ "notification", bounce, NULL });
	history_event(s->history, clock_wall(), id, "notified", (const char *const[]){ "notification", bounce, NULL });
	buf_release(&line);
}

void event_removed(struct scheduler *s, uint64_t id, const char *why)
{
	char text[SPOOL_ID_TEXT];

	spool_id_format(id, text);
	log_message(text, "removed", "removed", NULL);
	history_done(s->history, clock_wall(), id, why);
}
