/* space.h - whether the spool's file system has room for more mail; the rest is kept for delivering what is there. */
#ifndef PICKUP_SPACE_H
#define PICKUP_SPACE_H
#include "lib/buf.h"
#include <sys/statvfs.h>

/*
 * Pure: room beyond the reserve, in bytes; 0 and words in *why (static) when there is none. The reserve is 2 % of the
 * file system, at least 64 MiB, at most 1 GiB, never over a tenth of a small one; of inodes a hundredth, at most 1000.
 */
uint64_t space_left(const struct statvfs *fs, const char **why);
/* The same for the file system of an open folder; one that cannot be asked counts as having room. */
uint64_t space_left_at(int fd, const char **why);
#endif
