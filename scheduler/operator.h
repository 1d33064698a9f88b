/* operator.h - the operator's commands: status, queue, retry, hold, release, delete. */
#ifndef SCHEDULER_OPERATOR_H
#define SCHEDULER_OPERATOR_H
#include "scheduler/control.h"
#include "scheduler/scheduler.h"

/* Serves the listening control socket. */
struct control *operator_open(struct scheduler *s, int listener);
/* The limiter's answers to LIMIT_QUERY, and its death while one was open. */
void operator_on_limit_state(struct scheduler *s, const struct msg_limit_state *m);
void operator_limiter_lost(struct scheduler *s);
#endif
