/* stop.h - how the processes end when all of them shall. */
#ifndef MASTER_STOP_H
#define MASTER_STOP_H
#include "master/supervisor.h"

/* First call: begin nothing new, end when nothing is under way. Second: now. `status`: master's own, at last. */
void stop_begin(struct master *m, enum exit_status status);
/* While stopping: a process has ended. The last ones are asked once the first are gone; then the loop ends. */
void stop_go_on(struct master *m);
/* Of master->hurry: patience is at its end. */
void stop_on_timer(void *arg);
#endif
