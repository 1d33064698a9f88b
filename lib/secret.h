/* secret.h - the first line of a file that holds a password or a token. */
#ifndef LIB_SECRET_H
#define LIB_SECRET_H
#include "lib/base.h"

enum { SECRET_MAX = 4096 };

/*
 * Reads it into `line`, without its end; the caller wipes it, also after a failure. Returns NULL, or in words why it
 * cannot be used: unreadable (errno says why, else it is 0), empty, with Windows line ends, or open to others. Borrowed
 * until the next call.
 */
const char *secret_read(const char *path, char line[SECRET_MAX]) MUST_CHECK;
#endif
