/* intake.h - messages become known: announced by pickup, or found on disk at start. */
#ifndef SCHEDULER_INTAKE_H
#define SCHEDULER_INTAKE_H
#include "scheduler/grouping.h"
#include "scheduler/journal.h"
#include "scheduler/scheduler.h"

/* S2 -> S3: records for messages in incoming/. Acknowledged and queued after the journal's sync (intake_after_sync). */
void intake_on_admit(struct scheduler *s, const struct msg_admit *m);
void intake_admit(struct scheduler *s, uint64_t id, const char *path, bool maybe_repeated);
/* S3 -> S4: renames, acknowledgements; the newborn entries begin their first attempt. */
void intake_after_sync(struct scheduler *s);
/*
 * A delivery grouped for relays that now has a direct server, or for other limits: grouped anew within the bounds, and
 * its parts begin after the journal's sync. Takes the entry.
 */
void intake_split(struct scheduler *s, entry_index i, struct grouping_bounds bounds);
/* Admissions that found no room in the database. */
void intake_retry_refused(struct scheduler *s);
/* A waiting entry for the record; its place is ENTRY_LISTED (nobody's list yet) or ENTRY_HELD. */
entry_index intake_entry(struct scheduler *s, const struct record *r, struct slice domain, const struct plan *plan);
/* The plan of a whole record under the present configuration; false: its recipients go different ways now. */
bool intake_plan(const struct scheduler *s, const struct record *r, struct plan *plan) MUST_CHECK;
void intake_note_groups(struct scheduler *s, uint64_t id, uint32_t group_count, uint32_t open_groups);
struct message *message_find(struct scheduler *s, uint64_t id);
/* It has a queue file, and that cannot be understood: nothing of it may be sent. */
bool intake_is_damaged(const struct scheduler *s, uint64_t id) MUST_CHECK;
/*
 * A file that could not be understood when it came, and has no recipients in its record therefore, is looked at once
 * more: the entry goes, another comes. False: it is as it was.
 */
bool intake_look_again(struct scheduler *s, entry_index i) MUST_CHECK;
#endif
