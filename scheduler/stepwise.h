/* stepwise.h - sites that lose what is sent ahead: they offer PIPELINING and discard the commands behind the first.
 *
 * Such a connection ends with replies to a part of a flight, and none to the rest. Once is a mishap. When a connection
 * that was opened after it ends in the same way, the site gets one command at a time for a month: written down in the
 * journal as "stepwise/NAME/HOSTS": until (ms since 1970, decimal).
 */
#ifndef SCHEDULER_STEPWISE_H
#define SCHEDULER_STEPWISE_H
#include "scheduler/lane.h"

/* The lane's hosts are known (encoded, lib/hosts.h), for the first time: names them in hosts_key. */
void stepwise_begin(struct scheduler *s, struct lane *l, struct slice hosts);
/* Whether a session of this lane does without PIPELINING. */
bool stepwise_is_on(const struct lane *l);
/* A session, which has a lane, is over. */
void stepwise_on_down(struct scheduler *s, const struct session *session, bool is_flight_broken);
/* One more broken flight will decide. */
bool stepwise_is_in_doubt(const struct lane *l);
/* At start: strikes out what is over. */
void stepwise_load(struct scheduler *s);
#endif
