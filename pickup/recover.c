/* recover.c - one walk over incoming/ at start. */
#include "pickup/recover.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "pickup/crumb.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { STEP_ENTRIES = 64 };

static void close_folder(struct recover *r)
{
	if (r->folder)
		(void)closedir(r->folder);
	r->folder = NULL;
}

static enum recover_result begin(struct recover *r, const struct admit *a)
{
	int fd;

	if (!r->is_synced) {
		if (spool_sync_dir(a->spool_fd, "incoming") < 0 || spool_sync_dir(a->spool_fd, "drop") < 0) {
			log_error("cannot sync the spool's folders: %s", strerror(errno));
			return RECOVER_FATAL;
		}
		r->is_synced = true;
	}
	fd = openat(a->spool_fd, "incoming", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r->folder = fd >= 0 ? fdopendir(fd) : NULL;
	if (r->folder)
		return RECOVER_MORE;
	log_error("cannot look into incoming/: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return RECOVER_FATAL;
}

/* "ID.new" and "ID.crash1": nobody's any more, but for the crash mark of a message that is still to be taken. */
static void sweep(const struct admit *a, struct slice name, uint64_t id)
{
	struct slice suffix = { name.ptr + SPOOL_ID_TEXT - 1, name.len - (SPOOL_ID_TEXT - 1) };
	char path[SPOOL_PATH_MAX + 16];
	struct stat st;

	spool_incoming_path(id, path);
	if (!slice_is(suffix, ".new") && (!slice_is(suffix, ".crash1") && !slice_is(suffix, ".crash2")))
		return;
	if (!slice_is(suffix, ".new") && fstatat(a->spool_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    !spool_is_complete(&st))
		return;
	memcpy(path + strlen(path), suffix.ptr, suffix.len + 1);
	(void)unlinkat(a->spool_fd, path, 0);
}

static enum admit_result recover_entry(struct admit *a, const char *name)
{
	struct slice text = slice_of(name);
	char path[SPOOL_PATH_MAX];
	struct stat st;
	uint64_t id;

	if (text.len < SPOOL_ID_TEXT - 1 || !spool_id_parse((struct slice){ text.ptr, SPOOL_ID_TEXT - 1 }, &id))
		return ADMIT_OK;
	if (text.len > SPOOL_ID_TEXT - 1) {
		sweep(a, text, id);
		return ADMIT_OK;
	}
	if (id > a->last_id)
		a->last_id = id;
	spool_incoming_path(id, path);
	if (fstatat(a->spool_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return ADMIT_OK;
	if (!spool_is_complete(&st))
		return admit_claimed(a, id);
	announce_add(a->announce, id);
	return ADMIT_OK;
}

enum recover_result recover_step(struct recover *r, struct admit *a)
{
	if (!r->folder) {
		enum recover_result result = begin(r, a);

		if (result != RECOVER_MORE)
			return result;
	}
	for (unsigned i = 0; i < STEP_ENTRIES && announce_room(a->announce) > 0; i++) {
		const struct dirent *entry = (errno = 0, readdir(r->folder));
		enum admit_result result;

		if (!entry && errno != 0) {
			log_error("cannot read all of incoming/: %s", strerror(errno));
			close_folder(r);
			return RECOVER_FATAL;
		}
		if (!entry) {
			close_folder(r);
			announce_flush(a->announce);
			return RECOVER_DONE;
		}
		result = recover_entry(a, entry->d_name);
		if (result != ADMIT_OK) {
			close_folder(r);
			return result == ADMIT_FATAL ? RECOVER_FATAL : RECOVER_PAUSE;
		}
	}
	announce_flush(a->announce);
	return RECOVER_MORE;
}
