/* shared.c - see shared.h. */
#include "limiter/shared.h"
#include "lib/conf_store.h"
#include "lib/log.h"
#include "lib/secret.h"
#include "limiter/redis.h"
#include <stdlib.h>
#include <sys/random.h>

enum {
	PARKED_MAX = 4096,
	WAIT_SAID_MS = 2 * FLEET_HEARTBEAT_MS, /* hosts that live are heard of sooner */
	STATE_MAX = 200
};

struct parked {
	struct parked *next;
	uint64_t since;
	uint16_t len;
	uint8_t bytes[];
};

struct shared {
	struct shared_options o;
	const struct conf *conf;
	struct conf_store store;
	struct sockaddr_storage address;
	socklen_t address_len; /* 0: it cannot be reached, ever */
	char *password;
	struct lease_book book;
	struct fleet *fleet;
	struct redis *redis;
	struct loop_timer *timer;
	struct parked *parked, **parked_end;
	unsigned parked_count;
	int64_t waits_since; /* for other hosts; 0: not so */
	bool has_news;
	char state[STATE_MAX]; /* "": all is well */
};

/* --- before the jail --- */

static void read_password(struct shared *s)
{
	char line[SECRET_MAX];
	const char *path = s->conf->limits_store_password_file, *why;

	if (!path)
		return;
	why = secret_read(path, line);
	if (why)
		log_error("limits: limits-store-password-file %s: %s", path, why);
	else
		s->password = xstrdup(line);
	explicit_bzero(line, sizeof(line));
}

struct shared *shared_prepare(const struct conf *c)
{
	struct shared *s;

	if (strcmp(c->limits_store, "local") == 0)
		return NULL;
	s = xcalloc(1, sizeof(*s));
	s->conf = c;
	s->parked_end = &s->parked;
	lease_book_init(&s->book);
	if (conf_store_parse(slice_of(c->limits_store), &s->store) ||
	    !conf_store_find_host(&s->store, &s->address, &s->address_len)) {
		s->address_len = 0;
		log_error("limits: limits-store: %s is neither an address nor in /etc/hosts", s->store.host);
	}
	read_password(s);
	return s;
}

struct lease_book *shared_book(struct shared *s)
{
	return s ? &s->book : NULL;
}

static int64_t now_of(struct shared *s)
{
	return ledger_now(s->o.ledger, clock_mono().ms);
}

/* --- what is said of it --- */

static void set_state(struct shared *s, const char *text)
{
	if (strcmp(text, s->state) == 0)
		return;
	(void)snprintf(s->state, sizeof(s->state), "%s", text);
	s->o.on_state(s->o.arg);
}

static void say_away(struct shared *s, const char *why)
{
	char text[STATE_MAX];

	if (s->state[0] && fleet_is_away(s->fleet))
		return; /* said before: attempts that fail are none of anybody's business */
	(void)snprintf(text, sizeof(text), "limits-store %.80s:%u is away: %.80s", s->store.host, s->store.port, why);
	log_error("limits: %s: %s", text,
		  s->conf->may_share_when_down ? "what this host has leased may still be used, no more is granted"
					       : "nothing is granted where limits hold");
	set_state(s, text);
}

/* After an answer: whether hosts are waited for, or all is well again. */
static void look_at_state(struct shared *s)
{
	const char *trouble = fleet_trouble(s->fleet);
	bool was_bad = s->state[0] != '\0';
	int64_t now = now_of(s);

	if (!trouble)
		s->waits_since = 0;
	else if (s->waits_since == 0)
		s->waits_since = now;
	if (trouble && now - s->waits_since < WAIT_SAID_MS)
		return;
	if (trouble && strcmp(trouble, s->state) != 0)
		log_warn("limits: %s: it has to tell what it used before more is granted", trouble);
	set_state(s, trouble ? trouble : "");
	if (was_bad && !trouble)
		log_info("limits: the limits-store %s:%u serves", s->store.host, s->store.port);
}

/* --- the connection --- */

static void on_up(void *arg, const char *run)
{
	struct shared *s = arg;

	fleet_connected(s->fleet, now_of(s), run);
}

static void on_down(void *arg, const char *why)
{
	struct shared *s = arg;

	say_away(s, why);
	fleet_disconnected(s->fleet, now_of(s), why);
	s->has_news = true;
}

