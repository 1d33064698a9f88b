/* scheduler_on_disk.h - as much of a scheduler as modules need that work on a spool and a journal, below /tmp. */
#ifndef TESTS_UNIT_SCHEDULER_ON_DISK_H
#define TESTS_UNIT_SCHEDULER_ON_DISK_H
#include "lib/channel.h"
#include "lib/spool.h"
#include "scheduler/history.h"
#include "scheduler/intake.h"
#include "scheduler/scheduler.h"
#include "tests/unit/folder.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char spool_dir[] = "/tmp/postern-unit-XXXXXX";

/* What scheduler.c has for its modules. */
void scheduler_fail(struct scheduler *s, enum store_result result, const char *doing)
{
	(void)s;
	fail_msg("%s: %d", doing, result);
}

static int pickup_pipe[2]; /* pickup, as far as nobody is there */

static inline bool on_nothing(void *arg, const struct msg_head *head, const struct packet *p)
{
	(void)arg, (void)head, (void)p;
	return true;
}

static inline void ignore(void *arg)
{
	(void)arg;
}

/* With the servers "relay" and "direct", in that order. */
static inline struct conf *make_conf(void)
{
	static char relay[] = "relay", direct[] = "direct", host[] = "mx.example";
	static struct conf_server servers[] = {
		{ .name = relay, .display_name = relay, .method = METHOD_RELAY, .host = host },
		{ .name = direct, .display_name = direct, .method = METHOD_DIRECT },
	};
	static unsigned primary[] = { 0, 1 };
	static uint64_t after_ms[] = { 600 * 1000 };
	static struct conf conf;

	conf = (struct conf){ .server = servers, .server_count = 2, .primary = primary, .primary_count = 2 };
	conf.retry.after_ms = after_ms;
	conf.retry.after_count = 1;
	conf_index_servers(&conf);
	return &conf;
}

static inline void open_journal(struct scheduler *s)
{
	char *path = xasprintf("%s/db/queue", spool_dir);
	bool is_rebuilt;

	s->journal = journal_open(path, &is_rebuilt);
	assert_non_null(s->journal);
	assert_false(is_rebuilt);
	free(path);
}

static const size_t scheduler_tables[] = {
	offsetof(struct scheduler, messages),      offsetof(struct scheduler, jobs),
	offsetof(struct scheduler, sessions),      offsetof(struct scheduler, lanes),
	offsetof(struct scheduler, sender_queues), offsetof(struct scheduler, purses),
	offsetof(struct scheduler, targets),       offsetof(struct scheduler, asked),
};

static inline int setup_scheduler(void **state)
{
	const struct spool_owners owners = { (uid_t)-1, (gid_t)-1, (gid_t)-1, (gid_t)-1 };
	struct scheduler *s = xcalloc(1, sizeof(*s));
	const char *what;

	memcpy(spool_dir + strlen(spool_dir) - 6, "XXXXXX", 6);
	assert_non_null(mkdtemp(spool_dir));
	assert_int_equal(spool_prepare(spool_dir, &owners, &what), 0);
	s->spool_fd = open(spool_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->conf = make_conf();
	s->server = xcalloc(s->conf->server_count + 1, sizeof(*s->server));
	s->loop = loop_new();
	s->history = history_new(s->spool_fd, 86400000);
	s->entries = entries_new();
	domains_init(&s->domains, s->conf);
	for (size_t i = 0; i < ARRAY_LEN(scheduler_tables); i++)
		table_init((struct table *)(void *)((char *)s + scheduler_tables[i]));
	s->sweep_timer = loop_timer_new(s->loop, ignore, NULL);
	s->refused_timer = loop_timer_new(s->loop, ignore, NULL);
	assert_int_equal(pipe2(pickup_pipe, O_CLOEXEC | O_NONBLOCK), 0);
	s->pickup = channel_new(s->loop, pickup_pipe[0], pickup_pipe[1], "pickup", 1, on_nothing, s);
	open_journal(s);
	*state = s;
	return 0;
}

static inline void free_message(void *arg, struct table_node *node)
{
	(void)arg;
	free(TABLE_OBJECT(node, struct message, node));
}

static inline int teardown_scheduler(void **state)
{
	struct scheduler *s = *state;

	journal_close(&s->journal);
	history_free(&s->history);
	channel_free(&s->pickup);
	close(pickup_pipe[0]);
	close(pickup_pipe[1]);
	loop_timer_free(&s->sweep_timer);
	loop_timer_free(&s->refused_timer);
	loop_free(&s->loop);
	entries_free(&s->entries);
	domains_release(&s->domains);
	table_each(&s->messages, free_message, NULL);
	for (size_t i = 0; i < ARRAY_LEN(scheduler_tables); i++)
		table_release((struct table *)(void *)((char *)s + scheduler_tables[i]));
	free(s->server);
	free(s->conf->server_by_key);
	free(s->admitted);
	free(s->done);
	free(s->sweep);
	free(s->report);
	free(s->refused);
	close(s->spool_fd);
	free(s);
	return folder_remove(spool_dir);
}

/* A delivery to these recipients of one message; NULL ends them. In the journal, waiting. */
static inline void put_record(struct scheduler *s, uint64_t id, enum record_state state, const char *const *rcpts)
{
	struct record *r = record_new();

	r->id = id;
	r->group = r->group_count = 1;
	r->state = (uint8_t)state;
	r->sender = xstrdup("a@here.example");
	r->domain = xstrdup(rcpts[0] ? strchr(rcpts[0], '@') + 1 : "");
	for (; rcpts[r->rcpt_count]; r->rcpt_count++)
		r->rcpt[r->rcpt_count] = (struct record_rcpt){ .index = r->rcpt_count,
							       .state = RCPT_PENDING,
							       .address = xstrdup(rcpts[r->rcpt_count]) };
	r->message_rcpt_count = r->rcpt_count;
	assert_int_equal(journal_put(s->journal, r), STORE_OK);
	record_free(&r);
}

/* The same, and known to the scheduler; not due yet. */
static inline entry_index put_entry(struct scheduler *s, uint64_t id, const char *const *rcpts)
{
	struct plan plan;
	struct record *r;
	entry_index i;

	put_record(s, id, RECORD_WAITING, rcpts);
	r = journal_get(s->journal, id, 1);
	assert_non_null(r);
	assert_true(intake_plan(s, r, &plan));
	i = intake_entry(s, r, slice_of(r->domain), &plan);
	record_free(&r);
	return i;
}

/* A file, of which nobody looks at the content here. */
static inline void put_file(struct scheduler *s, const char *path)
{
	int fd = openat(s->spool_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
}
#endif
