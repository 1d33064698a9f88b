/* finish.h - the end of deliveries and messages: done marks, unlinking, sweeping. */
#ifndef SCHEDULER_FINISH_H
#define SCHEDULER_FINISH_H
#include "scheduler/records.h"

/* Every recipient of the delivery is final. Records it; ends the message when it was the last. Frees the entry. */
void finish_delivery(struct scheduler *s, struct record *r, entry_index i);
/* Every group of the message is final: a report first if one is due, then done. */
void finish_message(struct scheduler *s, uint64_t id);
/* The lowest group's record becomes the done mark, the others go. why: for the log. */
void finish_mark_done(struct scheduler *s, const struct record_list *list, const char *why);
/* Its record (with this group number) says done. why: for the log; NULL: said before a restart. */
void finish_add_done(struct scheduler *s, uint64_t id, uint32_t group, const char *why);
/*
 * An operator deleted it, or its file is gone: no report. Frees its entries (`i` is one of them) and marks it done.
 * False, and nothing changed, when one of them is under way or waits for an answer from DNS.
 */
bool finish_forget(struct scheduler *s, uint64_t id, entry_index i);
/* Out of the heap, a lane, or hold: the entry is in nobody's place then. False when it is where it cannot be taken
 * from. */
bool finish_take_out(struct scheduler *s, entry_index i);
/* After the journal's sync: reports are written, what is done is unlinked. */
void finish_after_sync(struct scheduler *s);
/* Syncs the folders where unlinked files stood, then drops their records. */
void finish_sweep(struct scheduler *s);
#endif
