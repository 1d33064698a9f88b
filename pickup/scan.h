/*
 * scan.h - which files of drop/ are complete, and whose turn it is.
 *
 * Renamed in (MOVED_TO), or linked in (CREATE without an open): complete at once. Written in place: when nobody has it
 * open for writing any more and it has not changed for SCAN_SETTLE_MS. Whether somebody has, a read lease tells; where
 * the file's owner is not us and it may not be had, the events since its creation or since we looked before the jail;
 * and where those were lost or may be, a longer silence: SCAN_SILENCE_MS since the last write, unless a rename or the
 * like came after that. More than one link: wait SCAN_LINKS_MS for the other name to go, then hand it out marked. What
 * is no regular file is left alone and mentioned once an hour.
 *
 * Complete files are handed out in turn over the uids that own them, so nobody's flood delays another's one message.
 * Memory is bounded: what does not fit is found again by walking the folder (proof.h remembers that it was complete),
 * as is everything every SCAN_WALK_MS.
 */
#ifndef PICKUP_SCAN_H
#define PICKUP_SCAN_H
#include "lib/loop.h"
#include <sys/stat.h>

enum {
	SCAN_SETTLE_MS = 2000,
	SCAN_SILENCE_MS = 10 * 1000,
	SCAN_LINKS_MS = 30 * 1000,
	SCAN_LINKS_POLL_MS = 50,
	SCAN_WALK_MS = 30 * 1000,
	SCAN_MENTION_MS = 3600 * 1000,
	SCAN_FILES_MAX = 65536, /* known at a time */
	SCAN_ODD_MAX = 256,     /* of these, what is no regular file: more are left alone without a word */
	SCAN_UID_MAX = 16384    /* ready of one uid (of those that share its bucket) */
};

struct scan;
struct scan_file;

/*
 * Watches `folder` (SPOOL/drop), and finds out who of the young files in it is open: as root of any user's, so call it
 * before the jail. No file's content is read. SIGIO must be ignored: leases are asked for. NULL with errno.
 */
struct scan *scan_new(const char *folder) MUST_CHECK;
/* In the jail; the present folder must be the spool, and stay. `on_ready`: there is something to take. */
void scan_start(struct scan *s, struct loop *loop, int spool_fd, loop_cb on_ready, void *arg);
void scan_free(struct scan **s);
/*
 * Takes notice of what happened, in no other time than the loop's next turn would: between files and before and after
 * what blocks, for the kernel's queue of events is short. May call on_ready.
 */
void scan_catch_up(struct scan *s);
unsigned scan_ready_count(const struct scan *s);
/* The next complete file, the caller's until scan_forget() or scan_give_back(); NULL: none. */
struct scan_file *scan_take(struct scan *s);
const char *scan_file_name(const struct scan_file *f);
const struct stat *scan_file_stat(const struct scan_file *f); /* as last looked at: the owner, the mode */
bool scan_file_has_links(const struct scan_file *f);          /* waited long enough: reject it */
void scan_forget(struct scan_file **f);
/*
 * It is in drop/ again, renamed back by us (was_moved: that event is not news), or still. is_unsettled: somebody writes
 * to it or gave it another name; else it is ready as before. Taken.
 */
void scan_give_back(struct scan *s, struct scan_file *f, bool was_moved, bool is_unsettled);

/* Pure: may this name be a message? No dot in front, no .tmp or .part behind. */
bool scan_name_is_message(const char *name);
#endif
