/*
 * recover.h - what a predecessor left in incoming/, or a disk in trouble: complete messages are announced (the
 * scheduler may not know them), claimed ones taken again one at a time, debris removed. Intake from drop/ begins behind
 * it.
 */
#ifndef PICKUP_RECOVER_H
#define PICKUP_RECOVER_H
#include "pickup/admit.h"
#include <dirent.h>

enum recover_result { RECOVER_DONE, RECOVER_MORE, RECOVER_PAUSE, RECOVER_FATAL };

/* Zeroed is ready. */
struct recover {
	DIR *folder;
	bool is_synced; /* what stands in incoming/ is known to be durable */
};

/* Some entries; needs announce_room() > 0. MORE: call again. PAUSE: call again later, it begins anew. */
enum recover_result recover_step(struct recover *r, struct admit *a) MUST_CHECK;
#endif
