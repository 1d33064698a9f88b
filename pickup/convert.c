/* convert.c - dropped file in, queue file out. */
#include "pickup/convert.h"
#include "lib/spool.h"
#include "pickup/body.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OUT_BYTES_MAX = 2 * (HEADER_BYTES_MAX + CONVERT_CHUNK_BYTES) + 64 };

void converter_init(struct converter *c, const struct conf *conf)
{
	*c = (struct converter){ .conf = conf };
	header_init(&c->header);
	buf_init(&c->in, HEADER_BYTES_MAX + CONVERT_CHUNK_BYTES);
	buf_init(&c->out, OUT_BYTES_MAX);
	buf_init(&c->head, QUEUEFILE_HEAD_MAX + 4096);
}

void converter_release(struct converter *c)
{
	header_release(&c->header);
	buf_release(&c->in);
	buf_release(&c->out);
	buf_release(&c->head);
}

static void begin_buffer(struct buf *b)
{
	if (b->cap > CONVERT_KEEP_BYTES)
		buf_release(b);
	buf_clear(b);
}

static enum convert_result reject(struct converter *c, const char *text)
{
	buf_clear(&c->header.reason);
	buf_put_str(&c->header.reason, text);
	return CONVERT_REJECTED;
}

/* --- reading --- */

/* Up to `want` more bytes behind those in c->in. CHANGED: the file is shorter than it was. */
static enum convert_result read_more(struct converter *c, const struct convert_source *source, size_t want)
{
	char *at = buf_reserve(&c->in, want);
	ssize_t got;

	if (!at)
		BUG("input buffer too small");
	do
		got = pread(source->fd, at, want, (off_t)c->in.len);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return CONVERT_FAILED;
	c->in.len += (size_t)got;
	return got > 0 ? CONVERT_DONE : CONVERT_CHANGED;
}

/* Reads until the header is whole, by chunks. */
static enum convert_result read_header(struct converter *c, const struct convert_source *source,
				       struct header_range *range)
{
	uint64_t size = (uint64_t)source->st.st_size, goal = CONVERT_CHUNK_BYTES;

	for (;;) {
		while (c->in.len < goal && c->in.len < size) {
			uint64_t want = (goal < size ? goal : size) - c->in.len;
			enum convert_result result = read_more(c, source, (size_t)want);

			if (result != CONVERT_DONE)
				return result;
		}
		if (header_measure(buf_slice(&c->in), c->in.len == size, range) == HEADER_WHOLE)
			return CONVERT_DONE;
		if (goal >= HEADER_BYTES_MAX)
			return reject(c, "its header is too long");
		goal = 2 * goal < HEADER_BYTES_MAX ? 2 * goal : HEADER_BYTES_MAX;
	}
}

/*
 * The dropper may still hold the file open: what was read must be what stands there now. The time of the last change
 * of the inode cannot be set back, and tells of links that came and went.
 */
static bool has_changed(const struct convert_source *source)
{
	struct stat now;

	return fstat(source->fd, &now) < 0 || now.st_size != source->st.st_size ||
	       now.st_mtim.tv_sec != source->st.st_mtim.tv_sec || now.st_mtim.tv_nsec != source->st.st_mtim.tv_nsec ||
	       now.st_ctim.tv_sec != source->st.st_ctim.tv_sec || now.st_ctim.tv_nsec != source->st.st_ctim.tv_nsec;
}

/* --- writing --- */

/* All of it, whatever write(2) takes at once. */
static int write_all(int fd, struct iovec *part, int count)
{
	while (count > 0) {
		ssize_t done;

		if (part->iov_len == 0) {
			part++;
			count--;
			continue;
		}
		done = writev(fd, part, count);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return -1;
		for (; count > 0 && (size_t)done >= part->iov_len; part++, count--)
			done -= (ssize_t)part->iov_len;
		if (count > 0) {
			part->iov_base = (char *)part->iov_base + done;
			part->iov_len -= (size_t)done;
		}
	}
	return 0;
}

static struct iovec part_of(const void *bytes, size_t len)
{
	return (struct iovec){ (void *)(uintptr_t)bytes, len };
}

static void format_head(struct converter *c, const struct convert_source *source, uint64_t body_bytes, unsigned flags)
{
	struct queuefile qf = { .id = source->id, .uid = source->uid };

	envelope_export(&c->header.envelope, &qf);
	qf.arrival.ms = (int64_t)((source->id >> 12) / 1000);
	qf.send_after = c->header.send_after;
	qf.priority = c->header.priority;
	qf.server = c->header.server;
	qf.flags = flags | c->header.flags;
	qf.size_bytes = c->header.text.len + 2 + body_bytes;
	begin_buffer(&c->head);
	queuefile_format_head(&c->head, &qf);
	free(qf.rcpt);
}

/* --- the body, chunk by chunk --- */

struct stream {
	struct body_filter filter;
	uint64_t bytes; /* of output */
	int fd;         /* -1: only counted */
};

static int put_output(struct converter *c, struct stream *s)
{
	struct iovec part = part_of(buf_text(&c->out), c->out.len);

	s->bytes += c->out.len;
	return s->fd >= 0 ? write_all(s->fd, &part, 1) : 0;
}

/* The whole body through the filter: what came with the header, then the rest of the file. */
static enum convert_result stream_body(struct converter *c, const struct convert_source *source, size_t body,
				       struct stream *s)
{
	uint64_t at = c->in.len, size = (uint64_t)source->st.st_size;
	char *chunk = xmalloc(CONVERT_CHUNK_BYTES);
	enum convert_result result = CONVERT_FAILED;

