/* filter.c - reading and applying filters. */
#include "scheduler/filter.h"
#include "lib/address.h"
#include "lib/spool.h"
#include <stdlib.h>

static bool read_ids(struct filter *f, const json_t *ids, struct control_reply *reply)
{
	size_t i;
	json_t *item;

	json_array_foreach(ids, i, item)
	{
		const char *text = json_string_value(item);
		uint64_t id;

		if (!text || !spool_id_parse(slice_of(text), &id)) {
			control_refuse(reply, EXIT_STATUS_USAGE, "%.40s is no queue id: one has 13 characters 0-9 A-V",
				       text ? text : "?");
			return false;
		}
		*(uint64_t *)array_add((void **)&f->id, &f->id_count, &f->id_room, sizeof(id)) = id;
	}
	return true;
}

static bool read_pattern(char **out, const json_t *object, const char *key, struct control_reply *reply)
{
	const char *text = json_string_value(json_object_get(object, key));

	if (!text)
		return true;
	if (!address_pattern_is_valid(slice_of(text))) {
		control_refuse(reply, EXIT_STATUS_USAGE, "--%s %.200s: not an address, a domain, .domain or *", key,
			       text);
		return false;
	}
	*out = xstrdup(text);
	return true;
}

/* 0: no age is asked for. */
static int64_t age_of(json_int_t seconds)
{
	if (seconds <= 0)
		return 0;
	return seconds > INT64_MAX / 1000 ? INT64_MAX : (int64_t)seconds * 1000;
}

bool filter_read(struct filter *f, const struct scheduler *s, const struct control_request *request,
		 struct control_reply *reply)
{
	const json_t *object = json_object_get(request->object, "filters");
	const char *server = json_string_value(json_object_get(object, "server"));

	*f = (struct filter){ .server = -1 };
	f->is_all = json_is_true(json_object_get(object, "all"));
	f->older_ms = age_of(json_integer_value(json_object_get(object, "older_s")));
	if (server && (f->server = conf_find_server(s->conf, slice_of(server))) < 0) {
		control_refuse(reply, EXIT_STATUS_USAGE, "there is no server \"%.64s\"", server);
		return false;
	}
	if (read_ids(f, json_object_get(object, "ids"), reply) && read_pattern(&f->sender, object, "sender", reply) &&
	    read_pattern(&f->recipient, object, "recipient", reply) &&
	    read_pattern(&f->domain, object, "domain", reply))
		return true;
	filter_release(f);
	return false;
}

void filter_release(struct filter *f)
{
	free(f->id);
	free(f->sender);
	free(f->recipient);
	free(f->domain);
	*f = (struct filter){ .server = -1 };
}

bool filter_is_empty(const struct filter *f)
{
	return !f->is_all && f->id_count == 0 && !f->sender && !f->recipient && !f->domain && f->server < 0 &&
	       f->older_ms == 0;
}

static int id_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static bool takes_entry(const struct filter *f, const struct entry *e)
{
	if (e->place == ENTRY_FREE)
		return false;
	if (f->older_ms > 0 && clock_wall().ms - (int64_t)(e->id >> 12) / 1000 < f->older_ms)
		return false;
	for (unsigned i = 0; i < f->id_count; i++)
		if (f->id[i] == e->id)
			return true;
	return f->id_count == 0;
}

static bool any_rcpt_matches(const struct record *r, const char *pattern)
{
	for (unsigned i = 0; i < r->rcpt_count; i++)
		if (r->rcpt[i].state == RCPT_PENDING &&
		    address_matches(slice_of(pattern), slice_of(r->rcpt[i].address)))
			return true;
	return false;
}

bool filter_takes_record(const struct filter *f, const struct scheduler *s, const struct entry *e,
			 const struct record *r)
{
	const struct plan *plan = &domain_get(&s->domains, e->domain)->plan;

	if (f->sender && !address_matches(slice_of(f->sender), slice_of(r->sender)))
		return false;
	if (f->recipient && !any_rcpt_matches(r, f->recipient))
		return false;
	if (f->domain && !any_rcpt_matches(r, f->domain))
		return false;
	return f->server < 0 || (e->server_at < plan->count && plan->server[e->server_at] == (unsigned)f->server);
}

struct entry_ref *filter_collect(struct scheduler *s, const struct filter *f, unsigned *count)
{
	struct entry_ref *refs = NULL;
	unsigned room = 0;

	*count = 0;
	for (entry_index i = 1; i < entries_limit(s->entries); i++) {
		const struct entry *e = entry_get(s->entries, i);

		if (takes_entry(f, e))
			*(struct entry_ref *)array_add((void **)&refs, count, &room, sizeof(*refs)) =
				(struct entry_ref){ e->id, i };
	}
	if (*count > 1)
		qsort(refs, *count, sizeof(*refs), id_compare);
	return refs;
}
