/* detour.h - the best host of a site takes connections, but no mail: sessions to come begin with the next. RFC 5321 5.1
 *
 * A session tries hosts in order until one is ready for mail; what that one then says to mail, only the next session
 * can heed. So a session that came to nothing makes its lane pass over one more host, for as long as its mail may wait
 * for its next attempt; then the order of preference holds again.
 */
#ifndef SCHEDULER_DETOUR_H
#define SCHEDULER_DETOUR_H
#include "lib/replies.h"
#include "scheduler/session.h"

/* The lane's hosts in the order in which the session, which is new, shall try them. Borrowed until the next call. */
struct slice detour_order(struct session *session, const struct lane *l, struct slice hosts);
/* What a report says about the host. `rule`: about this reply; NULL: none. */
void detour_on_report(struct session *session, const struct msg_report *m, const struct reply_rule *rule);
/* No use in waiting for more mail here: its host refuses all for now, and there are others. */
bool detour_is_due(const struct session *session);
/* The end of a session. is_fruitless: it was up and gone without a word about mail. */
void detour_on_end(struct scheduler *s, struct session *session, bool is_fruitless, struct slice relay);
/* The lane knows something that must not be forgotten yet. */
bool detour_is_remembered(const struct lane *l);
#endif
