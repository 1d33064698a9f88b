/* admit.c - batches with one sync for all. */
#include "pickup/admit.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "lib/text.h"
#include "pickup/crumb.h"
#include "pickup/reject.h"
#include "pickup/space.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

enum {
	COMPLAIN_MS = 60 * 1000,
	SENDER_LOG_MAX = 400,
	ACCOUNT_MAX = 512,
	NEW_PATH_MAX = SPOOL_PATH_MAX + 8,
	CATCH_UP_FILES = 8
};

/* What became of one file. */
enum outcome {
	TAKEN,     /* incoming/ID.new is written */
	SETTLED,   /* rejected, or gone before we came */
	UNSETTLED, /* somebody is busy with it: later */
	STUCK      /* errno: our side */
};

void admit_init(struct admit *a, const struct conf *conf, int spool_fd)
{
	*a = (struct admit){ .conf = conf, .spool_fd = spool_fd };
	converter_init(&a->converter, conf);
	buf_init(&a->account, ACCOUNT_MAX);
}

static void new_path(uint64_t id, char path[NEW_PATH_MAX])
{
	spool_incoming_path(id, path);
	memcpy(path + strlen(path), ".new", sizeof(".new"));
}

/* Trouble of our own side, once a minute. */
static void complain(struct admit *a, const char *what, const char *why)
{
	int64_t now = clock_mono().ms;

	if (a->complained_ms && now - a->complained_ms < COMPLAIN_MS)
		return;
	a->complained_ms = now;
	log_warn("%s: %s; messages stay in drop/ until that is over", what, why);
}

/* --- one file --- */

static const char *item_name(const struct admit_item *item, char id[SPOOL_ID_TEXT])
{
	if (item->file)
		return scan_file_name(item->file);
	spool_id_format(item->id, id);
	return id;
}

/* S0 to S1. */
static int claim(const struct admit *a, const struct admit_item *item, const char *path)
{
	char from[NAME_MAX + 8];

	snprintf(from, sizeof(from), "drop/%s", scan_file_name(item->file));
	/* An instance that no root started shares its uid with the droppers: no mode of theirs may say "complete". */
	if (spool_is_complete(scan_file_stat(item->file)) && fchmodat(a->spool_fd, from, 0640, 0) < 0)
		return -1;
	return renameat(a->spool_fd, from, a->spool_fd, path);
}

/* S1 to S0, under its old name, or one like it when somebody was quick to use that again. */
static bool unclaim(struct admit *a, const struct admit_item *item)
{
	char path[SPOOL_PATH_MAX], id[SPOOL_ID_TEXT], to[NAME_MAX + 32];

	spool_incoming_path(item->id, path);
	spool_id_format(item->id, id);
	snprintf(to, sizeof(to), "drop/%s", item->file ? scan_file_name(item->file) : id);
	if (renameat2(a->spool_fd, path, a->spool_fd, to, RENAME_NOREPLACE) == 0)
		return true;
	snprintf(to, sizeof(to), "drop/%.200s.%s", item->file ? scan_file_name(item->file) : "again", id);
	if (renameat(a->spool_fd, path, a->spool_fd, to) == 0)
		return true;
	a->has_leftovers = true;
	return false;
}

static enum outcome put_aside(struct admit *a, const struct admit_item *item, const char *path, const char *reason)
{
	char id[SPOOL_ID_TEXT];

	if (reject_file(a->spool_fd, path, item_name(item, id), item->uid, reason) < 0)
		return STUCK;
	a->rejected++;
	return SETTLED;
}

static enum outcome refuse_open(struct admit *a, const struct admit_item *item, const char *path)
{
	switch (errno) {
	case EACCES:
	case EPERM:
		return put_aside(a, item, path, "it cannot be read: files need to be readable by the group of drop/");
	case ELOOP:
	case ENXIO:
	case ENODEV:
		return put_aside(a, item, path, "it is no regular file");
	default:
		return STUCK;
	}
}

/* The address of who dropped it, should the message name nobody. */
static struct slice account_of(struct admit *a, uint32_t uid)
{
	const char *name = accounts_find(a->accounts, uid);
	struct address_parts parts;

	buf_clear(&a->account);
	if (name)
		buf_printf(&a->account, "%s@%s", name, a->conf->hostname);
	if (address_parse(buf_slice(&a->account), &parts) != ADDRESS_OK)
		buf_clear(&a->account);
	return buf_slice(&a->account);
}

static void keep_sender(struct admit *a, struct admit_item *item)
{
	struct buf text;

	buf_init(&text, SENDER_LOG_MAX + 8);
	text_escape(&text, envelope_sender(&a->converter.header.envelope), SENDER_LOG_MAX);
	item->sender = buf_detach(&text);
}

static enum outcome convert(struct admit *a, struct admit_item *item, struct convert_source *source, const char *path)
{
	char to[NEW_PATH_MAX];

