/* lookup.c - the requests of the scheduler. */
#include "resolver/lookup.h"
#include "lib/destination.h"
#include "lib/idn.h"
#include "lib/text.h"
#include "resolver/doubt.h"
#include "resolver/mx.h"
#include "resolver/policy.h"
#include <sys/queue.h>
#include <sys/random.h>

enum {
	BUCKETS = 4096,
	CONFIRM_PAUSE_MS = 1000,   /* between the two answers that make "does not exist" final */
	TTL_FIXED_S = MX_TTL_MAX_S /* of answers that DNS plays no part in */
};

struct waiter {
	STAILQ_ENTRY(waiter) link;
	uint32_t request, generation; /* of the scheduler that asked */
};
STAILQ_HEAD(waiter_list, waiter);

struct question {
	struct lookup *lookup;
	struct dns_query *query; /* owned while open */
};

/* What only a lookup that is under way needs. */
struct work {
	struct mx_search search;
	struct question question[MX_QUESTIONS_MAX];
	struct loop_timer *pause;
	struct policy_check *check; /* NULL: nothing to wait for */
	bool is_searched;           /* the hosts are known, and the policy is waited for */
};

struct lookup {
	TAILQ_ENTRY(lookup) link;  /* in waiting, active or finished */
	LIST_ENTRY(lookup) bucket; /* until it is finished */
	struct lookups *all;
	struct waiter_list waiters;
	enum resolve_kind kind;
	uint16_t server;
	char name[WIRE_NAME_SIZE]; /* A-labels, lower case; a literal as written */
	struct work *work;         /* owned; set while active */
	/* the result, once finished */
	enum resolve_status status;
	bool is_secure;
	uint32_t ttl_s;
	char text[MX_TEXT_MAX + 1];
	struct buf hosts;
};
TAILQ_HEAD(lookup_list, lookup);

struct lookups {
	struct loop *loop;
	const struct conf *conf;
	struct dns *dns;
	const struct host_file *file;
	struct policy_cache *policies;
	struct channel *channel;
	LIST_HEAD(lookup_bucket, lookup) buckets[BUCKETS];
	struct lookup_list waiting, active, finished;
	unsigned active_count, request_count;
	struct doubt doubt;
	uint64_t seed;
};

/* --- objects --- */

static unsigned bucket_of(enum resolve_kind kind, uint16_t server, const char *name)
{
	return (unsigned)((text_hash(name, strlen(name)) + server * 31u + (unsigned)kind) % BUCKETS);
}

static struct lookup *find(struct lookups *all, enum resolve_kind kind, uint16_t server, const char *name)
{
	struct lookup *l;

	for (l = LIST_FIRST(&all->buckets[bucket_of(kind, server, name)]); l; l = LIST_NEXT(l, bucket))
		if (l->kind == kind && l->server == server && strcmp(l->name, name) == 0)
			return l;
	return NULL;
}

static struct lookup *lookup_new(struct lookups *all, const struct msg_resolve *request, const char *name)
{
	struct lookup *l = xcalloc(1, sizeof(*l));

	l->all = all;
	l->kind = request->kind;
	l->server = request->server;
	snprintf(l->name, sizeof(l->name), "%s", name);
	STAILQ_INIT(&l->waiters);
	buf_init(&l->hosts, 2 * HOSTS_BYTES_MAX); /* the encoder stops behind, not before, what is too much */
	return l;
}

/* The first one. */
static void drop_waiter(struct lookup *l)
{
	struct waiter *w = STAILQ_FIRST(&l->waiters);

	STAILQ_REMOVE_HEAD(&l->waiters, link);
	l->all->request_count--;
	free(w);
}

/* Those of schedulers up to this generation. */
static void drop_waiters(struct lookup *l, uint32_t last_generation)
{
	struct waiter_list all = STAILQ_HEAD_INITIALIZER(all);
	struct waiter *w;

	STAILQ_CONCAT(&all, &l->waiters);
	while ((w = STAILQ_FIRST(&all))) {
		STAILQ_REMOVE_HEAD(&all, link);
		STAILQ_INSERT_HEAD(&l->waiters, w, link);
		if (w->generation <= last_generation)
			drop_waiter(l);
	}
}

static void add_waiter(struct lookup *l, uint32_t request, uint32_t generation)
{
	struct waiter *w = xcalloc(1, sizeof(*w));

	w->request = request;
	w->generation = generation;
	STAILQ_INSERT_TAIL(&l->waiters, w, link);
	l->all->request_count++;
}

