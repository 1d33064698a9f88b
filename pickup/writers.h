/* writers.h - is somebody still writing to this file, or was writing its last change? */
#ifndef PICKUP_WRITERS_H
#define PICKUP_WRITERS_H
#include "lib/base.h"
#include <sys/stat.h>

enum writers { WRITERS_NONE, WRITERS_SOME, WRITERS_UNKNOWN };

/* Asks by a read lease; unknown where the file is another user's (no CAP_LEASE) or the file system has no leases. */
enum writers writers_probe(int spool_fd, const char *path);
/* true: nobody at all has it open; asked by a write lease (as root or its owner, where there are leases), else false.
 */
bool writers_is_unopened(int folder_fd, const char *name);
bool writers_same_content(const struct stat *a, const struct stat *b);
/* The last change was not a write: renamed, linked, chmod. A rename within a clock tick after the write looks like one.
 */
bool writers_changed_since(const struct stat *st);
/* Milliseconds since the last change of any kind; 0 when the clock disagrees. */
int64_t writers_quiet_ms(const struct stat *st);
#endif
