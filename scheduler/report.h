/* report.h - what senders are told of their mail, and when: failures, and delays. How it is written: bounce.h. */
#ifndef SCHEDULER_REPORT_H
#define SCHEDULER_REPORT_H
#include "scheduler/records.h"

/* All recipients are final and some have failed: their sender gets a report after the journal's sync; then it is done.
 */
void report_final(struct scheduler *s, struct record_list *list);
/*
 * The delivery waits for another attempt while some recipients have failed for good: their sender hears of it now, not
 * when the last of the others is final. Marks it due; the caller records it.
 */
void report_failed(struct scheduler *s, struct record *r);
/* A delay notice to the sender, if one may be sent, for all deliveries of the message that wait. Marks it due; the
 * caller records it. */
void report_delay(struct scheduler *s, struct record *r);
/* After the journal's sync: writes what is due. What finds no room on the disk is tried again later.
 */
void report_after_sync(struct scheduler *s);
/* At start, before anything is tried: this message has a report that is due, or was written and the record not told. */
void report_resume(struct scheduler *s, uint64_t id);
#endif