static bool on_answer(void *arg, const struct slice *word, unsigned count)
{
	struct shared *s = arg;

	if (!fleet_take_answer(s->fleet, now_of(s), word, count))
		return false;
	look_at_state(s);
	if (fleet_take_correction_news(s->fleet))
		s->o.on_state(s->o.arg);
	s->has_news = true;
	return true;
}

/* The turn's end does it. */
static void on_timer(void *arg UNUSED)
{
}

static void begin_redis(struct shared *s)
{
	struct redis_options o = {
		.address = s->address,
		.address_len = s->address_len,
		.user = s->store.user[0] ? s->store.user : NULL,
		.password = s->password,
		.database = s->store.database,
		.script = STORE_SCRIPT,
		.on_up = on_up,
		.on_down = on_down,
		.on_answer = on_answer,
		.arg = s,
	};

	if (s->address_len > 0)
		s->redis = redis_new(s->o.loop, &o);
	else
		on_down(s, "its host is not known");
}

void shared_begin(struct shared *s, const struct shared_options *o)
{
	uint64_t nonce = 0;

	shared_end(s);
	s->o = *o;
	if (getrandom(&nonce, sizeof(nonce), 0) != sizeof(nonce))
		BUG("no random numbers");
	s->fleet = fleet_new(&(struct fleet_options){ .hostname = s->conf->hostname,
						      .ledger = o->ledger,
						      .book = &s->book,
						      .widest_window_ms = o->widest_window_ms,
						      .nonce = nonce,
						      .may_share = s->conf->may_share_when_down });
	if (!s->timer)
		s->timer = loop_timer_new(o->loop, on_timer, s);
	begin_redis(s);
}

void shared_end(struct shared *s)
{
	redis_free(&s->redis);
	fleet_free(&s->fleet);
}

static void call(struct shared *s, int64_t now)
{
	struct fleet_call call;

	while (fleet_next(s->fleet, now, &call)) {
		redis_call(s->redis, buf_slice(&call.words), call.count, call.keys);
		fleet_call_release(&call);
	}
}

void shared_take_news(struct shared *s)
{
	if (s->has_news) {
		s->has_news = false;
		s->o.on_news(s->o.arg);
	}
}

void shared_turn(struct shared *s, int64_t now)
{
	int64_t at;

	if (!s->redis)
		return;
	call(s, now);
	at = fleet_next_at(s->fleet);
	if (at == INT64_MAX)
		loop_timer_cancel(s->timer);
	else
		loop_timer_set_ms(s->timer, at > now ? (uint64_t)(at - now) : 0);
}

void shared_look_at_clock(struct shared *s, int64_t now)
{
	fleet_look_at_clock(s->fleet, now);
}

struct fleet *shared_fleet(struct shared *s)
{
	return s->fleet;
}

const char *shared_trouble(struct shared *s)
{
	return fleet_trouble(s->fleet);
}

const char *shared_state(const struct shared *s)
{
	return s->state[0] ? s->state : NULL;
}

/* --- what waits --- */

bool shared_park(struct shared *s, const struct packet *p, uint64_t since)
{
	struct parked *at;

	if (s->parked_count >= PARKED_MAX)
		return false;
	at = xmalloc(sizeof(*at) + p->len);
	at->next = NULL;
	at->since = since;
	at->len = p->len;
	memcpy(at->bytes, p->bytes, p->len);
	*s->parked_end = at;
	s->parked_end = &at->next;
	s->parked_count++;
	return true;
}

void shared_retry_parked(struct shared *s, void (*retry)(void *arg, const struct packet *p, uint64_t since), void *arg)
{
	struct parked *at = s->parked;

	s->parked = NULL;
	s->parked_end = &s->parked;
	s->parked_count = 0;
	while (at) {
		struct parked *next = at->next;
		struct packet p = { .len = at->len };

		memcpy(p.bytes, at->bytes, at->len);
		retry(arg, &p, at->since);
		free(at);
		at = next;
	}
}

void shared_forget_parked(struct shared *s)
{
	while (s->parked) {
		struct parked *next = s->parked->next;

		free(s->parked);
		s->parked = next;
	}
	s->parked_end = &s->parked;
	s->parked_count = 0;
}
