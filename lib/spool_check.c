/* spool_check.c - do the files that an instance left in its spool still belong to it?  See spool.h. */
#include "lib/spool.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

struct check {
	const char *spool;
	uid_t uid;
	gid_t gid; /* of queue files; (gid_t)-1: any */
	struct buf *problem;
};

/* Whoever restored a backup, or ran chown -R, meant the whole spool. */
static bool is_right(struct check *c, const char *folder, const char *name, const struct stat *st, bool is_queue)
{
	mode_t wanted = is_queue ? 0400 : 0600;

	if (st->st_uid != c->uid)
		buf_printf(c->problem, "%s/%s/%s belongs to uid %u, and this instance runs as uid %u: ", c->spool,
			   folder, name, (unsigned)st->st_uid, (unsigned)c->uid);
	else if (is_queue && c->gid != (gid_t)-1 && (st->st_gid != c->gid || !(st->st_mode & 0040)))
		buf_printf(c->problem,
			   "%s/%s/%s cannot be read by group %u, which sends mail (group %u, mode %04o): ", c->spool,
			   folder, name, (unsigned)c->gid, (unsigned)st->st_gid, (unsigned)st->st_mode & 07777);
	else if ((st->st_mode & wanted) != wanted)
		buf_printf(c->problem, "%s/%s/%s has mode %04o, so its owner cannot use it: ", c->spool, folder, name,
			   (unsigned)st->st_mode & 07777);
	else
		return true;
	buf_printf(c->problem,
		   "somebody changed owners or modes in the spool; try `chown -R %u %s/db %s/history %s/queue",
		   (unsigned)c->uid, c->spool, c->spool, c->spool);
	if (c->gid != (gid_t)-1)
		buf_printf(c->problem, " && chgrp -R %u %s/queue", (unsigned)c->gid, c->spool);
	buf_printf(c->problem, " && find %s/db %s/history %s/queue -type f -exec chmod u+rw,g+r {} +`", c->spool,
		   c->spool, c->spool);
	return false;
}

/* In queue/XX the first file speaks for the others: they may be a million. A folder that is not there has no fault. */
static bool check_folder(struct check *c, int root, const char *folder, bool is_queue)
{
	int fd = openat(root, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	bool ok = true, is_told = false;
	struct dirent *e;
	struct stat st;

	if (!dir && fd >= 0)
		close(fd);
	while (dir && ok && !is_told && (e = readdir(dir))) {
		if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		ok = is_right(c, folder, e->d_name, &st, is_queue);
		is_told = is_queue;
	}
	if (dir)
		closedir(dir);
	return ok;
}

bool spool_files_are_ours(const char *spool, const struct spool_owners *owners, struct buf *problem)
{
	static const char *const FOLDERS[] = { "db/queue", "db/limits", "history" };
	struct check c = { spool, owners->user == (uid_t)-1 ? geteuid() : owners->user, owners->smtp_group, problem };
	int root = open(spool, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool ok = true;

	for (size_t i = 0; root >= 0 && ok && i < ARRAY_LEN(FOLDERS); i++)
		ok = check_folder(&c, root, FOLDERS[i], false);
	for (unsigned i = 0; root >= 0 && ok && i < SPOOL_SHARDS; i++) {
		char folder[sizeof("queue/XX")];

		snprintf(folder, sizeof(folder), "queue/%02X", i);
		ok = check_folder(&c, root, folder, true);
	}
	if (root >= 0)
		close(root);
	return ok;
}
