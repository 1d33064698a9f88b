/* purse.c - see purse.h and permit.h. The names of scopes are those of limiter/ledger.h. */
#include "scheduler/purse.h"
#include "lib/text.h"
#include "scheduler/target.h"
#include <stdlib.h>
#include <time.h>

enum { SCOPES_MAX = 1400, SENDER_MAX = 320, CLASS_USUAL = 0, CLASS_HIGH = 1 };

/* "unlimited" limits nothing. */
static bool limits(const struct conf_limits *l)
{
	for (unsigned i = 0; i < l->count; i++)
		if (!l->limit[i].is_unlimited)
			return true;
	return false;
}

static bool server_limits(const struct conf_server *server)
{
	return limits(&server->limits) || limits(&server->ramp);
}

bool permit_has_limits(const struct scheduler *s, unsigned server)
{
	return server_limits(&s->conf->server[server]);
}

static uint16_t route_of(const struct scheduler *s, const struct domain *d)
{
	uint16_t route = d->plan.route;

	return route > 0 && limits(&s->conf->route[route - 1].limits) ? route : 0;
}

/* Its own block, or the one of its MX hosts, which are known once it is in a lane. */
static uint16_t destination_of(struct scheduler *s, unsigned server, const struct domain *d)
{
	const struct conf *c = s->conf;
	uint16_t found = 0;
	bool is_grouped = false;

	if (c->server[server].method != METHOD_DIRECT)
		return 0;
	for (unsigned i = 0; i < c->destination_count && !found; i++) {
		if (c->destination[i].mx.count > 0)
			is_grouped |= limits(&c->destination[i].limits);
		else if (slice_equal_nocase(slice_of(c->destination[i].name), slice_of(d->name)))
			found = (uint16_t)(i + 1);
	}
	if (!found && is_grouped)
		found = target_get(s, server, d->name)->destination;
	return found && limits(&c->destination[found - 1].limits) ? found : 0;
}

/* What the limits of the entry depend on. False: there are none. */
static bool fill_key(struct scheduler *s, unsigned server, const struct entry *e, struct purse *key)
{
	const struct conf_server *conf = &s->conf->server[server];

	key->server = server;
	if (s->conf->route_count + s->conf->destination_count > 0) {
		const struct domain *d = domain_get(&s->domains, e->domain);

		key->route = route_of(s, d);
		key->destination = destination_of(s, server, d);
	}
	key->sender =
		limits(&s->conf->limit_per_sender) && e->sender != record_sender_hash(slice_of("")) ? e->sender : 0;
	key->class = conf->reserve_percent > 0 && e->priority == PRIORITY_HIGH ? CLASS_HIGH : CLASS_USUAL;
	return key->route || key->destination || key->sender || server_limits(conf) || limits(&s->conf->limits);
}

static uint64_t key_hash(const struct purse *key)
{
	uint32_t part[5] = { key->server, key->route, key->destination, key->sender, key->class };

	return text_hash(part, sizeof(part));
}

static bool is_key_of(const struct purse *key, const struct purse *p)
{
	return p->server == key->server && p->route == key->route && p->destination == key->destination &&
	       p->sender == key->sender && p->class == key->class;
}

static void put_scope(struct buf *out, const char *prefix, struct slice name)
{
	if (out->len > 0)
		buf_put_char(out, '\n');
	buf_put_str(out, prefix);
	buf_put_slice(out, name);
}

/* The sender stands in the record only: entries know a hash of it. */
static void put_sender(struct scheduler *s, struct buf *out, const struct entry *e)
{
	struct record *r = journal_get(s->journal, e->id, e->group);
	struct slice sender = slice_of(r ? r->sender : "unknown");

	if (sender.len > SENDER_MAX)
		sender.len = SENDER_MAX;
	put_scope(out, "sender:", sender);
	record_free(&r);
}

static char *make_scopes(struct scheduler *s, const struct purse *key, const struct entry *e)
{
	const struct conf *c = s->conf;
	struct buf out;
	char *text;

	buf_init(&out, SCOPES_MAX);
	if (server_limits(&c->server[key->server]))
		put_scope(&out, "", slice_of(c->server[key->server].name));
	if (key->destination)
		put_scope(&out, "destination:", slice_of(c->destination[key->destination - 1].name));
	if (key->route)
		put_scope(&out, "route:", slice_of(c->route[key->route - 1].name));
	if (key->sender)
		put_sender(s, &out, e);
	if (limits(&c->limits))
		put_scope(&out, "instance:", slice_of(""));
	text = xstrndup(out.ptr, out.len);
	buf_release(&out);
	return text;
}