static void free_work(struct lookup *l)
{
	if (!l->work)
		return;
	for (unsigned i = 0; i < MX_QUESTIONS_MAX; i++)
		dns_cancel(&l->work->question[i].query);
	policy_check_cancel(&l->work->check);
	loop_timer_free(&l->work->pause);
	free(l->work);
	l->work = NULL;
}

/* It is on no list any more. */
static void free_lookup(struct lookup *l)
{
	drop_waiters(l, UINT32_MAX);
	free_work(l);
	buf_release(&l->hosts);
	free(l);
}

/* --- answering --- */

static void send_result(struct lookup *l, const struct waiter *to)
{
	struct msg_head head = channel_head(l->all->channel);
	struct msg_resolved m = { .request = to->request,
				  .status = (uint8_t)l->status,
				  .secure = l->is_secure,
				  .ttl_s = l->ttl_s,
				  .text = slice_of(l->text),
				  .hosts = buf_slice(&l->hosts) };
	struct packet p;

	head.to_generation = to->generation; /* master's word of a new scheduler may come after its first question */
	msg_encode_resolved(&p, &head, &m);
	channel_send(l->all->channel, &p);
}

/* What does not fit the channel stays finished until there is room. */
static void send_finished(void *arg)
{
	struct lookups *all = arg;
	struct lookup *l;

	while ((l = TAILQ_FIRST(&all->finished))) {
		while (!STAILQ_EMPTY(&l->waiters)) {
			if (channel_is_full(all->channel))
				return;
			send_result(l, STAILQ_FIRST(&l->waiters));
			drop_waiter(l);
		}
		TAILQ_REMOVE(&all->finished, l, link);
		free_lookup(l);
	}
}

static void finish(struct lookup *l)
{
	struct lookups *all = l->all;

	TAILQ_INSERT_TAIL(&all->finished, l, link);
	send_finished(all);
}

static void set_result(struct lookup *l, enum resolve_status status, uint32_t ttl_s, const char *text)
{
	l->status = status;
	l->ttl_s = ttl_s;
	snprintf(l->text, sizeof(l->text), "%s", text);
}

static void set_hosts(struct lookup *l, const struct hosts *hosts)
{
	hosts_encode(&l->hosts, hosts);
}

/* --- under way --- */

static void start_waiting(struct lookups *all);

/* A domain was not found, for the first time. */
static void note_denial(struct lookups *all, const char *name)
{
	if (doubt_denied(&all->doubt, name, dns_found_count(all->dns)))
		log_warn("the DNS servers find none of %d domains in a row: not believed, mail to such domains waits "
			 "until they find one again",
			 DOUBT_DENIALS_MAX);
}

static bool is_doubted(const struct lookup *l, const struct mx_search *s)
{
	return l->kind == RESOLVE_MX && s->status == RESOLVE_NO_DOMAIN && !s->is_secure &&
	       doubt_is_on(&l->all->doubt, dns_found_count(l->all->dns));
}

/* What the domain's MTA-STS policy leaves of the hosts. */
static void heed_policy(struct lookup *l, struct hosts *hosts)
{
	const struct conf *conf = l->all->conf;
	uint32_t ttl_s = policy_cache_ttl_s(l->all->policies, l->name);
	struct sts_policy policy;
	char text[MX_TEXT_MAX + 1];

	if (!policy_is_wanted(conf, &conf->server[l->server], l->name, hosts))
		return;
	if (ttl_s < l->ttl_s)
		l->ttl_s = ttl_s < MX_TTL_MIN_S ? MX_TTL_MIN_S : ttl_s;
	if (!policy_cache_find(l->all->policies, l->name, &policy) || policy_apply(&policy, hosts))
		return;
	snprintf(text, sizeof(text), "the MTA-STS policy of %.120s names none of its MX hosts", l->name);
	set_result(l, RESOLVE_POLICY, MX_TTL_MIN_S, text);
}

