/*
 * admit.h - from drop/NAME to a message that is on stable storage: states S0 to S2 of lib/spool.h, in batches.
 *
 * claim (rename to incoming/ID) - convert (incoming/ID.new) - sync all of the batch at once - rename over incoming/ID -
 * sync the folders - log - announce. Dying anywhere leaves each message exactly once: still in drop/, or raw or
 * complete in incoming/. What fails on our side (disk full, no descriptors) goes back to drop/, and intake pauses.
 */
#ifndef PICKUP_ADMIT_H
#define PICKUP_ADMIT_H
#include "lib/buf.h"
#include "pickup/accounts.h"
#include "pickup/announce.h"
#include "pickup/convert.h"
#include "pickup/scan.h"

/* A batch ends when it has so many files or, whatever comes next, so many bytes. */
enum { ADMIT_BATCH_MAX = 256, ADMIT_BATCH_BYTES = 16 << 20, ADMIT_SYNCFS_MIN = 8 };

enum admit_result {
	ADMIT_OK,
	ADMIT_PAUSE, /* our side is in trouble: try again later. Logged */
	ADMIT_FATAL  /* a folder could not be synced: what is on disk is not known; start again. Logged */
};

struct admit_item {
	uint64_t id;
	struct scan_file *file; /* NULL: found raw in incoming/, its name is lost */
	uint32_t uid;
	unsigned crashes; /* that this message is blamed for (crumb.h) */
	int fd;           /* of incoming/ID.new; -1: none */
	char *sender;     /* for the log */
};

struct admit {
	const struct conf *conf;
	int spool_fd;
	struct scan *scan;
	struct announce *announce;
	struct accounts *accounts;
	struct converter converter;
	struct buf account; /* scratch */
	uint64_t last_id;
	struct admit_item item[ADMIT_BATCH_MAX];
	unsigned item_count; /* of the present batch: claimed and converted */
	unsigned rejected;   /* of the present batch: put aside */
	bool has_leftovers;  /* a claimed file could not go back either: recover.h finds it in incoming/ */
	int64_t complained_ms;
};

void admit_init(struct admit *a, const struct conf *conf, int spool_fd);
/* Takes at most `max` (<= ADMIT_BATCH_MAX) of what the scan has ready. */
enum admit_result admit_batch(struct admit *a, unsigned max) MUST_CHECK;
/* Takes incoming/ID, claimed by a predecessor, alone. */
enum admit_result admit_claimed(struct admit *a, uint64_t id) MUST_CHECK;
#endif
