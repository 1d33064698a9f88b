/* slots.h - connections that lanes share: all of a server, and all to a destination, whatever its sites. What
 * max-connections of both means is counted here, connecting and closing connections included.
 */
#ifndef SCHEDULER_SLOTS_H
#define SCHEDULER_SLOTS_H
#include "scheduler/scheduler.h"

struct conf_destination;

/* At start, as configured. */
void slots_init(struct scheduler *s);
/* Whether the lane may open one more connection. If not it waits its turn, and an idle one of another lane is ended. */
bool slots_ask(struct scheduler *s, struct lane *l);
/* A connection begins, and is over: `d` NULL for a destination without settings. */
void slots_take(struct scheduler *s, unsigned server, const struct conf_destination *d);
void slots_give_back(struct scheduler *s, unsigned server, const struct conf_destination *d);
/* A lane was worked on: what it was offered and did not take is the next one's. */
void slots_pass_on(struct scheduler *s, unsigned server, const struct conf_destination *d);
/* Some lane waits for such a connection. */
bool slots_are_wanted(const struct scheduler *s, unsigned server, const struct conf_destination *d);
/* Whether such a connection is one of these. */
bool slots_include(const struct scheduler *s, const struct slots *at, unsigned server,
		   const struct conf_destination *d);
/* A rule about replies: one connection less than there are to this server; they grow again. False: there is but one. */
bool slots_use_fewer(struct scheduler *s, unsigned server);
/* A delivery through this server was answered in good order. */
void slots_on_success(struct scheduler *s, unsigned server);
#endif
