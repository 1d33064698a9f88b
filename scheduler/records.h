/* records.h - all records of one message: its deliveries, one record each. */
#ifndef SCHEDULER_RECORDS_H
#define SCHEDULER_RECORDS_H
#include "scheduler/scheduler.h"

/* In order of their groups. */
struct record_list {
	struct record **record;
	unsigned count, room;
};

/* Appends to a zeroed list; damaged ones are left out. Release in every case. */
void records_read(struct scheduler *s, uint64_t id, struct record_list *list);
void records_release(struct record_list *list);
/* Some recipient has failed whose sender has not heard of it. */
bool records_need_report(const struct record_list *list);
/* What became of the message, for the log: "sent", "bounced" or "mixed". */
const char *records_outcome(const struct record_list *list);
#endif
