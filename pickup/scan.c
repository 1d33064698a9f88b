/* scan.c - inotify and walks over drop/. */
#include "pickup/scan.h"
#include "lib/buf.h"
#include "lib/log.h"
#include "lib/table.h"
#include "lib/text.h"
#include "pickup/writers.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/queue.h>
#include <unistd.h>

enum {
	BUCKETS = 256,
	EVENT_BYTES = 64 * 1024,
	READS_A_TURN = 16,
	WALK_STEP = 512,
	WAKE_STEP = 1024,
	CLOCK_TICK_MS = 20, /* time stamps of files may be that coarse */
	PATH_BYTES = NAME_MAX + 8
};

static const uint32_t EVENTS = IN_MOVED_TO | IN_CREATE | IN_OPEN | IN_CLOSE_WRITE | IN_CLOSE_NOWRITE | IN_MOVE_SELF |
			       IN_DELETE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK;

enum state {
	FRESH,    /* just created: linked or opened, the next events tell */
	SETTLING, /* looked at again when it has been quiet */
	BUSY,     /* open, as events told: its close will wake it */
	LINKED,   /* has another name */
	READY,
	ODD, /* no regular file */
	STATE_COUNT
};

struct scan_file {
	struct table_node node;
	TAILQ_ENTRY(scan_file) link; /* in lists[state] or in a bucket; BUSY and ODD are in none */
	char *name;
	struct stat st; /* as last looked at */
	int64_t due_ms, first_ms, mentioned_ms;
	uint32_t opens; /* open descriptions, when is_tracked */
	uint32_t walk;  /* the last walk that saw it */
	uint32_t epoch; /* events are complete since its creation while this is scan.epoch */
	uint8_t state;
	bool is_tracked, was_opened, is_whole, has_links, is_own_move;
};

TAILQ_HEAD(file_list, scan_file);

struct scan {
	struct loop *loop;
	int spool_fd, notify_fd, watch;
	struct loop_io *io;
	struct loop_timer *wake, *walk_timer;
	struct table files;
	struct file_list lists[STATE_COUNT], buckets[BUCKETS];
	unsigned bucket_counts[BUCKETS], ready_count, turn;
	DIR *walk;
	uint32_t walk_number, epoch;
	bool is_walk_wanted; /* another walk at once behind this one */
	bool is_partial;     /* something did not fit */
	loop_cb on_ready;
	void *arg;
};

bool scan_name_is_message(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || name[0] == '.')
		return false;
	return !(len >= 4 && strcmp(name + len - 4, ".tmp") == 0) &&
	       !(len >= 5 && strcmp(name + len - 5, ".part") == 0);
}

/* --- the files --- */

static int64_t now_ms(void)
{
	return clock_mono().ms;
}

static void drop_path(const char *name, char path[PATH_BYTES])
{
	snprintf(path, PATH_BYTES, "drop/%s", name);
}

static unsigned bucket_of(const struct scan_file *f)
{
	return (unsigned)(f->st.st_uid * 2654435761u >> 24);
}

