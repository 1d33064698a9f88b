/*
 * scan_parts.h - what scan.c (files and their states), notice.c (events), judge.c (is it complete?) and walk.c (what no
 * event told of) share. For them alone; see scan.h for what it is all about.
 *
 * Two inotify queues watch the folder. One gets renames only, the safe way of dropping: with its 16384 places to
 * itself it does not overflow by all the events of the names before those renames. The other one gets what is needed
 * to know whether a file written in place is still open.
 */
#ifndef PICKUP_SCAN_PARTS_H
#define PICKUP_SCAN_PARTS_H
#include "lib/clock.h"
#include "lib/table.h"
#include "pickup/proof.h"
#include "pickup/scan.h"
#include <dirent.h>
#include <limits.h>
#include <sys/queue.h>

enum {
	SCAN_BUCKETS = 256,
	SCAN_CLOCK_TICK_MS = 20, /* time stamps of files may be that coarse */
	SCAN_PATH_BYTES = NAME_MAX + 8
};

enum scan_state {
	SCAN_FRESH,    /* just created: linked or opened, the next events tell */
	SCAN_SETTLING, /* looked at again when it has been quiet */
	SCAN_BUSY,     /* open, as events told: its close will wake it */
	SCAN_LINKED,   /* has another name */
	SCAN_READY,
	SCAN_ODD, /* no regular file */
	SCAN_STATE_COUNT
};

enum scan_queue { SCAN_MOVES, SCAN_OTHERS, SCAN_QUEUE_COUNT };

struct scan_file {
	struct table_node node;
	TAILQ_ENTRY(scan_file) link; /* in lists[state] or in a bucket; BUSY and ODD are in none */
	char *name;
	struct stat st; /* as last looked at */
	int64_t due_ms, first_ms, mentioned_ms;
	uint32_t opens; /* open descriptions, when is_tracked */
	uint32_t walk;  /* the last walk that saw it */
	uint32_t epoch; /* events are complete since its creation while this is scan.epoch */
	uint8_t state;
	bool is_tracked, is_whole, has_links, is_own_move;
	bool was_opened, has_closed; /* has_closed: somebody who wrote */
	bool is_odd;                 /* counted as no regular file */
};

TAILQ_HEAD(scan_list, scan_file);

struct scan {
	int spool_fd;
	int notify_fd[SCAN_QUEUE_COUNT], watch[SCAN_QUEUE_COUNT];
	struct loop_io *io[SCAN_QUEUE_COUNT];
	struct loop_timer *wake, *walk_timer;
	struct table files;
	struct scan_list lists[SCAN_STATE_COUNT], buckets[SCAN_BUCKETS];
	unsigned bucket_counts[SCAN_BUCKETS], ready_count, odd_count, turn;
	struct proof proof; /* of what was complete and did not fit */
	DIR *walk;
	uint32_t walk_number, epoch;
	bool is_walk_wanted; /* another walk at once behind this one */
	bool is_partial;     /* something did not fit */
	loop_cb on_ready;
	void *arg;
};

/* scan.c */
struct scan_file *scan_find(const struct scan *s, const char *name);
/* Known or new; NULL: too many are known. */
struct scan_file *scan_get(struct scan *s, const char *name);
void scan_remove(struct scan *s, struct scan_file *f);
/* The only one who changes a file's state. A ready one that does not fit is forgotten: `f` may be gone afterwards. */
void scan_set_state(struct scan *s, struct scan_file *f, enum scan_state to);
void scan_set_wake(struct scan *s);
bool scan_is_tracked(const struct scan *s, const struct scan_file *f);
void scan_drop_path(const char *name, char path[SCAN_PATH_BYTES]);

/* judge.c: `f` may be gone after each of them. */
void judge_moved(struct scan *s, struct scan_file *f);
void judge_created(struct scan *s, struct scan_file *f);
void judge_opened(struct scan *s, struct scan_file *f);
void judge_closed(struct scan *s, struct scan_file *f, bool is_writer);
/* A walk, or the close of a file that nobody told us about, found it. */
void judge_found(struct scan *s, struct scan_file *f);
/* Moved in, and no room to remember more than that it is whole. */
void judge_moved_without_room(struct scan *s, const char *name);
/* All events up to now are read: decides on what was created. */
void judge_fresh(struct scan *s);
/* A timer ended for a settling or linked file. */
void judge_again(struct scan *s, struct scan_file *f);
/* Is no regular file: says so, once an hour. */
void judge_mention(struct scan_file *f);

/* notice.c */
int notice_open(struct scan *s);
void notice_watch(struct scan *s, const char *folder);
bool notice_is_watching(const struct scan *s);
void notice_start(struct scan *s, struct loop *loop);
void notice_close(struct scan *s);

/* walk.c */
void walk_want(struct scan *s);
void walk_on_timer(void *scan);
/* Before the first walk, as root may: who of the young files is open? */
void walk_early(struct scan *s, const char *folder);
#endif
