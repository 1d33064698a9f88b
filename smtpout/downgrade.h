/* downgrade.h - eight-bit content for a server without 8BITMIME, as quoted-printable; pure, streaming.
 *
 * RFC 6152 3, RFC 2045 6, RFC 2046. The message is gone through twice. The first time finds out which parts have to
 * change: those that are not encoded yet and do have bytes above 127. The second time writes them as quoted-printable
 * with the header that says so; every other part keeps its bytes, so that a signed part of ASCII stays valid. Headers
 * in eight bits go as they are: nothing in MIME can say what they mean. A message without MIME headers gets them.
 */
#ifndef SMTPOUT_DOWNGRADE_H
#define SMTPOUT_DOWNGRADE_H
#include "lib/buf.h"

enum {
	DOWNGRADE_ENTITIES_MAX = 65536, /* parts of a message; what comes behind them is left as it is */
	DOWNGRADE_DEPTH_MAX = 100,      /* parts within parts, as Postfix's mime_nesting_limit */
	DOWNGRADE_GROWTH = 8,           /* what a call appends: at most so many times its input ... */
	DOWNGRADE_SLACK = 16 * 1024     /* ... and what an earlier call kept back */
};

struct downgrade;

struct downgrade *downgrade_new(void);
void downgrade_free(struct downgrade **d);
/* The first time: all bytes of the message, in pieces of any size; then downgrade_turn(). */
void downgrade_look(struct downgrade *d, struct slice in);
void downgrade_turn(struct downgrade *d);
/* The second time: the same bytes again; what they become is appended. After the last: downgrade_end(). */
void downgrade_put(struct downgrade *d, struct slice in, struct buf *out);
void downgrade_end(struct downgrade *d, struct buf *out);
#endif
