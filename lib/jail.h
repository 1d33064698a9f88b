/* jail.h - giving up privileges for good. Linux: chroot, ids, no_new_privs, capabilities, rlimits, Landlock, seccomp. */
#ifndef LIB_JAIL_H
#define LIB_JAIL_H
#include "lib/base.h"
#include <sys/types.h>

struct jail {
	const char *root;           /* chroot to this; NULL: none (not started as root) */
	uid_t uid;                  /* (uid_t)-1: stay */
	gid_t gid;
	const gid_t *groups;
	unsigned group_count;
	bool wants_network, wants_write;
	unsigned long max_files;    /* RLIMIT_NOFILE */
};

/*
 * In this order: rlimits (no core unless DEBUG), chroot + chdir, groups, gid, uid, proof that root cannot return, empty
 * capability sets, no_new_privs, not dumpable, Landlock as far as the kernel knows it, seccomp: default ENOSYS and
 * logged, KILL for a named dangerous set (execve, ptrace, mount, bpf, kexec, modules ...). Returns 0, or -1 with errno
 * and *step naming what failed.
 */
int jail_enter(const struct jail *j, const char **step) MUST_CHECK;
#endif
