/* lib_loop_test.c - turns, deferred calls, and objects that go inside their own callbacks. */
#include "lib/loop.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

/* The machine's sleep: CLOCK_BOOTTIME is ahead by it, and what is told of leaps of the wall clock becomes readable. */
static int64_t slept_s;
static int leap_fd = -1;

int clock_gettime(clockid_t clock, struct timespec *out)
{
	long rc = syscall(SYS_clock_gettime, clock, out);

	out->tv_sec += clock == CLOCK_BOOTTIME ? slept_s : 0;
	return (int)rc;
}

int timerfd_create(int clock, int flags UNUSED)
{
	assert_int_equal(clock, CLOCK_REALTIME);
	leap_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return leap_fd;
}

int timerfd_settime(int fd UNUSED, int flags, const struct itimerspec *at UNUSED, struct itimerspec *old UNUSED)
{
	assert_int_equal(flags, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
	return 0;
}

static void sleep_machine(int64_t s)
{
	slept_s += s;
	assert_int_equal(eventfd_write(leap_fd, 1), 0);
}

static char trace[256];

static void note(const char *word)
{
	size_t len = strlen(trace);

	(void)snprintf(trace + len, sizeof(trace) - len, "%s ", word);
}

static int setup(void **state)
{
	trace[0] = '\0';
	*state = loop_new();
	return 0;
}

static int teardown(void **state)
{
	struct loop *loop = *state;

	loop_free(&loop);
	assert_null(loop);
	return 0;
}

/* --- turns --- */

static void on_stop_timer(void *arg)
{
	note("timer");
	loop_stop(arg);
}

static void on_hook_one(void *arg UNUSED)
{
	note("hook1");
}

static void on_hook_two(void *arg UNUSED)
{
	note("hook2");
}

static void on_deferred(void *arg UNUSED)
{
	note("deferred");
}

static void on_timer_that_defers(void *arg)
{
	struct loop *loop = arg;

	loop_defer(loop, on_deferred, NULL);
	on_stop_timer(loop);
}

static void test_order_within_a_turn(void **state)
{
	struct loop *loop = *state;
	struct loop_timer *t = loop_timer_new(loop, on_timer_that_defers, loop);

	loop_on_turn(loop, on_hook_one, NULL);
	loop_on_turn(loop, on_hook_two, NULL);
	loop_timer_set_ms(t, 0);
	loop_run(loop);
	assert_string_equal(trace, "timer deferred hook1 hook2 ");
	loop_timer_free(&t);
}

static void on_again(void *arg)
{
	struct loop *loop = arg;

	note("again");
	if (strlen(trace) < 20)
		loop_defer(loop, on_again, loop);
	else
		loop_stop(loop);
}

/* What a deferred call defers comes in the next turn, and that turn does not sleep. */
static void test_deferred_defers(void **state)
{
	struct loop *loop = *state;
	struct loop_timer *far = loop_timer_new(loop, on_stop_timer, loop);

	loop_timer_set_ms(far, 60000);
	loop_on_turn(loop, on_hook_one, NULL);
	loop_defer(loop, on_again, loop);
	loop_run(loop);
	assert_string_equal(trace, "again hook1 again hook1 again hook1 ");
	loop_timer_free(&far);
}

static void test_deferred_call_is_cancelled(void **state)
{
	struct loop *loop = *state;

	loop_defer(loop, on_deferred, loop);
	loop_defer(loop, on_stop_timer, loop);
	loop_defer_cancel(loop, on_deferred, loop);
	loop_run(loop);
	assert_string_equal(trace, "timer ");
}

/* --- timers --- */

struct timed {
	struct loop *loop;
	struct loop_timer *timer;
	struct mono due;
	unsigned left;
};

static void on_timed(void *arg)
{
	struct timed *t = arg;

	assert_true(clock_mono().ms >= t->due.ms);
	assert_false(loop_timer_is_set(t->timer));
	if (--t->left == 0) {
		loop_timer_free(&t->timer); /* inside its own callback */
		loop_stop(t->loop);
		return;
	}
	t->due.ms = clock_mono().ms + 3;
	loop_timer_set_ms(t->timer, 3);
	assert_true(loop_timer_is_set(t->timer));
}

static void test_timer_is_never_early(void **state)
{
	struct timed t = { .loop = *state, .left = 40 };

	t.timer = loop_timer_new(t.loop, on_timed, &t);
	assert_false(loop_timer_is_set(t.timer));
	t.due.ms = clock_mono().ms + 7;
	loop_timer_set_ms(t.timer, 7);
	loop_run(t.loop);
	assert_null(t.timer);
}

static void on_never(void *arg UNUSED)
{
	fail_msg("a cancelled or moved timer fired");
}

static void test_timer_is_moved_and_cancelled(void **state)
{
	struct loop *loop = *state;
	struct loop_timer *moved = loop_timer_new(loop, on_never, NULL),
			  *cancelled = loop_timer_new(loop, on_never, NULL);
	struct loop_timer *stop = loop_timer_new(loop, on_stop_timer, loop);

	loop_timer_set_ms(moved, 1);
	loop_timer_set_ms(moved, UINT64_MAX);
	loop_timer_set_ms(cancelled, 1);
	loop_timer_cancel(cancelled);
	loop_timer_set_ms(stop, 20);
	loop_run(loop);
	loop_timer_free(&moved);
	loop_timer_free(&cancelled);
	loop_timer_free(&stop);
}

static void on_hour(void *arg UNUSED)
{
	note("hour");
}

static void on_hook_that_stops(void *arg)
{
	note("turn");
	loop_stop(arg);
}

/* What is overdue is called in the turn that notices, before its hooks; what is not, waits for the rest. */
static void test_ck06_timers_count_while_the_machine_sleeps(void **state)
{
	struct loop *loop = *state;
	struct loop_timer *hour = loop_timer_new(loop, on_hour, NULL),
			  *cancelled = loop_timer_new(loop, on_never, NULL);
	struct loop_timer *day = loop_timer_new(loop, on_stop_timer, loop);

	loop_on_turn(loop, on_hook_that_stops, loop);
	loop_timer_set_ms(hour, 3600 * 1000);
	loop_timer_set_ms(cancelled, 3600 * 1000);
	loop_timer_cancel(cancelled);
	loop_timer_set_ms(day, 24 * 3600 * 1000);
	sleep_machine(0); /* the clock was set */
	loop_run(loop);
	assert_string_equal(trace, "turn ");
	sleep_machine(12 * 3600);
	loop_run(loop);
	assert_string_equal(trace, "turn hour turn ");
	assert_false(loop_timer_is_set(hour));
	sleep_machine(12 * 3600);
	loop_run(loop);
	assert_string_equal(trace, "turn hour turn timer turn ");
	loop_timer_free(&hour);
	loop_timer_free(&cancelled);
	loop_timer_free(&day);
}

/* --- descriptors --- */

struct pair {
	struct loop *loop;
	struct loop_io *own, *other;
	int fds[2];
};

static void on_free_both(void *arg, int fd UNUSED, unsigned events)
{
	struct pair *p = arg;

	assert_int_equal(events, LOOP_READ);
	note("io");
	loop_io_free(&p->own);
	loop_io_free(&p->other);
	loop_stop(p->loop);
}

/* Two watchers of a readable pipe: whichever comes first frees both, and the other must not be called any more. */
static void test_io_freed_inside_callbacks(void **state)
{
	struct pair p = { .loop = *state };

	assert_int_equal(pipe(p.fds), 0);
	assert_int_equal(write(p.fds[1], "x", 1), 1);
	p.own = loop_io_new(p.loop, p.fds[0], LOOP_READ, on_free_both, &p);
	p.other = loop_io_new(p.loop, p.fds[0], LOOP_READ, on_free_both, &p);
	loop_run(p.loop);
	assert_string_equal(trace, "io ");
	assert_null(p.own);
	(void)close(p.fds[0]);
	(void)close(p.fds[1]);
}

static void on_event(void *arg, int fd UNUSED, unsigned events)
{
	struct pair *p = arg;

	note(events & LOOP_READ ? "read" : "write");
	loop_stop(p->loop);
}

/* Paused, nothing comes although the pipe is readable; set again, it does: level-triggered. */
static void test_io_is_paused(void **state)
{
	struct pair p = { .loop = *state };
	struct loop_timer *stop = loop_timer_new(p.loop, on_stop_timer, p.loop);

	assert_int_equal(pipe(p.fds), 0);
	assert_int_equal(write(p.fds[1], "x", 1), 1);
	p.own = loop_io_new(p.loop, p.fds[0], LOOP_READ, on_event, &p);
	loop_io_set(p.own, 0);
	loop_timer_set_ms(stop, 10);
	loop_run(p.loop);
	assert_string_equal(trace, "timer ");
	loop_io_set(p.own, LOOP_READ);
	loop_run(p.loop);
	loop_run(p.loop);
	assert_string_equal(trace, "timer read read ");
	loop_io_free(&p.own);
	p.own = loop_io_new(p.loop, p.fds[1], LOOP_WRITE, on_event, &p);
	loop_run(p.loop);
	assert_string_equal(trace, "timer read read write ");
	loop_io_free(&p.own);
	loop_timer_free(&stop);
	(void)close(p.fds[0]);
	(void)close(p.fds[1]);
}

static void on_signal_seen(void *arg, int number)
{
	assert_int_equal(number, SIGUSR1);
	note("signal");
	loop_stop(arg);
}

static void test_signal(void **state)
{
	struct loop *loop = *state;

	loop_on_signal(loop, SIGUSR1, on_signal_seen, loop);
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	loop_run(loop);
	assert_string_equal(trace, "signal ");
}

#define LOOP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOP_TEST(test_order_within_a_turn),
		LOOP_TEST(test_deferred_defers),
		LOOP_TEST(test_deferred_call_is_cancelled),
		LOOP_TEST(test_timer_is_never_early),
		LOOP_TEST(test_timer_is_moved_and_cancelled),
		LOOP_TEST(test_ck06_timers_count_while_the_machine_sleeps),
		LOOP_TEST(test_io_freed_inside_callbacks),
		LOOP_TEST(test_io_is_paused),
		LOOP_TEST(test_signal),
	};

	return cmocka_run_group_tests_name("lib_loop", tests, NULL, NULL);
}
