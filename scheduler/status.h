/* status.h - the operator's command `status`: the queue's sizes, and each server with what is used of its limits. */
#ifndef SCHEDULER_STATUS_H
#define SCHEDULER_STATUS_H
#include "scheduler/control.h"
#include "scheduler/scheduler.h"

/* Of struct control_command; arg: the scheduler. */
void status_command(void *arg, const struct control_request *request, struct control_reply *reply);
/* The limiter's answers to LIMIT_QUERY, and its death while one was open. */
void status_on_limit_state(struct scheduler *s, const struct msg_limit_state *m);
void status_limiter_lost(struct scheduler *s);
#endif
