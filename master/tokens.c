/* tokens.c - see tokens.h. */
#include "master/tokens.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/text.h"
#include "master/fetch.h"
#include "master/renewal.h"
#include "master/snapshot.h"
#include "master/status.h"
#include <errno.h>
#include <sys/random.h>

enum { START_WAIT_MS = 5000, BUSY_MS = 500, STORE_AGAIN_MS = 60 * 1000, CHANGED_MAX = 900 };

/* What one server has. */
struct token {
	struct tokens *all;
	struct token *next;
	unsigned server;  /* index into the configuration */
	char *fetched_by; /* all that a fetch depends on: the same in another configuration, and nothing changes */
	uint64_t digest;  /* likewise, of the files */
	char *access;     /* NULL: none yet */
	char *unkept;     /* a refresh token that its file could not take */
	struct wall valid_until, next_try;
	struct mono fetched;
	char *error; /* why the last try failed; NULL: it did not */
	unsigned failures;
	bool was_refused;     /* by the mail server: a fetch answers that */
	bool is_second;       /* it was itself fetched because of a refusal */
	bool is_to_be_told;   /* its coming is news to the scheduler, whatever was before */
	uint32_t told_serial; /* 0: nothing to tell the scheduler; else once all workers have taken this one */
	bool is_settled;      /* fetched or failed once */
	struct fetch *fetch;
	struct loop_timer *due, *store;
};

struct tokens {
	struct master *m;
	struct token *first;
	uint32_t serial; /* of the last token handed to workers */
	loop_cb on_ready;
	void *arg;
	struct loop_timer *start;
};

static void begin(struct token *t);

static const struct conf_server *server_of(const struct token *t)
{
	return &t->all->m->conf->server[t->server];
}

static void wipe(char **secret)
{
	if (*secret)
		explicit_bzero(*secret, strlen(*secret));
	free(*secret);
	*secret = NULL;
}

static uint64_t random_number(void)
{
	uint64_t n = 0;

	if (getrandom(&n, sizeof(n), 0) != sizeof(n))
		n = clock_wall_us();
	return n;
}

/* --- the start waits for the first round --- */

static void on_start(void *arg)
{
	struct tokens *all = arg;
	loop_cb fn = all->on_ready;

	loop_timer_cancel(all->start);
	all->on_ready = NULL;
	if (fn)
		fn(all->arg);
}

static void settle(struct token *t)
{
	struct tokens *all = t->all;

	t->is_settled = true;
	for (t = all->first; t; t = t->next)
		if (!t->is_settled)
			return;
	if (all->on_ready)
		loop_timer_set_ms(all->start, 0);
}

/* --- handing on --- */

static void push(struct token *t)
{
	struct master *m = t->all->m;
	struct msg_new_token news = { .server = conf_server_key(server_of(t)),
				      .serial = ++t->all->serial,
				      .token = slice_of(t->access) };
	struct packet packet;

	for (unsigned i = 0; i < m->child_count; i++) {
		struct child *c = m->children[i];
		struct msg_head head = channel_head(c->control);

		if (c->service.role != ROLE_SMTPOUT || c->service.pid == 0)
			continue;
		msg_encode_new_token(&packet, &head, &news);
		channel_send(c->control, &packet);
	}
	explicit_bzero(&packet, sizeof(packet));
}

static bool have_all_taken(const struct master *m, uint32_t serial)
{
	for (unsigned i = 0; i < m->child_count; i++) {
		const struct child *c = m->children[i];

		if (c->service.role == ROLE_SMTPOUT && c->service.pid != 0 && c->token_serial < serial)
			return false;
	}
	return true;
}

void tokens_note_worker(struct tokens *all)
{
	uint32_t changed[CHANGED_MAX];
	unsigned count = 0;

	for (struct token *t = all->first; t && count < CHANGED_MAX; t = t->next) {
		if (t->told_serial == 0 || !have_all_taken(all->m, t->told_serial))
			continue;
		t->told_serial = 0;
		changed[count++] = t->server;
	}
	if (count > 0)
		supervisor_tell_secrets(all->m, changed, count, true);
}

/* --- fetched, or not --- */

static void try_later(struct token *t, uint64_t wait_ms)
{
	t->next_try.ms = clock_wall().ms + (int64_t)wait_ms;
	loop_timer_set_ms(t->due, wait_ms);
}

/* The first failure is told, and then only what is another one. */
static void tell_failure(const struct token *t, const char *text, bool is_final, uint64_t wait_ms)
{
	const struct conf_server *s = server_of(t);
	bool is_known = t->error && strcmp(t->error, text) == 0;
	struct buf wait;

	if (t->failures > 1 && is_known)
		return;
	buf_init(&wait, 64);
	text_format_duration(&wait, wait_ms / 1000 * 1000);
	if (is_final)
		log_warn("server %s gets no access token: %s; `postern login %s` helps, or other settings in oauth2",
			 s->name, text, s->name);
	else if (t->failures == 1)
		log_warn("server %s gets no access token: %s; trying again in %s", s->name, text, buf_text(&wait));
	else
		log_info("server %s gets no access token: %s; trying again in %s", s->name, text, buf_text(&wait));
	buf_release(&wait);
}

