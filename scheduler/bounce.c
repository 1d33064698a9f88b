/* bounce.c - who is told, and the report's way onto the disk. */
#include "scheduler/bounce.h"
#include "lib/address.h"
#include "lib/fd.h"
#include "lib/spool.h"
#include "scheduler/bounce_report.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	BOUNCE_BYTES_MAX = 128 * 1024 * 1024, /* 100,000 recipients with long replies */
	BOUNCE_PATH_MAX = SPOOL_PATH_MAX + 16
};

static const char TEMPORARY[] = ".report"; /* not ".new": those are pickup's */

/* --- who is told --- */

static bool may_tell(const struct queuefile_rcpt *rcpt, bool is_delay)
{
	if (rcpt->notify == NOTIFY_UNSET)
		return true; /* RFC 3461 5.2.1: as without DSN */
	return rcpt->notify & (is_delay ? NOTIFY_DELAY : NOTIFY_FAILURE);
}

enum bounce_kind bounce_kind_of(const struct conf *conf, const struct queuefile *original, uint32_t index,
				bool is_delay)
{
	const struct queuefile_rcpt *rcpt = &original->rcpt[index];

	if (original->sender.len > 0)
		return !may_tell(rcpt, is_delay) ? BOUNCE_NONE : is_delay ? BOUNCE_DELAYED : BOUNCE_FAILED;
	if (is_delay)
		return BOUNCE_NONE;
	/* A report to the postmaster that fails must not become another one: that would never end. */
	return slice_equal_nocase(rcpt->address, slice_of(conf->postmaster)) ? BOUNCE_DEAD : BOUNCE_DOUBLE;
}

/* --- reading the original --- */

static bool read_content(int fd, uint64_t offset, size_t len, struct buf *out)
{
	char *at = buf_reserve(out, len);
	size_t done = 0;
	ssize_t n;

	while (at && done < len) {
		n = pread(fd, at + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n == 0 ? EIO : errno;
			return false;
		}
		done += (size_t)n;
	}
	out->len += done;
	return at != NULL;
}

/* Cuts a message down to its header, and a header that goes on and on to whole lines. */
static void cut_to_header(struct buf *content)
{
	const char *end = content->len >= 2 && memcmp(content->ptr, "\r\n", 2) == 0
				  ? content->ptr
				  : memmem(content->ptr, content->len, "\r\n\r\n", 4);

	if (end == content->ptr)
		content->len = 0;
	else if (end)
		content->len = (size_t)(end - content->ptr) + 2;
	else if ((end = memrchr(content->ptr, '\n', content->len)))
		content->len = (size_t)(end - content->ptr) + 1;
}

/* RET=FULL is honoured for failures and up to a size (RFC 3461 6.2 e). */
static bool wants_full(const struct bounce *b)
{
	return b->original->is_ret_full && b->kind != BOUNCE_DELAYED && b->original->size_bytes <= BOUNCE_FULL_MAX;
}

static bool read_original(const struct bounce *b, struct buf *content)
{
	uint64_t size = b->original->size_bytes;
	size_t wanted = wants_full(b) ? (size_t)size : size < BOUNCE_HEADER_MAX ? (size_t)size : BOUNCE_HEADER_MAX;

	if (!read_content(b->fd, b->original->body_offset_bytes, wanted, content))
		return false;
	if (!wants_full(b) && content->len > 0)
		cut_to_header(content);
	return true;
}

/* --- writing the report --- */

/* The queue file in one buffer; false with errno. */
static bool format_file(struct buf *out, const struct conf *conf, const struct bounce *b, uint64_t new_id)
{
	bool is_double = b->kind == BOUNCE_DOUBLE;
	struct slice to = is_double ? slice_of(conf->postmaster) : b->original->sender;
	struct queuefile_rcpt rcpt = { .address = to };
	struct queuefile head = { .id = new_id,
				  .arrival = { (int64_t)((new_id >> 12) / 1000) },
				  .uid = (uint32_t)getuid(),
				  .priority = PRIORITY_NORMAL,
				  .sender = { "", 0 },
				  .rcpt_count = 1,
				  .rcpt = &rcpt };
	struct bounce_report report = { b, conf, new_id, to, { "", 0 }, wants_full(b) };
	struct buf content, message;
	bool is_read;

	buf_init(&content, BOUNCE_FULL_MAX);
	buf_init(&message, BOUNCE_BYTES_MAX);
	is_read = read_original(b, &content);
	if (is_read) {
		report.content = buf_slice(&content);
		bounce_report_format(&message, &report, &head.flags);
		head.size_bytes = message.len;
		queuefile_format_head(out, &head);
		buf_put_slice(out, buf_slice(&message));
		buf_put_str(out, QUEUEFILE_END);
		if (message.failed || out->failed)
			errno = EFBIG;
		is_read = !message.failed && !out->failed;
	}
	buf_release(&content);
	buf_release(&message);
	return is_read;
}

