/* purse.h - which limits an entry falls under, and the purse of all that fall under the same. */
#ifndef SCHEDULER_PURSE_H
#define SCHEDULER_PURSE_H
#include "scheduler/permit.h"

/* Nothing may refer to it any more. */
enum { PURSE_NAME_MAX = 96 };
/* What its hold is written down under: the same for the same limits in every process. */
void purse_name(const struct purse *p, char out[PURSE_NAME_MAX]);
void purse_free(struct scheduler *s, struct purse *p);
#endif
