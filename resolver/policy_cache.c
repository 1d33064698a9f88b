/* policy_cache.c - see policy_cache.h. */
#include "resolver/policy_cache.h"
#include "lib/text.h"
#include "resolver/policy.h"
#include <sys/queue.h>

enum { BUCKETS = 1024, TTL_SOON_S = 30 };

struct policy_entry {
	LIST_ENTRY(policy_entry) bucket;
	LIST_HEAD(check_list, policy_check) checks; /* that wait for the fetch */
	char *line;                                 /* NULL: no policy has come yet */
	int64_t fetch_until_ms;                     /* a fetch is under way until then at most; 0: none */
	int64_t retry_at_ms;                        /* for the id that failed */
	char id[STS_ID_MAX + 1];                    /* that was asked for last */
	char domain[];
};

struct policy_check {
	LIST_ENTRY(policy_check) link; /* while is_listed */
	struct policy_cache *cache;
	struct dns_query *query;
	struct loop_timer *timer;
	loop_cb fn;
	void *arg;
	bool is_listed;
	char domain[];
};

struct policy_cache {
	struct loop *loop;
	struct dns *dns;
	policy_fetch_cb fetch;
	void *arg;
	unsigned count;
	LIST_HEAD(policy_bucket, policy_entry) buckets[BUCKETS];
};

/* --- entries --- */

static struct policy_bucket *bucket_of(struct policy_cache *c, struct slice domain)
{
	return &c->buckets[text_hash(domain.ptr, domain.len) % BUCKETS];
}

static struct policy_entry *find(struct policy_cache *c, struct slice domain)
{
	struct policy_entry *e;

	for (e = LIST_FIRST(bucket_of(c, domain)); e; e = LIST_NEXT(e, bucket))
		if (slice_is(domain, e->domain))
			return e;
	return NULL;
}

static bool read_entry(const struct policy_entry *e, struct sts_policy *out)
{
	return e && e->line && sts_read_line(slice_of(e->line), out) &&
	       sts_left_s(out, (uint64_t)clock_wall().ms / 1000) > 0;
}

/* Those of no use: nothing is known, nothing under way, nothing to be remembered. */
static void sweep(struct policy_cache *c)
{
	int64_t now = clock_mono().ms;
	struct sts_policy policy;

	for (unsigned i = 0; i < BUCKETS; i++) {
		struct policy_entry *next, *e = LIST_FIRST(&c->buckets[i]);

		for (; e; e = next) {
			next = LIST_NEXT(e, bucket);
			if (!LIST_EMPTY(&e->checks) || e->fetch_until_ms > now || e->retry_at_ms > now ||
			    read_entry(e, &policy))
				continue;
			LIST_REMOVE(e, bucket);
			free(e->line);
			free(e);
			c->count--;
		}
	}
}

/* NULL: there is no room. */
static struct policy_entry *find_or_add(struct policy_cache *c, struct slice domain)
{
	struct policy_entry *e = find(c, domain);

	if (!e && c->count == POLICY_ENTRIES_MAX)
		sweep(c);
	if (e || c->count == POLICY_ENTRIES_MAX)
		return e;
	e = xcalloc(1, sizeof(*e) + domain.len + 1);
	memcpy(e->domain, domain.ptr, domain.len);
	LIST_INIT(&e->checks);
	LIST_INSERT_HEAD(bucket_of(c, domain), e, bucket);
	c->count++;
	return e;
}

/* --- checks --- */

static void check_free(struct policy_check *k)
{
	if (k->is_listed)
		LIST_REMOVE(k, link);
	dns_cancel(&k->query);
	loop_timer_free(&k->timer);
	free(k);
}

static void on_over(void *arg)
{
	struct policy_check *k = arg;
	loop_cb fn = k->fn;
	void *fn_arg = k->arg;

	check_free(k);
	fn(fn_arg);
}

/* Has it fetched if that may bring news; true: one is under way. A policy is renewed when half of its life is over. */
static bool fetch_if_needed(struct policy_cache *c, struct policy_entry *e, const char *id)
{
	int64_t now = clock_mono().ms;
	struct sts_policy policy;
	bool is_held = read_entry(e, &policy);

	if (is_held && strcmp(policy.id, id) == 0 &&
	    sts_left_s(&policy, (uint64_t)clock_wall().ms / 1000) > policy.max_age_s / 2)
		return false;
	if (e->fetch_until_ms > now)
		return true;
	if (e->retry_at_ms > now && strcmp(e->id, id) == 0)
		return false;
	snprintf(e->id, sizeof(e->id), "%s", id);
	e->fetch_until_ms = now + POLICY_LOST_MS;
	c->fetch(c->arg, e->domain, id);
	return true;
}