	new_path(item->id, to);
	source->account = account_of(a, item->uid);
	switch (convert_file(&a->converter, source, a->spool_fd, to, &item->fd)) {
	case CONVERT_DONE:
		keep_sender(a, item);
		return TAKEN;
	case CONVERT_REJECTED:
		return put_aside(a, item, path, buf_text(&a->converter.header.reason));
	case CONVERT_CHANGED:
		return UNSETTLED;
	case CONVERT_FAILED:
		break;
	}
	return STUCK;
}

/* A claimed file: what is it, and may it be taken? */
static enum outcome open_and_convert(struct admit *a, struct admit_item *item, const char *path)
{
	struct convert_source source = { .id = item->id };
	enum outcome outcome;
	int saved;

	source.fd = openat(a->spool_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (source.fd < 0)
		return refuse_open(a, item, path);
	if (fstat(source.fd, &source.st) < 0) {
		outcome = STUCK;
	} else if (item->uid = source.uid = source.st.st_uid, !S_ISREG(source.st.st_mode)) {
		outcome = put_aside(a, item, path, "it is no regular file");
	} else if (source.st.st_nlink > 1 && item->file && !scan_file_has_links(item->file)) {
		outcome = UNSETTLED;
	} else if (source.st.st_nlink > 1) {
		outcome = put_aside(a, item, path,
				    "it has another name elsewhere (a hard link), and that did not go away");
	} else {
		crumb_set(item->id, item->crashes);
		outcome = convert(a, item, &source, path);
		crumb_clear();
	}
	saved = errno;
	close(source.fd);
	errno = saved;
	return outcome;
}

/* Gone, or one file that cannot be moved (chattr +i): others may; the next walk over drop/ finds it again. */
static enum outcome refuse_claim(struct admit *a)
{
	if (errno == ENOENT)
		return SETTLED;
	if (errno != EPERM && errno != EACCES && errno != EBUSY)
		return STUCK;
	complain(a, "cannot take a message out of drop/", strerror(errno));
	return SETTLED;
}

static enum outcome take(struct admit *a, struct admit_item *item)
{
	char path[SPOOL_PATH_MAX];
	enum outcome outcome;
	int saved;

	spool_incoming_path(item->id, path);
	if (item->file && claim(a, item, path) < 0)
		return refuse_claim(a);
	if (item->crashes >= CRUMB_CRASHES_MAX)
		outcome = put_aside(a, item, path,
				    "reading it brought Postern down twice: please report this to its authors");
	else
		outcome = open_and_convert(a, item, path);
	saved = errno;
	if (outcome == SETTLED && item->crashes > 0)
		crumb_erase(a->spool_fd, item->id);
	if ((outcome == STUCK || outcome == UNSETTLED) && !unclaim(a, item))
		log_warn("cannot put %s back into drop/: %s", path, strerror(errno));
	errno = saved;
	return outcome;
}

/* --- a batch --- */

static void forget_item(struct admit_item *item)
{
	if (item->fd >= 0)
		close(item->fd);
	free(item->sender);
	scan_forget(&item->file);
}

/* A converted message cannot be kept: its file goes back. */
static void return_item(struct admit *a, struct admit_item *item)
{
	char path[NEW_PATH_MAX];

	new_path(item->id, path);
	(void)unlinkat(a->spool_fd, path, 0);
	if (unclaim(a, item) && item->file) {
		scan_give_back(a->scan, item->file, true, false);
		item->file = NULL;
	}
	forget_item(item);
}

static int sync_files(struct admit *a)
{
	if (a->item_count >= ADMIT_SYNCFS_MIN)
		return syncfs(a->spool_fd);
	for (unsigned i = 0; i < a->item_count; i++) {
		if (fsync(a->item[i].fd) < 0)
			return -1;
	}
	return 0;
}

/* S1 to S2 but for the folder's sync. */
static int put_in_place(const struct admit *a, const struct admit_item *item)
{
	char from[NEW_PATH_MAX], to[SPOOL_PATH_MAX];

	new_path(item->id, from);
	spool_incoming_path(item->id, to);
	return renameat(a->spool_fd, from, a->spool_fd, to);
}

static void log_accepted(const struct admit_item *item)
{
	char id[SPOOL_ID_TEXT], uid[16], text[SENDER_LOG_MAX + 64];
	const char *const fields[] = { "uid", uid, "from", item->sender, NULL };

	spool_id_format(item->id, id);
	snprintf(uid, sizeof(uid), "%u", item->uid);
	snprintf(text, sizeof(text), "uid=%s from=<%s>", uid, item->sender);
	log_message(id, "pickup", text, fields);
}

/* What left drop/ before the whole file system was synced needs no sync of its own. */
static int sync_folders(struct admit *a, bool was_all_synced)
{
	if (was_all_synced)
		return spool_sync_dir(a->spool_fd, "incoming");
	if (a->rejected > 0 && spool_sync_dir(a->spool_fd, "rejected") < 0)
		return -1;
	return spool_sync_dir(a->spool_fd, "incoming") < 0 || spool_sync_dir(a->spool_fd, "drop") < 0 ? -1 : 0;
}

static void announce_items(struct admit *a)
{
	for (unsigned i = 0; i < a->item_count; i++) {
		log_accepted(&a->item[i]);
		if (a->item[i].crashes > 0)
			crumb_erase(a->spool_fd, a->item[i].id);
		announce_add(a->announce, a->item[i].id);
		forget_item(&a->item[i]);
	}
	a->item_count = 0;
	announce_flush(a->announce);
}

/* Everything converted so far becomes durable, or goes back. */
static enum admit_result finish(struct admit *a)
{
	enum admit_result result = ADMIT_OK;
	bool is_all_synced = a->item_count >= ADMIT_SYNCFS_MIN;
	unsigned kept = 0;
	int rc, saved;

