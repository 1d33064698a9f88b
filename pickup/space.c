/* space.c - back-pressure before the disk is full. */
#include "pickup/space.h"
#include "lib/log.h"
#include <errno.h>

enum { RESERVE_PARTS = 50, SMALL_PARTS = 10, INODE_PARTS = 100, INODES_MAX = 1000 };
static const uint64_t RESERVE_MIN = 64u << 20, RESERVE_MAX = 1u << 30;

uint64_t space_left(const struct statvfs *fs, const char **why)
{
	uint64_t unit = fs->f_frsize ? fs->f_frsize : fs->f_bsize;
	uint64_t total = fs->f_blocks * unit, available = fs->f_bavail * unit, reserve = total / RESERVE_PARTS;
	uint64_t inodes = fs->f_files / INODE_PARTS < INODES_MAX ? fs->f_files / INODE_PARTS : INODES_MAX;

	if (reserve < RESERVE_MIN)
		reserve = RESERVE_MIN;
	if (reserve > RESERVE_MAX)
		reserve = RESERVE_MAX;
	if (reserve > total / SMALL_PARTS)
		reserve = total / SMALL_PARTS;
	*why = NULL;
	if (fs->f_files > 0 && fs->f_favail <= inodes) /* btrfs and others count none */
		*why = "hardly any inode is free";
	else if (available <= reserve)
		*why = "it is nearly full";
	return *why ? 0 : available - reserve;
}

uint64_t space_left_at(int fd, const char **why)
{
	struct statvfs fs;

	if (fstatvfs(fd, &fs) < 0) {
		log_warn("cannot ask how full the spool is: %s", strerror(errno));
		*why = NULL;
		return UINT64_MAX;
	}
	return space_left(&fs, why);
}
