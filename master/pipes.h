/* pipes.h - all pipes between the processes: made and sized once, both ends kept for as long as master lives. */
#ifndef MASTER_PIPES_H
#define MASTER_PIPES_H
#include "lib/base.h"

/*
 * What is in a pipe survives the death of either side, because master holds both ends of all; so nobody ever sees EOF
 * while master lives. Every descriptor lies above those that children get (proc.h) and is closed on exec.
 */
struct pipe_pair {
	int read_end, write_end;
};

/* Of one child: to and from master, and (all but the scheduler) to and from the scheduler. -1 where there is none. */
struct pipes {
	struct pipe_pair to_child, from_child;
	struct pipe_pair from_scheduler, to_scheduler;
	int board; /* smtpout: which transactions hang at the final dot */
};

/* 0, or -1 with errno. `has_board`: smtpout; `is_scheduler`: no pair to itself. */
int pipes_open(struct pipes *p, bool is_scheduler, bool has_board) MUST_CHECK;
void pipes_close(struct pipes *p);
/* The same descriptor out of the children's way, closed on exec; takes fd (also on failure, then -1 with errno). */
int pipes_lift(int fd) MUST_CHECK;
#endif
