/* heartbeat.h - a child that lives but no longer answers is killed, and started again like any dead one. */
#ifndef MASTER_HEARTBEAT_H
#define MASTER_HEARTBEAT_H
#include "master/supervisor.h"

/* PING to everybody every 20 s (POSTERN_TEST_HEARTBEAT_MS for tests); three unanswered are one too many. */
void heartbeat_start(struct master *m);
void heartbeat_note_answer(struct child *c);
#endif
