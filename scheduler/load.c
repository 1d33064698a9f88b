/* load.c - start-up: one bulk scan of the journal, one walk over the folders. */
#include "scheduler/load.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "scheduler/finish.h"
#include "scheduler/intake.h"
#include "scheduler/report.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct id_list {
	uint64_t *id;
	unsigned count, room;
};

struct load {
	struct scheduler *s;
	struct id_list settled;    /* no group waits: done, or all final; in order */
	struct id_list unfinished; /* all final, but not marked done yet */
	struct id_list orphans;    /* files in queue/ without a record */
	struct id_list arrivals;   /* files in incoming/ without a record */
	struct id_list told;       /* a report to the sender is due while it waits, or was */
	struct id_list unread;     /* held because nobody understood their files: perhaps we do */
	uint64_t current;          /* message whose records are being read */
	uint32_t current_groups, current_open;
	bool needs_addresses;
	bool is_newer; /* the journal is that of a later version */
};

static void id_add(struct id_list *list, uint64_t id)
{
	*(uint64_t *)array_add((void **)&list->id, &list->count, &list->room, sizeof(id)) = id;
}

static int id_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static bool id_has(const struct id_list *list, uint64_t id)
{
	return list->count && bsearch(&id, list->id, list->count, sizeof(id), id_compare);
}

/* --- the journal --- */

static void end_message(struct load *load)
{
	if (load->current_groups == 0)
		return;
	if (load->current_open == 0) {
		id_add(&load->settled, load->current);
		id_add(&load->unfinished, load->current);
	} else {
		intake_note_groups(load->s, load->current, load->current_groups, load->current_open);
	}
	load->current_groups = load->current_open = 0;
}

/* Settings may be new: which servers carry it is worked out again, for each recipient where that may differ. */
static void make_entry(struct load *load, const struct record *head, struct slice domain, struct slice key,
		       struct slice value)
{
	struct scheduler *s = load->s;
	struct record *whole = NULL;
	struct plan plan;
	bool is_mixed = false;
	entry_index i;

	plan_make_for_domain(&plan, s->conf, domain);
	if (load->needs_addresses || (head->flags & (RECORD_MIXED_DOMAINS | RECORD_HAS_WANTED)))
		whole = record_decode(key, value);
	if (whole)
		is_mixed = !intake_plan(s, whole, &plan);
	i = intake_entry(s, head, domain, &plan);
	if (is_mixed)
		entry_get(s->entries, i)->flags |= ENTRY_MIXED_PLANS;
	record_free(&whole);
}

static bool on_record(void *arg, struct slice key, struct slice value)
{
	struct load *load = arg;
	struct scheduler *s = load->s;
	struct record r = { 0 };
	struct slice domain;

	if (journal_key_is_note(key))
		return true;
	if (record_is_newer(value)) {
		load->is_newer = true;
		return false;
	}
	if (!record_peek(key, value, &r, &domain)) {
		log_error("the queue database has a record that cannot be read: its message is found by its file");
		return true;
	}
	if (r.id > s->last_id)
		s->last_id = r.id;
	if (r.id != load->current)
		end_message(load);
	load->current = r.id;
	if (r.state == RECORD_HELD && r.message_rcpt_count == 0) {
		id_add(&load->unread, r.id);
		id_add(&load->settled, r.id);
		return true;
	}
	if (r.state == RECORD_DONE) {
		id_add(&load->settled, r.id);
		finish_add_done(s, r.id, r.group, NULL);
		return true;
	}
	if (r.flags & RECORD_REPORT_DUE && (load->told.count == 0 || load->told.id[load->told.count - 1] != r.id))
		id_add(&load->told, r.id);
	load->current_groups = load->current_groups > r.group_count ? load->current_groups : r.group_count;
	if (r.state == RECORD_FINAL)
		return true;
	load->current_open++;
	make_entry(load, &r, domain, key, value);
	return true;
}

/* --- the folders --- */

static void see_file(struct load *load, uint64_t id, bool is_incoming)
{
	struct scheduler *s = load->s;
	entry_index i = entries_find_sorted(s->entries, id);

	if (!i) {
		if (!id_has(&load->settled, id))
			id_add(is_incoming ? &load->arrivals : &load->orphans, id);
		return;
	}
	for (; i < entries_limit(s->entries) && entry_get(s->entries, i)->id == id; i++)
		entry_get(s->entries, i)->flags |= ENTRY_FILE_SEEN;
	if (is_incoming) /* S3: the record was made, the rename was not */
		*(uint64_t *)array_add((void **)&s->admitted, &s->admitted_count, &s->admitted_room, sizeof(id)) = id;
}

static bool is_complete(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && spool_is_complete(&st);
}

/*
 * A file where nobody would look for it, put there by hand or from a backup, is moved. False: it is not to be seen
 * here, or not at all, as the log says then.
 */
