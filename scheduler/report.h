/* report.h - what senders are told of their mail, and when: failures, and delays. How it is written: bounce.h. */
#ifndef SCHEDULER_REPORT_H
#define SCHEDULER_REPORT_H
#include "scheduler/records.h"

/* All recipients are final and some have failed: their sender gets a report after the journal's sync; then it is done.
 */
void report_final(struct scheduler *s, struct record_list *list);
/* After the journal's sync: writes what report_final() was given. What finds no room on the disk is tried again later.
 */
void report_after_sync(struct scheduler *s);
/*
 * The delivery waits for another attempt while some recipients have failed for good: their sender hears of it now, not
 * when the last of the others is final. Marks them; the caller records it.
 */
void report_failed(struct scheduler *s, struct record *r);
/* A delay notice to the sender, if one may be sent, for all deliveries of the message that wait. Marks them, unless it
 * could not be written; the caller records `r`. */
void report_delay(struct scheduler *s, struct record *r);
#endif
