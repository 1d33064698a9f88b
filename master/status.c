/* status.c - run/status.json. */
#include "master/status.h"
#include "master/tokens.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { STATUS_MAX = 64 << 10 };

static const char *state_of(const struct master *m)
{
	bool has_process = false;

	for (unsigned i = 0; i < m->child_count; i++)
		has_process |= m->children[i]->service.pid != 0;
	if (m->is_stopping)
		return has_process ? "stopping" : "stopped";
	return m->is_ready ? "up" : "starting";
}

static void put_process(struct buf *out, const struct service *s)
{
	buf_printf(out, "{\"name\":\"%s\",\"index\":%u,\"pid\":%ld,\"started\":%lld,\"restarts\":%u,\"state\":\"%s\"}",
		   role_name(s->role), s->index, (long)s->pid, (long long)s->started_at.ms / 1000,
		   s->starts > 0 ? s->starts - 1 : 0, service_state_name(s->state));
}

static void compose(struct buf *out, const struct master *m)
{
	buf_printf(out,
		   "{\"version\":\"%s\",\"pid\":%ld,\"started\":%lld,\"state\":\"%s\",\"reloads\":%u,"
		   "\"refused_reloads\":%u,\"processes\":[",
		   POSTERN_VERSION, (long)getpid(), (long long)m->started_at.ms / 1000, state_of(m), m->reloads,
		   m->refused_reloads);
	for (unsigned i = 0; i < m->child_count; i++) {
		const struct service *s = &m->children[i]->service;

		if (s->role == ROLE_SMTPOUT && s->state == SERVICE_IDLE) /* a place that is free */
			continue;
		buf_put_str(out, i > 0 ? "," : "");
		put_process(out, s);
	}
	buf_put_str(out, "],\"tokens\":");
	tokens_put_status(m->tokens, out);
	buf_put_str(out, "}\n");
}

static int replace_file(int run, const char *name, const char *beside, const struct buf *content)
{
	int fd = openat(run, beside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	bool is_written;

	if (fd < 0)
		return -1;
	is_written = write(fd, content->ptr, content->len) == (ssize_t)content->len;
	close(fd);
	return is_written ? renameat(run, beside, run, name) : -1;
}

void status_write(const struct master *m)
{
	struct buf out;

	buf_init(&out, STATUS_MAX);
	compose(&out, m);
	if (replace_file(m->run_fd, "status.json", "status.json.new", &out) < 0)
		log_warn("cannot write run/status.json: %s", strerror(errno));
	buf_release(&out);
}