	buf_clear(&c->out);
	body_feed(&s->filter, c->in.ptr + body, c->in.len - body, &c->out);
	while (put_output(c, s) == 0) {
		ssize_t got;

		buf_clear(&c->out);
		if (at == size) {
			body_finish(&s->filter, &c->out);
			result = put_output(c, s) == 0 ? CONVERT_DONE : CONVERT_FAILED;
			break;
		}
		got = pread(source->fd, chunk,
			    size - at < CONVERT_CHUNK_BYTES ? (size_t)(size - at) : CONVERT_CHUNK_BYTES, (off_t)at);
		if (got < 0 && errno != EINTR)
			break;
		if (got == 0) {
			result = CONVERT_CHANGED;
			break;
		}
		if (got > 0) {
			body_feed(&s->filter, chunk, (size_t)got, &c->out);
			at += (uint64_t)got;
		}
	}
	free(chunk);
	return result;
}

/* Too large to hold: once through to know size and flags, which stand before the message, once to write. */
static enum convert_result write_streamed(struct converter *c, const struct convert_source *source, size_t body, int fd,
					  const struct stream *counted)
{
	struct stream written = { .fd = fd };
	struct iovec parts[3], end = part_of(QUEUEFILE_END, strlen(QUEUEFILE_END));
	enum convert_result result;

	parts[0] = part_of(c->head.ptr, c->head.len);
	parts[1] = part_of(c->header.text.ptr, c->header.text.len);
	parts[2] = part_of("\r\n", 2);
	if (write_all(fd, parts, 3) < 0)
		return CONVERT_FAILED;
	result = stream_body(c, source, body, &written);
	if (result != CONVERT_DONE)
		return result;
	if (written.bytes != counted->bytes || written.filter.flags != counted->filter.flags || written.filter.has_nul)
		return CONVERT_CHANGED;
	return write_all(fd, &end, 1) == 0 ? CONVERT_DONE : CONVERT_FAILED;
}

/* The whole body is in c->out. */
static enum convert_result write_held(struct converter *c, int fd)
{
	struct iovec parts[5];

	parts[0] = part_of(c->head.ptr, c->head.len);
	parts[1] = part_of(c->header.text.ptr, c->header.text.len);
	parts[2] = part_of("\r\n", 2);
	parts[3] = part_of(buf_text(&c->out), c->out.len);
	parts[4] = part_of(QUEUEFILE_END, strlen(QUEUEFILE_END));
	return write_all(fd, parts, 5) == 0 ? CONVERT_DONE : CONVERT_FAILED;
}

/* Fills c->out with the body of a small message, or counts the body of a large one. */
static enum convert_result prepare_body(struct converter *c, const struct convert_source *source, size_t body,
					struct stream *s)
{
	begin_buffer(&c->out);
	if (c->in.len < (uint64_t)source->st.st_size || c->in.len > CONVERT_CHUNK_BYTES)
		return stream_body(c, source, body, s);
	body_feed(&s->filter, c->in.ptr + body, c->in.len - body, &c->out);
	body_finish(&s->filter, &c->out);
	s->bytes = c->out.len;
	return CONVERT_DONE;
}

static enum convert_result write_message(struct converter *c, const struct convert_source *source, size_t body,
					 int dirfd, const char *new_path, int *new_fd)
{
	struct stream counted = { .fd = -1 };
	enum convert_result result = prepare_body(c, source, body, &counted);
	bool is_held = c->in.len == (uint64_t)source->st.st_size && c->in.len <= CONVERT_CHUNK_BYTES;
	int fd, saved;

	if (result != CONVERT_DONE)
		return result;
	if (counted.filter.has_nul)
		return reject(c, "there is a NUL byte in its body");
	format_head(c, source, counted.bytes, counted.filter.flags);
	if (c->head.failed)
		return reject(c, "its envelope is too long");
	fd = openat(dirfd, new_path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, SPOOL_COMPLETE_MODE);
	if (fd < 0)
		return CONVERT_FAILED;
	result = is_held ? write_held(c, fd) : write_streamed(c, source, body, fd, &counted);
	if (result == CONVERT_DONE && has_changed(source))
		result = CONVERT_CHANGED;
	if (result == CONVERT_DONE) {
		*new_fd = fd;
		return CONVERT_DONE;
	}
	saved = errno;
	close(fd);
	(void)unlinkat(dirfd, new_path, 0);
	errno = saved;
	return result;
}

enum convert_result convert_file(struct converter *c, const struct convert_source *source, int dirfd,
				 const char *new_path, int *new_fd)
{
	struct header_range range;
	struct header_source header = {
		.id = source->id, .uid = source->uid, .account = source->account, .conf = c->conf
	};
	enum convert_result result;

	if (source->st.st_size == 0)
		return reject(c, "it is empty");
	if ((uint64_t)source->st.st_size > c->conf->message_size_limit_bytes) {
		buf_clear(&c->header.reason);
		buf_printf(&c->header.reason, "it has %lld bytes, more than message-size-limit allows (%llu)",
			   (long long)source->st.st_size, (unsigned long long)c->conf->message_size_limit_bytes);
		return CONVERT_REJECTED;
	}
	begin_buffer(&c->in);
	result = read_header(c, source, &range);
	if (result != CONVERT_DONE)
		return result;
	header.fields = (struct slice){ c->in.ptr + range.begin, range.end - range.begin };
	if (range.has_no_blank)
		header.behind = (struct slice){ c->in.ptr + range.body, c->in.len - range.body };
	header.arrival.ms = (int64_t)((source->id >> 12) / 1000);
	if (!header_convert(&c->header, &header))
		return has_changed(source) ? CONVERT_CHANGED : CONVERT_REJECTED;
	return write_message(c, source, range.body, dirfd, new_path, new_fd);
}
