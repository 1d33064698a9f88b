/* refusal.h - logins that a server refused: it is left alone for longer and longer, and nothing bounces.
 *
 * Mail goes to the next server or waits, without an attempt made and without its age counting. The count outlasts a
 * restart; the pause does not: whoever starts us again, or changes the password, wants to see it tried.
 */
#ifndef SCHEDULER_REFUSAL_H
#define SCHEDULER_REFUSAL_H
#include "scheduler/scheduler.h"

/*
 * The server refused our login, or will not have mail without one. `code`: of its reply, 0: there was none; 4yz: it
 * cannot log in anybody now, and is left alone for minutes, not hours. `why` is printable.
 */
void refusal_note(struct scheduler *s, unsigned server, unsigned code, struct slice why);
/* Whether a session's end is such a refusal: then its deliveries go again. */
bool refusal_is_one(const struct scheduler *s, unsigned server, const struct msg_session_down *m);
/* A session came up. */
void refusal_forget(struct scheduler *s, unsigned server);
/* Passwords of these servers have changed: they are tried now. */
void refusal_on_new_secrets(struct scheduler *s, const struct msg_new_secrets *m);
/* At start, behind pause_load(). */
void refusal_load(struct scheduler *s);
#endif
