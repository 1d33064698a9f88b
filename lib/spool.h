/* spool.h - where messages live on disk, their states, and their ids.
 *
 * S0 dropped   drop/NAME                      -> rename to incoming/ID                      pickup
 * S1 claimed   incoming/ID, dropper's file    -> checked copy in incoming/ID.new, fsynced, renamed over ID    pickup
 * S2 accepted  incoming/ID, ours: mode 0740, the owner-execute bit says complete
 *                                             -> directory fsynced, announced, record committed               scheduler
 * S3 known     + record in db/queue           -> rename to queue/XX/ID                                        scheduler
 * S4 queued    queue/XX/ID + record           -> every recipient final: record says done, committed           scheduler
 * S5 done      queue/XX/ID + record "done"    -> unlink; record goes once the directory was synced            scheduler
 *
 * One name replaced atomically: a message exists exactly once at every instant. At start S1 is redone (pickup), S2
 * inserted, S3 renamed, S5 swept (scheduler). A queue file without a record is a message to deliver.
 * incoming/ID.new without completeness is debris of a crash: pickup unlinks it at start.
 */
#ifndef LIB_SPOOL_H
#define LIB_SPOOL_H
#include "lib/buf.h"
#include <sys/stat.h>

enum {
	SPOOL_ID_TEXT = 14,         /* 13 characters 0-9A-V and NUL */
	SPOOL_PATH_MAX = 40,        /* "queue/XX/ID" relative to the spool and NUL */
	SPOOL_COMPLETE_MODE = 0740, /* S2 and later */
	SPOOL_SHARDS = 256
};

/* Who may give ids. Two that do not ask one another can never give the same: the lowest bit says who it was. */
enum spool_giver { SPOOL_BY_PICKUP, SPOOL_BY_SCHEDULER };

/*
 * Ids are 64 bits: microseconds since 1970 in the upper 52, randomness in the lower 12, but for the giver's bit; larger
 * than any handed out before. The text form is 13 characters, base 32 (0-9A-V), so text order is time order and \w+
 * matches it.
 */
uint64_t spool_id_next(uint64_t last_id, enum spool_giver giver);
void spool_id_format(uint64_t id, char text[SPOOL_ID_TEXT]);
bool spool_id_parse(struct slice text, uint64_t *id) MUST_CHECK; /* exactly the form above */
/* "incoming/ID" and "queue/XX/ID". XX: four seconds of arrival share a folder, so a batch touches one or two. */
void spool_incoming_path(uint64_t id, char path[SPOOL_PATH_MAX]);
void spool_queue_path(uint64_t id, char path[SPOOL_PATH_MAX]);
unsigned spool_shard(uint64_t id);
bool spool_is_complete(const struct stat *st); /* S2 or later by its mode */

/* Owner uid and group gids of the parts; (uid_t)-1: leave as we are (not started as root). */
struct spool_owners {
	uid_t user;
	gid_t group, drop_group, smtp_group;
};

/*
 * Makes what is missing and repairs modes: drop 3730 group drop-group, rejected 0700, incoming 2750 and queue +
 * queue/XX 2750 group smtp-group (setgid: files inherit it, so smtpout can read them), db db/queue db/limits history
 * dead 0700; run and the spool itself 0755, run/empty 0555, these root's unless not started as root. Never follows a
 * symbolic link. Returns 0, or -1 with errno and *what naming the path (static part of it).
 */
int spool_prepare(const char *spool, const struct spool_owners *owners, const char **what) MUST_CHECK;
/*
 * Of a prepared spool: may the instance use what an earlier run left in db/, history/ and queue/? Looks at owners and
 * modes, in queue/XX at one file each. False: `problem` says which file it may not use, and what would help.
 */
bool spool_files_are_ours(const char *spool, const struct spool_owners *owners, struct buf *problem) MUST_CHECK;
/* fsync of a directory; -1 with errno. */
int spool_sync_dir(int dirfd, const char *relative_path) MUST_CHECK;
#endif
