/* session_mail.c - deliveries on their way through a session, and what is reported of them. */
#include "lib/address.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "lib/text.h"
#include "smtpout/session_impl.h"

static void unlink_delivery(struct session *s, struct delivery *d)
{
	struct delivery **at = &s->first, *before = NULL;

	while (*at != d) {
		before = *at;
		at = &before->next;
	}
	*at = d->next;
	if (s->last == d)
		s->last = before;
	if (s->next_up == d)
		s->next_up = d->next;
	s->delivery_count--;
}

static struct report report_about(const struct session *s, const struct delivery *d)
{
	return (struct report){
		.session = s->id,
		.server = s->server_index,
		.group = d->group,
		.attempt = d->attempt,
		.queue_id = d->queue_id,
		.relay = s->relay,
		.arrived = d->arrived,
		.scheduled = d->scheduled,
		.active = d->active,
		.begun = d->begun,
		.done = clock_wall(),
		.board_slot = -1,
	};
}

/* One report for all recipients: `text` tells why nothing, or not all, could be done. */
static void report_whole(struct session *s, struct delivery *d, enum verdict verdict, enum failure_cause cause,
			 const char *text)
{
	struct report r = report_about(s, d);

	r.verdict = (uint8_t)verdict;
	r.cause = (uint8_t)cause;
	r.dsn = verdict == VERDICT_UNSENT ? "" : "4.3.0";
	r.text = text;
	r.is_last = true;
	r.rcpt_count = d->rcpt_count;
	r.index = d->index;
	report_book_add(s->w->book, &r);
}

/* The recipients that got the k-th outcome. */
static void report_outcome(struct session *s, struct delivery *d, unsigned k, bool is_last)
{
	const struct engine_outcome *o = &d->mail.outcome[k];
	struct report r = report_about(s, d);
	uint32_t index[ENGINE_RCPT_MAX];
	struct slice rcpt[ENGINE_RCPT_MAX];

	for (unsigned i = 0; i < d->rcpt_count; i++) {
		if (d->mail.rcpt_outcome[i] != k + 1)
			continue;
		index[r.rcpt_count] = d->index[i];
		rcpt[r.rcpt_count++] = d->qf.rcpt[d->index[i]].address;
	}
	r.verdict = o->verdict;
	r.cause = o->cause;
	r.code = o->code;
	r.dsn = o->dsn;
	r.text = o->text;
	r.was_seen = d->mail.was_seen;
	r.is_after_dot = o->is_after_dot;
	r.is_last = is_last;
	r.index = index;
	r.rcpt = rcpt;
	r.board_slot = is_last ? d->board_slot : -1;
	report_book_add(s->w->book, &r);
}

void session_finish(struct session *s, struct delivery *d)
{
	if (s->sending == d)
		s->sending = NULL;
	for (unsigned k = 0; k < d->mail.outcome_count; k++)
		report_outcome(s, d, k, k + 1 == d->mail.outcome_count);
	unlink_delivery(s, d);
	delivery_free(&d);
}

void session_hand_back(struct session *s)
{
	while (s->next_up) {
		struct delivery *d = s->next_up;

		report_whole(s, d, VERDICT_UNSENT, FAILURE_NONE, "");
		unlink_delivery(s, d);
		delivery_free(&d);
	}
}

/* A message that cannot be read here is reported at once; others go on. */
static void give_up(struct session *s, struct delivery *d, char *why)
{
	char id[SPOOL_ID_TEXT];

	spool_id_format(d->queue_id, id);
	log_error("%s: %s", id, why);
	report_whole(s, d, VERDICT_TEMPORARY, FAILURE_LOCAL, why);
	free(why);
	unlink_delivery(s, d);
	delivery_free(&d);
}

static bool lacks_utf8(const struct session *s, const struct delivery *d)
{
	return !(s->engine.ehlo.features & EHLO_SMTPUTF8) && engine_needs_utf8(&d->mail);
}

/* The last host bounces it, unless one before it could not be asked. */
bool session_leave_for_another(struct session *s)
{
	bool is_last = s->host_index + 1 >= s->host_count;
	bool was_heard = s->failure.cause == FAILURE_NONE || s->failure.cause == FAILURE_CAPABILITY;
	struct delivery *d = s->next_up;
	char *text;

	if (!d || (is_last && was_heard))
		return false;
	text = d->is_open ? NULL : delivery_open(d, s->w->queue_fd, s->server);
	if (text) {
		give_up(s, d, text);
		return false;
	}
	if (!lacks_utf8(s, d))
		return false;
	text = xasprintf("SMTPUTF8 is required, but was not offered by host %s", s->peer);
	engine_leave(&s->engine, FAILURE_CAPABILITY, "4.6.7", text);
	free(text);
	return true;
}

