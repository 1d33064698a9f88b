/* grouping.h - which recipients of a message go together: those that go the same way, and to one place where it
 * matters; those whose addresses need SMTPUTF8 by themselves.
 */
#ifndef SCHEDULER_GROUPING_H
#define SCHEDULER_GROUPING_H
#include "scheduler/scheduler.h"

struct grouping;

/* What a server bounds besides the limits configured: RFC 9422 RCPTMAX, and RCPTDOMAINMAX, of which one is enough. */
struct grouping_bounds {
	unsigned rcpts_max; /* RECORD_RCPT_MAX: none */
	bool is_by_domain;
};

/*
 * Makes groups for deliveries that are alike but for their recipients: sender, wanted server, times, flags. `like` is
 * copied, its strings are borrowed. Groups are numbered from first_number on, and keep to the bounds.
 */
struct grouping *grouping_new(struct scheduler *s, const struct record *like, uint32_t first_number,
			      struct grouping_bounds bounds);
void grouping_free(struct grouping **g);
/* One more recipient; the address is borrowed. */
void grouping_add(struct grouping *g, uint32_t index, struct slice address);
unsigned grouping_count(const struct grouping *g);
/* The record of one of them, of a message of so many groups; the caller's. */
struct record *grouping_record(const struct grouping *g, unsigned at, uint32_t group_count);
/* A waiting entry for one of them, see intake_entry(). */
entry_index grouping_entry(struct grouping *g, unsigned at);

/* Recipients of different domains do not share a delivery: MX hosts differ, or each domain has its own refusal. */
bool grouping_is_by_domain(const struct scheduler *s, const struct plan *plan);
/* Recipients of one delivery through the servers: what limits could ever let through at once. */
unsigned grouping_rcpts_max(const struct scheduler *s, const struct plan *plan, const char *domain);
#endif
