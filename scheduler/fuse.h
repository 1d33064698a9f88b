/* fuse.h - a server that refuses everything bounces nothing.
 *
 * When so many messages in a row, to several domains and within an hour, would bounce because one server refuses them,
 * and it took none in between, then what it says is not about them: our address is listed, it does not know our sender.
 * It is paused, for an hour at first and six at last, and until it has taken a message nothing bounces for what it
 * says: mail goes to the next server or waits, without an attempt made and without its age counting. That it is so
 * outlasts a restart; the pause does not: whoever starts us again wants to see it tried.
 */
#ifndef SCHEDULER_FUSE_H
#define SCHEDULER_FUSE_H
#include "lib/replies.h"
#include "scheduler/scheduler.h"

enum { FUSE_MESSAGES = 20, FUSE_DOMAINS = 5, FUSE_WINDOW_MS = 3600 * 1000 };

/*
 * The server refuses for good what no other server will be asked for. NULL: that is to be believed. Else a rule under
 * which the reply falls, and the server is paused. Of a direct server only what speaks of us counts, of a relay also
 * what speaks of mailboxes; what speaks of the message never does. `text` is printable.
 */
const struct reply_rule *fuse_on_refusal(struct scheduler *s, unsigned server, const struct record *r, unsigned code,
					 struct slice dsn, struct slice text);
/* It took a message. */
void fuse_on_delivered(struct scheduler *s, unsigned server);
/* At start, behind pause_load(). */
void fuse_load(struct scheduler *s);
#endif
