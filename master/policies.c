/* policies.c - see policies.h. */
#include "master/policies.h"
#include "lib/helper.h"
#include "lib/log.h"
#include "lib/oauth.h"
#include "lib/sts.h"
#include "lib/text.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/queue.h>
#include <unistd.h>

enum { DEADLINE_MS = 30 * 1000, LATE_MS = 5000, SAVE_MS = 1000 };
enum { BUCKETS = 1024, ANSWER_BYTES_MAX = 8192 };

struct kept {
	LIST_ENTRY(kept) bucket;
	TAILQ_ENTRY(kept) link; /* the oldest first */
	char *domain, *line;
};

/* A question, waiting or being answered. */
struct errand {
	TAILQ_ENTRY(errand) link;
	struct policies *all;
	char *domain, *id;
	struct helper helper;
	struct loop_io *io;
	struct loop_timer *late;
	struct buf answer;
};
TAILQ_HEAD(errand_list, errand);

struct policies {
	struct master *m;
	LIST_HEAD(kept_bucket, kept) buckets[BUCKETS];
	TAILQ_HEAD(kept_list, kept) kept;
	unsigned kept_count, waiting_count, active_count;
	struct errand_list waiting, active;
	struct loop_timer *save;
	bool is_unsaved;
};

/* --- what is kept --- */

static struct kept_bucket *bucket_of(struct policies *all, const char *domain)
{
	return &all->buckets[text_hash(domain, strlen(domain)) % BUCKETS];
}

static void kept_free(struct kept *k)
{
	free(k->domain);
	free(k->line);
	free(k);
}

static void drop(struct policies *all, struct kept *k)
{
	LIST_REMOVE(k, bucket);
	TAILQ_REMOVE(&all->kept, k, link);
	all->kept_count--;
	kept_free(k);
}

/* False: the line says nothing that may be believed. */
static bool keep(struct policies *all, struct slice line, struct sts_policy *policy)
{
	struct kept *k;

	if (!sts_read_line(line, policy))
		return false;
	for (k = LIST_FIRST(bucket_of(all, policy->domain)); k && strcmp(k->domain, policy->domain) != 0;)
		k = LIST_NEXT(k, bucket);
	if (k)
		drop(all, k);
	if (all->kept_count == POLICIES_MAX)
		drop(all, TAILQ_FIRST(&all->kept));
	k = xcalloc(1, sizeof(*k));
	k->domain = xstrdup(policy->domain);
	k->line = xstrndup(line.ptr, line.len);
	LIST_INSERT_HEAD(bucket_of(all, k->domain), k, bucket);
	TAILQ_INSERT_TAIL(&all->kept, k, link);
	all->kept_count++;
	return true;
}

void policies_collect(const struct policies *all, struct buf *out)
{
	struct kept *k;

	if (all)
		for (k = TAILQ_FIRST(&all->kept); k; k = TAILQ_NEXT(k, link))
			buf_printf(out, "%s\n", k->line);
}

