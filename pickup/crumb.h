/*
 * crumb.h - a trace of the message in hand, for the case that it brings this process down. A crash (SIGSEGV, SIGABRT
 * and so on, or the CPU time of one batch used up) leaves an empty file incoming/ID.crash1, the second one ID.crash2:
 * then recovery puts the message aside. kill -9 leaves no trace: that was not the message's fault.
 */
#ifndef PICKUP_CRUMB_H
#define PICKUP_CRUMB_H
#include "lib/base.h"

enum { CRUMB_CRASHES_MAX = 2, CRUMB_CPU_SECONDS = 30, CRUMB_PATH_MAX = 48 };

void crumb_install(int spool_fd); /* signal handlers; borrowed for good */
/* From here on a crash is this message's. Two stores, no system call. */
void crumb_set(uint64_t id, unsigned crashes_before);
void crumb_clear(void);
/* Limits the CPU time of what follows; ended by crumb_unwatch(). */
void crumb_watch(void);
void crumb_unwatch(void);
unsigned crumb_count(int spool_fd, uint64_t id); /* crashes on record */
void crumb_erase(int spool_fd, uint64_t id);
#endif