struct purse *permit_purse(struct scheduler *s, unsigned server, const struct entry *e)
{
	struct purse key = { 0 }, *p;
	uint64_t hash;

	if (!fill_key(s, server, e, &key))
		return NULL;
	hash = key_hash(&key);
	for (struct table_node *n = table_first(&s->purses, hash); n; n = table_next(n)) {
		p = TABLE_OBJECT(n, struct purse, node);
		if (is_key_of(&key, p))
			return p;
	}
	p = xmalloc(sizeof(*p));
	*p = key;
	p->owner = s;
	p->scopes = make_scopes(s, p, e);
	table_add(&s->purses, &p->node, hash);
	permit_on_queue(p, 0, 0); /* nothing refers to it yet: unless something does, it goes with the turn */
	return p;
}

void purse_name(const struct purse *p, char out[PURSE_NAME_MAX])
{
	snprintf(out, PURSE_NAME_MAX, "%s/%u/%08x", p->owner->conf->server[p->server].name, p->class,
		 (unsigned)record_sender_hash(slice_of(p->scopes)));
}

void purse_free(struct scheduler *s, struct purse *p)
{
	table_remove(&s->purses, &p->node);
	loop_timer_free(&p->unblock);
	free(p->blocked_scope);
	free(p->scopes);
	free(p);
}

/* --- words --- */

/* "isp", "sender a@b", "this instance" */
static void format_scope(struct buf *out, struct slice scope)
{
	static const struct {
		const char *prefix, *words;
	} KINDS[] = { { "sender:", "sender " }, { "destination:", "destination " }, { "route:", "route " } };

	for (unsigned i = 0; i < ARRAY_LEN(KINDS); i++) {
		size_t len = strlen(KINDS[i].prefix);

		if (scope.len < len || memcmp(scope.ptr, KINDS[i].prefix, len) != 0)
			continue;
		buf_put_str(out, KINDS[i].words);
		scope.ptr += len;
		scope.len -= len;
	}
	buf_put_slice(out, slice_is(scope, "instance:") ? slice_of("this instance") : scope);
}

/* Local time of day, with the date when it is another day's. */
static void put_until(struct buf *out, struct wall until)
{
	time_t then = (time_t)((until.ms + 999) / 1000), now = (time_t)(clock_wall().ms / 1000);
	struct tm a, b;
	char text[32];

	if (!localtime_r(&then, &a) || !localtime_r(&now, &b))
		return;
	(void)strftime(text, sizeof(text),
		       a.tm_year == b.tm_year && a.tm_yday == b.tm_yday ? "%H:%M" : "%Y-%m-%d %H:%M", &a);
	buf_put_str(out, text);
}

struct blocked_search {
	unsigned server;
	const struct purse *found;
};

static void look_for_blocked(void *arg, struct table_node *node)
{
	struct blocked_search *search = arg;
	const struct purse *p = TABLE_OBJECT(node, struct purse, node);

	if (p->server == search->server && p->waiting > 0 && p->blocked_until.ms &&
	    (!search->found || permit_is_server_full(p)))
		search->found = p;
}

void permit_format_server(struct buf *out, struct scheduler *s, unsigned server)
{
	struct blocked_search search = { server, NULL };

	table_each(&s->purses, look_for_blocked, &search);
	if (search.found)
		permit_format(out, search.found);
}

void permit_format(struct buf *out, const struct purse *p)
{
	if (p->blocked_limit[0] < '0' || p->blocked_limit[0] > '9') { /* no limit, but why none can be kept */
		buf_printf(out, "the limits: %s", p->blocked_limit);
		return;
	}
	buf_printf(out, "limit %s of ", p->blocked_limit);
	format_scope(out, slice_of(p->blocked_scope));
	buf_put_str(out, " until ");
	if (p->blocked_until.ms == INT64_MAX)
		buf_put_str(out, "it is changed");
	else
		put_until(out, p->blocked_until);
}
