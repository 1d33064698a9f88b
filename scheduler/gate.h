/* gate.h - POP before SMTP: no mail goes to such a server but within valid-for of a login at its POP3 account.
 *
 * One worker visits the account on behalf of all, never two at once. A visit that was refused counts as a refused login
 * (refusal.h); one that found nobody at home as a failure of the server's lanes.
 */
#ifndef SCHEDULER_GATE_H
#define SCHEDULER_GATE_H
#include "scheduler/lane.h"

/* Whether mail may go now; else a visit is begun or under way, or has failed, and the lane hears of its end. */
bool gate_is_open(struct scheduler *s, struct lane *l);
void gate_on_done(struct scheduler *s, struct worker *w, const struct msg_pop_done *m);
void gate_worker_lost(struct scheduler *s, const struct worker *w);
/*
 * The server will not relay for us, whatever it said when: perhaps it has forgotten the login sooner than we thought.
 * True: the mail goes again, behind another visit. False when that was tried, or this server knows no POP.
 */
bool gate_on_refusal(struct scheduler *s, unsigned server, struct slice text);
void gate_on_delivered(struct scheduler *s, unsigned server);
#endif
