/* intake.c - from a queue file to records and entries. */
#include "scheduler/intake.h"
#include "lib/address.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "lib/text.h"
#include "scheduler/dispatch.h"
#include "scheduler/events.h"
#include "scheduler/finish.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { REFUSED_WAIT_MS = 5000 };

/* --- messages with several groups --- */

struct message *message_find(struct scheduler *s, uint64_t id)
{
	for (struct table_node *n = table_first(&s->messages, text_hash(&id, sizeof(id))); n; n = table_next(n)) {
		struct message *m = TABLE_OBJECT(n, struct message, node);

		if (m->id == id)
			return m;
	}
	return NULL;
}

static struct message *message_get(struct scheduler *s, uint64_t id)
{
	struct message *m = message_find(s, id);

	if (m)
		return m;
	m = xcalloc(1, sizeof(*m));
	m->id = id;
	table_add(&s->messages, &m->node, text_hash(&id, sizeof(id)));
	return m;
}

/* --- grouping --- */

/* Recipients that go together, while a message is being taken in. */
struct group {
	struct record *record;
	struct plan plan;
	bool is_by_domain;
	unsigned rcpts_max;
};

struct grouping {
	struct scheduler *s;
	const struct queuefile *qf;
	struct group *group;
	unsigned count, room;
	struct group *last; /* the one that took the last recipient: lists come sorted by domain more often than not */
	uint16_t first_number; /* of the groups made here */
};

bool intake_is_by_domain(const struct scheduler *s, const struct plan *plan)
{
	return plan->count == 0 || plan_has_direct(plan, s->conf);
}

static unsigned least_rcpts(const struct conf_limits *limits, unsigned most)
{
	for (unsigned i = 0; i < limits->count; i++)
		if (limits->limit[i].is_recipients && !limits->limit[i].is_unlimited && limits->limit[i].amount < most)
			most = (unsigned)limits->limit[i].amount;
	return most;
}

unsigned intake_rcpts_max(const struct scheduler *s, const struct plan *plan, const char *domain)
{
	const struct conf *c = s->conf;
	unsigned most = least_rcpts(&c->limit_per_sender, least_rcpts(&c->limits, RECORD_RCPT_MAX));

	for (unsigned i = 0; i < plan->count; i++) {
		most = least_rcpts(&c->server[plan->server[i]].limits, most);
		most = least_rcpts(&c->server[plan->server[i]].ramp, most);
	}
	if (plan->route > 0)
		most = least_rcpts(&c->route[plan->route - 1].limits, most);
	for (unsigned i = 0; i < c->destination_count; i++)
		if (c->destination[i].mx.count > 0 ||
		    slice_equal_nocase(slice_of(c->destination[i].name), slice_of(domain)))
			most = least_rcpts(&c->destination[i].limits, most);
	return most > 0 ? most : 1;
}

static bool group_takes(const struct group *g, const char *domain, const struct plan *plan)
{
	if (g->record->rcpt_count >= g->rcpts_max || !plan_equal(&g->plan, plan))
		return false;
	return !g->is_by_domain || strcmp(g->record->domain, domain) == 0;
}

static struct group *group_new(struct grouping *gr, const char *domain, const struct plan *plan)
{
	struct group *g = array_add((void **)&gr->group, &gr->count, &gr->room, sizeof(*gr->group));
	const struct queuefile *qf = gr->qf;
	struct record *r = record_new();