static void take_search(struct lookup *l, const struct mx_search *s)
{
	char text[MX_TEXT_MAX + 1];

	if (doubt_is_over(&l->all->doubt, dns_found_count(l->all->dns)))
		log_info("the DNS servers find domains again");
	set_result(l, s->status, s->ttl_s, s->text);
	if (is_doubted(l, s)) {
		snprintf(text, sizeof(text), "DNS servers that find nothing at all are not believed: %.120s", s->text);
		set_result(l, RESOLVE_TEMPORARY, MX_TTL_MIN_S, text);
	}
	l->is_secure = s->is_secure;
	if (s->skipped[0]) /* made printable by the parser */
		log_info("MX %s of %s ignored: not a host name", s->skipped, l->name);
	if (s->untrusted[0])
		log_info("host %s of %s left out: its TLSA records (DANE) cannot be had: %s", s->untrusted, l->name,
			 s->why ? s->why : "no usable answer");
	if (s->status == RESOLVE_OK) {
		struct hosts hosts;

		mx_hosts(s, &hosts);
		if (l->kind == RESOLVE_MX)
			heed_policy(l, &hosts);
		if (l->status == RESOLVE_OK)
			set_hosts(l, &hosts);
	}
}

static void end_active(struct lookup *l)
{
	struct lookups *all = l->all;

	take_search(l, &l->work->search);
	TAILQ_REMOVE(&all->active, l, link);
	LIST_REMOVE(l, bucket);
	all->active_count--;
	free_work(l);
	finish(l);
	start_waiting(all);
}

static void on_answer(void *arg, const struct wire_answer *answer);

static void ask(struct lookup *l)
{
	struct mx_search *s = &l->work->search;

	for (unsigned i = 0; i < s->question_count; i++) {
		struct question *q = &l->work->question[i];

		q->lookup = l;
		q->query = dns_ask(l->all->dns, mx_question_name(s, i), s->question[i].type, s->is_fresh, on_answer, q);
	}
}

static void go_on(struct lookup *l)
{
	switch (mx_step(&l->work->search)) {
	case MX_STEP_ASK:
		ask(l);
		break;
	case MX_STEP_PAUSE:
		if (l->kind == RESOLVE_MX)
			note_denial(l->all, l->name);
		loop_timer_set_ms(l->work->pause, CONFIRM_PAUSE_MS);
		break;
	case MX_STEP_DONE:
		l->work->is_searched = true;
		if (!l->work->check || l->work->search.status != RESOLVE_OK)
			end_active(l);
		break;
	}
}

static void on_answer(void *arg, const struct wire_answer *answer)
{
	struct question *q = arg;
	struct lookup *l = q->lookup;

	q->query = NULL;
	if (mx_answer(&l->work->search, (unsigned)(q - l->work->question), answer))
		go_on(l);
}

static void on_pause_over(void *arg)
{
	struct lookup *l = arg;

	mx_resume(&l->work->search);
	go_on(l);
}

static void on_checked(void *arg)
{
	struct lookup *l = arg;

	l->work->check = NULL;
	if (l->work->is_searched)
		end_active(l);
}

static void start(struct lookup *l)
{
	struct lookups *all = l->all;
	const struct conf_server *server = &all->conf->server[l->server];

	TAILQ_INSERT_TAIL(&all->active, l, link);
	all->active_count++;
	l->work = xcalloc(1, sizeof(*l->work));
	l->work->pause = loop_timer_new(all->loop, on_pause_over, l);
	if (l->kind == RESOLVE_MX && policy_may_be_wanted(all->conf, server))
		l->work->check = policy_check_begin(all->policies, l->name, on_checked, l);
	mx_start(&l->work->search, l->kind, l->name, server->deny, server->deny_count,
		 destination_tlsa_port(all->conf, server), all->seed++);
	go_on(l);
}

/* Asking never calls back at once, so this ends. */
static void start_waiting(struct lookups *all)
{
	struct lookup *l;

	while (all->active_count < LOOKUP_ACTIVE_MAX && (l = TAILQ_FIRST(&all->waiting))) {
		TAILQ_REMOVE(&all->waiting, l, link);
		start(l);
	}
}

/* --- requests --- */

static void answer_host(struct lookup *l, struct host *host)
{
	const struct conf_server *server = &l->all->conf->server[l->server];
	struct hosts hosts = { .count = 1 };

	if (!host_filter(host, server->deny, server->deny_count)) {
		set_result(l, RESOLVE_DENIED, TTL_FIXED_S, "its address is forbidden (deny-addresses)");
		return;
	}
	hosts.host[0] = *host;
	set_result(l, RESOLVE_OK, TTL_FIXED_S, "");
	set_hosts(l, &hosts);
}

