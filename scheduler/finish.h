/* finish.h - the end of deliveries and messages: reports to senders, done marks, unlinking, sweeping. */
#ifndef SCHEDULER_FINISH_H
#define SCHEDULER_FINISH_H
#include "scheduler/scheduler.h"

/* Every recipient of the delivery is final. Records it; ends the message when it was the last. Frees the entry. */
void finish_delivery(struct scheduler *s, struct record *r, entry_index i);
/* Every group of the message is final: a report first if one is due, then done. */
void finish_message(struct scheduler *s, uint64_t id);
/*
 * The delivery waits for another attempt while some recipients have failed for good: their sender hears of it now, not
 * when the last of the others is final. Marks them; the caller records it.
 */
void finish_tell_failed(struct scheduler *s, struct record *r);
/* A delay notice to the sender, if one may be sent, for all deliveries of the message that wait; marks them. */
void finish_warn(struct scheduler *s, struct record *r);
/* Its record (with this group number) says done. why: for the log; NULL: said before a restart. */
void finish_add_done(struct scheduler *s, uint64_t id, uint16_t group, const char *why);
/*
 * An operator deleted it, or its file is gone: no report. Frees its entries (`i` is one of them) and marks it done.
 * False, and nothing changed, when one of them is under way or waits for an answer from DNS.
 */
bool finish_forget(struct scheduler *s, uint64_t id, entry_index i);
/* Out of the heap, a lane, or hold: the entry is in nobody's place then. False when it is where it cannot be taken
 * from. */
bool finish_take_out(struct scheduler *s, entry_index i);
/* After the journal's sync: writes reports, unlinks what is done. */
void finish_after_sync(struct scheduler *s);
/* Syncs the folders of unlinked files, then drops their records. */
void finish_sweep(struct scheduler *s);
#endif