static void leave_list(struct scan *s, struct scan_file *f)
{
	if (f->state == READY) {
		unsigned b = bucket_of(f);

		TAILQ_REMOVE(&s->buckets[b], f, link);
		s->bucket_counts[b]--;
		s->ready_count--;
	} else if (f->state != BUSY && f->state != ODD) {
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

static void free_file(struct scan_file *f)
{
	free(f->name);
	free(f);
}

static void remove_file(struct scan *s, struct scan_file *f)
{
	leave_list(s, f);
	table_remove(&s->files, &f->node);
	free_file(f);
}

static void set_wake(struct scan *s)
{
	const enum state waiting[] = { SETTLING, LINKED };
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

/* The only one who changes a file's state. A ready one that does not fit is forgotten: `f` may be gone afterwards. */
static void set_state(struct scan *s, struct scan_file *f, enum state to)
{
	unsigned b = bucket_of(f);

	leave_list(s, f);
	f->state = (uint8_t)to;
	if (to == READY && s->bucket_counts[b] >= SCAN_UID_MAX) {
		f->state = ODD; /* in no list */
		s->is_partial = true;
		remove_file(s, f);
		return;
	}
	if (to == READY) {
		TAILQ_INSERT_TAIL(&s->buckets[b], f, link);
		s->bucket_counts[b]++;
		if (s->ready_count++ == 0)
			s->on_ready(s->arg);
	} else if (to != BUSY && to != ODD) {
		f->due_ms = now_ms() + (to == LINKED ? SCAN_LINKS_POLL_MS : SCAN_SETTLE_MS + CLOCK_TICK_MS);
		TAILQ_INSERT_TAIL(&s->lists[to], f, link); /* one delay per list: always in order of due time */
	}
}

static bool is_tracked(const struct scan *s, const struct scan_file *f)
{
	return f->is_tracked && f->epoch == s->epoch;
}

/* --- judging --- */

static void mention(struct scan_file *f)
{
	const char *what = S_ISDIR(f->st.st_mode)    ? "a folder"
			   : S_ISFIFO(f->st.st_mode) ? "a FIFO"
			   : S_ISSOCK(f->st.st_mode) ? "a socket"
			   : S_ISLNK(f->st.st_mode)  ? "a symbolic link"
						     : "a device";
	struct buf name;

	if (f->mentioned_ms && now_ms() - f->mentioned_ms < SCAN_MENTION_MS)
		return;
	f->mentioned_ms = now_ms();
	buf_init(&name, 512);
	text_escape(&name, slice_of(f->name), 255);
	log_warn("drop/%s is %s and no message: left alone", buf_text(&name), what);
	buf_release(&name);
}

/* A file of one link that was written in place and has been as it is for SCAN_SETTLE_MS. */
static void judge_settled(struct scan *s, struct scan_file *f)
{
	char path[PATH_BYTES];
	int64_t quiet = now_ms() - f->first_ms;

	if (is_tracked(s, f)) {
		set_state(s, f, f->opens > 0 ? BUSY : READY);
		return;
	}
	drop_path(f->name, path);
	switch (writers_probe(s->spool_fd, path)) {
	case WRITERS_NONE:
		set_state(s, f, READY);
		return;
	case WRITERS_SOME:
		set_state(s, f, SETTLING);
		return;
	case WRITERS_UNKNOWN:
		if (writers_quiet_ms(&f->st) > quiet)
			quiet = writers_quiet_ms(&f->st);
		set_state(s, f, writers_changed_since(&f->st) || quiet >= SCAN_SILENCE_MS ? READY : SETTLING);
	}
}

/* fstatat() and what it tells by itself. true: one link, regular; the caller goes on. false: dealt with, maybe gone. */
static bool look(struct scan *s, struct scan_file *f, struct stat *st)
{
	char path[PATH_BYTES];

	drop_path(f->name, path);
	if (fstatat(s->spool_fd, path, st, AT_SYMLINK_NOFOLLOW) < 0) {
		remove_file(s, f);
		return false;
	}
	if (f->state == READY) /* its place among the ready ones depends on the uid */
		set_state(s, f, FRESH);
	if (!S_ISREG(st->st_mode)) {
		f->st = *st;
		set_state(s, f, ODD);
		mention(f);
		return false;
	}
	if (st->st_nlink > 1) {
		f->st = *st;
		f->has_links = now_ms() - f->first_ms >= SCAN_LINKS_MS;
		f->is_whole |= !f->was_opened;
		set_state(s, f, f->has_links ? READY : LINKED);
		return false;
	}
	return true;
}

/* A timer ended for a settling or linked file. */
static void look_again(struct scan *s, struct scan_file *f)
{
	struct stat st;
	bool is_same;

	if (!look(s, f, &st))
		return;
	is_same = writers_same_content(&f->st, &st);
	if (!is_same)
		f->first_ms = now_ms();
	f->st = st;
	if (f->is_whole)
		set_state(s, f, READY);
	else if (is_same || writers_quiet_ms(&st) >= SCAN_SETTLE_MS)
		judge_settled(s, f);
	else
		set_state(s, f, SETTLING);
}

static void on_wake(void *arg)
{
	const enum state waiting[] = { SETTLING, LINKED };
	struct scan *s = arg;
	int64_t now = now_ms();
	struct scan_file *f;

	for (size_t i = 0; i < ARRAY_LEN(waiting); i++) {
		for (unsigned n = 0; n < WAKE_STEP && (f = TAILQ_FIRST(&s->lists[waiting[i]])) && f->due_ms <= now; n++)
			look_again(s, f);
	}
	set_wake(s);
}

/* --- taking notice --- */

static struct scan_file *get_file(struct scan *s, const char *name)
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
	f->state = ODD;
	f->first_ms = now_ms();
	f->walk = s->walk_number;
	table_add(&s->files, &f->node, hash);
	return f;
}

static void note_moved(struct scan *s, struct scan_file *f)
{
	struct stat st;

	if (f->is_own_move) { /* our own scan_give_back() */
		f->is_own_move = false;
		return;
	}
	f->is_whole = true;
	f->first_ms = now_ms();
	if (!look(s, f, &st))
		return;
	f->st = st;
	set_state(s, f, READY);
}

static void note_created(struct scan *s, struct scan_file *f)
{
	struct stat st;

	f->is_tracked = true;
	f->epoch = s->epoch;
	f->opens = 0;
	f->was_opened = f->is_whole = false;
	f->first_ms = now_ms();
	if (!look(s, f, &st))
		return;
	f->st = st;
	set_state(s, f, FRESH);
}

static void note_opened(struct scan *s, struct scan_file *f)
{
	f->opens++;
	f->was_opened = true;
}

static void note_closed(struct scan *s, struct scan_file *f)
{
	if (f->opens > 0)
		f->opens--;
	if ((f->state == BUSY || f->state == SETTLING) && f->opens == 0 && is_tracked(s, f)) {
		f->first_ms = now_ms();
		set_state(s, f, SETTLING);
	}
}

/* A walk, or the close of a file that nobody told us about, found it. */
static void note_found(struct scan *s, struct scan_file *f)
{
	struct stat st;

	if (!look(s, f, &st))
		return;
	f->st = st;
	if (writers_quiet_ms(&st) >= SCAN_SETTLE_MS)
		judge_settled(s, f);
	else
		set_state(s, f, SETTLING);
}

/* All events up to now are read: a new file that has content and was not opened came by link(2). */
static void judge_fresh(struct scan *s)
{
	struct scan_file *f;

	while ((f = TAILQ_FIRST(&s->lists[FRESH]))) {
		if (!f->was_opened && f->st.st_size > 0) {
			f->is_whole = true;
			set_state(s, f, READY);
		} else {
			set_state(s, f, is_tracked(s, f) && f->opens > 0 ? BUSY : SETTLING);
		}
	}
}

/* --- events --- */

static void want_walk(struct scan *s)
{
	s->is_walk_wanted = true;
	loop_timer_set_ms(s->walk_timer, 0);
}

static void add_watch(struct scan *s)
{
	s->watch = inotify_add_watch(s->notify_fd, "drop", EVENTS);
	if (s->watch < 0)
		log_warn("cannot watch drop/ (%s): looking into it every %d seconds", strerror(errno),
			 SCAN_WALK_MS / 1000);
}

static void take_event(struct scan *s, const struct inotify_event *e)
{
	struct scan_file *f;

	if (e->mask & (IN_Q_OVERFLOW | IN_MOVE_SELF | IN_DELETE_SELF | IN_IGNORED)) {
		s->epoch++;
		if (e->mask & (IN_IGNORED | IN_MOVE_SELF))
			add_watch(s);
		want_walk(s);
		return;
	}
	if (e->len == 0 || e->mask & IN_ISDIR || !scan_name_is_message(e->name))
		return;
	f = e->mask & (IN_OPEN | IN_CLOSE_NOWRITE) ? find(s, e->name, text_hash(e->name, strlen(e->name)))
						   : get_file(s, e->name);
	if (!f)
		return;
	if (e->mask & IN_MOVED_TO)
		note_moved(s, f);
	else if (e->mask & IN_CREATE)
		note_created(s, f);
	else if (e->mask & IN_OPEN)
		note_opened(s, f);
	else if (f->state == ODD && !f->mentioned_ms) /* not known before: closed after it was written */
		note_found(s, f);
	else
		note_closed(s, f);
}

static void on_events(void *arg, int fd, unsigned events UNUSED)
{
	struct scan *s = arg;
	static _Alignas(struct inotify_event) char bytes[EVENT_BYTES];

	for (unsigned i = 0; i < READS_A_TURN; i++) {
		ssize_t got = read(fd, bytes, sizeof(bytes));

		if (got <= 0) {
			judge_fresh(s);
			break;
		}
		for (ssize_t at = 0; at < got;) {
			const struct inotify_event *e = (const struct inotify_event *)(const void *)(bytes + at);

			take_event(s, e);
			at += (ssize_t)(sizeof(*e) + e->len);
		}
	}
	set_wake(s);
}

/* --- walks --- */

/* What waits for an event that will not come: its file is gone. */
static void sweep_file(void *arg, struct table_node *node)
{
	struct scan *s = arg;
	struct scan_file *f = TABLE_OBJECT(node, struct scan_file, node);

	if ((f->state == ODD || f->state == BUSY) && f->walk != s->walk_number)
		remove_file(s, f);
}

static void end_walk(struct scan *s)
{
	(void)closedir(s->walk);
	s->walk = NULL;
	if (!s->is_partial)
		table_each(&s->files, sweep_file, s);
	loop_timer_set_ms(s->walk_timer, s->is_walk_wanted ? 0 : SCAN_WALK_MS);
}

static bool begin_walk(struct scan *s)
{
	int fd = openat(s->spool_fd, "drop", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	s->walk = fd >= 0 ? fdopendir(fd) : NULL;
	if (!s->walk) {
		log_warn("cannot look into drop/: %s", strerror(errno));
		if (fd >= 0)
			close(fd);
		loop_timer_set_ms(s->walk_timer, SCAN_WALK_MS);
		return false;
	}
	s->is_walk_wanted = s->is_partial = false;
	s->walk_number++;
	if (s->watch < 0)
		add_watch(s);
	return true;
}

static void walk_entry(struct scan *s, const char *name)
{
	struct scan_file *f;
	bool is_known;

	if (!scan_name_is_message(name))
		return;
	is_known = find(s, name, text_hash(name, strlen(name))) != NULL;
	f = get_file(s, name);
	if (!f)
		return;
	f->walk = s->walk_number;
	if (!is_known)
		note_found(s, f);
	else if (f->state == ODD)
		mention(f);
	else if (f->state == BUSY && !is_tracked(s, f))
		set_state(s, f, SETTLING);
}

static void on_walk(void *arg)
{
	struct scan *s = arg;

	if (!s->walk && !begin_walk(s))
		return;
	for (unsigned i = 0; i < WALK_STEP; i++) {
		const struct dirent *e = readdir(s->walk);

		if (!e || s->files.count >= SCAN_FILES_MAX) {
			s->is_partial |= e != NULL;
			end_walk(s);
			set_wake(s);
			return;
		}
		walk_entry(s, e->d_name);
	}
	set_wake(s);
	loop_timer_set_ms(s->walk_timer, 0);
}

/* --- outside --- */

struct scan *scan_new(struct loop *loop, int spool_fd, loop_cb on_ready, void *arg)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	struct scan *s;

	if (fd < 0)
		return NULL;
	s = xcalloc(1, sizeof(*s));
	s->loop = loop;
	s->spool_fd = spool_fd;
	s->notify_fd = fd;
	s->on_ready = on_ready;
	s->arg = arg;
	for (size_t i = 0; i < STATE_COUNT; i++)
		TAILQ_INIT(&s->lists[i]);
	for (size_t i = 0; i < BUCKETS; i++)
		TAILQ_INIT(&s->buckets[i]);
	table_init(&s->files);
	s->io = loop_io_new(loop, fd, LOOP_READ, on_events, s);
	s->wake = loop_timer_new(loop, on_wake, s);
	s->walk_timer = loop_timer_new(loop, on_walk, s);
	add_watch(s); /* before the first walk: nothing falls between */
	want_walk(s);
	return s;
}

static void free_node(void *arg, struct table_node *node)
{
	remove_file(arg, TABLE_OBJECT(node, struct scan_file, node));
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
	loop_io_free(&s->io);
	loop_timer_free(&s->wake);
	loop_timer_free(&s->walk_timer);
	close(s->notify_fd);
	free(s);
}

unsigned scan_ready_count(const struct scan *s)
{
	return s->ready_count;
}

struct scan_file *scan_take(struct scan *s)
{
	struct scan_file *f = NULL;

	for (unsigned i = 0; i < BUCKETS && !f && s->ready_count > 0; i++) {
		f = TAILQ_FIRST(&s->buckets[s->turn]);
		s->turn = (s->turn + 1) % BUCKETS;
	}
	if (!f)
		return NULL;
	leave_list(s, f);
	f->state = ODD;
	table_remove(&s->files, &f->node);
	if (s->is_partial && s->ready_count < SCAN_UID_MAX / 4 && !s->walk)
		want_walk(s);
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
	set_state(s, f, is_unsettled ? SETTLING : READY);
	set_wake(s);
}
