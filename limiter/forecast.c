/* forecast.c - see forecast.h. The same decisions as in earnest, on copies of the accounts, with a clock that jumps. */
#include "limiter/forecast.h"
#include <stdlib.h>

enum { REASONS_MAX = 32 };

struct group {
	struct account *account[PERMITS_SCOPES_MAX]; /* copies; NULL: no limits there */
	unsigned count;
	enum mail_class class;
	uint64_t messages, recipients;
};

/* How long which limit made some mail wait. */
struct reason {
	const char *limit, *scope;
	int64_t waited_ms;
};

struct forecast {
	struct ledger *ledger;
	struct moment t;
	struct account **copy;
	unsigned copy_count;
	struct group group[FORECAST_GROUPS_MAX];
	unsigned group_count;
	struct reason reason[REASONS_MAX];
	unsigned reason_count;
};

struct forecast *forecast_new(struct ledger *ledger_borrowed, int64_t now)
{
	struct forecast *f = xcalloc(1, sizeof(*f));

	f->ledger = ledger_borrowed;
	f->t = ledger_moment(ledger_borrowed, now);
	return f;
}

void forecast_free(struct forecast **f)
{
	if (!*f)
		return;
	for (unsigned i = 0; i < (*f)->copy_count; i++)
		account_free(&(*f)->copy[i]);
	free((*f)->copy);
	free(*f);
	*f = NULL;
}

/* What is under way is taken to be used now. */
static void use_outstanding(struct account *a, struct moment t)
{
	for (unsigned class = 0; class < CLASS_COUNT; class ++)
		for (unsigned unit = 0; unit < UNIT_COUNT; unit++) {
			uint64_t count = a->outstanding[class][unit] + a->inherited[class][unit];

			a->outstanding[class][unit] = a->inherited[class][unit] = 0;
			account_stamp(a, (enum mail_class) class, (enum limit_unit)unit, t, count);
		}
}

static struct account *copy_of(struct forecast *f, struct slice name)
{
	size_t len = sizeof(SCOPE_SENDER) - 1;
	struct account *a;

	for (unsigned i = 0; i < f->copy_count; i++)
		if (slice_is(name, f->copy[i]->name))
			return f->copy[i];
	a = name.len > len && memcmp(name.ptr, SCOPE_SENDER, len) == 0 ? ledger_get_sender(f->ledger, name, f->t)
								       : ledger_find(f->ledger, name);
	if (!a)
		return NULL;
	a = account_copy(a, f->t);
	use_outstanding(a, f->t);
	f->copy = xrealloc(f->copy, f->copy_count + 1, sizeof(struct account *));
	f->copy[f->copy_count++] = a;
	return a;
}

void forecast_add(struct forecast *f, struct slice scopes, enum mail_class class, uint32_t messages,
		  uint32_t recipients)
{
	struct group *g;

	if (f->group_count == FORECAST_GROUPS_MAX) {
		f->group[f->group_count - 1].messages += messages;
		f->group[f->group_count - 1].recipients += recipients;
		return;
	}
	g = &f->group[f->group_count++];
	*g = (struct group){ .class = class, .messages = messages, .recipients = recipients };
	while (scopes.len > 0 && g->count < PERMITS_SCOPES_MAX) {
		const char *end = memchr(scopes.ptr, '\n', scopes.len);
		size_t len = end ? (size_t)(end - scopes.ptr) : scopes.len;

		g->account[g->count++] = copy_of(f, (struct slice){ scopes.ptr, len });
		len += end != NULL;
		scopes.ptr += len;
		scopes.len -= len;
	}
}

static void note_wait(struct forecast *f, const char *limit, const char *scope, int64_t ms)
{
	for (unsigned i = 0; i < f->reason_count; i++) {
		if (f->reason[i].limit == limit && strcmp(f->reason[i].scope, scope) == 0) {
			f->reason[i].waited_ms += ms;
			return;
		}
	}
	if (f->reason_count < REASONS_MAX)
		f->reason[f->reason_count++] = (struct reason){ limit, scope, ms };
}

static uint32_t at_most(uint64_t value)
{
	return value > 1000000 ? 1000000 : (uint32_t)value;
}

/* As much of the group as may go now. */
static struct permit send_some(struct forecast *f, struct group *g)
{
	uint64_t each = (g->recipients + g->messages - 1) / g->messages;
	struct permit_wish wish = {
		{ NULL, 0 }, g->class, at_most(g->messages), at_most(g->recipients), at_most(each)
	};
	struct permit permit = permits_decide(g->account, g->count, f->t, &wish);
	uint64_t messages = permit.messages, recipients;

	if (messages == 0)
		return permit;
	if (messages * each > permit.recipients)
		messages = permit.recipients / each > 0 ? permit.recipients / each : 1;
	recipients = messages == g->messages ? g->recipients : messages * each;
	recipients = recipients > permit.recipients ? permit.recipients : recipients;
	permit.messages = (uint32_t)messages;
	permit.recipients = (uint32_t)recipients;
	permits_use(g->account, g->count, f->t, g->class, &permit);
	g->messages -= messages;
	g->recipients = g->recipients > recipients ? g->recipients - recipients : g->messages;
	return permit;
}

static const char *scope_name(const struct group *g, const struct permit *permit)
{
	return permit->scope_at < g->count && g->account[permit->scope_at] ? g->account[permit->scope_at]->name : "";
}

struct forecast_result forecast_run(struct forecast *f)
{
	struct forecast_result result = { f->t.now, true, "", "" };
	int64_t longest = 0;
	unsigned left = 1;

	for (unsigned step = 0; left > 0; step++) {
		struct permit first = { 0, 0, INT64_MAX, "", 0 };
		const char *scope = "";
		bool has_sent = false;

		left = 0;
		for (unsigned i = 0; i < f->group_count; i++) {
			struct group *g = &f->group[i];
			struct permit permit;

			if (g->messages == 0)
				continue;
			permit = send_some(f, g);
			left += g->messages > 0;
			has_sent |= permit.messages > 0;
			if (permit.messages > 0)
				continue;
			if (permit.free_at == 0 || step > FORECAST_STEPS_MAX) {
				result = (struct forecast_result){ 0, permit.free_at == 0, permit.limit, "" };
				snprintf(result.scope, sizeof(result.scope), "%s", scope_name(g, &permit));
				return result;
			}
			if (permit.free_at < first.free_at) {
				first = permit;
				scope = scope_name(g, &permit);
			}
		}
		if (has_sent) {
			result.done_at = f->t.now;
			continue;
		}
		if (left == 0)
			break;
		note_wait(f, first.limit, scope, first.free_at - f->t.now);
		f->t = ledger_moment(f->ledger, first.free_at);
	}
	for (unsigned i = 0; i < f->reason_count; i++) {
		if (f->reason[i].waited_ms <= longest)
			continue;
		longest = f->reason[i].waited_ms;
		result.limit = f->reason[i].limit;
		snprintf(result.scope, sizeof(result.scope), "%s", f->reason[i].scope);
	}
	return result;
}
