/*
 * jail_landlock.c - a second wall behind chroot, and the only one of an instance that no root started: of the file
 * system just the folders named stay reachable. Raw system calls: glibc has no wrappers.
 */
#include "lib/jail_parts.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

enum {
	ABI_REFER = 2, /* before, a rename from one folder to another is refused whatever the rules say: useless here */
	ABI_TRUNCATE = 3
};

static const uint64_t READING = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
static const uint64_t WRITING = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
				LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
				LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REFER;
static const uint64_t NEVER = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_SOCK |
			      LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
			      LANDLOCK_ACCESS_FS_MAKE_SYM;

static int allow_folder(int rules, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = access };
	int rc, saved;

	rule.parent_fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return -1;
	rc = (int)syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	saved = errno;
	close(rule.parent_fd);
	errno = saved;
	return rc;
}

int jail_landlock(const struct jail *j)
{
	struct landlock_ruleset_attr handled = { .handled_access_fs = READING | WRITING | NEVER };
	uint64_t access = READING | (j->wants_write ? WRITING : 0);
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	int rules, rc = -1, saved;

	if (abi < ABI_REFER)
		return 0;
	if (abi >= ABI_TRUNCATE) {
		handled.handled_access_fs |= LANDLOCK_ACCESS_FS_TRUNCATE;
		access |= j->wants_write ? LANDLOCK_ACCESS_FS_TRUNCATE : 0;
	}
	rules = (int)syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled), 0);
	if (rules < 0)
		return -1;
	/* Names may be listed everywhere below: Berkeley DB looks for its own in the working directory. */
	if (allow_folder(rules, ".", LANDLOCK_ACCESS_FS_READ_DIR) < 0)
		goto out;
	for (const char *const *path = j->reachable; *path; path++) {
		if (allow_folder(rules, *path, access) < 0)
			goto out;
	}
	rc = (int)syscall(SYS_landlock_restrict_self, rules, 0);
out:
	saved = errno;
	close(rules);
	errno = saved;
	return rc;
}
