/* record.c - encoding of delivery records: fixed head, then domain, recipients, outcomes. */
#include "scheduler/record.h"
#include <stdlib.h>

enum { RECORD_VERSION = 2 };

uint32_t record_sender_hash(struct slice sender)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < sender.len; i++)
		hash = (hash ^ (uint8_t)sender.ptr[i]) * 16777619u;
	return hash;
}

struct record *record_new(void)
{
	return xcalloc(1, sizeof(struct record));
}

static void outcome_release(struct record_outcome *o)
{
	free(o->server);
	free(o->relay);
	free(o->dsn);
	free(o->text);
	*o = (struct record_outcome){ 0 };
}

void record_free(struct record **r)
{
	if (!*r)
		return;
	for (unsigned i = 0; i < (*r)->outcome_count; i++)
		outcome_release(&(*r)->outcome[i]);
	for (unsigned i = 0; i < (*r)->rcpt_count; i++)
		free((*r)->rcpt[i].address);
	free((*r)->sender);
	free((*r)->wanted);
	free((*r)->domain);
	free(*r);
	*r = NULL;
}

/* --- bytes --- */

static void put_text(struct buf *out, const char *text)
{
	size_t len = text ? strlen(text) : 0;

	buf_put_be(out, len, 2);
	buf_put(out, text, len);
}

struct reader {
	const char *at, *end;
	bool failed;
};

static uint64_t take_be(struct reader *r, unsigned bytes)
{
	if ((size_t)(r->end - r->at) < bytes) {
		r->failed = true;
		r->at = r->end;
		return 0;
	}
	r->at += bytes;
	return buf_get_be(r->at - bytes, bytes);
}

static struct slice take_text(struct reader *r)
{
	size_t len = (size_t)take_be(r, 2);
	struct slice s = { r->at, len };

	if ((size_t)(r->end - r->at) < len || memchr(r->at, 0, len)) {
		r->failed = true;
		return (struct slice){ "", 0 };
	}
	r->at += len;
	return s;
}

static char *take_string(struct reader *r)
{
	struct slice s = take_text(r);

	return xstrndup(s.ptr, s.len);
}

/* --- keys --- */

void record_key(uint64_t id, uint32_t group, char key[RECORD_KEY_BYTES])
{
	for (unsigned i = 0; i < 8; i++)
		key[i] = (char)(id >> 8 * (7 - i));
	for (unsigned i = 0; i < 4; i++)
		key[8 + i] = (char)(group >> 8 * (3 - i));
}

static bool parse_key(struct slice key, uint64_t *id, uint32_t *group)
{
	struct reader r = { key.ptr, key.ptr + key.len, false };

	*id = take_be(&r, 8);
	*group = (uint32_t)take_be(&r, 4);
	return !r.failed && r.at == r.end;
}

/* --- values --- */

void record_encode(struct buf *out, const struct record *r)
{
	buf_put_be(out, RECORD_VERSION, 1);
	buf_put_be(out, r->state, 1);
	buf_put_be(out, r->priority, 1);
	buf_put_be(out, r->wanted ? r->flags | RECORD_HAS_WANTED : r->flags, 1);
	buf_put_be(out, r->attempts, 2);
	buf_put_be(out, r->group_count, 4);
	buf_put_be(out, (uint64_t)r->due.ms, 8);
	buf_put_be(out, (uint64_t)r->known.ms, 8);
	buf_put_be(out, r->size_bytes, 8);
	buf_put_be(out, r->bounce_id, 8);
	buf_put_be(out, r->sender_hash, 4);
	buf_put_be(out, r->held_s, 4);
	buf_put_be(out, r->message_rcpt_count, 4);
	put_text(out, r->domain);
	put_text(out, r->sender);
	if (r->wanted)
		put_text(out, r->wanted);
	buf_put_be(out, r->rcpt_count, 2);
	for (unsigned i = 0; i < r->rcpt_count; i++) {
		buf_put_be(out, r->rcpt[i].index, 4);
		buf_put_be(out, r->rcpt[i].state, 1);
		buf_put_be(out, r->rcpt[i].is_temporary_seen, 1);
		buf_put_be(out, r->rcpt[i].outcome, 1);
		put_text(out, r->rcpt[i].address);
	}
	buf_put_be(out, r->outcome_count, 1);
	for (unsigned i = 0; i < r->outcome_count; i++) {
		const struct record_outcome *o = &r->outcome[i];

		buf_put_be(out, (uint64_t)o->when.ms, 8);
		buf_put_be(out, o->code, 2);
		put_text(out, o->server);
		put_text(out, o->relay);
		put_text(out, o->dsn);
		put_text(out, o->text);
	}
}

static bool take_head(struct reader *r, struct slice key, struct record *out)
{
	if (!parse_key(key, &out->id, &out->group) || take_be(r, 1) != RECORD_VERSION)
		return false;
	out->state = (uint8_t)take_be(r, 1);
	out->priority = (uint8_t)take_be(r, 1);
	out->flags = (uint8_t)take_be(r, 1);
	out->attempts = (uint16_t)take_be(r, 2);
	out->group_count = (uint32_t)take_be(r, 4);
	out->due.ms = (int64_t)take_be(r, 8);
	out->known.ms = (int64_t)take_be(r, 8);
	out->size_bytes = take_be(r, 8);
	out->bounce_id = take_be(r, 8);
	out->sender_hash = (uint32_t)take_be(r, 4);
	out->held_s = (uint32_t)take_be(r, 4);
	out->message_rcpt_count = (uint32_t)take_be(r, 4);
	return !r->failed && out->state >= RECORD_WAITING && out->state <= RECORD_DONE &&
	       out->priority < PRIORITY_COUNT;
}

