/* jail.c - the order in which privileges are given up, and the proof that they are gone. */
#include "lib/jail.h"
#include "lib/jail_parts.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The sanitizers' runtime looks at its own process through /proc and ptrace(2), and starts helpers. */
#ifdef POSTERN_SANITIZED
enum { IS_SANITIZED = 1 };
#else
enum { IS_SANITIZED = 0 };
#endif

static int limit_cpu(unsigned cpu_max_s)
{
	struct timespec used;
	struct rlimit limit;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) < 0 || getrlimit(RLIMIT_CPU, &limit) < 0)
		return -1;
	limit.rlim_cur = (rlim_t)used.tv_sec + 1 + cpu_max_s;
	if (limit.rlim_max != RLIM_INFINITY && limit.rlim_cur > limit.rlim_max)
		limit.rlim_cur = limit.rlim_max;
	return setrlimit(RLIMIT_CPU, &limit);
}

void jail_renew_cpu(unsigned cpu_max_s)
{
	(void)limit_cpu(cpu_max_s); /* what could fail has failed in jail_enter() */
}

static int limit_resources(const struct jail *j)
{
	struct rlimit files, none = { 0, 0 };

	if (setrlimit(RLIMIT_CORE, &none) < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
		return -1;
	/* Only root may pass the hard limit; everybody else takes what there is. */
	if (files.rlim_max != RLIM_INFINITY && files.rlim_max < j->max_files && geteuid() != 0)
		files.rlim_cur = files.rlim_max;
	else
		files.rlim_cur = files.rlim_max = j->max_files;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0 || (j->cpu_max_s > 0 && limit_cpu(j->cpu_max_s) < 0))
		return -1;
	/* A second process is the leak checker's. */
	return IS_SANITIZED ? 0 : setrlimit(RLIMIT_NPROC, &none);
}

static int change_root(const struct jail *j)
{
	if (chdir(j->folder) < 0)
		return -1;
	if (!IS_SANITIZED && j->is_root_changed && (chroot(".") < 0 || chdir("/") < 0))
		return -1;
	return 0;
}

static int drop_bounding_set(uint64_t keep)
{
	for (unsigned cap = 0; cap < 64; cap++) {
		int is_there = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);

		if (is_there < 0)
			break; /* past the last one that this kernel knows */
		if (is_there == 1 && !(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return -1;
	}
	return 0;
}

static int set_capabilities(uint64_t keep)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { 0 };

	for (unsigned i = 0; i < 2; i++)
		data[i].effective = data[i].permitted = (uint32_t)(keep >> 32 * i);
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return -1;
	return (int)syscall(SYS_capset, &head, data);
}

static uint64_t held_capabilities(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { 0 };

	if (syscall(SYS_capget, &head, data) < 0)
		return 0;
	return (uint64_t)data[1].permitted << 32 | data[0].permitted;
}

int jail_keep_capabilities(uint64_t keep)
{
	keep &= held_capabilities();
	return drop_bounding_set(keep) < 0 ? -1 : set_capabilities(keep);
}

static int change_ids(const struct jail *j)
{
	if (j->uid == (uid_t)-1)
		return 0;
	if (j->uid == 0 || j->gid == 0) {
		errno = EINVAL;
		return -1;
	}
	if (drop_bounding_set(0) < 0 || setgroups(j->group_count, j->groups) < 0)
		return -1;
	return setresgid(j->gid, j->gid, j->gid) < 0 ? -1 : setresuid(j->uid, j->uid, j->uid);
}

/* Nothing here may succeed; what does would mean that a bug elsewhere gives the machine away. */
static int prove_no_way_back(const struct jail *j)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid;

	if (j->uid == (uid_t)-1)
		return 0;
	errno = EPERM;
	if (getresuid(&ruid, &euid, &suid) < 0 || ruid != j->uid || euid != j->uid || suid != j->uid)
		return -1;
	if (getresgid(&rgid, &egid, &sgid) < 0 || rgid != j->gid || egid != j->gid || sgid != j->gid)
		return -1;
	if (setuid(0) == 0 || seteuid(0) == 0 || setresuid(0, 0, 0) == 0 || setgid(0) == 0 || setegid(0) == 0)
		return -1;
	return held_capabilities() == 0 ? 0 : -1;
}

static int drop_capabilities(const struct jail *j)
{
	/* An instance that root runs for itself (uid -1) is asked to only by tests; everybody else holds none anyway.
	 */
	return j->uid == (uid_t)-1 && geteuid() == 0 ? 0 : set_capabilities(0);
}

/* Before Landlock, which need not leave the folder itself readable; after chroot and the ids. */
static int open_folder(const struct jail *j)
{
	*j->folder_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *j->folder_fd < 0 ? -1 : 0;
}

static int forbid_new_privileges(const struct jail *j UNUSED)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int hide_memory(const struct jail *j UNUSED)
{
	return prctl(PR_SET_DUMPABLE, IS_SANITIZED, 0, 0, 0);
}

int jail_enter(const struct jail *j, const char **step)
{
	static const struct {
		const char *name;
		int (*take)(const struct jail *j);
	} STEPS[] = {
		{ "resource limits", limit_resources },
		{ "chroot", change_root },
		{ "user and groups", change_ids },
		{ "capabilities", drop_capabilities },
		{ "proof that root cannot return", prove_no_way_back },
		{ "folder", open_folder },
		{ "no_new_privs", forbid_new_privileges },
		{ "dumpable", hide_memory },
#ifndef POSTERN_SANITIZED
		{ "Landlock", jail_landlock },
		{ "seccomp", jail_seccomp },
#endif
	};

	for (size_t i = 0; i < ARRAY_LEN(STEPS); i++) {
		*step = STEPS[i].name;
		if (STEPS[i].take(j) < 0)
			return -1;
	}
	return 0;
}
