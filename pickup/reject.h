/* reject.h - putting aside what cannot be accepted: rejected/NAME and NAME.reason; nothing is ever overwritten. */
#ifndef PICKUP_REJECT_H
#define PICKUP_REJECT_H
#include "lib/base.h"

/*
 * Moves spool_fd/path to rejected/NAME, or NAME.1, NAME.2 ... where that or its .reason is taken, and writes the reason
 * beside it. `name` is the name under which it was dropped; a very long one is cut. Logs one line. Not yet synced.
 * Returns 0, or -1 with errno: then the file is where it was.
 */
int reject_file(int spool_fd, const char *path, const char *name, uint32_t uid, const char *reason) MUST_CHECK;
#endif
