/* session.h - one session asked for by CONNECT: hosts in order, one connection, the deliveries that go over it. */
#ifndef SMTPOUT_SESSION_H
#define SMTPOUT_SESSION_H
#include "lib/msg.h"
#include "smtpout/worker.h"

struct session;

enum { SESSION_QUEUE_MAX = 128 }; /* deliveries that wait on one session; more are handed back */

/* Starts connecting; false when the message makes no sense (unknown server, bad host list, id in use). */
bool session_open(struct worker *w, const struct msg_connect *m) MUST_CHECK;
struct session *session_find(struct worker *w, uint32_t id); /* NULL when there is none, or it is ending */
void session_deliver(struct session *s, const struct msg_deliver *m);
/* A delivery for a session that is not there any more: handed back untouched. */
void session_refuse(struct worker *w, const struct msg_deliver *m);
void session_hang_up(struct session *s); /* QUIT when its deliveries are over */
/* Hands back what has not begun, ends when what is under way is over. */
void session_drain(struct session *s);
/* Looks for work again: the book has room. */
void session_wake(struct session *s);

/* For RESYNC: SESSION_OPEN, and an INFLIGHT per delivery that was not reported in full. */
void session_tell(struct session *s);
struct session *session_of_node(struct table_node *node);
#endif
