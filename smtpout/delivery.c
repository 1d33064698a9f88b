/* delivery.c - one message for some of its recipients. */
#include "smtpout/delivery.h"
#include "lib/address.h"
#include "lib/field.h"
#include "lib/idn.h"
#include "lib/rewrite.h"
#include "lib/spool.h"
#include "lib/text.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	HEAD_STEP = 16 * 1024,      /* read at first: nearly every header is smaller */
	HEAD_MAX = 48 * 1024 * 1024 /* more than any that was accepted */
};

struct delivery *delivery_new(const struct msg_deliver *m)
{
	struct delivery *d = xcalloc(1, sizeof(*d) + m->rcpts.count * sizeof(d->index[0]));

	d->queue_id = m->queue_id;
	d->group = m->group;
	d->attempt = m->attempt;
	d->arrived.ms = (int64_t)m->arrived_ms;
	d->scheduled.ms = (int64_t)m->scheduler_ms;
	d->active.ms = (int64_t)m->active_ms;
	d->begun = d->active;
	d->board_slot = -1;
	d->fd = -1;
	d->rcpt_count = m->rcpts.count;
	for (unsigned i = 0; i < d->rcpt_count; i++)
		d->index[i] = msg_u32(&m->rcpts, i);
	return d;
}

void delivery_free(struct delivery **delivery)
{
	struct delivery *d = *delivery;

	if (!d)
		return;
	if (d->fd >= 0)
		close(d->fd);
	engine_mail_release(&d->mail);
	queuefile_release(&d->qf);
	buf_release(&d->converted);
	buf_release(&d->head);
	free(d->rcpt);
	free(d->dsn);
	free(d);
	*delivery = NULL;
}

/* An ASCII local part at an internationalised domain needs no SMTPUTF8: the domain's A-labels do. */
static struct slice wire_address(struct delivery *d, struct slice address)
{
	struct address_parts parts;
	size_t begin = d->converted.len;

	if (text_is_ascii(address) || address_parse(address, &parts) != ADDRESS_OK || parts.is_utf8)
		return address;
	if (!buf_reserve(&d->converted, ADDRESS_MAX + 1))
		return address;
	buf_put_slice(&d->converted, parts.local);
	buf_put_char(&d->converted, '@');
	if (!idn_to_ascii(&d->converted, parts.domain))
		return address;
	return (struct slice){ d->converted.ptr + begin, d->converted.len - begin };
}

/* Slices point into d->converted, so it must not move: room for all is taken first. */
static void convert_addresses(struct delivery *d, struct slice *insisted)
{
	bool is_ascii = text_is_ascii(d->mail.sender) && text_is_ascii(*insisted);
	size_t room = ((size_t)d->rcpt_count + 2) * (ADDRESS_MAX + 2);

	for (unsigned i = 0; i < d->rcpt_count; i++)
		is_ascii = is_ascii && text_is_ascii(d->rcpt[i]);
	if (is_ascii)
		return;
	buf_init(&d->converted, 2 * room);
	if (!buf_reserve(&d->converted, room))
		return;
	d->mail.sender = wire_address(d, d->mail.sender);
	*insisted = wire_address(d, *insisted);
	for (unsigned i = 0; i < d->rcpt_count; i++)
		d->rcpt[i] = wire_address(d, d->rcpt[i]);
}

/* Reads as much of the message as its header takes. */
static char *read_head(const struct delivery *d, struct buf *out, size_t *head_bytes)
{
	bool is_all = d->qf.size_bytes == 0;

	*head_bytes = 0;
	while (!field_measure(buf_slice(out), is_all, head_bytes)) {
		uint64_t left = d->qf.size_bytes - out->len;
		size_t step = out->len > HEAD_STEP ? out->len : HEAD_STEP, want = left < step ? (size_t)left : step;
		char *at = buf_reserve(out, want);
		ssize_t got;

		if (!at)
			return xstrdup("the header is too long to be rewritten");
		got = pread(d->fd, at, want, (off_t)(d->qf.body_offset_bytes + out->len));
		if (got <= 0)
			return xasprintf("the queue file cannot be read: %s",
					 got < 0 ? strerrordesc_np(errno) : "too short");
		out->len += (size_t)got;
		is_all = out->len == d->qf.size_bytes;
	}
	return NULL;
}

