/* verdict.h - what a failure means: final or not, greylisting or not, when to try again; pure. */
#ifndef SCHEDULER_VERDICT_H
#define SCHEDULER_VERDICT_H
#include "lib/conf.h"
#include "lib/msg.h"

/*
 * "Which server carries a message", rule 3: a permanent reply that speaks of the mailbox (5.1.0-5.1.3, 5.1.6, 5.1.10,
 * 5.2.0-5.2.2; through a relay also 550, 551, 553 without an enhanced code) or of the message (5.2.3, 5.3.4, 5.6.x,
 * 552) is final. Every other one goes on to the next server.
 */
bool verdict_is_final(bool is_relay, unsigned code, struct slice dsn);
/* Of those the ones that speak of the message. */
bool verdict_is_about_message(unsigned code, struct slice dsn);
/*
 * How long to wait after attempt number `attempts` (1: the first) failed. `may_repeat`: some server had the whole
 * message and did not say that it took it; each attempt may be one more copy, so the waits double, up to a day.
 */
uint64_t retry_wait_ms(const struct conf *conf, unsigned attempts, bool may_repeat);
/* Back-off of a lane after so many failures in a row: 30 s doubling to 1 h, never more than the shortest retry wait. */
uint64_t lane_backoff_ms(const struct conf *conf, unsigned failures);
/* The message's time is over: attempts made so far, age without the time that we held it back ourselves. */
bool retry_is_over(const struct conf *conf, unsigned attempts, int64_t age_ms);
#endif