	scan_catch_up(a->scan);
	rc = a->item_count > 0 ? sync_files(a) : 0;
	saved = errno;
	scan_catch_up(a->scan);
	if (rc < 0) {
		complain(a, "cannot sync new messages", strerror(saved));
		for (unsigned i = 0; i < a->item_count; i++)
			return_item(a, &a->item[i]);
		a->item_count = 0;
		result = ADMIT_PAUSE;
	}
	for (unsigned i = 0; i < a->item_count; i++) {
		if (put_in_place(a, &a->item[i]) == 0) {
			a->item[kept++] = a->item[i];
			continue;
		}
		complain(a, "cannot rename a new message", strerror(errno));
		return_item(a, &a->item[i]);
		result = ADMIT_PAUSE;
	}
	a->item_count = kept;
	if ((kept > 0 || a->rejected > 0) && sync_folders(a, is_all_synced && result == ADMIT_OK) < 0) {
		log_error("cannot sync the spool's folders: %s", strerror(errno));
		return ADMIT_FATAL;
	}
	announce_rejected(a->announce, a->rejected);
	a->rejected = 0;
	scan_catch_up(a->scan);
	announce_items(a);
	return result;
}

/* One file into the batch. */
static enum admit_result add_item(struct admit *a, struct admit_item item)
{
	enum outcome outcome = take(a, &item);

	switch (outcome) {
	case TAKEN:
		a->item[a->item_count++] = item;
		return ADMIT_OK;
	case SETTLED:
		forget_item(&item);
		return ADMIT_OK;
	case UNSETTLED:
	case STUCK:
		break;
	}
	if (outcome == STUCK)
		complain(a, "cannot take a message", strerror(errno));
	if (item.file)
		scan_give_back(a->scan, item.file, true, outcome == UNSETTLED);
	item.file = NULL;
	forget_item(&item);
	return outcome == STUCK ? ADMIT_PAUSE : ADMIT_OK;
}

static bool has_room(struct admit *a, uint64_t *left)
{
	const char *why;

	*left = space_left_at(a->spool_fd, &why);
	if (why)
		complain(a, "no room in the spool's file system", why);
	return why == NULL;
}

enum admit_result admit_batch(struct admit *a, unsigned max)
{
	enum admit_result result = ADMIT_OK, finished;
	uint64_t left, taken = 0;
	struct scan_file *file;

	if (!has_room(a, &left))
		return ADMIT_PAUSE;
	crumb_watch();
	for (unsigned i = 0; i < max && taken < ADMIT_BATCH_BYTES && result == ADMIT_OK && (file = scan_take(a->scan));
	     i++) {
		uint64_t size = (uint64_t)scan_file_stat(file)->st_size;

		if (size > left && size <= a->conf->message_size_limit_bytes) {
			complain(a, "no room in the spool's file system", "it is nearly full");
			scan_give_back(a->scan, file, false, false);
			result = ADMIT_PAUSE;
			break;
		}
		left -= size < left ? size : left;
		taken += size;
		a->last_id = spool_id_next(a->last_id, SPOOL_BY_PICKUP);
		result = add_item(a, (struct admit_item){ .id = a->last_id, .file = file, .fd = -1 });
		if (i % CATCH_UP_FILES == 0)
			scan_catch_up(a->scan);
	}
	crumb_unwatch();
	finished = finish(a);
	return finished > result ? finished : result;
}

enum admit_result admit_claimed(struct admit *a, uint64_t id)
{
	enum admit_result result, finished;
	char path[NEW_PATH_MAX];
	uint64_t left;

	if (!has_room(a, &left))
		return ADMIT_PAUSE;
	new_path(id, path); /* the predecessor may not have come to the end of it */
	(void)unlinkat(a->spool_fd, path, 0);
	crumb_watch();
	result = add_item(a, (struct admit_item){ .id = id, .fd = -1, .crashes = crumb_count(a->spool_fd, id) });
	crumb_unwatch();
	finished = finish(a);
	return finished > result ? finished : result;
}
