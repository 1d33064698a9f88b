/* purse.h - which limits an entry falls under, and the purse of all that fall under the same. */
#ifndef SCHEDULER_PURSE_H
#define SCHEDULER_PURSE_H
#include "scheduler/permit.h"

/* Nothing may refer to it any more. */
void purse_free(struct scheduler *s, struct purse *p);
#endif
