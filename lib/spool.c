/* spool.c - ids, paths and folders of the spool.  States and their order: spool.h. */
#include "lib/spool.h"
#include "lib/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

enum { ID_RANDOM_BITS = 12, ID_CHARS = SPOOL_ID_TEXT - 1, SHARD_US = 4 * 1000 * 1000 };

static const char DIGITS[] = "0123456789ABCDEFGHIJKLMNOPQRSTUV";

/* Twelve random bits a call, 256 bytes at a time from the kernel: ids are not secrets, only unlikely to meet. */
static unsigned random_bits(void)
{
	static uint16_t pool[128];
	static unsigned left;

	if (left == 0) {
		/* up to 256 bytes come whole once the pool is seeded (getrandom(2)); without entropy time alone serves
		 */
		if (getrandom(pool, sizeof(pool), GRND_NONBLOCK) < 0)
			memset(pool, 0, sizeof(pool));
		left = ARRAY_LEN(pool);
	}
	return pool[--left] & ((1u << ID_RANDOM_BITS) - 1);
}

uint64_t spool_id_next(uint64_t last_id, enum spool_giver giver)
{
	uint64_t id = clock_wall_us() << ID_RANDOM_BITS | random_bits();

	if (id <= last_id)
		id = last_id + 2; /* the clock went back, or one microsecond saw two */
	id = (id & ~1ull) | giver;
	return id > last_id ? id : id + 2;
}

void spool_id_format(uint64_t id, char text[SPOOL_ID_TEXT])
{
	for (int i = ID_CHARS - 1; i >= 0; i--, id >>= 5)
		text[i] = DIGITS[id & 31];
	text[ID_CHARS] = '\0';
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'V' ? c - 'A' + 10 : -1;
}

bool spool_id_parse(struct slice text, uint64_t *id)
{
	uint64_t value = 0;

	if (text.len != ID_CHARS || digit_value(text.ptr[0]) > 15) /* 13 digits hold 65 bits */
		return false;
	for (size_t i = 0; i < text.len; i++) {
		int digit = digit_value(text.ptr[i]);

		if (digit < 0)
			return false;
		value = value << 5 | (uint64_t)digit;
	}
	*id = value;
	return true;
}

void spool_incoming_path(uint64_t id, char path[SPOOL_PATH_MAX])
{
	static const char PREFIX[] = "incoming/";

	memcpy(path, PREFIX, sizeof(PREFIX) - 1);
	spool_id_format(id, path + sizeof(PREFIX) - 1);
}

unsigned spool_shard(uint64_t id)
{
	return (unsigned)((id >> ID_RANDOM_BITS) / SHARD_US % SPOOL_SHARDS);
}

void spool_queue_path(uint64_t id, char path[SPOOL_PATH_MAX])
{
	static const char PREFIX[] = "queue/XX/";
	unsigned shard = spool_shard(id);

	memcpy(path, PREFIX, sizeof(PREFIX) - 1);
	path[6] = DIGITS[shard >> 4];
	path[7] = DIGITS[shard & 15];
	spool_id_format(id, path + sizeof(PREFIX) - 1);
}

/*
 * The owner counts too: a claimed file still belongs to its dropper, who may have given it any mode. (pickup takes the
 * bit off a file that is its own user's before it claims it.)
 */
bool spool_is_complete(const struct stat *st)
{
	return S_ISREG(st->st_mode) && (st->st_mode & 07777) == SPOOL_COMPLETE_MODE && st->st_uid == geteuid();
}

int spool_sync_dir(int dirfd, const char *relative_path)
{
	int fd = openat(dirfd, relative_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int rc, saved;

	if (fd < 0)
		return -1;
	rc = fsync(fd);
	saved = errno;
	close(fd);
	errno = saved;
	return rc;
}

/* --- preparing --- */

/* Owner, group and mode of an open folder, touched only where they differ. */
static int repair(int fd, uid_t uid, gid_t gid, mode_t mode)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -1;
	if ((uid != (uid_t)-1 && st.st_uid != uid) || (gid != (gid_t)-1 && st.st_gid != gid)) {
		if (fchown(fd, uid, gid) < 0)
			return -1;
		st.st_mode = 0; /* chown may have cleared set-group-ID */
	}
	return (st.st_mode & 07777) == mode ? 0 : fchmod(fd, mode);
}

/* Makes `name` below dirfd when it is missing, repairs it, opens it. -1 with errno. */
static int prepare_dir(int dirfd, const char *name, uid_t uid, gid_t gid, mode_t mode)
{
	int fd, saved;

	if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
		return -1;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (repair(fd, uid, gid, mode) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static int prepare_shards(int queue, const struct spool_owners *o)
{
	for (unsigned i = 0; i < SPOOL_SHARDS; i++) {
		char name[3] = { DIGITS[i >> 4], DIGITS[i & 15], '\0' };
		int fd = prepare_dir(queue, name, o->user, o->smtp_group, 02750);

		if (fd < 0)
			return -1;
		close(fd);
	}
	return 0;
}

/* Whose the folders are that root itself writes in: nobody else may exchange what is there. */
static uid_t masters(const struct spool_owners *o)
{
	return o->user == (uid_t)-1 ? (uid_t)-1 : 0;
}

/* Everything below the spool. `what` names the folder that failed. */
static int prepare_below(int root, const struct spool_owners *o, const char **what)
{
	const struct {
		const char *name;
		uid_t uid;
		gid_t gid;
		mode_t mode;
	} folders[] = {
		{ "drop", o->user, o->drop_group, 03730 },
		{ "rejected", o->user, o->group, 0700 },
		{ "incoming", o->user, o->smtp_group, 02750 },
		{ "queue", o->user, o->smtp_group, 02750 },
		{ "db", o->user, o->group, 0700 },
		{ "db/queue", o->user, o->group, 0700 },
		{ "db/limits", o->user, o->group, 0700 },
		{ "history", o->user, o->group, 0700 },
		{ "dead", o->user, o->group, 0700 },
		{ "run", masters(o), (gid_t)-1, 0755 },
		{ "run/empty", masters(o), (gid_t)-1, 0555 }, /* what a process without files has for a root */
	};

	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		int fd, rc = 0;

		*what = folders[i].name;
		fd = prepare_dir(root, folders[i].name, folders[i].uid, folders[i].gid, folders[i].mode);
		if (fd < 0)
			return -1;
		if (strcmp(folders[i].name, "queue") == 0)
			rc = prepare_shards(fd, o);
		close(fd);
		if (rc < 0)
			return -1;
	}
	return 0;
}

int spool_prepare(const char *spool, const struct spool_owners *owners, const char **what)
{
	int root, rc, saved;

	*what = "the spool itself";
	root = prepare_dir(AT_FDCWD, spool, masters(owners), (gid_t)-1, 0755);
	if (root < 0)
		return -1;
	rc = prepare_below(root, owners, what);
	if (rc == 0)
		rc = fsync(root);
	saved = errno;
	close(root);
	errno = saved;
	return rc;
}
