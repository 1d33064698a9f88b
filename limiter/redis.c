/* redis.c - see redis.h. hiredis writes and reads the protocol; the socket is ours, so that it lives in our loop. */
#include "limiter/redis.h"
#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	ANSWER_MAX_MS = 2000, /* connecting, and each answer */
	AGAIN_MIN_MS = 100,
	AGAIN_MAX_MS = 5000,
	OUT_MAX = 4 << 20,
	WORDS_MAX = 4096, /* of an answer */
	SCRIPT_NAME_LEN = 40,
	RUN_MAX = 80,
	VERSION_MIN = 5 /* a script may write after it asked for the time */
};

enum wait_for { NOBODY, CONNECTION, LOGIN, DATABASE, INFORMATION, SCRIPT, CALLS };

struct redis {
	struct loop *loop;
	struct redis_options o;
	char *user, *password;
	int fd;
	struct loop_io *io;
	struct loop_timer *timer; /* an answer is late, or: connect again */
	redisReader *reader;
	struct buf out;
	enum wait_for wait_for;
	bool is_call_open;
	uint64_t again_ms;
	char run[RUN_MAX];
	char script_name[SCRIPT_NAME_LEN + 1];
};

static void begin(struct redis *r);

static void hang_up(struct redis *r)
{
	loop_io_free(&r->io);
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	if (r->reader)
		redisReaderFree(r->reader);
	r->reader = NULL;
	buf_clear(&r->out);
	r->wait_for = NOBODY;
	r->is_call_open = false;
}

static void fail(struct redis *r, const char *why)
{
	hang_up(r);
	loop_timer_set_ms(r->timer, r->again_ms);
	r->again_ms = r->again_ms * 2 < AGAIN_MAX_MS ? r->again_ms * 2 : AGAIN_MAX_MS;
	r->o.on_down(r->o.arg, why);
}

/* --- writing --- */

static void flush(struct redis *r)
{
	while (r->out.len > 0) {
		ssize_t sent = send(r->fd, r->out.ptr, r->out.len, MSG_NOSIGNAL);

		if (sent < 0 && errno != EAGAIN && errno != EINTR) {
			fail(r, strerror(errno));
			return;
		}
		if (sent < 0)
			break;
		buf_consume(&r->out, (size_t)sent);
	}
	loop_io_set(r->io, LOOP_READ | (r->out.len > 0 ? LOOP_WRITE : 0u));
}

static void put_command(struct redis *r, int count, const char **word, const size_t *len)
{
	char *bytes = NULL;
	int total = redisFormatCommandArgv(&bytes, count, word, len);

	if (total < 0)
		BUG("hiredis cannot write a command");
	buf_put(&r->out, bytes, (size_t)total);
	redisFreeCommand(bytes);
	if (r->out.failed)
		BUG("too much for the limits-store");
}

static void put_words(struct redis *r, int count, const char **word)
{
	size_t len[8];

	for (int i = 0; i < count; i++)
		len[i] = strlen(word[i]);
	put_command(r, count, word, len);
}

/* All that has to be said before the first call, in one go; the answers come in this order. */
static void greet(struct redis *r)
{
	char database[16];

	if (r->password)
		put_words(r, r->user ? 3 : 2,
			  r->user ? (const char *[]){ "AUTH", r->user, r->password }
				  : (const char *[]){ "AUTH", r->password, NULL });
	(void)snprintf(database, sizeof(database), "%u", r->o.database);
	put_words(r, 2, (const char *[]){ "SELECT", database });
	put_words(r, 1, (const char *[]){ "INFO" });
	put_words(r, 3, (const char *[]){ "SCRIPT", "LOAD", r->o.script });
	r->wait_for = r->password ? LOGIN : DATABASE;
}

void redis_call(struct redis *r, struct slice words, unsigned count, unsigned keys)
{
	const char **word = xcalloc(count + 3, sizeof(*word));
	size_t *len = xcalloc(count + 3, sizeof(*len));
	char number[16];
	const char *at = words.ptr;

	(void)snprintf(number, sizeof(number), "%u", keys);
	word[0] = "EVALSHA";
	word[1] = r->script_name;
	word[2] = number;
	for (unsigned i = 0; i < count + 3; i++) {
		if (i >= 3) {
			word[i] = at;
			at += strlen(at) + 1;
		}
		len[i] = strlen(word[i]);
	}
	put_command(r, (int)count + 3, word, len);
	free(word);
	free(len);
	r->is_call_open = true;
	loop_timer_set_ms(r->timer, ANSWER_MAX_MS);
	flush(r);
}

/* --- reading --- */

/* The value of a line of INFO, "" when there is none. */
static void find_info(const char *info, const char *name, char *value, size_t size)
{
	size_t len = strlen(name);

	value[0] = '\0';
	for (const char *line = info; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, len) == 0 && line[len] == ':') {
			(void)snprintf(value, size, "%.*s", (int)strcspn(line + len + 1, "\r\n"), line + len + 1);
			return;
		}
	}
}

/* NULL, or why counters cannot be trusted to this server. */
static const char *judge(struct redis *r, const char *info)
{
	char value[64], policy[64];

	find_info(info, "run_id", r->run, sizeof(r->run));
	find_info(info, "redis_version", value, sizeof(value));
	if (r->run[0] == '\0' || strtoul(value, NULL, 10) < VERSION_MIN)
		return "it is no Redis, or older than version 5";
	find_info(info, "role", value, sizeof(value));
	if (strcmp(value, "master") != 0)
		return "it is a replica";
	find_info(info, "maxmemory", value, sizeof(value));
	find_info(info, "maxmemory_policy", policy, sizeof(policy));
	if (strcmp(value, "0") != 0 && strcmp(policy, "noeviction") != 0)
		return "it evicts keys: set maxmemory-policy to noeviction";
	return NULL;
}

