/* helper.h - a program that answers one question and ends. */
#ifndef LIB_HELPER_H
#define LIB_HELPER_H
#include "lib/buf.h"
#include <sys/types.h>

/* What HELPER_FD is in the program, beside stdin (the question) and stdout (the answer). */
enum { HELPER_FD = 3, HELPER_QUESTION_MAX = 60000 };

struct helper_start {
	const char *path;
	uid_t uid; /* told to it, for it to become before it reads anything from outside; (uid_t)-1: it stays */
	gid_t gid;
	int fd;                /* goes to it as HELPER_FD; -1: none */
	struct slice question; /* at most HELPER_QUESTION_MAX bytes: what a pipe takes without a reader */
};

struct helper {
	pid_t pid;
	int process; /* a pidfd: no other process is ever meant by it; -1 where the kernel has none */
	int answer;  /* to be read until its end; non-blocking, closed on exec */
};

/* Nothing of us goes to it but those descriptors, and of the environment what concerns certificates and tests. */
bool helper_start(struct helper *h, const struct helper_start *how) MUST_CHECK;
/* Kills it if `is_late`, and forgets it; whoever reaps children collects it. */
void helper_forget(struct helper *h, bool is_late);
/* Reads on; false: that was all. */
bool helper_read(const struct helper *h, struct buf *answer) MUST_CHECK;
/*
 * The same, and waits for its end, `wait_ms` at most: then it is killed. False with errno when it could not be started;
 * what it answered is for the caller to judge.
 */
bool helper_ask(const struct helper_start *how, uint64_t wait_ms, struct buf *answer) MUST_CHECK;
#endif
