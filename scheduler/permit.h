/* permit.h - permits of servers that have limits: asked in batches, used one by one, settled when the reply is in.
 *
 * For a server without limits everything here says yes and does nothing.
 */
#ifndef SCHEDULER_PERMIT_H
#define SCHEDULER_PERMIT_H
#include "scheduler/scheduler.h"

bool permit_is_needed(const struct scheduler *s, unsigned server);
/* At least one permit is at hand; else asks for as many as wait, unless the limiter said when to ask again. */
bool permit_is_ready(struct scheduler *s, unsigned server);
/* One message to so many recipients; false (and asks for more) when they do not suffice. */
bool permit_take(struct scheduler *s, unsigned server, unsigned rcpts);
/* A taken permit: used when the server saw the transaction, else refunded. */
void permit_settle(struct scheduler *s, unsigned server, bool was_used, unsigned rcpts);
/* A delivery of the scheduler before us is under way. */
void permit_adopt(struct scheduler *s, unsigned server, unsigned rcpts);
/* Whatever holds a server's mail back: while there is one reason or more, time does not count as age. */
void permit_hold_begin(struct scheduler *s, unsigned server);
void permit_hold_end(struct scheduler *s, unsigned server);
void permit_on_granted(struct scheduler *s, const struct msg_permit *m);
void permit_on_settled(struct scheduler *s, const struct msg_settled *m);
/* A new limiter: tells it what is under way, then repeats what it did not answer. */
void permit_resync(struct scheduler *s);
/* Once per turn: sends settlements, gives back what nobody waits for. */
void permit_turn(struct scheduler *s);
void permit_release_all(struct scheduler *s);
#endif
