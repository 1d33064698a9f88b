/*
 * jail_seccomp.c - which system calls a child may still make. One list for all, two additions (network, writing files).
 * What is on no list fails with ENOSYS and the kernel's audit log says so: a library that tries something new goes on
 * without it. What no part of Postern can have a reason for kills at once.
 */
#include "lib/jail_parts.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const FOR_ALL[] = {
	/* descriptors */
	"read",
	"write",
	"readv",
	"writev",
	"pread64",
	"pwrite64",
	"preadv",
	"pwritev",
	"preadv2",
	"pwritev2",
	"close",
	"close_range",
	"lseek",
	"_llseek",
	"fcntl",
	"fcntl64",
	"dup",
	"dup2",
	"dup3",
	"pipe2",
	"sendfile",
	"sendfile64",
	"splice",
	"tee",
	"copy_file_range",
	"fsync",
	"fdatasync",
	"syncfs",
	"sync_file_range",
	"fadvise64",
	"flock",
	"memfd_create",
	/* what is there */
	"stat",
	"lstat",
	"fstat",
	"newfstatat",
	"fstatat64",
	"statx",
	"stat64",
	"lstat64",
	"fstat64",
	"statfs",
	"fstatfs",
	"statfs64",
	"fstatfs64",
	"access",
	"faccessat",
	"faccessat2",
	"readlink",
	"readlinkat",
	"getdents64",
	"getcwd",
	"chdir",
	"fchdir",
	"umask",
	"inotify_init1",
	"inotify_add_watch",
	"inotify_rm_watch",
	/* memory */
	"brk",
	"munmap",
	"mremap",
	"madvise",
	"msync",
	"mincore",
	/* events and time */
	"poll",
	"ppoll",
	"select",
	"_newselect",
	"pselect6",
	"epoll_create1",
	"epoll_ctl",
	"epoll_wait",
	"epoll_pwait",
	"epoll_pwait2",
	"eventfd2",
	"signalfd4",
	"timerfd_create",
	"timerfd_settime",
	"timerfd_gettime",
	"clock_gettime",
	"clock_getres",
	"clock_nanosleep",
	"nanosleep",
	"gettimeofday",
	"time",
	"times",
	"setitimer",
	"getitimer",
	"alarm",
	"clock_gettime64",
	"clock_getres_time64",
	"clock_nanosleep_time64",
	"timerfd_settime64",
	"timerfd_gettime64",
	"ppoll_time64",
	"pselect6_time64",
	"futex_time64",
	/* ourselves */
	"getpid",
	"gettid",
	"getppid",
	"getpgrp",
	"getuid",
	"geteuid",
	"getgid",
	"getegid",
	"getgroups",
	"getresuid",
	"getresgid",
	"getrusage",
	"getrandom",
	"sysinfo",
	"uname",
	"rt_sigaction",
	"rt_sigprocmask",
	"rt_sigreturn",
	"rt_sigpending",
	"rt_sigtimedwait",
	"rt_sigsuspend",
	"sigreturn",
	"sigaltstack",
	"restart_syscall",
	"exit",
	"exit_group",
	"futex",
	"set_robust_list",
	"get_robust_list",
	"rseq",
	"set_tid_address",
	"sched_yield",
	"sched_getaffinity",
	"getcpu",
	"membarrier",
	"getrlimit",
	"ugetrlimit",
	/* sockets that were given to us: the log (connected again when syslogd was restarted), the operator's */
	"accept",
	"accept4",
	"connect",
	"sendto",
	"send",
	"sendmsg",
	"sendmmsg",
	"recvfrom",
	"recv",
	"recvmsg",
	"getsockopt",
	"setsockopt",
	"getsockname",
	"getpeername",
	"shutdown",
};

static const char *const FOR_NETWORK[] = { "bind", "recvmmsg", "recvmmsg_time64" };

