/* pipes.c - packet pipes, as large as the kernel lets us have them. */
#include "master/pipes.h"
#include "lib/board.h"
#include "lib/proc.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
	PIPES_FD_FLOOR = 256,        /* above the last of PROC_FD_PEER() */
	PIPES_DATA_BYTES = 1 << 20,  /* 256 packets */
	PIPES_LEAST_BYTES = 64 << 10 /* what one gets unasked: 16 packets */
};
_Static_assert(PROC_FD_PEER_FIRST + 3 * (3 + PROC_WORKERS_MAX) < PIPES_FD_FLOOR,
	       "children's descriptors reach too far");

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int pipes_lift(int fd)
{
	int lifted = fcntl(fd, F_DUPFD_CLOEXEC, PIPES_FD_FLOOR), saved = errno;

	close(fd);
	errno = saved;
	return lifted;
}

/* An ordinary user has a quota of pipe memory: take what is left of it. */
static void enlarge(int fd, int bytes)
{
	for (; bytes > PIPES_LEAST_BYTES; bytes /= 2) {
		if (fcntl(fd, F_SETPIPE_SZ, bytes) >= 0)
			return;
	}
}

static int open_pair(struct pipe_pair *pair, int bytes)
{
	int ends[2];

	if (pipe2(ends, O_DIRECT | O_NONBLOCK | O_CLOEXEC) < 0)
		return -1;
	pair->read_end = pipes_lift(ends[0]);
	pair->write_end = pipes_lift(ends[1]);
	if (pair->read_end < 0 || pair->write_end < 0)
		return -1;
	enlarge(pair->write_end, bytes);
	return 0;
}

int pipes_open(struct pipes *p, bool is_scheduler, bool has_board)
{
	static const struct pipe_pair NONE = { -1, -1 };

	*p = (struct pipes){ NONE, NONE, NONE, NONE, -1 };
	if (open_pair(&p->to_child, PIPES_LEAST_BYTES) < 0 || open_pair(&p->from_child, PIPES_LEAST_BYTES) < 0)
		goto failed;
	if (!is_scheduler &&
	    (open_pair(&p->from_scheduler, PIPES_DATA_BYTES) < 0 || open_pair(&p->to_scheduler, PIPES_DATA_BYTES) < 0))
		goto failed;
	if (has_board) {
		int board = board_create();

		if (board < 0 || (p->board = pipes_lift(board)) < 0)
			goto failed;
	}
	return 0;
failed:
	pipes_close(p);
	return -1;
}

static void close_pair(struct pipe_pair *pair)
{
	close_fd(&pair->read_end);
	close_fd(&pair->write_end);
}

void pipes_close(struct pipes *p)
{
	int saved = errno;

	close_pair(&p->to_child);
	close_pair(&p->from_child);
	close_pair(&p->from_scheduler);
	close_pair(&p->to_scheduler);
	close_fd(&p->board);
	errno = saved;
}