static void on_answer(void *arg, const struct wire_answer *answer)
{
	struct policy_check *k = arg;
	struct policy_cache *c = k->cache;
	struct policy_entry *e = NULL;
	struct sts_policy policy;
	char id[STS_ID_MAX + 1];

	k->query = NULL;
	if (policy_read_id(answer, id))
		e = find_or_add(c, slice_of(k->domain));
	if (!e || !fetch_if_needed(c, e, id) || read_entry(e, &policy)) {
		on_over(k);
		return;
	}
	LIST_INSERT_HEAD(&e->checks, k, link);
	k->is_listed = true;
	loop_timer_set_ms(k->timer, POLICY_WAIT_MS);
}

struct policy_check *policy_check_begin(struct policy_cache *c, const char *domain, loop_cb fn, void *arg)
{
	struct policy_check *k = xcalloc(1, sizeof(*k) + strlen(domain) + 1);
	char name[WIRE_NAME_SIZE + sizeof("_mta-sts.")];

	snprintf(name, sizeof(name), "_mta-sts.%s", domain);
	memcpy(k->domain, domain, strlen(domain) + 1);
	k->cache = c;
	k->fn = fn;
	k->arg = arg;
	k->timer = loop_timer_new(c->loop, on_over, k);
	if (strlen(name) <= 253 && sts_is_domain(slice_of(domain)))
		k->query = dns_ask(c->dns, name, WIRE_TYPE_TXT, false, on_answer, k);
	else
		loop_timer_set_ms(k->timer, 0); /* no such name can exist */
	return k;
}

void policy_check_cancel(struct policy_check **check)
{
	if (*check)
		check_free(*check);
	*check = NULL;
}

/* --- the cache --- */

bool policy_cache_find(struct policy_cache *c, const char *domain, struct sts_policy *out)
{
	return read_entry(find(c, slice_of(domain)), out);
}

uint32_t policy_cache_ttl_s(struct policy_cache *c, const char *domain)
{
	const struct policy_entry *e = find(c, slice_of(domain));
	int64_t now = clock_mono().ms;
	struct sts_policy policy;

	if (!e)
		return UINT32_MAX;
	if (e->fetch_until_ms > now)
		return TTL_SOON_S;
	if (e->retry_at_ms > now)
		return (uint32_t)((e->retry_at_ms - now) / 1000) + 1;
	return read_entry(e, &policy) ? (uint32_t)sts_left_s(&policy, (uint64_t)clock_wall().ms / 1000) : UINT32_MAX;
}

bool policy_cache_take(struct policy_cache *c, struct slice domain, struct slice line)
{
	struct policy_entry *e = find_or_add(c, domain);
	struct sts_policy policy;
	bool is_right = line.len == 0 || (sts_read_line(line, &policy) && slice_is(domain, policy.domain));
	struct policy_check *k;

	if (!e || !is_right)
		return is_right;
	e->fetch_until_ms = 0;
	e->retry_at_ms = line.len > 0 ? 0 : clock_mono().ms + POLICY_BACK_OFF_MS;
	if (line.len > 0) {
		free(e->line);
		e->line = xstrndup(line.ptr, line.len);
	}
	while ((k = LIST_FIRST(&e->checks))) { /* their callbacks come from the loop, as is promised */
		LIST_REMOVE(k, link);
		k->is_listed = false;
		loop_timer_set_ms(k->timer, 0);
	}
	return true;
}

struct policy_cache *policy_cache_new(struct loop *loop, struct dns *dns, struct slice lines, policy_fetch_cb fetch,
				      void *arg)
{
	struct policy_cache *c = xcalloc(1, sizeof(*c));
	struct sts_policy policy;

	*c = (struct policy_cache){ .loop = loop, .dns = dns, .fetch = fetch, .arg = arg };
	while (lines.len > 0) {
		const char *end = memchr(lines.ptr, '\n', lines.len);
		struct slice line = { lines.ptr, end ? (size_t)(end - lines.ptr) : lines.len };

		if (!sts_read_line(line, &policy) || !policy_cache_take(c, slice_of(policy.domain), line))
			break;
		lines.ptr += line.len + (end ? 1 : 0);
		lines.len -= line.len + (end ? 1 : 0);
	}
	return c;
}
