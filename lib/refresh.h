/*
 * refresh.h - the file that holds a refresh token: read, exchanged, and never lost on the way.
 *
 * A token server may answer with another refresh token, and take the old one no longer. So the new one is on disk,
 * synced, in PATH.new, before anybody hears of it, written by the very process that has got it; only then it takes
 * PATH's place. Who finds a complete PATH.new finishes that. PATH.new is also the lock: one at a time talks to the
 * token server with this token, and a process that outlives its parent is waited for.
 */
#ifndef LIB_REFRESH_H
#define LIB_REFRESH_H
#include "lib/secret.h"

struct refresh {
	char *path, *beside;    /* PATH (links followed) and PATH.new */
	int fd;                 /* of PATH.new, locked, empty; -1: a new token cannot be kept */
	char token[SECRET_MAX]; /* "" when there is none */
	char why[256];          /* what is wrong with the file, or why a new token cannot be kept; "" */
};

enum refresh_result {
	REFRESH_OPEN, /* to be ended with refresh_close() or refresh_leave() */
	REFRESH_BUSY, /* somebody else is at it */
	REFRESH_NONE  /* no token that can be used: `why`. Open none the less, where only a new one is wanted */
};

/*
 * Reads the token and locks the file, never waiting; what an earlier one left unfinished is finished first. `path` is
 * copied. Fills *r, also for NONE; after BUSY there is nothing to release.
 */
enum refresh_result refresh_open(struct refresh *r, const char *path) MUST_CHECK;
/* Writes and syncs it to `fd`, which need not belong to a struct refresh. False with errno. Does nothing else. */
bool refresh_write(int fd, const char *token) MUST_CHECK;
/*
 * A complete PATH.new takes PATH's place, durably; else it goes. Wipes, closes, unlocks. False with errno when it could
 * not take its place: it is left there for the next one to try.
 */
bool refresh_close(struct refresh *r);
/* Leaves all as it is, for whoever has the descriptor still. */
void refresh_leave(struct refresh *r);
#endif