/* A durable file under its final name, by way of a temporary one; -1 with errno and nothing left behind. */
static int write_file(int spool_fd, const char *path, const char *dir, mode_t mode, struct slice bytes)
{
	char temporary[BOUNCE_PATH_MAX];
	int fd, saved, rc = -1;

	(void)snprintf(temporary, sizeof(temporary), "%s%s", path, TEMPORARY);
	(void)unlinkat(spool_fd, temporary, 0); /* of a predecessor that was killed */
	fd = openat(spool_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	if (!fd_write_all(fd, bytes) || fchmod(fd, mode) < 0 || fsync(fd) < 0)
		goto out;
	if (renameat(spool_fd, temporary, spool_fd, path) < 0)
		goto out;
	rc = spool_sync_dir(spool_fd, dir);
out:
	saved = errno;
	if (rc < 0)
		(void)unlinkat(spool_fd, temporary, 0);
	(void)close(fd);
	errno = saved;
	return rc;
}

int bounce_write(int spool_fd, const struct conf *conf, const struct bounce *b, uint64_t new_id)
{
	char path[SPOOL_PATH_MAX];
	struct buf file;
	int saved, rc = -1;

	if (b->rcpt_count == 0 || b->kind == BOUNCE_NONE || b->kind == BOUNCE_DEAD ||
	    (b->kind != BOUNCE_DOUBLE && b->original->sender.len == 0))
		BUG("nobody to report to");
	spool_incoming_path(new_id, path);
	buf_init(&file, BOUNCE_BYTES_MAX + QUEUEFILE_HEAD_MAX);
	if (format_file(&file, conf, b, new_id))
		rc = write_file(spool_fd, path, "incoming", SPOOL_COMPLETE_MODE, buf_slice(&file));
	saved = errno;
	buf_release(&file);
	errno = saved;
	return rc;
}

/* --- dead letters --- */

int bounce_put_aside(int spool_fd, uint64_t queue_id, struct slice words)
{
	char id[SPOOL_ID_TEXT], from[SPOOL_PATH_MAX], to[BOUNCE_PATH_MAX], reason[BOUNCE_PATH_MAX];

	spool_id_format(queue_id, id);
	spool_queue_path(queue_id, from);
	(void)snprintf(to, sizeof(to), "dead/%s", id);
	(void)snprintf(reason, sizeof(reason), "dead/%s.reason", id);
	if (linkat(spool_fd, from, spool_fd, to, 0) < 0 && errno != EEXIST)
		return -1;
	return write_file(spool_fd, reason, "dead", 0600, words); /* syncs the folder for both names */
}

int bounce_file_to_dead(int spool_fd, const struct bounce *b)
{
	struct bounce dead = *b;
	struct buf words;
	int rc;

	dead.kind = BOUNCE_DEAD;
	buf_init(&words, BOUNCE_FULL_MAX);
	bounce_words_format(&words, &dead, NULL);
	rc = bounce_put_aside(spool_fd, b->original->id, buf_slice(&words));
	buf_release(&words);
	return rc;
}

static void sweep_dir(int spool_fd, const char *path)
{
	int fd = openat(spool_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);

		if (len >= sizeof(TEMPORARY) && strcmp(entry->d_name + len - sizeof(TEMPORARY) + 1, TEMPORARY) == 0)
			(void)unlinkat(fd, entry->d_name, 0);
	}
	if (dir)
		(void)closedir(dir);
	else if (fd >= 0)
		(void)close(fd);
}

void bounce_sweep(int spool_fd)
{
	sweep_dir(spool_fd, "incoming");
	sweep_dir(spool_fd, "dead");
}
