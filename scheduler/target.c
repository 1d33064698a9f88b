/* target.c - cache of the resolver's answers, and the questions under way. */
#include "scheduler/target.h"
#include "lib/destination.h"
#include "lib/log.h"
#include "lib/text.h"
#include "scheduler/dispatch.h"
#include "scheduler/lane.h"
#include <stdlib.h>

enum {
	TTL_MIN_MS =
		5000,     /* an answer serves at least those who wait for it, "no answer" those who come right behind */
	DEATHS_MAX = 3,   /* of resolvers with a question, then it is taken for the cause */
	RELEASES_MAX = 2, /* of the mail for a name, by the first answers after what looked like an outage */
	DNS_DOWN_COUNT = 3,  /* so many names in a row without an answer: it is not the names' fault */
	TARGETS_MAX = 200000 /* beyond this, expired ones are thrown out */
};

static uint64_t target_hash(unsigned server, const char *name)
{
	return text_hash(name, strlen(name)) ^ (server * UINT64_C(0x9e3779b97f4a7c15));
}

static void ask(struct scheduler *s, struct target *t)
{
	struct msg_resolve m = {
		.kind = s->conf->server[t->server].method == METHOD_DIRECT ? RESOLVE_MX : RESOLVE_HOST,
		.server = (uint16_t)t->server,
		.name = slice_of(t->name),
	};
	struct msg_head head;
	struct packet p;

	if (t->state != TARGET_ASKED || t->request == 0) {
		t->state = TARGET_ASKED;
		t->deaths = 0;
		t->request = ++s->next_request;
		table_add(&s->asked, &t->by_request, text_hash(&t->request, sizeof(t->request)));
	}
	m.request = t->request;
	t->is_sent = s->is_resolver_up && !channel_is_full(s->resolver);
	if (!t->is_sent)
		return; /* target_ask_again() follows when it is up, target_ask_unsent() when it has room */
	head = channel_head(s->resolver);
	msg_encode_resolve(&p, &head, &m);
	channel_send(s->resolver, &p);
}

static void release(struct target *t)
{
	free(t->text);
	free(t->hosts);
	t->text = t->hosts = NULL;
	t->hosts_len = 0;
}

static void drop_if_stale(void *arg, struct table_node *node)
{
	struct scheduler *s = arg;
	struct target *t = TABLE_OBJECT(node, struct target, node);

	if (t->state == TARGET_ASKED || t->expires.ms > clock_mono().ms)
		return;
	table_remove(&s->targets, node);
	release(t);
	free(t);
}

static struct target *target_new(struct scheduler *s, unsigned server, const char *name, uint64_t hash)
{
	size_t len = strlen(name);
	struct target *t;

	if (s->targets.count >= TARGETS_MAX)
		table_each(&s->targets, drop_if_stale, s);
	t = xcalloc(1, sizeof(*t) + len + 1);
	memcpy(t->name, name, len);
	t->server = server;
	table_add(&s->targets, &t->node, hash);
	return t;
}

struct target *target_get(struct scheduler *s, unsigned server, const char *name)
{
	uint64_t hash = target_hash(server, name);

	for (struct table_node *n = table_first(&s->targets, hash); n; n = table_next(n)) {
		struct target *t = TABLE_OBJECT(n, struct target, node);

		if (t->server != server || strcmp(t->name, name) != 0)
			continue;
		if (t->state != TARGET_ASKED && t->expires.ms <= clock_mono().ms)
			ask(s, t);
		return t;
	}
	struct target *t = target_new(s, server, name, hash);
	ask(s, t);
	return t;
}

void target_wait(struct scheduler *s, struct target *t, entry_index i)
{
	struct entry *e = entry_get(s->entries, i);

	e->place = ENTRY_LISTED;
	e->blame = BLAME_NOBODY; /* in no lane */
	e->next = t->waiting;
	t->waiting = i;
}

static enum target_state state_of(enum resolve_status status)
{
	switch (status) {
	case RESOLVE_OK:
		return TARGET_KNOWN;
	case RESOLVE_NO_DOMAIN:
	case RESOLVE_NULL_MX:
	case RESOLVE_DENIED:
		return TARGET_PERMANENT;
	default:
		return TARGET_TEMPORARY;
	}
}

/* A domain with a block of its own also has a lane of its own, whoever else lives at its hosts. */
static void find_destination(struct target *t, const struct conf *conf, const struct hosts *hosts)
{
	bool is_direct = conf->server[t->server].method == METHOD_DIRECT;
	const struct conf_destination *d = is_direct ? destination_find(conf, t->name, hosts) : NULL;

	t->destination = (uint16_t)(d ? d - conf->destination + 1 : 0);
	if (d && d->mx.count == 0)
		t->site = (t->site ^ text_hash(t->name, strlen(t->name))) | 1;
}

