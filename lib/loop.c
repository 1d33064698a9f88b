/* loop.c - the event loop over libevent: one base, embedded events, turns with hooks. */
#include "lib/loop.h"
#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { LOOP_HOOKS_MAX = 8, LOOP_SIGNALS_MAX = 8 };

struct call {
	loop_cb fn;
	void *arg;
};

struct loop_signal {
	struct event event;
	loop_signal_cb fn;
	void *arg;
};

struct loop {
	struct event_base *base;
	struct call hook[LOOP_HOOKS_MAX];
	unsigned hook_count;
	struct call *deferred; /* fn NULL: cancelled */
	size_t deferred_count, deferred_cap;
	struct loop_signal signal[LOOP_SIGNALS_MAX];
	unsigned signal_count;
	struct event resume;
	int resume_fd; /* -1: timers are late by what the machine slept */
	bool is_stopping;
};

struct loop_io {
	struct event event;
	struct loop *loop;
	unsigned events;
	loop_io_cb fn;
	void *arg;
};

struct loop_timer {
	struct event event;
	struct mono due;
	loop_cb fn;
	void *arg;
};

static void watch_resume(struct loop *loop);

struct loop *loop_new(void)
{
	struct loop *loop = xcalloc(1, sizeof(*loop));
	struct event_config *config = event_config_new();

	/* With the cached time a timer set late in a long callback would count from the callback's beginning. */
	if (!config || event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME | EVENT_BASE_FLAG_NOLOCK) < 0)
		BUG("libevent takes no configuration");
	loop->base = event_base_new_with_config(config);
	event_config_free(config);
	if (!loop->base)
		BUG("libevent cannot make an event base");
	watch_resume(loop);
	return loop;
}

void loop_free(struct loop **loop)
{
	struct loop *l = *loop;

	if (!l)
		return;
	*loop = NULL;
	for (unsigned i = 0; i < l->signal_count; i++)
		(void)event_del(&l->signal[i].event);
	if (l->resume_fd >= 0) {
		(void)event_del(&l->resume);
		close(l->resume_fd);
	}
	event_base_free(l->base);
	free(l->deferred);
	free(l);
}

struct event_base *loop_base(struct loop *loop)
{
	return loop->base;
}

/* Calls that these calls defer belong to the next turn. */
static void run_deferred(struct loop *loop)
{
	size_t count = loop->deferred_count;

	for (size_t i = 0; i < count; i++) {
		struct call call = loop->deferred[i]; /* the array may move */

		loop->deferred[i].fn = NULL;
		if (call.fn)
			call.fn(call.arg);
	}
	loop->deferred_count -= count;
	if (loop->deferred_count > 0)
		memmove(loop->deferred, loop->deferred + count, loop->deferred_count * sizeof(loop->deferred[0]));
}

void loop_run(struct loop *loop)
{
	while (!loop->is_stopping) {
		if (event_base_loop(loop->base, EVLOOP_ONCE | (loop->deferred_count > 0 ? EVLOOP_NONBLOCK : 0)) < 0)
			BUG("libevent cannot wait");
		run_deferred(loop);
		for (unsigned i = 0; i < loop->hook_count; i++)
			loop->hook[i].fn(loop->hook[i].arg);
	}
	loop->is_stopping = false;
}

void loop_stop(struct loop *loop)
{
	loop->is_stopping = true;
}

void loop_on_turn(struct loop *loop, loop_cb fn, void *arg)
{
	if (loop->hook_count == LOOP_HOOKS_MAX)
		BUG("more than %d turn hooks", LOOP_HOOKS_MAX);
	loop->hook[loop->hook_count++] = (struct call){ fn, arg };
}

void loop_defer(struct loop *loop, loop_cb fn, void *arg)
{
	if (loop->deferred_count == loop->deferred_cap) {
		loop->deferred_cap = loop->deferred_cap ? loop->deferred_cap * 2 : 16;
		loop->deferred = xrealloc(loop->deferred, loop->deferred_cap, sizeof(loop->deferred[0]));
	}
	loop->deferred[loop->deferred_count++] = (struct call){ fn, arg };
}

void loop_defer_cancel(struct loop *loop, loop_cb fn, void *arg)
{
	for (size_t i = 0; i < loop->deferred_count; i++)
		if (loop->deferred[i].fn == fn && loop->deferred[i].arg == arg)
			loop->deferred[i].fn = NULL;
}

/* --- descriptors --- */

/* The callback may free the io: nothing of it is touched afterwards, by us or by libevent. */
static void on_io(evutil_socket_t fd, short what, void *arg)
{
	struct loop_io *io = arg;
	unsigned events = (what & EV_READ ? LOOP_READ : 0u) | (what & EV_WRITE ? LOOP_WRITE : 0u);

	io->fn(io->arg, fd, events);
}

static void io_arm(struct loop_io *io, int fd, unsigned events)
{
	short what = (short)(EV_PERSIST | (events & LOOP_READ ? EV_READ : 0) | (events & LOOP_WRITE ? EV_WRITE : 0));

	io->events = events;
	if (event_assign(&io->event, io->loop->base, fd, what, on_io, io) < 0)
		BUG("libevent refuses descriptor %d", fd);
	if (events && event_add(&io->event, NULL) < 0)
		BUG("descriptor %d cannot be watched", fd);
}