static bool stands_right(const struct load *load, const char *folder, const char *name, uint64_t id)
{
	char right[SPOOL_PATH_MAX], wrong[SPOOL_PATH_MAX];
	int root = load->s->spool_fd;

	spool_queue_path(id, right);
	if (strncmp(right, folder, strlen(folder)) == 0)
		return true;
	snprintf(wrong, sizeof(wrong), "%s/%.*s", folder, SPOOL_ID_TEXT - 1, name);
	if (faccessat(root, right, F_OK, 0) == 0)
		log_error("%s: there is another file of that name, %s: left alone", wrong, right);
	else if (renameat(root, wrong, root, right) < 0)
		log_error("%s cannot be moved to %s, where it belongs: %s", wrong, right, strerror(errno));
	else /* into a folder that was looked into already, or one that is still to come */
		return strncmp(right, folder, strlen(folder)) < 0;
	return false;
}

static bool walk(struct load *load, const char *path, bool is_incoming)
{
	int fd = openat(load->s->spool_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	uint64_t id;
	int error;

	if (!dir) {
		log_error("cannot read %s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (errno = 0, (entry = readdir(dir))) {
		if (!spool_id_parse(slice_of(entry->d_name), &id))
			continue;
		if (id > load->s->last_id)
			load->s->last_id = id;
		if (is_incoming ? is_complete(dirfd(dir), entry->d_name) : stands_right(load, path, entry->d_name, id))
			see_file(load, id, is_incoming);
	}
	error = errno;
	closedir(dir);
	if (error) /* what was not seen would be taken for removed */
		log_error("cannot read all of %s: %s", path, strerror(error));
	return error == 0;
}

static bool walk_queue(struct load *load)
{
	for (unsigned shard = 0; shard < SPOOL_SHARDS; shard++) {
		char path[SPOOL_PATH_MAX];

		snprintf(path, sizeof(path), "queue/%02X", shard);
		if (!walk(load, path, false))
			return false;
	}
	return true;
}

/* --- what follows --- */

static void drop_lost(struct scheduler *s)
{
	char text[SPOOL_ID_TEXT];

	for (entry_index i = 1; i < entries_limit(s->entries); i++) {
		struct entry *e = entry_get(s->entries, i);

		if (e->place != ENTRY_FREE && !(e->flags & ENTRY_FILE_SEEN))
			e->place = ENTRY_HELD; /* in no list: it may be taken out */
	}
	for (entry_index i = 1; i < entries_limit(s->entries); i++) {
		struct entry *e = entry_get(s->entries, i);

		if (e->place == ENTRY_FREE || (e->flags & ENTRY_FILE_SEEN))
			continue;
		spool_id_format(e->id, text);
		log_error("%s: its queue file is gone, somebody removed it: forgotten", text);
		if (!finish_forget(s, e->id, i))
			BUG("%s cannot be forgotten", text);
	}
}

static void schedule_all(struct scheduler *s)
{
	for (entry_index i = 1; i < entries_limit(s->entries); i++) {
		struct entry *e = entry_get(s->entries, i);

		if (e->place == ENTRY_LISTED)
			entries_push(s->entries, i, (struct mono){ e->due_ms });
	}
}

static void admit_found(struct scheduler *s, const struct id_list *list, bool is_orphan)
{
	char path[SPOOL_PATH_MAX], text[SPOOL_ID_TEXT];

	for (unsigned i = 0; i < list->count; i++) {
		if (is_orphan) {
			spool_queue_path(list->id[i], path);
			spool_id_format(list->id[i], text);
			log_warn("%s: found without a record, queued again: possibly repeated", text);
		} else {
			spool_incoming_path(list->id[i], path);
		}
		intake_admit(s, list->id[i], path, is_orphan);
	}
}

static void admit_unread(struct scheduler *s, const struct id_list *list)
{
	char path[SPOOL_PATH_MAX];

	for (unsigned i = 0; i < list->count; i++) {
		spool_queue_path(list->id[i], path);
		if (faccessat(s->spool_fd, path, F_OK, 0) < 0)
			spool_incoming_path(list->id[i], path);
		if (faccessat(s->spool_fd, path, F_OK, 0) < 0 && errno == ENOENT) /* somebody removed it */
			scheduler_must(s, journal_delete(s->journal, list->id[i], 1), "dropping a record");
		else
			intake_admit(s, list->id[i], path, false);
	}
}

enum load_result load_spool(struct scheduler *s)
{
	struct load load = { .s = s, .needs_addresses = plan_needs_addresses(s->conf) };
	bool ok = journal_scan(s->journal, 0, on_record, &load) == STORE_OK;

	end_message(&load);
	ok = ok && !load.is_newer && walk(&load, "incoming", true) && walk_queue(&load);
	if (ok) {
		drop_lost(s);
		schedule_all(s);
		for (unsigned i = 0; i < load.unfinished.count; i++)
			finish_message(s, load.unfinished.id[i]);
		admit_found(s, &load.arrivals, false);
		admit_found(s, &load.orphans, true);
		for (unsigned i = 0; i < load.told.count; i++)
			report_resume(s, load.told.id[i]);
		admit_unread(s, &load.unread);
	}
	free(load.settled.id);
	free(load.unfinished.id);
	free(load.arrivals.id);
	free(load.orphans.id);
	free(load.told.id);
	free(load.unread.id);
	if (load.is_newer)
		log_error("the queue database was written by a newer version of Postern: nothing is touched. Install "
			  "that version again; or `postern queue rebuild` makes it anew from the queue files, and some "
			  "recipients may get a second copy");
	return load.is_newer ? LOAD_NEWER : ok ? LOAD_OK : LOAD_FAILED;
}
