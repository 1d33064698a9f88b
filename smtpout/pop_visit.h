/* pop_visit.h - one visit to a server's POP3 account, asked for by POP_LOGIN: connect, log in, tell, hang up. */
#ifndef SMTPOUT_POP_VISIT_H
#define SMTPOUT_POP_VISIT_H
#include "lib/msg.h"
#include "smtpout/worker.h"

/*
 * Begins; its end is told with POP_DONE. The scheduler asks for one visit to a server at a time; from the address that
 * SMTP to that server comes from. False when the message makes no sense.
 */
bool pop_visit_begin(struct worker *w, const struct msg_pop_login *m) MUST_CHECK;
/* Hangs up on all; `must_tell`: the scheduler has to ask another process. A new scheduler will ask anew anyway. */
void pop_visit_end_all(struct worker *w, bool must_tell);

/* The server as POP3 sees it, for dialling and for its TLS policy: a shallow copy, which borrows all. */
struct conf_server pop_visit_server(const struct conf_server *server);
#endif
