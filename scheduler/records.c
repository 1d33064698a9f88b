/* records.c - see records.h. */
#include "scheduler/records.h"
#include <stdlib.h>

static bool collect(void *arg, struct slice key, struct slice value)
{
	struct record_list *list = arg;
	struct record *r = record_decode(key, value);

	if (r)
		*(struct record **)array_add((void **)&list->record, &list->count, &list->room, sizeof(r)) = r;
	return true;
}

void records_read(struct scheduler *s, uint64_t id, struct record_list *list)
{
	scheduler_must(s, journal_scan(s->journal, id, collect, list), "reading a message's records");
}

void records_release(struct record_list *list)
{
	for (unsigned i = 0; i < list->count; i++)
		record_free(&list->record[i]);
	free(list->record);
}

bool records_need_report(const struct record_list *list)
{
	for (unsigned i = 0; i < list->count; i++)
		for (unsigned k = 0; k < list->record[i]->rcpt_count; k++)
			if (list->record[i]->rcpt[k].state == RCPT_BOUNCED ||
			    list->record[i]->rcpt[k].state == RCPT_EXPIRED)
				return true;
	return false;
}

const char *records_outcome(const struct record_list *list)
{
	bool sent = false, failed = false;

	for (unsigned i = 0; i < list->count; i++) {
		for (unsigned k = 0; k < list->record[i]->rcpt_count; k++) {
			sent |= list->record[i]->rcpt[k].state == RCPT_DELIVERED;
			failed |= list->record[i]->rcpt[k].state != RCPT_DELIVERED;
		}
	}
	return sent && failed ? "mixed" : failed ? "bounced" : "sent";
}
