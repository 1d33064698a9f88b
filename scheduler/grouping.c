/* grouping.c - see grouping.h. */
#include "scheduler/grouping.h"
#include "lib/address.h"
#include "lib/text.h"
#include "scheduler/intake.h"
#include <stdlib.h>

struct member {
	uint32_t index;
	struct slice address;
};

/* Members only: a record, which has room for a hundred outcomes, is made of them one at a time. */
struct group {
	struct table_node node; /* by way and place, while it takes more */
	struct plan plan;
	char *domain; /* of the first; of all when is_by_domain */
	bool is_by_domain, is_mixed, is_utf8;
	unsigned rcpts_max, count, room;
	struct member *member;
};

struct grouping {
	struct scheduler *s;
	struct record like;
	uint32_t first_number;
	struct grouping_bounds bounds;
	struct group **group;
	unsigned count, room;
	struct table open;
	struct buf domain; /* of the recipient in hand */
	bool is_utf8;      /* it needs SMTPUTF8: not every server has that, and others are not to suffer for it */
};

bool grouping_is_by_domain(const struct scheduler *s, const struct plan *plan)
{
	return plan->count == 0 || plan_has_direct(plan, s->conf);
}

static unsigned least_rcpts(const struct conf_limits *limits, unsigned most)
{
	for (unsigned i = 0; i < limits->count; i++)
		if (limits->limit[i].is_recipients && !limits->limit[i].is_unlimited && limits->limit[i].amount < most)
			most = (unsigned)limits->limit[i].amount;
	return most;
}

unsigned grouping_rcpts_max(const struct scheduler *s, const struct plan *plan, const char *domain)
{
	const struct conf *c = s->conf;
	unsigned most = least_rcpts(&c->limit_per_sender, least_rcpts(&c->limits, RECORD_RCPT_MAX));

	for (unsigned i = 0; i < plan->count; i++) {
		most = least_rcpts(&c->server[plan->server[i]].limits, most);
		most = least_rcpts(&c->server[plan->server[i]].ramp, most);
	}
	if (plan->route > 0)
		most = least_rcpts(&c->route[plan->route - 1].limits, most);
	for (unsigned i = 0; i < c->destination_count; i++)
		if (c->destination[i].mx.count > 0 ||
		    slice_equal_nocase(slice_of(c->destination[i].name), slice_of(domain)))
			most = least_rcpts(&c->destination[i].limits, most);
	return most > 0 ? most : 1;
}

struct grouping *grouping_new(struct scheduler *s, const struct record *like, uint32_t first_number,
			      struct grouping_bounds bounds)
{
	struct grouping *g = xcalloc(1, sizeof(*g));

	g->s = s;
	g->like = *like;
	g->first_number = first_number;
	g->bounds = bounds;
	table_init(&g->open);
	buf_init(&g->domain, ADDRESS_DOMAIN_MAX + 1);
	return g;
}

void grouping_free(struct grouping **grouping)
{
	struct grouping *g = *grouping;

	for (unsigned i = 0; i < g->count; i++) {
		free(g->group[i]->domain);
		free(g->group[i]->member);
		free(g->group[i]);
	}
	free(g->group);
	table_release(&g->open);
	buf_release(&g->domain);
	free(g);
	*grouping = NULL;
}

static uint64_t hash_of(const struct grouping *g, const struct plan *plan, bool is_by_domain)
{
	uint64_t way = text_hash(plan->server, plan->count * sizeof(plan->server[0])) + 2 * plan->route + g->is_utf8;

	return is_by_domain ? way ^ text_hash(g->domain.ptr, g->domain.len) : way;
}

static struct group *find_open(const struct grouping *g, const struct plan *plan, bool is_by_domain, uint64_t hash)
{
	for (struct table_node *n = table_first(&g->open, hash); n; n = table_next(n)) {
		struct group *at = TABLE_OBJECT(n, struct group, node);

		if (plan_equal(&at->plan, plan) && at->is_utf8 == g->is_utf8 &&
		    (!is_by_domain || strcmp(at->domain, buf_text(&g->domain)) == 0))
			return at;
	}
	return NULL;
}

static struct group *group_new(struct grouping *g, const struct plan *plan, bool is_by_domain, uint64_t hash)
{
	struct group *new = xcalloc(1, sizeof(*new));

	new->plan = *plan;
	new->is_by_domain = is_by_domain;
	new->is_utf8 = g->is_utf8;
	new->domain = xstrdup(buf_text(&g->domain));
	new->rcpts_max = grouping_rcpts_max(g->s, plan, new->domain);
	if (new->rcpts_max > g->bounds.rcpts_max)
		new->rcpts_max = g->bounds.rcpts_max;
	table_add(&g->open, &new->node, hash);
	*(struct group **)array_add((void **)&g->group, &g->count, &g->room, sizeof(struct group *)) = new;
	return new;
}

static void look_at(struct grouping *g, struct slice address)
{
	struct address_parts parts;

	buf_clear(&g->domain);
	if (address_parse(address, &parts) == ADDRESS_OK)
		address_domain_key(&g->domain, &parts);
	g->is_utf8 = parts.is_utf8;
}

void grouping_add(struct grouping *g, uint32_t index, struct slice address)
{
	struct slice wanted = slice_of(g->like.wanted ? g->like.wanted : "");
	bool is_by_domain;
	struct group *at;
	struct plan plan;
	uint64_t hash;

	look_at(g, address);
	plan_make(&plan, g->s->conf, slice_of(g->like.sender), address, wanted);
	is_by_domain = g->bounds.is_by_domain || grouping_is_by_domain(g->s, &plan);
	hash = hash_of(g, &plan, is_by_domain);
	at = find_open(g, &plan, is_by_domain, hash);
	if (!at)
		at = group_new(g, &plan, is_by_domain, hash);
	at->is_mixed |= strcmp(at->domain, buf_text(&g->domain)) != 0;
	*(struct member *)array_add((void **)&at->member, &at->count, &at->room, sizeof(struct member)) =
		(struct member){ index, address };
	if (at->count == at->rcpts_max)
		table_remove(&g->open, &at->node);
}

unsigned grouping_count(const struct grouping *g)
{
	return g->count;
}

static uint8_t flags_of(const struct grouping *g, const struct group *at)
{
	return (uint8_t)(g->like.flags | (at->is_mixed ? RECORD_MIXED_DOMAINS : 0));
}

struct record *grouping_record(const struct grouping *g, unsigned at, uint32_t group_count)
{
	const struct group *group = g->group[at];
	struct record *r = record_new();

	*r = g->like;
	r->group = g->first_number + at;
	r->group_count = group_count;
	r->flags = flags_of(g, group);
	r->sender = xstrdup(g->like.sender);
	r->wanted = g->like.wanted ? xstrdup(g->like.wanted) : NULL;
	r->domain = xstrdup(group->domain);
	for (; r->rcpt_count < group->count; r->rcpt_count++)
		r->rcpt[r->rcpt_count] = (struct record_rcpt){
			.index = group->member[r->rcpt_count].index,
			.state = RCPT_PENDING,
			.address = xstrndup(group->member[r->rcpt_count].address.ptr,
					    group->member[r->rcpt_count].address.len),
		};
	return r;
}

entry_index grouping_entry(struct grouping *g, unsigned at)
{
	const struct group *group = g->group[at];
	uint8_t flags = g->like.flags;
	entry_index i;

	g->like.group = g->first_number + at;
	g->like.flags = flags_of(g, group);
	i = intake_entry(g->s, &g->like, slice_of(group->domain), &group->plan);
	g->like.flags = flags;
	return i;
}