struct loop_io *loop_io_new(struct loop *loop, int fd, unsigned events, loop_io_cb fn, void *arg)
{
	struct loop_io *io = xcalloc(1, sizeof(*io));

	io->loop = loop;
	io->fn = fn;
	io->arg = arg;
	io_arm(io, fd, events);
	return io;
}

void loop_io_set(struct loop_io *io, unsigned events)
{
	if (events == io->events)
		return;
	(void)event_del(&io->event);
	io_arm(io, event_get_fd(&io->event), events);
}

void loop_io_free(struct loop_io **io)
{
	if (!*io)
		return;
	(void)event_del(&(*io)->event);
	free(*io);
	*io = NULL;
}

/* --- timers --- */

static void timer_add(struct loop_timer *t, uint64_t delay_ms)
{
	struct timeval tv = { (time_t)(delay_ms / 1000), (suseconds_t)(delay_ms % 1000 * 1000) };

	if (event_add(&t->event, &tv) < 0)
		BUG("a timer cannot be set");
}

/* libevent counts on a coarse clock that lags by a tick: a timer that comes early is sent back. */
static void on_timer(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct loop_timer *t = arg;
	int64_t left_ms = t->due.ms - clock_mono().ms;

	if (left_ms > 0)
		timer_add(t, (uint64_t)left_ms);
	else
		t->fn(t->arg);
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_cb fn, void *arg)
{
	struct loop_timer *t = xcalloc(1, sizeof(*t));

	t->fn = fn;
	t->arg = arg;
	if (event_assign(&t->event, loop->base, -1, 0, on_timer, t) < 0)
		BUG("libevent refuses a timer");
	return t;
}

void loop_timer_set_ms(struct loop_timer *t, uint64_t delay_ms)
{
	static const uint64_t YEAR_MS = 366ull * 86400000;

	if (delay_ms > YEAR_MS)
		delay_ms = YEAR_MS;
	t->due.ms = clock_mono().ms + (int64_t)delay_ms;
	timer_add(t, delay_ms);
}

void loop_timer_cancel(struct loop_timer *t)
{
	(void)event_del(&t->event);
}

bool loop_timer_is_set(const struct loop_timer *t)
{
	return event_pending(&t->event, EV_TIMEOUT, NULL) != 0;
}

void loop_timer_free(struct loop_timer **t)
{
	if (!*t)
		return;
	(void)event_del(&(*t)->event);
	free(*t);
	*t = NULL;
}

/* --- the machine slept --- */

struct set_timers {
	struct loop_timer **timer;
	size_t count, room;
};

static int collect(const struct event_base *base UNUSED, const struct event *event, void *arg)
{
	struct set_timers *all = arg;

	if (event_get_callback(event) != on_timer)
		return 0;
	if (all->count == all->room) {
		all->room = all->room ? all->room * 2 : 64;
		all->timer = xrealloc(all->timer, all->room, sizeof(all->timer[0]));
	}
	all->timer[all->count++] = event_get_callback_arg(event);
	return 0;
}

/* What is overdue is called in this turn, so that its hooks find no connection open that is too old. */
static void on_resume(evutil_socket_t fd, short what UNUSED, void *arg)
{
	struct loop *loop = arg;
	struct set_timers all = { 0 };
	int64_t now_ms = clock_mono().ms;
	uint64_t ticks;

	(void)!read(fd, &ticks, sizeof(ticks)); /* ECANCELED: silent until the next time */
	(void)event_base_foreach_event(loop->base, collect, &all);
	for (size_t i = 0; i < all.count; i++) {
		struct loop_timer *t = all.timer[i];

		if (t->due.ms > now_ms)
			timer_add(t, (uint64_t)(t->due.ms - now_ms));
		else
			event_active(&t->event, EV_TIMEOUT, 1);
	}
	free(all.timer);
}

/*
 * libevent counts by CLOCK_MONOTONIC, which stands still while the machine sleeps. A timer of the wall clock that never
 * fires is told by the kernel when that clock makes a leap: with every resume, and when it is set, which does no harm.
 */
static void watch_resume(struct loop *loop)
{
	static const struct itimerspec NEVER = { .it_value.tv_sec = INT64_MAX / 1000000000 };

	loop->resume_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop->resume_fd < 0)
		return;
	(void)timerfd_settime(loop->resume_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &NEVER, NULL);
	if (event_assign(&loop->resume, loop->base, loop->resume_fd, EV_READ | EV_PERSIST, on_resume, loop) < 0 ||
	    event_add(&loop->resume, NULL) < 0)
		BUG("descriptor %d cannot be watched", loop->resume_fd);
}

/* --- signals --- */

static void on_signal(evutil_socket_t number, short what UNUSED, void *arg)
{
	struct loop_signal *s = arg;

	s->fn(s->arg, (int)number);
}

void loop_on_signal(struct loop *loop, int signal, loop_signal_cb fn, void *arg)
{
	struct loop_signal *s;

	if (loop->signal_count == LOOP_SIGNALS_MAX)
		BUG("more than %d signals", LOOP_SIGNALS_MAX);
	s = &loop->signal[loop->signal_count++];
	s->fn = fn;
	s->arg = arg;
	if (evsignal_assign(&s->event, loop->base, signal, on_signal, s) < 0 || event_add(&s->event, NULL) < 0)
		BUG("signal %d cannot be watched", signal);
}
