/* intake.c - from a queue file to records and entries. */
#include "scheduler/intake.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "lib/text.h"
#include "scheduler/dispatch.h"
#include "scheduler/events.h"
#include "scheduler/grouping.h"
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

/* --- deliveries --- */

static enum store_result put_groups(struct scheduler *s, const struct grouping *g, uint32_t group_count)
{
	enum store_result result = STORE_OK;

	for (unsigned i = 0; i < grouping_count(g) && result == STORE_OK; i++) {
		struct record *r = grouping_record(g, i, group_count);

		result = journal_put(s->journal, r);
		record_free(&r);
	}
	return result;
}

/* All that was put since journal_begin(), or nothing of it. */
static enum store_result end_change(struct scheduler *s, enum store_result result)
{
	if (result == STORE_OK)
		return journal_commit(s->journal);
	journal_abort(s->journal);
	return result;
}

/* --- entries --- */

/*
 * Stored due times are wall clock, waiting runs on the other one. After a step of the wall clock no retry waits longer
 * than the longest wait configured, and nothing waits until a clock that was set back has caught up. All that was never
 * to wait is due at one moment, for among equals the earlier arrival is first.
 */
static int64_t due_of(struct scheduler *s, const struct record *r)
{
	int64_t wait = r->due.ms - clock_wall().ms + s->clock_back_ms, most = 0;

	if (r->due.ms == 0)
		return INT64_MIN / 4; /* before every wall clock's time, and far from where sums overflow */
	for (unsigned i = 0; i < s->conf->retry.after_count; i++)
		if ((int64_t)s->conf->retry.after_ms[i] > most)
			most = (int64_t)s->conf->retry.after_ms[i];
	if (r->attempts > 0 && wait > most)
		wait = most;
	return clock_mono().ms + wait;
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

void intake_note_groups(struct scheduler *s, uint64_t id, uint32_t group_count, uint32_t open_groups)
{
	struct message *m;

	if (group_count <= 1)
		return;
	m = message_get(s, id);
	m->group_count = group_count;
	m->open_groups += open_groups;
}

static void list_newborn(struct scheduler *s, entry_index i)
{
	entry_get(s->entries, i)->next = s->newborn;
	s->newborn = i;
}

/* They begin once their records are durable (intake_after_sync): of what the journal does not know nothing may be sent.
 */
static void list_groups(struct scheduler *s, struct grouping *g)
{
	for (unsigned k = 0; k < grouping_count(g); k++)
		list_newborn(s, grouping_entry(g, k));
}

/* --- admission --- */

/* A file that cannot be understood is kept and never sent: an operator must look at it. */
static void hold_damaged(struct scheduler *s, uint64_t id, const char *path, bool is_foreign)
{
	char domain[] = "", sender[] = "";
	struct plan plan;
	struct record r = {
		.id = id, .group = 1, .group_count = 1, .state = RECORD_HELD, .domain = domain, .sender = sender
	};

	log_error(is_foreign ? "%s was written by another version of Postern: held until that one is back, or deleted"
			     : "%s is damaged: held; nothing of it is sent",
		  path);
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
	bool is_foreign;

	*qf = (struct queuefile){ 0 };
	if (fd < 0 && errno == ENOENT) /* announced again because an acknowledgement was lost: it is in queue/ by now */
		return READ_GONE;
	result = fd < 0 ? QUEUEFILE_IO : queuefile_read(fd, qf);
	if (result == QUEUEFILE_IO)
		log_error("%s: %s; looked at again later", path, strerror(errno));
	is_foreign = fd >= 0 && result != QUEUEFILE_OK && queuefile_is_foreign_version(fd);
	if (fd >= 0)
		close(fd);
	if (result == QUEUEFILE_IO)
		return READ_LATER;
	if (result == QUEUEFILE_OK && qf->id == id)
		return READ_OK;
	hold_damaged(s, id, path, is_foreign);
	return READ_HELD;
}

static void again_later(struct scheduler *s, uint64_t id)
{
	*(uint64_t *)array_add((void **)&s->refused, &s->refused_count, &s->refused_room, sizeof(id)) = id;
	loop_timer_set_ms(s->refused_timer, REFUSED_WAIT_MS);
}

/* What all deliveries of a new message have in common; the strings are the caller's to free. */
static struct record record_of(const struct queuefile *qf, bool maybe_repeated)
{
	struct record r = {
		.id = qf->id,
		.state = RECORD_WAITING,
		.priority = (uint8_t)qf->priority,
		.flags = maybe_repeated ? RECORD_MAYBE_REPEATED : 0,
		.sender_hash = record_sender_hash(qf->sender),
		.message_rcpt_count = qf->rcpt_count,
		.due = qf->send_after,
		.known = clock_wall(),
		.size_bytes = qf->size_bytes,
		.sender = xstrndup(qf->sender.ptr, qf->sender.len),
		.wanted = qf->server.len > 0 ? xstrndup(qf->server.ptr, qf->server.len) : NULL,
	};

	if (r.due.ms > r.known.ms) /* waiting for a date is no age */
		r.held_s = (uint32_t)((r.due.ms - r.known.ms) / 1000);
	return r;
}

/* Records for all recipients; false: no room. */
static bool take_in(struct scheduler *s, const struct queuefile *qf, bool maybe_repeated)
{
	struct record like = record_of(qf, maybe_repeated);
	struct grouping *g = grouping_new(s, &like, 1, (struct grouping_bounds){ RECORD_RCPT_MAX, false });
	enum store_result result;

	for (uint32_t i = 0; i < qf->rcpt_count; i++)
		grouping_add(g, i, qf->rcpt[i].address);
	result = journal_begin(s->journal);
	if (result == STORE_OK)
		result = end_change(s, put_groups(s, g, grouping_count(g)));
	if (result == STORE_FATAL)
		scheduler_fail(s, result, "taking a message in");
	if (result == STORE_OK) {
		list_groups(s, g);
		intake_note_groups(s, qf->id, grouping_count(g), grouping_count(g));
	}
	grouping_free(&g);
	free(like.sender);
	free(like.wanted);
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

bool intake_is_damaged(const struct scheduler *s, uint64_t id)
{
	enum queuefile_result result = QUEUEFILE_IO;
	char path[SPOOL_PATH_MAX];
	struct queuefile qf = { 0 };
	int fd;

	spool_queue_path(id, path);
	fd = openat(s->spool_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0) {
		result = queuefile_read(fd, &qf);
		close(fd);
	}
	if (result == QUEUEFILE_OK && qf.id != id)
		result = QUEUEFILE_DAMAGED;
	queuefile_release(&qf);
	if (result == QUEUEFILE_DAMAGED)
		log_error("%s is damaged: held; nothing of it is sent", path);
	return result == QUEUEFILE_DAMAGED;
}

bool intake_look_again(struct scheduler *s, entry_index i)
{
	uint64_t id = entry_get(s->entries, i)->id, before = s->accepted_count;
	char path[SPOOL_PATH_MAX];

	if (is_being_admitted(s, id))
		return false;
	entry_forget(s, i);
	spool_queue_path(id, path);
	intake_admit(s, id, path, false); /* its record takes the place of the one that there was */
	return s->accepted_count > before;
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

/* What its parts have in common with a delivery that is split; the strings stay its own. */
static struct record record_of_part(const struct record *r)
{
	return (struct record){
		.id = r->id,
		.state = RECORD_WAITING,
		.priority = r->priority,
		.flags = r->flags & (RECORD_WARNED | RECORD_MAYBE_REPEATED),
		.attempts = r->attempts,
		.sender_hash = r->sender_hash,
		.held_s = r->held_s,
		.message_rcpt_count = r->message_rcpt_count,
		.known = r->known,
		.size_bytes = r->size_bytes,
		.sender = r->sender,
		.wanted = r->wanted,
	};
}

/* What is left of it: recipients that are final. */
static void drop_pending(struct record *r)
{
	uint16_t kept = 0;

	for (unsigned i = 0; i < r->rcpt_count; i++) {
		if (r->rcpt[i].state == RCPT_PENDING)
			free(r->rcpt[i].address);
		else
			r->rcpt[kept++] = r->rcpt[i];
	}
	r->rcpt_count = kept;
	r->state = RECORD_FINAL;
}

void intake_split(struct scheduler *s, entry_index i, struct grouping_bounds bounds)
{
	struct entry *e = entry_get(s->entries, i);
	struct record *r = journal_get(s->journal, e->id, e->group), like;
	const struct message *m = message_find(s, e->id);
	uint32_t before = m ? m->group_count : 1, after;
	struct grouping *g;

	if (!r) {
		log_error("delivery %llu group %u has no record", (unsigned long long)e->id, e->group);
		entry_forget(s, i);
		return;
	}
	like = record_of_part(r);
	g = grouping_new(s, &like, before + 1, bounds);
	for (unsigned k = 0; k < r->rcpt_count; k++)
		if (r->rcpt[k].state == RCPT_PENDING)
			grouping_add(g, r->rcpt[k].index, slice_of(r->rcpt[k].address));
	after = before + grouping_count(g);
	scheduler_must(s, journal_begin(s->journal), "splitting a delivery");
	scheduler_must(s, put_groups(s, g, after), "splitting a delivery");
	list_groups(s, g);
	grouping_free(&g);
	drop_pending(r);
	scheduler_must(s, journal_put(s->journal, r), "splitting a delivery");
	scheduler_must(s, journal_commit(s->journal), "splitting a delivery");
	intake_note_groups(s, r->id, after, after - before - (m ? 1 : 0));
	record_free(&r);
	entry_forget(s, i);
}