	r->id = qf->id;
	r->group = (uint16_t)(gr->first_number + gr->count - 1);
	r->state = RECORD_WAITING;
	r->priority = (uint8_t)qf->priority;
	r->sender = xstrndup(qf->sender.ptr, qf->sender.len);
	r->sender_hash = record_sender_hash(qf->sender);
	r->message_rcpt_count = qf->rcpt_count;
	r->known = clock_wall();
	r->due = qf->send_after;
	if (qf->send_after.ms > r->known.ms) /* waiting for a date is no age */
		r->held_s = (uint32_t)((qf->send_after.ms - r->known.ms) / 1000);
	r->size_bytes = qf->size_bytes;
	r->domain = xstrdup(domain);
	if (qf->server.len > 0)
		r->wanted = xstrndup(qf->server.ptr, qf->server.len);
	*g = (struct group){ r, *plan, intake_is_by_domain(gr->s, plan), intake_rcpts_max(gr->s, plan, domain) };
	return g;
}

static void group_add(struct grouping *gr, uint32_t index, struct slice address, const char *domain)
{
	struct plan plan;
	struct group *g = gr->last;

	plan_make(&plan, gr->s->conf, gr->qf->sender, address, gr->qf->server);
	if (!g || !group_takes(g, domain, &plan)) {
		g = NULL;
		for (unsigned i = gr->count; i-- > 0 && !g;)
			if (group_takes(&gr->group[i], domain, &plan))
				g = &gr->group[i];
		if (!g)
			g = group_new(gr, domain, &plan);
	}
	gr->last = g;
	if (strcmp(g->record->domain, domain) != 0)
		g->record->flags |= RECORD_MIXED_DOMAINS;
	g->record->rcpt[g->record->rcpt_count++] = (struct record_rcpt){
		.index = index,
		.state = RCPT_PENDING,
		.address = xstrndup(address.ptr, address.len),
	};
}

static void domain_of(struct buf *out, struct slice address)
{
	struct address_parts parts;

	buf_clear(out);
	if (address_parse(address, &parts) == ADDRESS_OK)
		address_domain_key(out, &parts);
}

static void grouping_release(struct grouping *gr)
{
	for (unsigned i = 0; i < gr->count; i++)
		record_free(&gr->group[i].record);
	free(gr->group);
}

/* All of them or none; with what is left of the delivery that they came from, if any. */
static enum store_result put_groups(struct scheduler *s, struct grouping *gr, uint16_t group_count,
				    const struct record *rest)
{
	enum store_result result = journal_begin(s->journal);

	for (unsigned i = 0; i < gr->count && result == STORE_OK; i++) {
		gr->group[i].record->group_count = group_count;
		result = journal_put(s->journal, gr->group[i].record);
	}
	if (result == STORE_OK && rest)
		result = journal_put(s->journal, rest);
	if (result == STORE_OK)
		return journal_commit(s->journal);
	journal_abort(s->journal);
	return result;
}

/* --- entries --- */

/*
 * Stored due times are wall clock, waiting runs on the other one. After a step of the wall clock no retry waits longer
 * than the longest wait configured.
 */
static int64_t due_of(struct scheduler *s, const struct record *r)
{
	int64_t wait = r->due.ms - clock_wall().ms, most = 0;

	for (unsigned i = 0; i < s->conf->retry.after_count; i++)
		if ((int64_t)s->conf->retry.after_ms[i] > most)
			most = (int64_t)s->conf->retry.after_ms[i];
	if (r->attempts > 0 && wait > most)
		wait = most;
	return clock_mono().ms + (wait > 0 ? wait : 0);
}

bool intake_plan(const struct scheduler *s, const struct record *r, struct plan *plan)
{
	struct slice wanted = slice_of(r->wanted ? r->wanted : "");
	bool is_first = true, is_same = true;
	struct plan other;

	plan_make_for_domain(plan, s->conf, slice_of(r->domain));
	for (unsigned i = 0; i < r->rcpt_count && is_same; i++) {
		if (r->rcpt[i].state != RCPT_PENDING)
			continue;
		plan_make(&other, s->conf, slice_of(r->sender), slice_of(r->rcpt[i].address), wanted);
		if (is_first)
			*plan = other;
		else
			is_same = plan_equal(plan, &other);
		is_first = false;
	}
	return is_same;
}