/* Answers what needs no DNS; false: DNS is needed, and `name` is what to ask for. */
static bool answer_directly(struct lookup *l, const struct msg_resolve *request, struct buf *name)
{
	struct lookups *all = l->all;
	bool is_host = l->kind == RESOLVE_HOST;
	struct host host;

	if (l->server >= all->conf->server_count || (l->kind != RESOLVE_MX && !is_host) ||
	    (all->conf->server[l->server].method == METHOD_RELAY) != is_host) {
		/* its indices mean something else to us: one of us has the newer configuration, and soon both */
		set_result(l, RESOLVE_TEMPORARY, MX_TTL_MIN_S, "the configuration is being replaced");
		return true;
	}
	switch (host_parse_literal(request->name, is_host, &host)) {
	case HOST_LITERAL:
		answer_host(l, &host);
		return true;
	case HOST_BAD_LITERAL:
		set_result(l, RESOLVE_NO_DOMAIN, TTL_FIXED_S, "not a valid address literal");
		return true;
	case HOST_NO_LITERAL:
		break;
	}
	if (!idn_to_ascii(name, request->name)) {
		set_result(l, RESOLVE_NO_DOMAIN, TTL_FIXED_S, "not a valid domain name");
		return true;
	}
	if (is_host && host_file_find(all->file, buf_text(name), &host)) {
		answer_host(l, &host);
		return true;
	}
	return false;
}

void lookups_add(struct lookups *all, const struct msg_resolve *request, uint32_t generation)
{
	struct lookup *l = lookup_new(all, request, ""), *same;
	struct buf name;
	bool is_answered;

	buf_init(&name, WIRE_NAME_SIZE);
	is_answered = answer_directly(l, request, &name);
	if (!is_answered && all->request_count >= LOOKUP_REQUESTS_MAX) {
		set_result(l, RESOLVE_TEMPORARY, MX_TTL_MIN_S, "too many DNS lookups at a time");
		is_answered = true;
	}
	same = is_answered ? NULL : find(all, l->kind, l->server, buf_text(&name));
	if (same) {
		add_waiter(same, request->request, generation);
		free_lookup(l);
	} else if (is_answered) {
		add_waiter(l, request->request, generation);
		finish(l);
	} else {
		add_waiter(l, request->request, generation);
		snprintf(l->name, sizeof(l->name), "%s", buf_text(&name));
		LIST_INSERT_HEAD(&all->buckets[bucket_of(l->kind, l->server, l->name)], l, bucket);
		if (l->kind == RESOLVE_HOST) /* relays are few, and much hangs on each */
			TAILQ_INSERT_HEAD(&all->waiting, l, link);
		else
			TAILQ_INSERT_TAIL(&all->waiting, l, link);
		start_waiting(all);
	}
	buf_release(&name);
}

/* Takes away whom nobody waits for; what is under way goes on: its answers will be in the cache when the successor
 * asks. */
void lookups_forget(struct lookups *all, uint32_t last_generation)
{
	struct lookup *l, *next;

	for (l = TAILQ_FIRST(&all->waiting); l; l = next) {
		next = TAILQ_NEXT(l, link);
		drop_waiters(l, last_generation);
		if (!STAILQ_EMPTY(&l->waiters))
			continue;
		TAILQ_REMOVE(&all->waiting, l, link);
		LIST_REMOVE(l, bucket);
		free_lookup(l);
	}
	for (l = TAILQ_FIRST(&all->active); l; l = TAILQ_NEXT(l, link))
		drop_waiters(l, last_generation);
	for (l = TAILQ_FIRST(&all->finished); l; l = TAILQ_NEXT(l, link))
		drop_waiters(l, last_generation);
	send_finished(all);
}

struct lookups *lookups_new(struct loop *loop, const struct conf *conf, struct dns *dns, const struct host_file *file,
			    struct policy_cache *policies, struct channel *channel)
{
	struct lookups *all = xcalloc(1, sizeof(*all));

	*all = (struct lookups){
		.loop = loop, .conf = conf, .dns = dns, .file = file, .policies = policies, .channel = channel
	};
	TAILQ_INIT(&all->waiting);
	TAILQ_INIT(&all->active);
	TAILQ_INIT(&all->finished);
	if (getrandom(&all->seed, sizeof(all->seed), 0) != sizeof(all->seed))
		all->seed = clock_wall_us(); /* only spreads load */
	channel_on_room(channel, send_finished, all);
	return all;
}
