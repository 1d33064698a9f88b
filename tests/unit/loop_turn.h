/* loop_turn.h - a loop that a test turns by hand. */
#ifndef TESTS_UNIT_LOOP_TURN_H
#define TESTS_UNIT_LOOP_TURN_H
#include "lib/loop.h"

static inline void loop_turn_stop(void *arg)
{
	loop_stop(arg);
}

/* One turn with whatever is ready. */
static inline void loop_turn(struct loop *loop)
{
	loop_defer(loop, loop_turn_stop, loop);
	loop_run(loop);
}
#endif
