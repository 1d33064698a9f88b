/* scan.c - what is known of the files in drop/: their states, and whose turn it is. */
#include "lib/text.h"
#include "pickup/scan_parts.h"
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { WAKE_STEP = 1024 };

bool scan_name_is_message(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || name[0] == '.')
		return false;
	return !(len >= 4 && strcmp(name + len - 4, ".tmp") == 0) &&
	       !(len >= 5 && strcmp(name + len - 5, ".part") == 0);
}

static int64_t now_ms(void)
{
	return clock_mono().ms;
}

void scan_drop_path(const char *name, char path[SCAN_PATH_BYTES])
{
	snprintf(path, SCAN_PATH_BYTES, "drop/%s", name);
}

static unsigned bucket_of(const struct scan_file *f)
{
	return (unsigned)(f->st.st_uid * 2654435761u >> 24);
}

static void leave_list(struct scan *s, struct scan_file *f)
{
	if (f->state == SCAN_READY) {
		unsigned b = bucket_of(f);

		TAILQ_REMOVE(&s->buckets[b], f, link);
		s->bucket_counts[b]--;
		s->ready_count--;
	} else if (f->state != SCAN_BUSY && f->state != SCAN_ODD) {
		TAILQ_REMOVE(&s->lists[f->state], f, link);
	}
}

static struct scan_file *find(const struct scan *s, const char *name, uint64_t hash)
{
	for (struct table_node *n = table_first(&s->files, hash); n; n = table_next(n)) {
		struct scan_file *f = TABLE_OBJECT(n, struct scan_file, node);

		if (strcmp(f->name, name) == 0)
			return f;
	}
	return NULL;
}

struct scan_file *scan_find(const struct scan *s, const char *name)
{
	return find(s, name, text_hash(name, strlen(name)));
}

static void free_file(struct scan_file *f)
{
	free(f->name);
	free(f);
}

void scan_remove(struct scan *s, struct scan_file *f)
{
	leave_list(s, f);
	s->odd_count -= f->is_odd;
	table_remove(&s->files, &f->node);
	free_file(f);
}

void scan_set_wake(struct scan *s)
{
	const enum scan_state waiting[] = { SCAN_SETTLING, SCAN_LINKED };
	int64_t due = INT64_MAX, now = now_ms();

	for (size_t i = 0; i < ARRAY_LEN(waiting); i++) {
		const struct scan_file *f = TAILQ_FIRST(&s->lists[waiting[i]]);

		if (f && f->due_ms < due)
			due = f->due_ms;
	}
	if (due < INT64_MAX)
		loop_timer_set_ms(s->wake, due > now ? (uint64_t)(due - now) : 0);
	else
		loop_timer_cancel(s->wake);
}

void scan_set_state(struct scan *s, struct scan_file *f, enum scan_state to)
{
	unsigned b = bucket_of(f);

	leave_list(s, f);
	f->state = (uint8_t)to;
	if (to == SCAN_READY && s->bucket_counts[b] >= SCAN_UID_MAX) {
		f->state = SCAN_ODD; /* in no list */
		s->is_partial = true;
		if (!f->has_links)
			proof_add(&s->proof, f->name, &f->st);
		scan_remove(s, f);
		return;
	}
	if (to == SCAN_READY) {
		TAILQ_INSERT_TAIL(&s->buckets[b], f, link);
		s->bucket_counts[b]++;
		if (s->ready_count++ == 0)
			s->on_ready(s->arg);
	} else if (to != SCAN_BUSY && to != SCAN_ODD) {
		f->due_ms = now_ms() + (to == SCAN_LINKED ? SCAN_LINKS_POLL_MS : SCAN_SETTLE_MS + SCAN_CLOCK_TICK_MS);
		TAILQ_INSERT_TAIL(&s->lists[to], f, link); /* one delay per list: always in order of due time */
	}
}

bool scan_is_tracked(const struct scan *s, const struct scan_file *f)
{
	return f->is_tracked && f->epoch == s->epoch;
}

struct scan_file *scan_get(struct scan *s, const char *name)
{
	uint64_t hash = text_hash(name, strlen(name));
	struct scan_file *f = find(s, name, hash);

