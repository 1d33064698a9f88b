/* outcome_log.h - the line about one recipient's outcome, as pflogsumm and its like read it; pure.
 *
 * ID: to=<RCPT>, relay=HOST[ADDR]:PORT, delay=S, delays=A/B/C/D, dsn=X.Y.Z, status=sent (REPLY), server=NAME attempt=N
 * Postfix's form up to the closing parenthesis; our own fields follow it and hold no parentheses.
 */
#ifndef SMTPOUT_OUTCOME_LOG_H
#define SMTPOUT_OUTCOME_LOG_H
#include "lib/clock.h"
#include "lib/msg.h"

enum { OUTCOME_LOG_MAX = 4096, OUTCOME_DELAYS_MAX = 64 };

/* Everything borrowed. text and relay are printable already; rcpt and server are made so here. */
struct outcome_line {
	struct slice rcpt;
	const char *relay, *dsn, *text, *server;
	struct wall arrived, scheduled, active, begun, done;
	unsigned attempt;
	enum disposition disposition;
	struct wall next; /* next attempt; ms 0: none */
	bool may_repeat;  /* the server had all of it: another attempt may be a second copy */
};

/* Strings for the JSON form of the same line. */
struct outcome_fields {
	char rcpt[512], delay[16], delays[OUTCOME_DELAYS_MAX], server[256], attempt[8], next[40];
	const char *pairs[24]; /* for log_message(): points into this struct and the line */
};

/* False for dispositions that are no outcome: then `out` holds a plain sentence, or is untouched. */
bool outcome_log_format(struct buf *out, const struct outcome_line *line, struct outcome_fields *fields);
/* "0", "0.03", "1.2", "17": seconds as Postfix prints them, two digits that matter, none behind the hundredths. */
void outcome_log_seconds(struct buf *out, int64_t ms);
#endif
