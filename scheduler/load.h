/* load.h - what the disk knows at start: records, incoming/, queue/. */
#ifndef SCHEDULER_LOAD_H
#define SCHEDULER_LOAD_H
#include "scheduler/scheduler.h"

enum load_result {
	LOAD_OK,
	LOAD_FAILED, /* the spool cannot be read */
	LOAD_NEWER   /* the journal is a later version's: nothing was changed */
};

/*
 * Records become entries; S5 is swept, S3 renamed, S2 taken in; a queue file without a record is a message to deliver
 * (possibly a second time, and logged so). What is not OK was logged.
 */
enum load_result load_spool(struct scheduler *s) MUST_CHECK;
#endif
