/* fd.c - loops around read(2) and write(2). */
#include "lib/fd.h"
#include <errno.h>
#include <unistd.h>

enum { PIECE_BYTES = 64 << 10 };

bool fd_write_all(int fd, struct slice bytes)
{
	while (bytes.len > 0) {
		ssize_t put = write(fd, bytes.ptr, bytes.len);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return false;
		bytes.ptr += put;
		bytes.len -= (size_t)put;
	}
	return true;
}

bool fd_read_all(int fd, struct buf *out)
{
	ssize_t got;

	do {
		size_t left = out->max - out->len, piece = left < PIECE_BYTES ? left : PIECE_BYTES;
		char *room = piece > 0 ? buf_reserve(out, piece) : NULL;

		if (!room) {
			errno = EFBIG;
			return false;
		}
		got = pread(fd, room, piece, (off_t)out->len);
		if (got < 0 && errno != EINTR)
			return false;
		out->len += got > 0 ? (size_t)got : 0;
	} while (got != 0);
	return true;
}