entry_index intake_entry(struct scheduler *s, const struct record *r, struct slice domain, const struct plan *plan)
{
	entry_index i = entry_new(s->entries);
	struct entry *e = entry_get(s->entries, i);

	e->id = r->id;
	e->group = r->group;
	e->attempts = r->attempts;
	e->sender = r->sender_hash;
	e->priority = r->priority;
	e->domain = domain_ref(&s->domains, domain, plan)->index;
	e->flags = (r->flags & RECORD_MIXED_DOMAINS) ? ENTRY_MIXED_DOMAINS : 0;
	e->due_ms = due_of(s, r);
	e->place = r->state == RECORD_HELD ? ENTRY_HELD : ENTRY_LISTED;
	return i;
}

void intake_note_groups(struct scheduler *s, uint64_t id, uint16_t group_count, uint16_t open_groups)
{
	struct message *m;

	if (group_count <= 1)
		return;
	m = message_get(s, id);
	m->group_count = group_count;
	m->open_groups = (uint16_t)(m->open_groups + open_groups);
}

static void list_newborn(struct scheduler *s, entry_index i)
{
	entry_get(s->entries, i)->next = s->newborn;
	s->newborn = i;
}

/* --- admission --- */

/* A file that cannot be understood is kept and never sent: an operator must look at it. */
static void hold_damaged(struct scheduler *s, uint64_t id, const char *path)
{
	char domain[] = "", sender[] = "";
	struct plan plan;
	struct record r = {
		.id = id, .group = 1, .group_count = 1, .state = RECORD_HELD, .domain = domain, .sender = sender
	};

	log_error("%s is damaged: held; nothing of it is sent", path);
	if (journal_put(s->journal, &r) != STORE_OK)
		log_error("%s: no room for its record, looked at again at the next start", path);
	plan_make_for_domain(&plan, s->conf, slice_of(""));
	intake_entry(s, &r, slice_of(""), &plan);
}

enum read_result { READ_OK, READ_GONE, READ_HELD, READ_LATER };

