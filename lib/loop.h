/* loop.h - the event loop of a process; the only user of libevent beside resolver/dns. */
#ifndef LIB_LOOP_H
#define LIB_LOOP_H
#include "lib/base.h"
#include "lib/clock.h"

struct loop;
struct loop_io;
struct loop_timer;
struct event_base;

enum loop_events { LOOP_READ = 1, LOOP_WRITE = 2 };
typedef void (*loop_io_cb)(void *arg, int fd, unsigned events);
typedef void (*loop_cb)(void *arg);
typedef void (*loop_signal_cb)(void *arg, int signal);

struct loop *loop_new(void);
void loop_free(struct loop **loop);
/*
 * Runs until loop_stop(). Each turn: wait, callbacks, deferred calls, turn hooks in order of registration; the turn in
 * which loop_stop() was called is completed.
 */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
/* Called after every turn, before the process may sleep: group commit, acknowledgements, log flush. At most 8. */
void loop_on_turn(struct loop *loop, loop_cb fn, void *arg);
/* Once, after the callbacks of this turn: how objects are freed whose own event fired. */
void loop_defer(struct loop *loop, loop_cb fn, void *arg);
/* Forgets such calls: for an object that goes before its turn has come. */
void loop_defer_cancel(struct loop *loop, loop_cb fn, void *arg);

/*
 * Watches a borrowed descriptor, level-triggered. events 0 pauses. Freed before the descriptor is closed; inside any
 * callback, its own too.
 */
struct loop_io *loop_io_new(struct loop *loop, int fd, unsigned events, loop_io_cb fn, void *arg);
void loop_io_set(struct loop_io *io, unsigned events);
void loop_io_free(struct loop_io **io);

/*
 * A one-shot timer; not armed at creation. Setting an armed timer moves it. Never fires early; counts on while the
 * machine sleeps. At most a year. May be set or freed inside its own callback.
 */
struct loop_timer *loop_timer_new(struct loop *loop, loop_cb fn, void *arg);
void loop_timer_set_ms(struct loop_timer *t, uint64_t delay_ms);
void loop_timer_cancel(struct loop_timer *t);
bool loop_timer_is_set(const struct loop_timer *t);
void loop_timer_free(struct loop_timer **t);

void loop_on_signal(struct loop *loop, int signal, loop_signal_cb fn, void *arg);
/* For libunbound, which hooks into the same base; borrowed. */
struct event_base *loop_base(struct loop *loop);
#endif