/* On a later session it will be the first, and all hosts are asked. */
static bool must_go_first(const struct session *s, const struct delivery *d)
{
	return s->had_other_hosts && (s->engine.mail_count > 0 || s->engine.mail[0]) && lacks_utf8(s, d);
}

/* RFC 9422 RCPTMAX: the scheduler, which has heard of it meanwhile, makes several deliveries of it. */
static bool has_too_many(const struct session *s, const struct delivery *d)
{
	return s->engine.ehlo.rcpt_limit > 0 && d->rcpt_count > s->engine.ehlo.rcpt_limit;
}

static uint64_t domain_hash(struct slice address)
{
	struct address_parts parts;
	struct buf key;
	uint64_t hash;

	buf_init(&key, ADDRESS_DOMAIN_MAX + 1);
	if (address_parse(address, &parts) == ADDRESS_OK)
		address_domain_key(&key, &parts);
	hash = text_hash(key.ptr, key.len);
	buf_release(&key);
	return hash;
}

/* RFC 9422 RCPTDOMAINMAX counts over the session. False: the delivery's domains are too many for what is left of it. */
static bool note_domains(struct session *s, const struct delivery *d)
{
	unsigned limit = s->engine.ehlo.domain_limit, before = s->domain_count, k;

	if (limit == 0)
		return true;
	if (limit > SESSION_DOMAINS_MAX)
		limit = SESSION_DOMAINS_MAX;
	for (unsigned i = 0; i < d->rcpt_count; i++) {
		uint64_t hash = domain_hash(d->qf.rcpt[d->index[i]].address);

		for (k = 0; k < s->domain_count && s->domain[k] != hash; k++)
			;
		if (k < s->domain_count)
			continue;
		if (s->domain_count == limit) {
			s->domain_count = before;
			return false;
		}
		s->domain[s->domain_count++] = hash;
	}
	return true;
}

void session_feed(struct session *s)
{
	while (s->was_up && s->next_up && engine_wants_mail(&s->engine) && !report_book_is_full(s->w->book)) {
		struct delivery *d = s->next_up;
		char *why = d->is_open ? NULL : delivery_open(d, s->w->queue_fd, s->server);

		if (why) {
			give_up(s, d, why);
			continue;
		}
		if (must_go_first(s, d) || has_too_many(s, d) || !note_domains(s, d)) {
			session_hand_back(s);
			s->is_hanging_up = true;
			return;
		}
		d->is_in_engine = true;
		d->begun = clock_wall();
		s->next_up = d->next;
		engine_take_mail(&s->engine, &d->mail);
	}
}

void session_deliver(struct session *s, const struct msg_deliver *m)
{
	struct delivery *d;

	if (s->delivery_count >= SESSION_QUEUE_MAX || s->is_hanging_up || s->w->is_draining) {
		session_refuse(s->w, m);
		return;
	}
	d = delivery_new(m);
	if (s->last)
		s->last->next = d;
	else
		s->first = d;
	s->last = d;
	s->delivery_count++;
	if (!s->next_up)
		s->next_up = d;
	session_wake(s);
}

void session_refuse(struct worker *w, const struct msg_deliver *m)
{
	struct delivery *d = delivery_new(m);
	struct report r = {
		.session = m->session,
		.group = m->group,
		.attempt = m->attempt,
		.queue_id = m->queue_id,
		.verdict = VERDICT_UNSENT,
		.is_last = true,
		.dsn = "",
		.text = "",
		.relay = "none",
		.rcpt_count = d->rcpt_count,
		.index = d->index,
		.board_slot = -1,
	};

	report_book_add(w->book, &r);
	delivery_free(&d);
}

void session_tell(struct session *s)
{
	struct msg_head head = channel_head(report_book_channel(s->w->book));
	struct packet p;

	msg_encode_session_open(&p, &head,
				&(struct msg_session_open){ .session = s->id,
							    .server = conf_server_key(s->server),
							    .destination = s->destination,
							    .site = s->site });
	report_book_send(s->w->book, &p);
	for (const struct delivery *d = s->first; d; d = d->next) {
		struct msg_inflight m = {
			.session = s->id,
			.queue_id = d->queue_id,
			.group = d->group,
			.attempt = d->attempt,
			.rcpt_count = (uint16_t)d->rcpt_count,
		};

		msg_encode_inflight(&p, &head, &m);
		report_book_send(s->w->book, &p);
	}
}
