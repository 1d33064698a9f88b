/* limits.h - operators' commands about limits: what is used of them, and corrections; answered by the limiter. */
#ifndef SCHEDULER_LIMITS_H
#define SCHEDULER_LIMITS_H
#include "scheduler/control.h"
#include "scheduler/scheduler.h"

/* {"command":"limits"}: an object a line, see postern(8). */
void limits_command_list(void *arg, const struct control_request *request, struct control_reply *reply);
/* {"command":"limits-set","scope":S,"limit":L,"used":N,"why":W}, {"command":"limits-reset","scope":S,"why":W} */
void limits_command_correct(void *arg, const struct control_request *request, struct control_reply *reply);
/* {"command":"forecast","filters":{...}}: one object, see postern(8). */
void limits_command_forecast(void *arg, const struct control_request *request, struct control_reply *reply);
void limits_on_foreseen(struct scheduler *s, const struct msg_limit_foreseen *m);
void limits_on_store_state(struct scheduler *s, const struct msg_store_state *m);
/* So many recipients were served: how fast mail goes when nothing holds it back. */
void limits_note_speed(struct scheduler *s, unsigned count);
/* One limit as a JSON object, without a line's end. */
void limits_put(struct buf *out, const struct msg_limit_state *m);
/* The limiter's answers; false: it was nobody's question here. */
bool limits_on_state(struct scheduler *s, const struct msg_limit_state *m);
void limits_on_corrected(struct scheduler *s, const struct msg_limit_corrected *m);
void limits_limiter_lost(struct scheduler *s);
/*
 * A reply says that a quota of the server is used up: of the limits with this window (0: of all) the one that is
 * nearest to its end is, too.
 */
void limits_fill(struct scheduler *s, unsigned server, uint64_t window_ms);
#endif
