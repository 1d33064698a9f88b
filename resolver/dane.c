/* dane.c - which TLSA questions to ask about one mail host, and what the answers mean. */
#include "resolver/dane.h"

void dane_start(struct dane *d, bool is_signed, bool is_mx_signed, bool is_alias)
{
	*d = (struct dane){ .step = DANE_OVER };
	if (is_signed)
		d->step = is_alias ? DANE_AT_OWNER : DANE_AT_NAME;
	else if (is_mx_signed && is_alias)
		d->step = DANE_ALIAS;
}

bool dane_question(const struct dane *d, const char *name, const char *owner, unsigned port, char out[WIRE_NAME_SIZE],
		   uint16_t *type)
{
	int len;

	*type = WIRE_TYPE_TLSA;
	if (d->step == DANE_ALIAS) {
		*type = WIRE_TYPE_CNAME;
		len = snprintf(out, WIRE_NAME_SIZE, "%s", name);
	} else {
		len = snprintf(out, WIRE_NAME_SIZE, "_%u._tcp.%s", port, d->step == DANE_AT_OWNER ? owner : name);
	}
	return len > 0 && len <= 253;
}

static struct host_tlsa record_of(const struct wire_answer *a, unsigned index)
{
	const struct wire_record *r = &a->record[index];

	return (struct host_tlsa){
		r->usage, r->selector, r->matching, { (const char *)a->data + r->data_at, r->data_len }
	};
}

/* Digests before whole keys: should the room not do, these are worth more. Then any fixed order. */
static bool is_before(const struct host_tlsa *a, const struct host_tlsa *b)
{
	int order;

	if (a->data.len != b->data.len)
		return a->data.len < b->data.len;
	if (a->usage != b->usage)
		return a->usage > b->usage;
	if (a->selector != b->selector)
		return a->selector > b->selector;
	if (a->matching != b->matching)
		return a->matching < b->matching;
	order = memcmp(a->data.ptr, b->data.ptr, a->data.len);
	return order < 0;
}

/* Returns how many usable records there are; as many as there is room for are in `records`. */
static unsigned take_records(const struct wire_answer *a, struct buf *records)
{
	struct host_tlsa sorted[WIRE_RECORDS_MAX];
	unsigned count = 0;

	for (unsigned i = 0; i < a->count; i++) {
		struct host_tlsa r = record_of(a, i);
		unsigned at = count;

		if (!host_tlsa_is_usable(&r))
			continue;
		for (; at > 0 && is_before(&r, &sorted[at - 1]); at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = r;
		count++;
	}
	for (unsigned i = 0; i < count; i++) {
		if (HOST_TLSA_HEAD_BYTES + sorted[i].data.len > records->max - records->len)
			break;
		host_tlsa_put(records, &sorted[i]);
	}
	return count;
}

static void fail(struct dane *d, const char *why)
{
	d->step = DANE_OVER;
	d->has_failed = true;
	d->why = why;
}

static void take_tlsa(struct dane *d, const struct wire_answer *a, struct buf *records)
{
	bool is_at_name = d->step == DANE_AT_NAME;
	size_t before = records->len;

	d->step = is_at_name ? DANE_OVER : DANE_AT_NAME;
	if (a->status != WIRE_RECORDS || !a->is_secure)
		return;
	d->step = DANE_OVER;
	d->is_at_name = is_at_name;
	d->result = HOST_DANE_UNUSABLE;
	if (take_records(a, records) == 0)
		return;
	d->result = HOST_DANE_USABLE;
	if (records->len == before)
		fail(d, "its TLSA records are too long");
}

void dane_answer(struct dane *d, const struct wire_answer *a, struct buf *records)
{
	d->ttl_s = a->ttl_s;
	if (a->status == WIRE_FAILED)
		fail(d, a->why);
	else if (d->step == DANE_ALIAS)
		d->step = a->is_secure ? DANE_AT_NAME : DANE_OVER;
	else
		take_tlsa(d, a, records);
}
