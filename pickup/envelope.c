/* envelope.c - collecting sender and recipients. */
#include "pickup/envelope.h"
#include "lib/text.h"

enum { FIRST_SLOTS = 64, KEEP_RCPTS = 1024, TEXT_MAX = QUEUEFILE_HEAD_MAX };

void envelope_init(struct envelope *e)
{
	*e = (struct envelope){ 0 };
	buf_init(&e->text, TEXT_MAX);
}

void envelope_release(struct envelope *e)
{
	buf_release(&e->text);
	free(e->rcpt);
	free(e->slot);
	envelope_init(e);
}

void envelope_clear(struct envelope *e, uint32_t rcpt_limit)
{
	if (e->rcpt_cap > KEEP_RCPTS || e->text.cap > KEEP_RCPTS * ADDRESS_MAX)
		envelope_release(e);
	buf_clear(&e->text);
	e->sender = (struct envelope_span){ 0, 0 };
	e->rcpt_count = 0;
	e->rcpt_limit = rcpt_limit < QUEUEFILE_RCPT_MAX ? rcpt_limit : QUEUEFILE_RCPT_MAX;
	e->is_utf8 = e->is_over_limit = false;
	if (e->slot)
		memset(e->slot, 0, e->slot_count * sizeof(*e->slot));
}

static struct slice span_text(const struct envelope *e, struct envelope_span span)
{
	return (struct slice){ buf_text(&e->text) + span.offset, span.len };
}

/* Appends in the form in which addresses are compared and sent: domain in lower case, no dot behind it. */
static struct envelope_span put_address(struct envelope *e, struct slice address)
{
	struct envelope_span span = { (uint32_t)e->text.len, 0 };
	struct address_parts parts;

	if (address_parse(address, &parts) != ADDRESS_OK)
		BUG("an address that was not checked");
	buf_put_slice(&e->text, parts.local);
	buf_put_char(&e->text, '@');
	address_domain_key(&e->text, &parts);
	span.len = (uint32_t)e->text.len - span.offset;
	return span;
}

static bool needs_smtputf8(struct slice address)
{
	const char *at = memrchr(address.ptr, '@', address.len);

	return at && !text_is_ascii((struct slice){ address.ptr, (size_t)(at - address.ptr) });
}

void envelope_set_sender(struct envelope *e, struct slice address)
{
	if (address.len == 0)
		return;
	e->sender = put_address(e, address);
	e->is_utf8 |= needs_smtputf8(address);
}

/* The slot where this address is or belongs. */
static uint32_t find_slot(const struct envelope *e, struct slice address)
{
	uint32_t at = (uint32_t)text_hash(address.ptr, address.len) & (e->slot_count - 1);

	while (e->slot[at] && !slice_equal(span_text(e, e->rcpt[e->slot[at] - 1]), address))
		at = (at + 1) & (e->slot_count - 1);
	return at;
}

/* Room for one more recipient, the set at most half full. */
static void grow(struct envelope *e)
{
	if (e->rcpt_count == e->rcpt_cap) {
		e->rcpt_cap = e->rcpt_cap ? 2 * e->rcpt_cap : FIRST_SLOTS / 2;
		e->rcpt = xrealloc(e->rcpt, e->rcpt_cap, sizeof(*e->rcpt));
	}
	if (2 * (e->rcpt_count + 1) <= e->slot_count)
		return;
	free(e->slot);
	e->slot_count = e->slot_count ? 2 * e->slot_count : FIRST_SLOTS;
	e->slot = xcalloc(e->slot_count, sizeof(*e->slot));
	for (uint32_t i = 0; i < e->rcpt_count; i++)
		e->slot[find_slot(e, span_text(e, e->rcpt[i]))] = i + 1;
}

void envelope_add_rcpt(struct envelope *e, struct slice address)
{
	struct envelope_span span = put_address(e, address);
	uint32_t at;

	if (e->text.failed) {
		e->is_over_limit = true;
		return;
	}
	grow(e);
	at = find_slot(e, span_text(e, span));
	if (e->slot[at] || e->rcpt_count == e->rcpt_limit) {
		e->is_over_limit |= !e->slot[at];
		e->text.len = span.offset;
		return;
	}
	e->rcpt[e->rcpt_count++] = span;
	e->slot[at] = e->rcpt_count;
	e->is_utf8 |= needs_smtputf8(address);
}

struct slice envelope_sender(const struct envelope *e)
{
	return span_text(e, e->sender);
}

void envelope_export(const struct envelope *e, struct queuefile *qf)
{
	qf->sender = envelope_sender(e);
	qf->rcpt_count = e->rcpt_count;
	qf->rcpt = xcalloc(e->rcpt_count, sizeof(*qf->rcpt));
	for (uint32_t i = 0; i < e->rcpt_count; i++)
		qf->rcpt[i].address = span_text(e, e->rcpt[i]);
}