static void fail(struct token *t, const char *text, bool is_final)
{
	uint64_t wait_ms;

	t->failures++;
	wait_ms = is_final ? RENEWAL_FINAL_MS : renewal_retry_ms(t->failures, random_number());
	tell_failure(t, text, is_final, wait_ms);
	free(t->error);
	t->error = xstrdup(text);
	try_later(t, wait_ms);
	settle(t);
	status_write(t->all->m);
}

static void keep_in_memory(struct token *t, const char *refresh_token)
{
	wipe(&t->unkept);
	t->unkept = xstrdup(refresh_token);
	loop_timer_set_ms(t->store, STORE_AGAIN_MS);
	log_error("server %s: the token server has sent a new refresh token, and %s cannot take it: it is lost when "
		  "Postern ends, so make that file and its folder writable",
		  server_of(t)->name, server_of(t)->oauth2.refresh_token_file);
}

static void on_store(void *arg)
{
	struct token *t = arg;
	const char *path = server_of(t)->oauth2.refresh_token_file;

	if (!t->unkept)
		return;
	if (!fetch_store(path, t->unkept)) {
		loop_timer_set_ms(t->store, errno == EAGAIN ? BUSY_MS : STORE_AGAIN_MS);
		return;
	}
	wipe(&t->unkept);
	t->digest = fetch_digest(server_of(t));
	log_warn("server %s: %s holds the new refresh token now", server_of(t)->name, path);
}

static void tell_success(const struct token *t)
{
	struct buf text;

	buf_init(&text, 200);
	clock_format_rfc3339(&text, t->valid_until);
	if (t->failures > 0)
		log_warn("server %s has got an access token again, valid until %s", server_of(t)->name,
			 buf_text(&text));
	else
		log_info("server %s has got an access token, valid until %s", server_of(t)->name, buf_text(&text));
	buf_release(&text);
}

static void take(struct token *t, const struct oauth_answer *a)
{
	uint64_t life_ms = a->expires_s * 1000, due_ms = renewal_due_ms(life_ms, random_number());
	struct wall now = clock_wall();
	bool was_working = t->access && t->failures == 0 && t->valid_until.ms > now.ms;

	wipe(&t->access);
	t->access = xstrdup(a->access_token);
	t->valid_until.ms = now.ms + (int64_t)life_ms;
	t->fetched = clock_mono();
	tell_success(t);
	free(t->error);
	t->error = NULL;
	t->failures = 0;
	try_later(t, due_ms);
	push(t);
	if (t->was_refused || t->is_to_be_told || !was_working)
		t->told_serial = t->all->serial;
	t->is_second = t->was_refused;
	t->was_refused = t->is_to_be_told = false;
}

static void on_fetched(void *arg, const struct oauth_answer *a)
{
	struct token *t = arg;

	t->fetch = NULL;
	if (a->refresh_token && !a->is_kept)
		keep_in_memory(t, a->refresh_token);
	else if (a->refresh_token)
		wipe(&t->unkept);
	if (a->refresh_token && a->is_kept)
		t->digest = fetch_digest(server_of(t));
	if (!a->access_token) {
		fail(t, a->text, oauth_is_final(a));
		return;
	}
	take(t, a);
	settle(t);
	tokens_note_worker(t->all);
	status_write(t->all->m);
}

static void begin(struct token *t)
{
	char *why;

	if (t->fetch)
		return;
	loop_timer_cancel(t->due);
	on_store(t); /* its folder may be writable by now */
	switch (fetch_begin(&t->fetch, t->all->m, server_of(t), t->unkept, on_fetched, t, &why)) {
	case FETCH_BUSY:
		try_later(t, BUSY_MS);
		break;
	case FETCH_IMPOSSIBLE:
		fail(t, why, true);
		break;
	case FETCH_BEGUN:
		break;
	}
	free(why);
}

static void on_due(void *arg)
{
	begin(arg);
}

/* --- what happens outside --- */

void tokens_note_refusal(struct tokens *all, uint32_t key)
{
	int server = conf_find_server_key(all->m->conf, key);
	struct token *t = all->first;

	while (t && (int)t->server != server)
		t = t->next;
	if (!t || !t->access)
		return; /* without a token the server was not even asked */
	if (t->is_second && clock_mono().ms - t->fetched.ms < RENEWAL_REFUSED_MS)
		return; /* another one did not help: it is not the token's fault */
	t->was_refused = true;
	if (t->failures == 0)
		begin(t);
}

