/* fd.h - whole files through descriptors that read and write as much as they like at once. */
#ifndef LIB_FD_H
#define LIB_FD_H
#include "lib/buf.h"

/* Writes all of it where the descriptor stands, which must block. False with errno. */
bool fd_write_all(int fd, struct slice bytes) MUST_CHECK;
/*
 * Appends a file from its beginning, wherever the descriptor stands, to an empty buf. False with errno; EFBIG: it has
 * as many bytes as the buf may hold, or more.
 */
bool fd_read_all(int fd, struct buf *out) MUST_CHECK;
#endif
