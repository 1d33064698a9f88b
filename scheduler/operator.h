/* operator.h - the operator's commands: status, queue, retry, hold, release, delete. */
#ifndef SCHEDULER_OPERATOR_H
#define SCHEDULER_OPERATOR_H
#include "scheduler/control.h"
#include "scheduler/scheduler.h"

/* Serves the listening control socket. */
struct control *operator_open(struct scheduler *s, int listener);
#endif