static const char *const FOR_WRITING[] = {
	"open",       "openat",      "creat",
	"rename",     "renameat",    "renameat2",
	"unlink",     "unlinkat",    "link",
	"linkat",     "mkdir",       "mkdirat",
	"rmdir",      "truncate",    "ftruncate",
	"truncate64", "ftruncate64", "fallocate",
	"chmod",      "fchmod",      "fchmodat",
	"chown",      "fchown",      "fchownat",
	"lchown",     "utimensat",   "utimensat_time64",
};

static const char *const NEVER[] = {
	"execve",
	"execveat",
	"fork",
	"vfork",
	"ptrace",
	"process_vm_readv",
	"process_vm_writev",
	"process_madvise",
	"pidfd_getfd",
	"kcmp",
	"mount",
	"umount",
	"umount2",
	"pivot_root",
	"chroot",
	"move_mount",
	"open_tree",
	"fsopen",
	"fsmount",
	"fsconfig",
	"fspick",
	"mount_setattr",
	"unshare",
	"setns",
	"bpf",
	"perf_event_open",
	"userfaultfd",
	"io_uring_setup",
	"io_uring_enter",
	"io_uring_register",
	"kexec_load",
	"kexec_file_load",
	"init_module",
	"finit_module",
	"delete_module",
	"keyctl",
	"add_key",
	"request_key",
	"open_by_handle_at",
	"swapon",
	"swapoff",
	"reboot",
	"iopl",
	"ioperm",
	"modify_ldt",
	"acct",
	"quotactl",
	"settimeofday",
	"clock_settime",
	"clock_adjtime",
	"adjtimex",
	"sethostname",
	"setdomainname",
	"syslog",
	"vhangup",
	"lookup_dcookie",
	"mknod",
	"mknodat",
	"setuid",
	"setgid",
	"setreuid",
	"setregid",
	"setresuid",
	"setresgid",
	"setgroups",
	"setfsuid",
	"setfsgid",
	"capset",
};

/* A name that this architecture does not have is none to worry about. */
static int add(scmp_filter_ctx filter, uint32_t action, const char *name, unsigned count,
	       const struct scmp_arg_cmp *args)
{
	int number = seccomp_syscall_resolve_name(name), rc;

	if (number == __NR_SCMP_ERROR || number < 0)
		return 0;
	rc = seccomp_rule_add_array(filter, action, number, count, args);
	if (rc < 0)
		errno = -rc;
	return rc < 0 ? -1 : 0;
}

static int add_all(scmp_filter_ctx filter, uint32_t action, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (add(filter, action, names[i], 0, NULL) < 0)
			return -1;
	}
	return 0;
}

static int add_if(scmp_filter_ctx filter, uint32_t action, const char *name, struct scmp_arg_cmp condition)
{
	return add(filter, action, name, 1, &condition);
}

/* Opening: for reading only, or (with FOR_WRITING) as one likes. A refusal says EACCES, as a mode would. */
static int add_open(scmp_filter_ctx filter)
{
	static const struct {
		const char *name;
		unsigned flags_argument;
	} CALLS[] = { { "open", 1 }, { "openat", 2 } };
	static const uint64_t WRITE_FLAGS[] = { O_WRONLY, O_RDWR, O_CREAT, O_TRUNC };
	const uint64_t any = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC;

	for (size_t c = 0; c < ARRAY_LEN(CALLS); c++) {
		unsigned at = CALLS[c].flags_argument;

		if (add_if(filter, SCMP_ACT_ALLOW, CALLS[c].name, SCMP_CMP(at, SCMP_CMP_MASKED_EQ, any, 0)) < 0)
			return -1;
		for (size_t f = 0; f < ARRAY_LEN(WRITE_FLAGS); f++) {
			struct scmp_arg_cmp has = SCMP_CMP(at, SCMP_CMP_MASKED_EQ, WRITE_FLAGS[f], WRITE_FLAGS[f]);

			if (add_if(filter, SCMP_ACT_ERRNO(EACCES), CALLS[c].name, has) < 0)
				return -1;
		}
	}
	return 0;
}