static bool take_words(struct redis *r, const redisReply *reply)
{
	struct slice *word = xcalloc(reply->elements + 1, sizeof(*word));
	bool is_right = reply->type == REDIS_REPLY_ARRAY && reply->elements <= WORDS_MAX && r->is_call_open;

	for (size_t i = 0; i < reply->elements && is_right; i++) {
		is_right = reply->element[i]->type == REDIS_REPLY_STRING;
		if (is_right)
			word[i] = (struct slice){ reply->element[i]->str, reply->element[i]->len };
	}
	r->is_call_open = false;
	loop_timer_cancel(r->timer);
	is_right = is_right && r->o.on_answer(r->o.arg, word, (unsigned)reply->elements);
	free(word);
	return is_right;
}

/* NULL, or why this connection is of no use. */
static const char *take_reply(struct redis *r, const redisReply *reply)
{
	const char *why;

	if (reply->type == REDIS_REPLY_ERROR)
		return reply->str;
	switch (r->wait_for) {
	case LOGIN:
		r->wait_for = DATABASE;
		return NULL;
	case DATABASE:
		r->wait_for = INFORMATION;
		return NULL;
	case INFORMATION:
		r->wait_for = SCRIPT;
		if (reply->type != REDIS_REPLY_STRING)
			return "its answer makes no sense";
		why = judge(r, reply->str);
		return why;
	case SCRIPT:
		if (reply->type != REDIS_REPLY_STRING || reply->len != SCRIPT_NAME_LEN)
			return "its answer makes no sense";
		memcpy(r->script_name, reply->str, SCRIPT_NAME_LEN);
		r->wait_for = CALLS;
		r->again_ms = AGAIN_MIN_MS;
		loop_timer_cancel(r->timer);
		r->o.on_up(r->o.arg, r->run);
		return NULL;
	case CALLS:
		return take_words(r, reply) ? NULL : "its answer makes no sense";
	case NOBODY:
	case CONNECTION:
		break;
	}
	return "it speaks unasked";
}

static void take_replies(struct redis *r)
{
	void *got = NULL;

	while (r->reader && redisReaderGetReply(r->reader, &got) == REDIS_OK && got) {
		const char *why = take_reply(r, got);
		char text[200];

		if (why)
			(void)snprintf(text, sizeof(text), "%s", why);
		freeReplyObject(got);
		got = NULL;
		if (why) {
			fail(r, text);
			return;
		}
	}
	if (r->reader && r->reader->err)
		fail(r, "its answer makes no sense");
}

static void receive(struct redis *r)
{
	char bytes[16384];
	ssize_t got = recv(r->fd, bytes, sizeof(bytes), 0);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0)
		fail(r, got == 0 ? "it hung up" : strerror(errno));
	else if (redisReaderFeed(r->reader, bytes, (size_t)got) != REDIS_OK)
		fail(r, "its answer makes no sense");
	else
		take_replies(r);
}

/* --- the connection --- */

static void on_io(void *arg, int fd, unsigned events)
{
	struct redis *r = arg;
	int error = 0;
	socklen_t len = sizeof(error);

	if (r->wait_for == CONNECTION) {
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error != 0) {
			fail(r, strerror(error ? error : errno));
			return;
		}
		greet(r);
		flush(r);
		return;
	}
	if (events & LOOP_READ)
		receive(r);
	if (r->fd >= 0 && (events & LOOP_WRITE))
		flush(r);
}

static void begin(struct redis *r)
{
	int one = 1;

	r->fd = socket(r->o.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (r->fd < 0) {
		fail(r, strerror(errno));
		return;
	}
	(void)setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(r->fd, (const struct sockaddr *)&r->o.address, r->o.address_len) < 0 && errno != EINPROGRESS) {
		fail(r, strerror(errno));
		return;
	}
	r->reader = redisReaderCreate();
	if (!r->reader)
		BUG("hiredis: no memory");
	r->wait_for = CONNECTION;
	r->io = loop_io_new(r->loop, r->fd, LOOP_WRITE, on_io, r);
	loop_timer_set_ms(r->timer, ANSWER_MAX_MS);
}

static void on_timer(void *arg)
{
	struct redis *r = arg;

	if (r->fd >= 0)
		fail(r, "it does not answer");
	else
		begin(r);
}

struct redis *redis_new(struct loop *loop, const struct redis_options *o)
{
	struct redis *r = xcalloc(1, sizeof(*r));

	r->loop = loop;
	r->o = *o;
	r->user = o->user ? xstrdup(o->user) : NULL;
	r->password = o->password ? xstrdup(o->password) : NULL;
	r->fd = -1;
	r->again_ms = AGAIN_MIN_MS;
	buf_init(&r->out, OUT_MAX);
	r->timer = loop_timer_new(loop, on_timer, r);
	loop_timer_set_ms(r->timer, 0); /* from the loop, so that on_down() is never called from here */
	return r;
}

void redis_free(struct redis **r)
{
	struct redis *old = *r;

	if (!old)
		return;
	hang_up(old);
	loop_timer_free(&old->timer);
	buf_release(&old->out);
	if (old->password)
		explicit_bzero(old->password, strlen(old->password));
	free(old->password);
	free(old->user);
	free(old);
	*r = NULL;
}