static void load(struct policies *all)
{
	uint64_t now_s = (uint64_t)clock_wall().ms / 1000;
	int fd = openat(all->m->run_fd, "mta-sts", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
	char line[STS_LINE_MAX + 2];
	struct sts_policy policy;

	if (!file) {
		if (errno != ENOENT)
			log_warn("run/mta-sts cannot be read: %s; the policies are fetched anew", strerror(errno));
		return;
	}
	while (fgets(line, sizeof(line), file)) {
		struct slice text = { line, strcspn(line, "\n") };

		if (sts_read_line(text, &policy) && sts_left_s(&policy, now_s) > 0)
			(void)keep(all, text, &policy);
	}
	fclose(file);
}

/* No fsync(2): a lost file costs a fetch for each domain, and holds nothing that is not public. */
static void save(struct policies *all)
{
	int fd = openat(all->m->run_fd, "mta-sts.new", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
	bool is_right = file;
	struct kept *k;

	all->is_unsaved = false;
	if (file) {
		for (k = TAILQ_FIRST(&all->kept); k; k = TAILQ_NEXT(k, link))
			fprintf(file, "%s\n", k->line);
		is_right = !ferror(file);
		is_right &= fclose(file) == 0;
	}
	if (!is_right || renameat(all->m->run_fd, "mta-sts.new", all->m->run_fd, "mta-sts") < 0)
		log_warn("cannot write run/mta-sts: %s; the MTA-STS policies are lost when Postern ends",
			 strerror(errno));
}

static void on_save(void *arg)
{
	save(arg);
}

/* --- fetching --- */

static void begin_waiting(struct policies *all);

static void errand_free(struct errand *e)
{
	loop_io_free(&e->io);
	loop_timer_free(&e->late);
	buf_release(&e->answer);
	free(e->domain);
	free(e->id);
	free(e);
}

static void tell_resolver(struct policies *all, const struct errand *e, struct slice line)
{
	const struct msg_policy news = { .domain = slice_of(e->domain), .line = line };
	struct packet packet;

	for (unsigned i = 0; i < all->m->child_count; i++) {
		struct child *c = all->m->children[i];
		struct msg_head head = channel_head(c->control);

		if (c->service.role != ROLE_RESOLVER || c->service.pid == 0)
			continue;
		msg_encode_policy(&packet, &head, &news);
		channel_send(c->control, &packet);
	}
}

/* What the program says; *line is "" unless it is a policy of the right domain. Borrowed. */
static void read_answer(const struct errand *e, struct sts_policy *policy, struct slice *line, struct slice *text)
{
	struct slice rest = buf_slice(&e->answer), name, value;

	*line = slice_of("");
	*text = slice_of("the program token did not answer");
	while (oauth_next_record(&rest, &name, &value)) {
		if (slice_is(name, "text"))
			*text = value;
		else if (slice_is(name, "policy") && sts_read_line(value, policy) &&
			 strcmp(policy->domain, e->domain) == 0 && strcmp(policy->id, e->id) == 0)
			*line = value;
	}
}

static void finish(struct errand *e, bool is_late)
{
	struct policies *all = e->all;
	struct sts_policy policy;
	struct slice line, text;

	read_answer(e, &policy, &line, &text);
	if (line.len > 0 && keep(all, line, &policy)) {
		log_info("domain %s has an MTA-STS policy: mode %s, hosts %s, for %llu s", policy.domain,
			 sts_mode_name(policy.mode), policy.mx[0] ? policy.mx : "none",
			 (unsigned long long)policy.max_age_s);
		if (!all->is_unsaved)
			loop_timer_set_ms(all->save, SAVE_MS);
		all->is_unsaved = true;
	} else { /* made printable by the program, and once more by the log */
		log_warn("the MTA-STS policy of %s cannot be fetched: %.*s", e->domain, (int)text.len, text.ptr);
	}
	tell_resolver(all, e, line);
	helper_forget(&e->helper, is_late);
	TAILQ_REMOVE(&all->active, e, link);
	all->active_count--;
	errand_free(e);
	begin_waiting(all);
}

static void on_answer(void *arg, int fd UNUSED, unsigned events UNUSED)
{
	struct errand *e = arg;

	if (!helper_read(&e->helper, &e->answer))
		finish(e, false);
}

static void on_late(void *arg)
{
	finish(arg, true);
}

static bool start(struct errand *e)
{
	struct master *m = e->all->m;
	char *path = xasprintf("%s/token", m->folder),
	     *url = xasprintf("https://mta-sts.%s/.well-known/mta-sts.txt", e->domain);
	struct spawn_identity who = identity_of(&m->identities, ROLE_RESOLVER);
	struct buf question;
	bool is_started;

	buf_init(&question, HELPER_QUESTION_MAX);
	oauth_put_record(&question, "url", slice_of(url));
	oauth_put_record(&question, "policy-domain", slice_of(e->domain));
	oauth_put_record(&question, "policy-id", slice_of(e->id));
	oauth_put_number(&question, "deadline", DEADLINE_MS);
	oauth_put_dns(&question, m->conf);
	is_started = helper_start(
		&e->helper,
		&(struct helper_start){
			.path = path, .uid = who.uid, .gid = who.gid, .fd = -1, .question = buf_slice(&question) });
	buf_release(&question);
	free(path);
	free(url);
	return is_started;
}

static void begin_waiting(struct policies *all)
{
	struct errand *e;

	while (all->active_count < POLICIES_ACTIVE_MAX && (e = TAILQ_FIRST(&all->waiting))) {
		TAILQ_REMOVE(&all->waiting, e, link);
		all->waiting_count--;
		TAILQ_INSERT_TAIL(&all->active, e, link);
		all->active_count++;
		e->helper.process = e->helper.answer = -1;
		e->late = loop_timer_new(all->m->loop, on_late, e);
		if (!start(e)) {
			log_error("cannot start the program token: %s", strerror(errno));
			loop_timer_set_ms(e->late, 0);
			continue;
		}
		e->io = loop_io_new(all->m->loop, e->helper.answer, LOOP_READ, on_answer, e);
		loop_timer_set_ms(e->late, DEADLINE_MS + LATE_MS);
	}
}

static bool is_known(const struct errand_list *list, struct slice domain)
{
	struct errand *e;

	for (e = TAILQ_FIRST(list); e; e = TAILQ_NEXT(e, link))
		if (slice_is(domain, e->domain))
			return true;
	return false;
}

bool policies_ask(struct policies *all, const struct msg_policy_ask *ask)
{
	struct errand *e;

	if (!sts_is_domain(ask->domain) || ask->id.len == 0)
		return false;
	if (all->m->is_stopping || all->waiting_count == POLICIES_WAITING_MAX || is_known(&all->active, ask->domain) ||
	    is_known(&all->waiting, ask->domain))
		return true;
	e = xcalloc(1, sizeof(*e));
	e->all = all;
	e->domain = xstrndup(ask->domain.ptr, ask->domain.len);
	e->id = xstrndup(ask->id.ptr, ask->id.len);
	buf_init(&e->answer, ANSWER_BYTES_MAX);
	TAILQ_INSERT_TAIL(&all->waiting, e, link);
	all->waiting_count++;
	begin_waiting(all);
	return true;
}

/* --- being there --- */

struct policies *policies_new(struct master *m)
{
	struct policies *all = xcalloc(1, sizeof(*all));

	all->m = m;
	TAILQ_INIT(&all->kept);
	TAILQ_INIT(&all->waiting);
	TAILQ_INIT(&all->active);
	all->save = loop_timer_new(m->loop, on_save, all);
	load(all);
	return all;
}

void policies_free(struct policies **policies)
{
	struct policies *all = *policies;

	if (!all)
		return;
	if (all->is_unsaved)
		save(all);
	TAILQ_CONCAT(&all->waiting, &all->active, link);
	for (struct errand *e = TAILQ_FIRST(&all->waiting), *next; e; e = next) {
		next = TAILQ_NEXT(e, link);
		if (e->late)
			helper_forget(&e->helper, true);
		errand_free(e);
	}
	for (struct kept *k = TAILQ_FIRST(&all->kept), *next; k; k = next) {
		next = TAILQ_NEXT(k, link);
		kept_free(k);
	}
	loop_timer_free(&all->save);
	free(all);
	*policies = NULL;
}
