/* react.h - what the rules about replies (postern-replies(5)) make of a failure: for its lane, its server, its
 * delivery. */
#ifndef SCHEDULER_REACT_H
#define SCHEDULER_REACT_H
#include "lib/replies.h"
#include "scheduler/session.h"

/* The rule that a failure falls under, or NULL. `text` is smtpout's: "host X said: ...". */
const struct reply_rule *react_find(const struct scheduler *s, unsigned server, unsigned code, struct slice dsn,
				    struct slice text);
/*
 * Does what the rule says about connection, site and server. True: the delivery goes again without an attempt having
 * been made, and nothing of it is final. session may be NULL: it is gone.
 */
bool react_to_reply(struct scheduler *s, const struct reply_rule *rule, struct session *session, unsigned server,
		    struct slice text);
/* A session failed before it was up. True: that is no failure of its lane, and its deliveries go again. */
bool react_to_session(struct scheduler *s, const struct reply_rule *rule, struct lane *l,
		      const struct msg_session_down *m);
/* The rule forbids that the reply bounces anything: it speaks of connection, site or server, or says retry. */
bool react_spares_recipient(const struct reply_rule *rule);
/* How long the rule makes a delivery wait; 0: as configured. */
uint64_t react_wait_ms(const struct scheduler *s, const struct reply_rule *rule);
#endif
