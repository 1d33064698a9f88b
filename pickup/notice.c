/* notice.c - what inotify says about drop/. */
#include "lib/log.h"
#include "pickup/scan_parts.h"
#include <errno.h>
#include <sys/inotify.h>
#include <unistd.h>

enum { EVENT_BYTES = 64 * 1024, READS_A_TURN = 32 };

static const uint32_t EVENTS[SCAN_QUEUE_COUNT] = {
	[SCAN_MOVES] = IN_MOVED_TO | IN_MOVE_SELF | IN_DELETE_SELF | IN_ONLYDIR,
	[SCAN_OTHERS] = IN_CREATE | IN_OPEN | IN_CLOSE_WRITE | IN_CLOSE_NOWRITE | IN_ONLYDIR | IN_EXCL_UNLINK,
};

void notice_watch(struct scan *s, const char *folder)
{
	for (size_t i = 0; i < SCAN_QUEUE_COUNT; i++) {
		s->watch[i] = inotify_add_watch(s->notify_fd[i], folder, EVENTS[i]);
		if (s->watch[i] < 0)
			log_warn("cannot watch drop/ (%s): looking into it every %d seconds", strerror(errno),
				 SCAN_WALK_MS / 1000);
	}
}

bool notice_is_watching(const struct scan *s)
{
	return s->watch[SCAN_MOVES] >= 0 && s->watch[SCAN_OTHERS] >= 0;
}

/* Something was lost. Who is open is not known any more when it was of that kind, or the folder is another one. */
static void take_gap(struct scan *s, enum scan_queue queue, const struct inotify_event *e)
{
	if (queue == SCAN_OTHERS || !(e->mask & IN_Q_OVERFLOW))
		s->epoch++;
	if (e->mask & (IN_IGNORED | IN_MOVE_SELF))
		notice_watch(s, "drop");
	walk_want(s);
}

static void take_move(struct scan *s, const char *name)
{
	struct scan_file *f = scan_get(s, name);

	if (f)
		judge_moved(s, f);
	else
		judge_moved_without_room(s, name);
}

static void take_event(struct scan *s, enum scan_queue queue, const struct inotify_event *e)
{
	struct scan_file *f;

	if (e->mask & (IN_Q_OVERFLOW | IN_MOVE_SELF | IN_DELETE_SELF | IN_IGNORED)) {
		take_gap(s, queue, e);
		return;
	}
	if (e->len == 0 || e->mask & IN_ISDIR || !scan_name_is_message(e->name))
		return;
	if (e->mask & IN_MOVED_TO) {
		take_move(s, e->name);
		return;
	}
	f = e->mask & (IN_OPEN | IN_CLOSE_NOWRITE) ? scan_find(s, e->name) : scan_get(s, e->name);
	if (!f)
		return;
	if (e->mask & IN_CREATE)
		judge_created(s, f);
	else if (e->mask & IN_OPEN)
		judge_opened(s, f);
	else if (f->state == SCAN_ODD && !f->mentioned_ms) /* not known before: closed after it was written */
		judge_found(s, f);
	else
		judge_closed(s, f, e->mask & IN_CLOSE_WRITE);
}

/* true: nothing more is there. */
static bool drain(struct scan *s, enum scan_queue queue)
{
	static _Alignas(struct inotify_event) char bytes[EVENT_BYTES];

	for (unsigned i = 0; i < READS_A_TURN; i++) {
		ssize_t got = read(s->notify_fd[queue], bytes, sizeof(bytes));

		if (got <= 0)
			return true;
		for (ssize_t at = 0; at < got;) {
			const struct inotify_event *e = (const struct inotify_event *)(const void *)(bytes + at);

			take_event(s, queue, e);
			at += (ssize_t)(sizeof(*e) + e->len);
		}
	}
	return false;
}

void scan_catch_up(struct scan *s)
{
	(void)drain(s, SCAN_MOVES); /* first: see judge_moved() */
	if (drain(s, SCAN_OTHERS))
		judge_fresh(s);
	scan_set_wake(s);
}

static void on_events(void *arg, int fd UNUSED, unsigned events UNUSED)
{
	scan_catch_up(arg);
}

int notice_open(struct scan *s)
{
	for (size_t i = 0; i < SCAN_QUEUE_COUNT; i++)
		s->notify_fd[i] = s->watch[i] = -1;
	for (size_t i = 0; i < SCAN_QUEUE_COUNT; i++) {
		s->notify_fd[i] = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
		if (s->notify_fd[i] < 0)
			return -1;
	}
	return 0;
}

void notice_start(struct scan *s, struct loop *loop)
{
	for (size_t i = 0; i < SCAN_QUEUE_COUNT; i++)
		s->io[i] = loop_io_new(loop, s->notify_fd[i], LOOP_READ, on_events, s);
}

void notice_close(struct scan *s)
{
	for (size_t i = 0; i < SCAN_QUEUE_COUNT; i++) {
		loop_io_free(&s->io[i]);
		if (s->notify_fd[i] >= 0)
			close(s->notify_fd[i]);
	}
}
