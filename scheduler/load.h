/* load.h - what the disk knows at start: records, incoming/, queue/. */
#ifndef SCHEDULER_LOAD_H
#define SCHEDULER_LOAD_H
#include "scheduler/scheduler.h"

/*
 * Records become entries; S5 is swept, S3 renamed, S2 taken in; a queue file without a record is a message to deliver
 * (possibly a second time, and logged so). False when the spool cannot be read; why was logged.
 */
bool load_spool(struct scheduler *s) MUST_CHECK;
#endif