static enum read_result read_message(struct scheduler *s, uint64_t id, const char *path, struct queuefile *qf)
{
	int fd = openat(s->spool_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	enum queuefile_result result;

	*qf = (struct queuefile){ 0 };
	if (fd < 0 && errno == ENOENT) /* announced again because an acknowledgement was lost: it is in queue/ by now */
		return READ_GONE;
	result = fd < 0 ? QUEUEFILE_IO : queuefile_read(fd, qf);
	if (result == QUEUEFILE_IO)
		log_error("%s: %s; looked at again later", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (result == QUEUEFILE_IO)
		return READ_LATER;
	if (result == QUEUEFILE_OK && qf->id == id)
		return READ_OK;
	hold_damaged(s, id, path);
	return READ_HELD;
}

static void group_all(struct grouping *gr)
{
	struct buf domain;

	buf_init(&domain, ADDRESS_DOMAIN_MAX + 1);
	for (uint32_t i = 0; i < gr->qf->rcpt_count; i++) {
		domain_of(&domain, gr->qf->rcpt[i].address);
		group_add(gr, i, gr->qf->rcpt[i].address, buf_text(&domain));
	}
	buf_release(&domain);
}

static void again_later(struct scheduler *s, uint64_t id)
{
	*(uint64_t *)array_add((void **)&s->refused, &s->refused_count, &s->refused_room, sizeof(id)) = id;
	loop_timer_set_ms(s->refused_timer, REFUSED_WAIT_MS);
}

/* Records for all recipients; false: no room. */
static bool take_in(struct scheduler *s, const struct queuefile *qf, bool maybe_repeated)
{
	struct grouping gr = { .s = s, .qf = qf, .first_number = 1 };
	enum store_result result;

	group_all(&gr);
	for (unsigned i = 0; maybe_repeated && i < gr.count; i++)
		gr.group[i].record->flags |= RECORD_MAYBE_REPEATED;
	result = put_groups(s, &gr, (uint16_t)gr.count, NULL);
	if (result == STORE_FATAL)
		scheduler_fail(s, result, "taking a message in");
	for (unsigned i = 0; result == STORE_OK && i < gr.count; i++)
		list_newborn(s, intake_entry(s, gr.group[i].record, slice_of(gr.group[i].record->domain),
					     &gr.group[i].plan));
	if (result == STORE_OK)
		intake_note_groups(s, qf->id, (uint16_t)gr.count, (uint16_t)gr.count);
	grouping_release(&gr);
	return result == STORE_OK;
}

void intake_admit(struct scheduler *s, uint64_t id, const char *path, bool maybe_repeated)
{
	struct queuefile qf;
	enum read_result result = read_message(s, id, path, &qf);

	if (result == READ_OK && !take_in(s, &qf, maybe_repeated))
		result = READ_LATER;
	if (result == READ_OK) {
		event_arrived(s, &qf);
		s->accepted_count++;
	}
	queuefile_release(&qf);
	if (result == READ_LATER) {
		again_later(s, id);
		return;
	}
	if (id > s->last_id)
		s->last_id = id;
	*(uint64_t *)array_add((void **)&s->admitted, &s->admitted_count, &s->admitted_room, sizeof(id)) = id;
}

static bool is_being_admitted(const struct scheduler *s, uint64_t id)
{
	for (unsigned i = 0; i < s->admitted_count; i++)
		if (s->admitted[i] == id)
			return true;
	for (unsigned i = 0; i < s->refused_count; i++)
		if (s->refused[i] == id)
			return true;
	return false;
}

void intake_on_admit(struct scheduler *s, const struct msg_admit *m)
{
	char path[SPOOL_PATH_MAX];

	for (unsigned i = 0; i < m->ids.count; i++) {
		uint64_t id = msg_u64(&m->ids, i);

		if (is_being_admitted(s, id))
			continue;
		spool_incoming_path(id, path);
		intake_admit(s, id, path, false);
	}
}

void intake_retry_refused(struct scheduler *s)
{
	unsigned count = s->refused_count;
	uint64_t *ids = s->refused;

	s->refused = NULL;
	s->refused_count = s->refused_room = 0;
	for (unsigned i = 0; i < count; i++) {
		char path[SPOOL_PATH_MAX];

		spool_incoming_path(ids[i], path);
		intake_admit(s, ids[i], path, false);
	}
	free(ids);
}

static bool move_to_queue(struct scheduler *s, uint64_t id)
{
	char from[SPOOL_PATH_MAX], to[SPOOL_PATH_MAX];

	spool_incoming_path(id, from);
	spool_queue_path(id, to);
	if (renameat(s->spool_fd, from, s->spool_fd, to) == 0 || errno == ENOENT)
		return true;
	log_error("cannot move %s to %s: %s; tried again soon", from, to, strerror(errno));
	return false;
}

static void acknowledge(struct scheduler *s, const uint64_t *ids, unsigned count)
{
	struct msg_admitted m = { .ids = { .values = ids, .count = (uint16_t)count } };
	struct msg_head head = channel_head(s->pickup);
	struct packet p;

	msg_encode_admitted(&p, &head, &m);
	channel_send(s->pickup, &p);
}

/* Those of messages that are still in incoming/ wait with them. */
static void start_newborn(struct scheduler *s)
{
	entry_index i = s->newborn, reversed = 0;

	s->newborn = 0;
	while (i) { /* the list is last in, first out; mail goes in order of arrival */
		entry_index next = entry_get(s->entries, i)->next;

		entry_get(s->entries, i)->next = reversed;
		reversed = i;
		i = next;
	}
	for (i = reversed; i;) {
		entry_index next = entry_get(s->entries, i)->next;

		if (s->admitted_count > 0 && is_being_admitted(s, entry_get(s->entries, i)->id))
			list_newborn(s, i);
		else
			entries_push(s->entries, i, (struct mono){ entry_get(s->entries, i)->due_ms });
		i = next;
	}
}

void intake_after_sync(struct scheduler *s)
{
	bool is_time = clock_mono().ms >= s->admit_again.ms;
	unsigned count = s->admitted_count, stuck = is_time ? 0 : s->stuck_count;

	for (unsigned i = stuck; i < count; i++) {
		uint64_t id = s->admitted[i];

		if (move_to_queue(s, id))
			continue;
		s->admitted[i] = s->admitted[stuck];
		s->admitted[stuck++] = id;
	}
	if (channel_peer(s->pickup))
		for (unsigned i = stuck; i < count; i += 256)
			acknowledge(s, s->admitted + i, count - i < 256 ? count - i : 256);
	s->admitted_count = s->stuck_count = stuck;
	start_newborn(s);
	if (stuck > 0 && !loop_timer_is_set(s->admit_timer)) {
		s->admit_again.ms = clock_mono().ms + REFUSED_WAIT_MS;
		loop_timer_set_ms(s->admit_timer, REFUSED_WAIT_MS);
	}
}

/* --- splitting --- */

static struct record *moved_out(struct grouping *gr, struct record *r)
{
	struct buf domain;
	uint16_t kept = 0;

	buf_init(&domain, ADDRESS_DOMAIN_MAX + 1);
	for (unsigned i = 0; i < r->rcpt_count; i++) {
		struct record_rcpt *rcpt = &r->rcpt[i];

		if (rcpt->state != RCPT_PENDING) {
			r->rcpt[kept++] = *rcpt;
			continue;
		}
		domain_of(&domain, slice_of(rcpt->address));
		group_add(gr, rcpt->index, slice_of(rcpt->address), buf_text(&domain));
		free(rcpt->address);
	}
	buf_release(&domain);
	r->rcpt_count = kept;
	r->state = RECORD_FINAL;
	for (unsigned i = 0; i < gr->count; i++) {
		gr->group[i].record->attempts = r->attempts;
		gr->group[i].record->held_s = r->held_s;
		gr->group[i].record->flags |= r->flags & (RECORD_WARNED | RECORD_MAYBE_REPEATED);
		gr->group[i].record->known = r->known;
	}
	return r;
}

void intake_split(struct scheduler *s, entry_index i)
{
	struct entry *e = entry_get(s->entries, i);
	struct record *r = journal_get(s->journal, e->id, e->group);
	struct message *m = message_find(s, e->id);
	uint16_t before = m ? m->group_count : 1;
	struct queuefile qf = { 0 };
	struct grouping gr = { .s = s, .qf = &qf, .first_number = (uint16_t)(before + 1) };
	enum store_result result;

	if (!r) {
		log_error("delivery %llu group %u has no record", (unsigned long long)e->id, e->group);
		entry_forget(s, i);
		return;
	}
	qf.id = r->id;
	qf.priority = (enum mail_priority)r->priority;
	qf.sender = slice_of(r->sender);
	qf.server = slice_of(r->wanted ? r->wanted : "");
	qf.rcpt_count = r->message_rcpt_count;
	qf.size_bytes = r->size_bytes;
	moved_out(&gr, r);
	result = put_groups(s, &gr, (uint16_t)(before + gr.count), r);
	scheduler_must(s, result, "splitting a delivery");
	for (unsigned k = 0; k < gr.count; k++) {
		entry_index born =
			intake_entry(s, gr.group[k].record, slice_of(gr.group[k].record->domain), &gr.group[k].plan);

		entries_push(s->entries, born, clock_mono());
	}
	intake_note_groups(s, r->id, (uint16_t)(before + gr.count), (uint16_t)(gr.count - (m ? 1 : 0)));
	record_free(&r);
	grouping_release(&gr);
	entry_forget(s, i);
}