	if (f)
		return f;
	if (s->files.count >= SCAN_FILES_MAX) {
		s->is_partial = true;
		return NULL;
	}
	f = xcalloc(1, sizeof(*f));
	f->name = xstrdup(name);
	f->state = SCAN_ODD;
	f->first_ms = now_ms();
	f->walk = s->walk_number;
	table_add(&s->files, &f->node, hash);
	return f;
}

static void on_wake(void *arg)
{
	const enum scan_state waiting[] = { SCAN_SETTLING, SCAN_LINKED };
	struct scan *s = arg;
	int64_t now = now_ms();
	struct scan_file *f;

	for (size_t i = 0; i < ARRAY_LEN(waiting); i++) {
		for (unsigned n = 0; n < WAKE_STEP && (f = TAILQ_FIRST(&s->lists[waiting[i]])) && f->due_ms <= now; n++)
			judge_again(s, f);
	}
	scan_set_wake(s);
}

struct scan *scan_new(const char *folder)
{
	struct scan *s = xcalloc(1, sizeof(*s));

	for (size_t i = 0; i < SCAN_STATE_COUNT; i++)
		TAILQ_INIT(&s->lists[i]);
	for (size_t i = 0; i < SCAN_BUCKETS; i++)
		TAILQ_INIT(&s->buckets[i]);
	table_init(&s->files);
	if (notice_open(s) < 0) {
		int saved = errno;

		scan_free(&s);
		errno = saved;
		return NULL;
	}
	notice_watch(s, folder); /* before anybody looks: nothing falls between */
	walk_early(s, folder);
	return s;
}

void scan_start(struct scan *s, struct loop *loop, int spool_fd, loop_cb on_ready, void *arg)
{
	s->spool_fd = spool_fd;
	s->on_ready = on_ready;
	s->arg = arg;
	s->wake = loop_timer_new(loop, on_wake, s);
	s->walk_timer = loop_timer_new(loop, walk_on_timer, s);
	notice_start(s, loop);
	scan_set_wake(s);
	walk_want(s);
}

static void free_node(void *arg, struct table_node *node)
{
	scan_remove(arg, TABLE_OBJECT(node, struct scan_file, node));
}

void scan_free(struct scan **scan)
{
	struct scan *s = *scan;

	if (!s)
		return;
	*scan = NULL;
	if (s->walk)
		(void)closedir(s->walk);
	table_each(&s->files, free_node, s);
	table_release(&s->files);
	proof_clear(&s->proof);
	loop_timer_free(&s->wake);
	loop_timer_free(&s->walk_timer);
	notice_close(s);
	free(s);
}

unsigned scan_ready_count(const struct scan *s)
{
	return s->ready_count;
}

struct scan_file *scan_take(struct scan *s)
{
	struct scan_file *f = NULL;

	for (unsigned i = 0; i < SCAN_BUCKETS && !f && s->ready_count > 0; i++) {
		f = TAILQ_FIRST(&s->buckets[s->turn]);
		s->turn = (s->turn + 1) % SCAN_BUCKETS;
	}
	if (!f)
		return NULL;
	leave_list(s, f);
	f->state = SCAN_ODD;
	table_remove(&s->files, &f->node);
	if (s->is_partial && s->ready_count < SCAN_UID_MAX / 4 && !s->walk)
		walk_want(s);
	return f;
}

const char *scan_file_name(const struct scan_file *f)
{
	return f->name;
}

const struct stat *scan_file_stat(const struct scan_file *f)
{
	return &f->st;
}

bool scan_file_has_links(const struct scan_file *f)
{
	return f->has_links;
}

void scan_forget(struct scan_file **f)
{
	if (*f)
		free_file(*f);
	*f = NULL;
}

void scan_give_back(struct scan *s, struct scan_file *f, bool was_moved, bool is_unsettled)
{
	uint64_t hash = text_hash(f->name, strlen(f->name));

	if (find(s, f->name, hash)) { /* a new one of that name: the walk will see to it */
		free_file(f);
		return;
	}
	table_add(&s->files, &f->node, hash);
	f->walk = s->walk_number;
	f->is_own_move = was_moved;
	f->is_tracked = f->has_links = false;
	f->is_whole = !is_unsettled;
	f->first_ms = now_ms();
	scan_set_state(s, f, is_unsettled ? SCAN_SETTLING : SCAN_READY);
	scan_set_wake(s);
}