static void take_answer(struct target *t, const struct conf *conf, const struct msg_resolved *m)
{
	struct hosts hosts;
	int64_t ttl_ms;

	release(t);
	t->status = (enum resolve_status)m->status;
	t->state = state_of(t->status);
	t->text = xstrndup(m->text.ptr, m->text.len);
	if (t->state != TARGET_TEMPORARY) {
		t->releases = 0;
		t->is_at_fault = false;
	}
	ttl_ms = t->state == TARGET_TEMPORARY ? 0 : (int64_t)m->ttl_s * 1000;
	t->expires.ms = clock_mono().ms + (ttl_ms < TTL_MIN_MS ? TTL_MIN_MS : ttl_ms);
	if (t->state != TARGET_KNOWN)
		return;
	if (!hosts_decode(m->hosts, &hosts) || hosts.count == 0) {
		t->state = TARGET_TEMPORARY;
		t->status = RESOLVE_TEMPORARY;
		free(t->text);
		t->text = xstrdup("the resolver's answer makes no sense");
		return;
	}
	t->site = hosts_site_hash(&hosts) | 1; /* 0 is a relay's */
	find_destination(t, conf, &hosts);
	t->hosts = xstrndup(m->hosts.ptr, m->hosts.len);
	t->hosts_len = m->hosts.len;
}

static struct target *take_asked(struct scheduler *s, uint32_t request)
{
	for (struct table_node *n = table_first(&s->asked, text_hash(&request, sizeof(request))); n;
	     n = table_next(n)) {
		struct target *t = TABLE_OBJECT(n, struct target, by_request);

		if (t->request == request) {
			table_remove(&s->asked, n);
			return t;
		}
	}
	return NULL;
}

bool target_is_dns_failure(const struct target *t)
{
	return t->state == TARGET_TEMPORARY && !t->is_at_fault && t->status != RESOLVE_POLICY;
}

/* What was learnt while nothing could be learnt is not worth keeping. */
static void expire_if_temporary(void *arg UNUSED, struct table_node *node)
{
	struct target *t = TABLE_OBJECT(node, struct target, node);

	if (!target_is_dns_failure(t))
		return;
	t->expires.ms = 0;
	t->is_at_fault = ++t->releases == RELEASES_MAX; /* unless it is answered now */
}

static void note_dns_health(struct scheduler *s, const struct target *t)
{
	if (t->is_at_fault)
		return;
	if (target_is_dns_failure(t)) {
		s->dns_failures++;
		return;
	}
	if (s->dns_failures >= DNS_DOWN_COUNT) {
		table_each(&s->targets, expire_if_temporary, NULL);
		dispatch_release_blamed(s, BLAME_DNS);
	}
	s->dns_failures = 0;
}

void target_on_resolved(struct scheduler *s, const struct msg_resolved *m)
{
	struct target *t = take_asked(s, m->request);
	entry_index i;

	if (!t)
		return; /* answered before, by a resolver that died since */
	take_answer(t, s->conf, m);
	note_dns_health(s, t);
	if (t->is_lane_waiting) {
		t->is_lane_waiting = false;
		dispatch_server_changed(s, t->server);
	}
	i = t->waiting;
	t->waiting = 0;
	while (i) {
		entry_index next = entry_get(s->entries, i)->next;

		dispatch_route(s, i);
		i = next;
	}
}

/* An answer that costs a resolver its life: signatures without end, or a bug. Whoever waits for it is deferred. */
static void give_up(struct scheduler *s, uint32_t request)
{
	static const char WHY[] = "DNS lookup failed: the resolver dies of it";

	target_on_resolved(
		s, &(struct msg_resolved){ .request = request, .status = RESOLVE_TEMPORARY, .text = slice_of(WHY) });
}

struct given_up {
	struct scheduler *s;
	uint32_t *request;
	unsigned count, room;
};

static void ask_one_again(void *arg, struct table_node *node)
{
	struct given_up *g = arg;
	struct target *t = TABLE_OBJECT(node, struct target, by_request);

	if (!t->is_sent || ++t->deaths < DEATHS_MAX) {
		ask(g->s, t);
		return;
	}
	log_warn("%s: not looked up now, %u resolvers in a row have died meanwhile", t->name, t->deaths);
	t->is_at_fault = true;
	*(uint32_t *)array_add((void **)&g->request, &g->count, &g->room, sizeof(*g->request)) = t->request;
}

static void ask_if_unsent(void *arg, struct table_node *node)
{
	struct scheduler *s = arg;
	struct target *t = TABLE_OBJECT(node, struct target, by_request);

	if (!t->is_sent && !channel_is_full(s->resolver))
		ask(s, t);
}

void target_ask_unsent(void *arg)
{
	struct scheduler *s = arg;

	table_each(&s->asked, ask_if_unsent, s);
}

void target_ask_again(struct scheduler *s)
{
	struct given_up g = { .s = s };

	table_each(&s->asked, ask_one_again, &g);
	for (unsigned i = 0; i < g.count; i++) /* no sooner: what waits may ask for other names now */
		give_up(s, g.request[i]);
	free(g.request);
}
