/* folder.h - a folder of the test's own, and its end. */
#ifndef TESTS_UNIT_FOLDER_H
#define TESTS_UNIT_FOLDER_H
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* In memory where possible: for tests to which it does not matter what a sync costs. */
static inline const char *folder_in_memory(void)
{
	return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

/* Makes a folder below `parent` and writes its path; 0 or -1. */
static inline int folder_make(char *path, size_t size, const char *parent)
{
	return snprintf(path, size, "%s/postern-test-XXXXXX", parent) < (int)size && mkdtemp(path) ? 0 : -1;
}

static inline int folder_remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
	(void)st, (void)type, (void)walk;
	return remove(path);
}

/* With all that is in it; 0 or -1. */
static inline int folder_remove(const char *path)
{
	return nftw(path, folder_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
#endif
