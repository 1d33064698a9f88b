/* filter.h - which messages an operator means. */
#ifndef SCHEDULER_FILTER_H
#define SCHEDULER_FILTER_H
#include "scheduler/control.h"
#include "scheduler/scheduler.h"

struct filter {
	bool is_all; /* everything, no condition given */
	uint64_t *id;
	unsigned id_count, id_room;
	char *sender, *recipient, *domain; /* patterns of address_matches(); NULL: any */
	int server;                        /* index or -1 */
	int64_t older_ms;                  /* 0: any */
};

/* From the request's "filters" object. False: a mistake, reply says so. No filter at all matches everything. */
bool filter_read(struct filter *f, const struct scheduler *s, const struct control_request *request,
		 struct control_reply *reply) MUST_CHECK;
void filter_release(struct filter *f);
bool filter_is_empty(const struct filter *f); /* nothing was asked for */
/* By the record; what memory knows (id, age) filter_collect() has seen to. */
bool filter_takes_record(const struct filter *f, const struct scheduler *s, const struct entry *e,
			 const struct record *r);

struct entry_ref {
	uint64_t id;
	entry_index index;
};
/* All entries of messages the filter may take, in order of id; the caller frees the array. */
struct entry_ref *filter_collect(struct scheduler *s, const struct filter *f, unsigned *count);
#endif
