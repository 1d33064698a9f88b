/* lock.h - one master per spool. */
#ifndef MASTER_LOCK_H
#define MASTER_LOCK_H
#include "lib/base.h"

/*
 * Two locks (fcntl(2), of the open description). run/master.pid is master's own: a second master finds it taken and
 * refuses. run/lock is inherited by every child: when a master was killed, its children finish their transactions
 * without it, and as long as one lives the next master waits, so nothing is ever sent by two at once.
 */
struct lock {
	int pid_fd, family_fd;
};

enum lock_result { LOCK_TAKEN, LOCK_BUSY, LOCK_FAILED };

/* `run`: the folder's descriptor, borrowed. BUSY: another master works; *holder its pid, 0 when unknown. FAILED: errno.
 */
enum lock_result lock_take(struct lock *l, int run, long *holder) MUST_CHECK;
/* Waits for the children of a dead master: at most as long as they may take. 0, or -1 (they do not end). */
int lock_wait_for_family(const struct lock *l) MUST_CHECK;
void lock_release(struct lock *l); /* empties the pid file */
#endif
