/* dispatch.h - from waiting to under way: due deliveries into lanes, lanes into sessions. */
#ifndef SCHEDULER_DISPATCH_H
#define SCHEDULER_DISPATCH_H
#include "scheduler/scheduler.h"

/* A new attempt begins: from the first server on. The entry is in nobody's place. */
void dispatch_entry(struct scheduler *s, entry_index i);
/* Goes on at entry->server_at: into a lane, to wait for DNS, or to the end of its attempt. */
void dispatch_route(struct scheduler *s, entry_index i);
/* A lane recovered: everything that waits because of it is due now. */
void dispatch_release_blamed(struct scheduler *s, uint32_t blame);
/* All lanes of a server: permits came, addresses came. */
void dispatch_server_changed(struct scheduler *s, unsigned server);
/* A worker came, or its pipe has room again: every lane with mail may try. */
void dispatch_workers_changed(struct scheduler *s);
/* The server's limits are used up: mail with another server goes there when on-limit = next. */
void dispatch_purse_blocked(struct scheduler *s, struct purse *p);
/* The server is left alone for a while: its mail goes to other servers where there are any. */
void dispatch_server_paused(struct scheduler *s, unsigned server);
/* It may be tried again: one delivery a lane goes first. */
void dispatch_server_resumed(struct scheduler *s, unsigned server);
enum { DISPATCH_OUTSIDE = 255 };

/* Position of a server in the entry's list; DISPATCH_OUTSIDE when it is not there (any more). */
uint8_t dispatch_server_at(struct scheduler *s, entry_index i, unsigned server);
/* Once per loop turn: what is due, what can go. */
void dispatch_turn(struct scheduler *s);
/* Forgets an entry and its domain. */
void entry_forget(struct scheduler *s, entry_index i);
#endif
