/* jail.h - giving up privileges for good. Linux: chroot, ids, no_new_privs, capabilities, rlimits, Landlock, seccomp.
 */
#ifndef LIB_JAIL_H
#define LIB_JAIL_H
#include "lib/base.h"
#include <sys/types.h>

struct jail {
	const char *folder;   /* becomes the working directory, and the root when is_root_changed */
	int *folder_fd;       /* set to a descriptor of it, opened inside the jail: ".." leads nowhere */
	bool is_root_changed; /* chroot(2): only when started as root */
	uid_t uid;            /* (uid_t)-1: stay who we are; root is refused */
	gid_t gid;
	const gid_t *groups;
	unsigned group_count;
	bool wants_network; /* else socket(2) is refused */
	bool wants_write;   /* else opening for writing and every change of a folder is refused */
	const char *const
		*reachable; /* below `folder`, NULL-ended: the only files that Landlock leaves (names may be listed) */
	unsigned long max_files; /* RLIMIT_NOFILE */
	unsigned cpu_max_s;      /* seconds of CPU until jail_renew_cpu(), else SIGXCPU; 0: no limit */
};

/*
 * In this order: rlimits, chroot + chdir, bounding set, groups, gid, uid, proof that root cannot return, empty
 * capability sets, no_new_privs, not dumpable, Landlock as far as the kernel knows it, seccomp: default ENOSYS and
 * logged, KILL for a named dangerous set (execve, ptrace, mount, bpf, kexec, modules ...). Returns 0, or -1 with errno
 * and *step naming what failed; the process must then end. A build with sanitizers stays dumpable and skips chroot,
 * Landlock and seccomp, over which the sanitizers' own runtime would trip.
 */
int jail_enter(const struct jail *j, const char **step) MUST_CHECK;
/* `cpu_max_s` seconds more from now on; only where the jail has such a limit. */
void jail_renew_cpu(unsigned cpu_max_s);
/* Takes every capability but those in `keep` (bits by number) from this process and all it will ever start. */
int jail_keep_capabilities(uint64_t keep) MUST_CHECK;
#endif
