/*
 * proof.h - remembers of complete files only that they were: eight bytes each, for floods that do not fit elsewhere.
 *
 * A fingerprint of name, inode, size and time stamps: a file changed since then does not match any more.
 */
#ifndef PICKUP_PROOF_H
#define PICKUP_PROOF_H
#include "lib/base.h"
#include <sys/stat.h>

enum { PROOF_MAX = 256 * 1024 };

/* All zero: empty, without memory. */
struct proof {
	uint64_t *slot; /* 0: free */
	size_t slot_count, count;
};

/* Does nothing when PROOF_MAX are there. */
void proof_add(struct proof *p, const char *name, const struct stat *st);
/* Was it there? Not any more. */
bool proof_take(struct proof *p, const char *name, const struct stat *st);
/* Forgets all and gives the memory back. */
void proof_clear(struct proof *p);
#endif
