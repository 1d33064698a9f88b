/* spawn.h - from a program's name to a running child with exactly the descriptors of lib/proc.h. */
#ifndef MASTER_SPAWN_H
#define MASTER_SPAWN_H
#include "lib/base.h"
#include "lib/proc.h"
#include <sys/types.h>

/* Whom a child becomes; uid (uid_t)-1: master is not root, everything stays as it is. */
struct spawn_identity {
	uid_t uid;
	gid_t gid;
	gid_t group; /* one more, or (gid_t)-1 */
};

enum { SPAWN_FDS_MAX = 16 + 3 * (3 + PROC_WORKERS_MAX) };

struct spawn {
	const char *folder; /* where the programs lie */
	const char *program;
	unsigned index, workers;
	uint32_t generation;
	const char *spool, *conf_path;
	struct spawn_identity identity;
	/* source[i], borrowed, becomes target[i]; every source lies above every target */
	struct {
		int source, target;
	} fds[SPAWN_FDS_MAX];
	unsigned fd_count;
};

/* Folder of our own executable, where the other programs are; the caller frees. NULL with errno. */
char *spawn_find_folder(void) MUST_CHECK;
void spawn_give(struct spawn *s, int source, int target); /* nothing when source is -1 */
/* The child's pid, or -1 with errno. What goes wrong after fork(2) shows as an exit with EXIT_STATUS_OS. */
pid_t spawn_child(const struct spawn *s) MUST_CHECK;
#endif
