/* incarnation.h - is this the spool that we left, or a copy of it: a backup brought back, a clone?
 *
 * What a copy believes to be undelivered may have been delivered since, by the original. So its mail is held until an
 * operator says that it is to go. A disk that was set back as a whole, by a snapshot, cannot be told from itself.
 */
#ifndef SCHEDULER_INCARNATION_H
#define SCHEDULER_INCARNATION_H
#include "scheduler/scheduler.h"

/* At start, when everything is loaded and nothing was sent. */
void incarnation_check(struct scheduler *s);
#endif