void tokens_look(struct tokens *all)
{
	for (struct token *t = all->first; t; t = t->next) {
		uint64_t digest = fetch_digest(server_of(t));

		if (digest == t->digest)
			continue;
		log_info("server %s: its refresh token has changed; it is used from now on", server_of(t)->name);
		t->digest = digest;
		t->is_to_be_told = true;
		wipe(&t->unkept);
		fetch_leave(&t->fetch);
		begin(t);
	}
}

/* --- being there --- */

/* All on which a fetch depends, but for what the files hold. */
static char *describe(const struct conf_server *s)
{
	const char *const PARTS[] = { s->name, s->oauth2.token_url, s->oauth2.client_id, s->oauth2.client_secret_file,
				      s->oauth2.refresh_token_file };
	struct buf text;

	buf_init(&text, 32768);
	for (unsigned i = 0; i < ARRAY_LEN(PARTS); i++)
		buf_printf(&text, "%s\n", PARTS[i] ? PARTS[i] : "");
	return buf_detach(&text);
}

static struct token *token_new(struct tokens *all, unsigned server)
{
	struct token *t = xcalloc(1, sizeof(*t));

	t->all = all;
	t->server = server;
	t->fetched_by = describe(server_of(t));
	t->digest = fetch_digest(server_of(t));
	t->due = loop_timer_new(all->m->loop, on_due, t);
	t->store = loop_timer_new(all->m->loop, on_store, t);
	return t;
}

static void token_free(struct token *t)
{
	fetch_leave(&t->fetch);
	loop_timer_free(&t->due);
	loop_timer_free(&t->store);
	wipe(&t->access);
	wipe(&t->unkept);
	free(t->fetched_by);
	free(t->error);
	free(t);
}

/* Takes one that fetches as this server does out of the list. */
static struct token *take_out(struct token **list, const struct conf_server *s)
{
	char *fetched_by = describe(s);
	struct token *found;

	while (*list && strcmp((*list)->fetched_by, fetched_by) != 0)
		list = &(*list)->next;
	found = *list;
	if (found)
		*list = found->next;
	free(fetched_by);
	return found;
}

void tokens_follow(struct tokens *all)
{
	const struct conf *c = all->m->conf;
	struct token *old = all->first, **end = &all->first;

	all->first = NULL;
	for (unsigned i = 0; i < c->server_count; i++) {
		struct token *t;

		if (!c->server[i].oauth2.is_set)
			continue;
		t = take_out(&old, &c->server[i]);
		if (t) {
			t->server = i;
			t->next = NULL;
		} else {
			t = token_new(all, i);
			loop_timer_set_ms(t->due, 0);
		}
		*end = t;
		end = &t->next;
	}
	while (old) {
		struct token *next = old->next;

		token_free(old);
		old = next;
	}
	tokens_look(all); /* those that stay: their files may have changed a moment ago */
}

struct tokens *tokens_new(struct master *m, loop_cb on_ready, void *arg)
{
	struct tokens *all = xcalloc(1, sizeof(*all));

	all->m = m;
	all->on_ready = on_ready;
	all->arg = arg;
	all->start = loop_timer_new(m->loop, on_start, all);
	tokens_follow(all);
	loop_timer_set_ms(all->start, all->first ? START_WAIT_MS : 0);
	return all;
}

void tokens_free(struct tokens **tokens)
{
	struct tokens *all = *tokens;

	if (!all)
		return;
	while (all->first) {
		struct token *next = all->first->next;

		token_free(all->first);
		all->first = next;
	}
	loop_timer_free(&all->start);
	free(all);
	*tokens = NULL;
}

void tokens_collect(const struct tokens *all, struct buf *out)
{
	for (const struct token *t = all->first; t; t = t->next)
		if (t->access)
			snapshot_put_secret(out, t->server, "token", t->access);
}

uint32_t tokens_serial(const struct tokens *all)
{
	return all->serial;
}

static void put_time(struct buf *out, const char *key, struct wall time)
{
	if (time.ms > 0) {
		json_put_member_u64(out, key, (uint64_t)time.ms / 1000);
		return;
	}
	json_put_key(out, key);
	buf_put_str(out, "null");
}

void tokens_put_status(const struct tokens *all, struct buf *out)
{
	buf_put_char(out, '[');
	for (const struct token *t = all ? all->first : NULL; t; t = t->next) {
		buf_put_str(out, t == all->first ? "{" : ",{");
		json_put_member(out, "server", slice_of(server_of(t)->name));
		put_time(out, "valid_until", t->valid_until);
		if (t->error)
			json_put_member(out, "error", slice_of(t->error));
		put_time(out, "next_try", t->next_try);
		buf_put_char(out, '}');
	}
	buf_put_char(out, ']');
}