/* `address`: the server's rewrite-sender as it goes on the wire. */
static char *rewrite_head(struct delivery *d, const struct conf_server *server, struct slice address)
{
	struct rewrite r = { server, d->qf.sender, address };
	struct buf old;
	char *why;

	buf_init(&old, HEAD_MAX);
	buf_init(&d->head, 2 * (size_t)HEAD_MAX);
	why = read_head(d, &old, &d->head_bytes);
	if (!why && rewrite_header(&d->head, &r, (struct slice){ buf_text(&old), d->head_bytes })) {
		d->mail.size_bytes = d->qf.size_bytes - d->head_bytes + d->head.len;
		d->mail.is_8bit |= !text_is_ascii(address);
		if (d->head.failed)
			why = xstrdup("the header is too long to be rewritten");
	} else {
		d->head_bytes = 0;
	}
	buf_release(&old);
	return why;
}

/* The null sender is never touched, nor is the From of its messages. */
static char *fill_mail(struct delivery *d, const struct conf_server *server)
{
	bool is_rewritten = server->rewrite_sender && server->rewrite != REWRITE_NEVER && d->qf.sender.len > 0;
	struct slice insisted = slice_of(is_rewritten ? server->rewrite_sender : "");

	if (d->rcpt_count == 0 || d->rcpt_count > ENGINE_RCPT_MAX)
		return xasprintf("%u recipients in one transaction", d->rcpt_count);
	d->rcpt = xcalloc(d->rcpt_count, sizeof(*d->rcpt));
	d->dsn = xcalloc(d->rcpt_count, sizeof(*d->dsn));
	for (unsigned i = 0; i < d->rcpt_count; i++) {
		if (d->index[i] >= d->qf.rcpt_count)
			return xasprintf("the message has no recipient %u", d->index[i]);
		d->rcpt[i] = d->qf.rcpt[d->index[i]].address;
		d->dsn[i] = (struct engine_rcpt_dsn){ d->qf.rcpt[d->index[i]].orcpt, d->qf.rcpt[d->index[i]].notify };
	}
	d->mail.sender = rewrite_applies(server, d->qf.sender) ? insisted : d->qf.sender;
	d->mail.rcpt = d->rcpt;
	d->mail.rcpt_dsn = d->dsn;
	d->mail.rcpt_count = d->rcpt_count;
	d->mail.is_ret_full = d->qf.is_ret_full;
	d->mail.envid = d->qf.envid;
	d->mail.size_bytes = d->qf.size_bytes;
	d->mail.is_8bit = d->qf.flags & (QUEUEFILE_8BIT | QUEUEFILE_UTF8);
	d->mail.is_utf8 = d->qf.flags & QUEUEFILE_UTF8;
	d->mail.owner = d;
	convert_addresses(d, &insisted);
	return is_rewritten ? rewrite_head(d, server, insisted) : NULL;
}

char *delivery_open(struct delivery *d, int queue_fd, const struct conf_server *server)
{
	char path[SPOOL_PATH_MAX], *why;
	enum queuefile_result result;

	spool_queue_path(d->queue_id, path);
	d->fd = openat(queue_fd, path + strlen("queue/"), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (d->fd < 0)
		return xasprintf("the queue file cannot be opened: %s", strerrordesc_np(errno));
	result = queuefile_read(d->fd, &d->qf);
	if (result == QUEUEFILE_IO)
		return xasprintf("the queue file cannot be read: %s", strerrordesc_np(errno));
	if (result != QUEUEFILE_OK || d->qf.id != d->queue_id)
		return xstrdup("the queue file is damaged");
	why = fill_mail(d, server);
	d->is_open = why == NULL;
	return why;
}