/* Its own limit of CPU time, to be renewed. */
static int add_cpu_limit(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp own_cpu[] = { SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A1(SCMP_CMP_EQ, RLIMIT_CPU) };

	return add(filter, SCMP_ACT_ALLOW, "prlimit64", ARRAY_LEN(own_cpu), own_cpu);
}

static int add_socket(scmp_filter_ctx filter, bool wants_network)
{
	if (!wants_network)
		return add(filter, SCMP_ACT_ERRNO(EACCES), "socket", 0, NULL);
	return add_if(filter, SCMP_ACT_ALLOW, "socket", SCMP_A0(SCMP_CMP_EQ, AF_INET)) < 0 ||
			       add_if(filter, SCMP_ACT_ALLOW, "socket", SCMP_A0(SCMP_CMP_EQ, AF_INET6)) < 0 ||
			       add_if(filter, SCMP_ACT_ERRNO(EACCES), "socket", SCMP_A0(SCMP_CMP_LT, AF_INET)) < 0 ||
			       add_if(filter, SCMP_ACT_ERRNO(EACCES), "socket", SCMP_A0(SCMP_CMP_GT, AF_INET6)) < 0
		       ? -1
		       : 0;
}

/* Calls whose arguments decide: no new code in memory, no signal but to ourselves, no foreign limits. */
static int add_conditional(scmp_filter_ctx filter)
{
	static const uint64_t IOCTLS[] = { TCGETS, FIONREAD, FIONBIO, FIOCLEX, SIOCOUTQ };
	uint64_t self = (uint64_t)getpid();
	const struct {
		const char *name;
		struct scmp_arg_cmp condition;
	} RULES[] = {
		{ "mmap", SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
		{ "mmap2", SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
		{ "mprotect", SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
		{ "tgkill", SCMP_A0(SCMP_CMP_EQ, self) },
		{ "prlimit64", SCMP_A2(SCMP_CMP_EQ, 0) },
	};

	for (size_t i = 0; i < ARRAY_LEN(RULES); i++) {
		if (add_if(filter, SCMP_ACT_ALLOW, RULES[i].name, RULES[i].condition) < 0)
			return -1;
	}
	for (size_t i = 0; i < ARRAY_LEN(IOCTLS); i++) {
		if (add_if(filter, SCMP_ACT_ALLOW, "ioctl", SCMP_A1(SCMP_CMP_EQ, IOCTLS[i])) < 0)
			return -1;
	}
	return 0;
}

static int fill(scmp_filter_ctx filter, const struct jail *j)
{
	if (add_all(filter, SCMP_ACT_ALLOW, FOR_ALL, ARRAY_LEN(FOR_ALL)) < 0 || add_conditional(filter) < 0 ||
	    add_socket(filter, j->wants_network) < 0 ||
	    add_all(filter, SCMP_ACT_KILL_PROCESS, NEVER, ARRAY_LEN(NEVER)) < 0)
		return -1;
	if (j->cpu_max_s > 0 && add_cpu_limit(filter) < 0)
		return -1;
	if (j->wants_network && add_all(filter, SCMP_ACT_ALLOW, FOR_NETWORK, ARRAY_LEN(FOR_NETWORK)) < 0)
		return -1;
	return j->wants_write ? add_all(filter, SCMP_ACT_ALLOW, FOR_WRITING, ARRAY_LEN(FOR_WRITING)) : add_open(filter);
}

int jail_seccomp(const struct jail *j)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int rc = -1;

	if (!filter) {
		errno = ENOMEM;
		return -1;
	}
	/* Logging what was refused and the faster binary tree are niceties: older kernels and libraries lack them. */
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (fill(filter, j) == 0) {
		rc = seccomp_load(filter);
		if (rc < 0)
			errno = -rc;
	}
	seccomp_release(filter);
	return rc < 0 ? -1 : 0;
}
