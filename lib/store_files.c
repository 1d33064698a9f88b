/* store_files.c - the files of an environment, as far as they can be judged without Berkeley DB. */
#include "lib/store_files.h"
#include "lib/clock.h"
#include "lib/log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BALLAST_FILE "ballast"
#define LOG_PREFIX   "log."

enum mark_state { MARK_NONE, MARK_CREATING, MARK_READY, MARK_GARBAGE };

/* The marker is one line: "creating ID" while a new environment is being made, "ready ID" from then on. */
static enum mark_state mark_read(int dir_fd, char id[STORE_ID_LEN + 1])
{
	char text[64] = "";
	int fd = openat(dir_fd, STORE_MARK_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t len;
	enum mark_state state = MARK_GARBAGE;

	if (fd < 0)
		return errno == ENOENT ? MARK_NONE : MARK_GARBAGE;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len > 9 && strncmp(text, "creating ", 9) == 0)
		return MARK_CREATING;
	if (len == 6 + STORE_ID_LEN + 1 && strncmp(text, "ready ", 6) == 0 && text[len - 1] == '\n') {
		memcpy(id, text + 6, STORE_ID_LEN);
		id[STORE_ID_LEN] = 0;
		state = MARK_READY;
	}
	return state;
}

int store_mark_write(int dir_fd, const char *state, const char *id)
{
	int fd = openat(dir_fd, STORE_MARK_FILE ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int rc;

	if (fd < 0)
		return -1;
	rc = dprintf(fd, "%s %s\n", state, id) < 0 ? -1 : fsync(fd);
	close(fd);
	if (rc < 0 || renameat(dir_fd, STORE_MARK_FILE ".new", dir_fd, STORE_MARK_FILE) < 0)
		return -1;
	return fsync(dir_fd);
}

void store_id_make(char id[STORE_ID_LEN + 1])
{
	uint8_t bytes[STORE_ID_LEN / 2];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		BUG("getrandom gave too little");
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(id + 2 * i, 3, "%02x", bytes[i]);
}

static bool is_database_file(const char *name)
{
	return strcmp(name, STORE_RECORDS_FILE) == 0 || strncmp(name, LOG_PREFIX, strlen(LOG_PREFIX)) == 0 ||
	       strncmp(name, "__db", 4) == 0;
}

static bool is_ours(const char *name)
{
	return is_database_file(name) || strcmp(name, STORE_HIGH_FILE) == 0 || strcmp(name, STORE_MARK_FILE) == 0;
}

/* Calls fn for each name in the directory but "." and ".."; -1 when the directory cannot be read or fn says so. */
static int each_file(int dir_fd, int (*fn)(void *arg, int dir_fd, const char *name), void *arg)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int rc = 0, saved;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while (rc == 0 && (errno = 0, e = readdir(dir)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			rc = fn(arg, dir_fd, e->d_name);
	if (rc == 0 && errno != 0)
		rc = -1;
	saved = errno;
	closedir(dir);
	errno = saved;
	return rc;
}

struct census {
	bool has_records, has_logs;
};

static int count_file(void *arg, int dir_fd UNUSED, const char *name)
{
	struct census *c = arg;

	if (strcmp(name, STORE_RECORDS_FILE) == 0)
		c->has_records = true;
	if (strncmp(name, LOG_PREFIX, strlen(LOG_PREFIX)) == 0)
		c->has_logs = true;
	return 0;
}

/* A file that the system keeps from us is not damaged: after somebody's chown all is well again. */
static int try_file(void *arg, int dir_fd, const char *name)
{
	const char **why = arg;
	struct stat st = { 0 };
	int fd = is_ours(name) ? openat(dir_fd, name, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC) : -1, saved = errno;

	if (fd >= 0 || !is_ours(name)) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	(void)fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);
	log_error("store: %s cannot be opened: %s (it belongs to uid %u and has mode %04o; this process is uid %u)",
		  name, strerror(saved), (unsigned)st.st_uid, (unsigned)st.st_mode & 07777, (unsigned)geteuid());
	*why = "a file of it is kept from us";
	errno = saved;
	return -1;
}

static int remove_database_file(void *arg UNUSED, int dir_fd, const char *name)
{
	return is_database_file(name) || strcmp(name, STORE_HIGH_FILE) == 0 ? unlinkat(dir_fd, name, 0) : 0;
}

/*
 * What is there, before Berkeley DB touches it. It would silently make a missing records.db anew as an empty one, and
 * start a new log beside a records.db whose logs were removed: for a limiter that means counters at zero. So both must
 * be there when the marker says so, and neither may be there when it does not. A crash while the environment was first
 * made leaves "creating": nobody was ever told of it, it is thrown away.
 */
enum store_open_result store_files_check(int dir_fd, char id[STORE_ID_LEN + 1], const char **why)
{
	struct census c = { false, false };
	enum mark_state mark;

	if (each_file(dir_fd, try_file, why) < 0 || each_file(dir_fd, count_file, &c) < 0)
		return STORE_FAILED;
	mark = mark_read(dir_fd, id);
	if (mark == MARK_CREATING)
		return each_file(dir_fd, remove_database_file, NULL) < 0 ? STORE_FAILED : STORE_CREATED;
	if (mark == MARK_NONE && !c.has_records && !c.has_logs)
		return STORE_CREATED;
	if (mark == MARK_READY && c.has_records && c.has_logs)
		return STORE_OPENED;
	*why = mark == MARK_NONE      ? "database files without their marker " STORE_MARK_FILE
	       : mark == MARK_GARBAGE ? "the marker " STORE_MARK_FILE " is unreadable"
	       : c.has_logs           ? STORE_RECORDS_FILE " is missing"
				      : "the log files of " STORE_RECORDS_FILE " are missing";
	return STORE_DAMAGED;
}

int store_library_settings_disable(int dir_fd)
{
	if (renameat(dir_fd, "DB_CONFIG", dir_fd, "DB_CONFIG.ignored") < 0)
		return errno == ENOENT ? 0 : -1;
	log_warn("store: DB_CONFIG is not obeyed here, renamed to DB_CONFIG.ignored");
	return 0;
}

static uint64_t free_bytes(int dir_fd)
{
	struct statvfs v;

	return fstatvfs(dir_fd, &v) < 0 ? UINT64_MAX : (uint64_t)v.f_bavail * v.f_frsize;
}

void store_ballast_free_if_needed(int dir_fd, uint64_t bytes)
{
	if (free_bytes(dir_fd) < bytes && unlinkat(dir_fd, BALLAST_FILE, 0) == 0)
		log_warn("store: disk nearly full, ballast released for recovery");
}

bool store_ballast_make(int dir_fd, uint64_t bytes)
{
	struct stat st;
	bool is_made;
	int fd;

	if (bytes == 0 || (fstatat(dir_fd, BALLAST_FILE, &st, 0) == 0 && (uint64_t)st.st_size == bytes))
		return true;
	if (free_bytes(dir_fd) < 2 * bytes)
		return false;
	fd = openat(dir_fd, BALLAST_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return false;
	is_made = fallocate(fd, 0, 0, (off_t)bytes) == 0;
	close(fd);
	if (!is_made)
		unlinkat(dir_fd, BALLAST_FILE, 0);
	return is_made;
}

int store_dir_lock(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), saved;

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

static int move_file(void *arg, int dir_fd, const char *name)
{
	int *to = arg;

	if (strcmp(name, BALLAST_FILE) == 0)
		return unlinkat(dir_fd, name, 0);
	if (!is_ours(name))
		return 0;
	return renameat(dir_fd, name, *to, name);
}

int store_set_aside(const char *dir)
{
	int dir_fd = store_dir_lock(dir), to = -1, rc = -1, saved;
	char name[40];

	if (dir_fd < 0)
		return -1;
	snprintf(name, sizeof(name), "damaged-%lld", (long long)clock_wall().ms);
	if (mkdirat(dir_fd, name, 0700) < 0 || (to = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		goto out;
	if (each_file(dir_fd, move_file, &to) < 0)
		goto out;
	rc = fsync(to) < 0 || fsync(dir_fd) < 0 ? -1 : 0;
out:
	saved = errno;
	if (to >= 0)
		close(to);
	close(dir_fd);
	errno = saved;
	return rc;
}