bool record_is_newer(struct slice value)
{
	return value.len > 0 && (uint8_t)value.ptr[0] > RECORD_VERSION;
}

bool record_peek(struct slice key, struct slice value, struct record *out, struct slice *domain)
{
	struct reader r = { value.ptr, value.ptr + value.len, false };

	if (!take_head(&r, key, out))
		return false;
	*domain = take_text(&r);
	return !r.failed;
}

static bool take_rcpts(struct reader *r, struct record *out)
{
	uint64_t count = take_be(r, 2);

	if (count > RECORD_RCPT_MAX)
		return false;
	for (out->rcpt_count = 0; out->rcpt_count < count; out->rcpt_count++) {
		struct record_rcpt *rcpt = &out->rcpt[out->rcpt_count];

		rcpt->index = (uint32_t)take_be(r, 4);
		rcpt->state = (uint8_t)take_be(r, 1);
		rcpt->is_temporary_seen = take_be(r, 1) != 0;
		rcpt->outcome = (uint8_t)take_be(r, 1);
		rcpt->address = take_string(r);
		if (r->failed || rcpt->state < RCPT_PENDING || rcpt->state > RCPT_TOLD) {
			out->rcpt_count++; /* so that record_free() sees this one's address */
			return false;
		}
	}
	return true;
}

static bool take_outcomes(struct reader *r, struct record *out)
{
	uint64_t count = take_be(r, 1);

	if (count > ARRAY_LEN(out->outcome))
		return false;
	for (; out->outcome_count < count && !r->failed; out->outcome_count++) {
		struct record_outcome *o = &out->outcome[out->outcome_count];

		o->when.ms = (int64_t)take_be(r, 8);
		o->code = (uint16_t)take_be(r, 2);
		o->server = take_string(r);
		o->relay = take_string(r);
		o->dsn = take_string(r);
		o->text = take_string(r);
	}
	for (unsigned i = 0; i < out->rcpt_count; i++)
		if (out->rcpt[i].outcome > out->outcome_count)
			return false;
	return !r->failed && r->at == r->end;
}

struct record *record_decode(struct slice key, struct slice value)
{
	struct reader r = { value.ptr, value.ptr + value.len, false };
	struct record *out = record_new();

	if (take_head(&r, key, out)) {
		out->domain = take_string(&r);
		out->sender = take_string(&r);
		if (out->flags & RECORD_HAS_WANTED)
			out->wanted = take_string(&r);
		if (take_rcpts(&r, out) && take_outcomes(&r, out))
			return out;
	}
	record_free(&out);
	return NULL;
}

/* --- recipients and what was said of them --- */

struct record_rcpt *record_find_rcpt(struct record *r, uint32_t index)
{
	for (unsigned i = 0; i < r->rcpt_count; i++)
		if (r->rcpt[i].index == index)
			return &r->rcpt[i];
	return NULL;
}

unsigned record_pending_count(const struct record *r)
{
	unsigned count = 0;

	for (unsigned i = 0; i < r->rcpt_count; i++)
		count += r->rcpt[i].state == RCPT_PENDING;
	return count;
}

bool record_waits_for_date(const struct record *r)
{
	return r->attempts == 0 && r->outcome_count == 0 && r->due.ms > clock_wall().ms;
}

void record_hold(struct record *r)
{
	r->state = RECORD_HELD;
	if (!record_waits_for_date(r))
		r->due = clock_wall();
}

static void drop_unused_outcomes(struct record *r)
{
	uint8_t kept = 0;

	for (uint8_t i = 0; i < r->outcome_count; i++) {
		bool is_used = false;

		for (unsigned k = 0; k < r->rcpt_count; k++) {
			if (r->rcpt[k].outcome == i + 1) {
				r->rcpt[k].outcome = (uint8_t)(kept + 1);
				is_used = true;
			}
		}
		if (is_used)
			r->outcome[kept++] = r->outcome[i];
		else
			outcome_release(&r->outcome[i]);
	}
	r->outcome_count = kept;
}

uint8_t record_add_outcome(struct record *r, struct wall when, const char *server, struct slice relay, uint16_t code,
			   struct slice dsn, struct slice text)
{
	struct record_outcome *o;

	drop_unused_outcomes(r);
	if (r->outcome_count >= ARRAY_LEN(r->outcome))
		BUG("more outcomes in use than recipients");
	o = &r->outcome[r->outcome_count++];
	*o = (struct record_outcome){
		.when = when,
		.code = code,
		.server = xstrdup(server),
		.relay = xstrndup(relay.ptr, relay.len),
		.dsn = xstrndup(dsn.ptr, dsn.len),
		.text = xstrndup(text.ptr, text.len > RECORD_TEXT_MAX ? RECORD_TEXT_MAX : text.len),
	};
	return r->outcome_count;
}
