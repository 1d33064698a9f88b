/* body.h - the message's body as it goes on the wire; pure, any number of bytes in bounded memory.  RFC
 * 5321 2.3.8, 4.5.3.1.6 */
#ifndef PICKUP_BODY_H
#define PICKUP_BODY_H
#include "lib/buf.h"

enum { BODY_LINE_MAX = 998 }; /* without CRLF, RFC 5321 4.5.3.1.6 */

/* Zeroed is ready. */
struct body_filter {
	unsigned flags; /* QUEUEFILE_DOTS, QUEUEFILE_8BIT: seen so far */
	bool has_nul;   /* the message cannot be accepted */
	bool has_cr;    /* a CR ended the last chunk: line end or a blank, the next byte tells */
	size_t column;  /* bytes of the present output line */
};

/*
 * Appends the next bytes of the body to `out`: every LF, with or without a CR before it, becomes CRLF, a lone CR a
 * blank, and a line over BODY_LINE_MAX is broken by CRLF and a blank as Postfix does. At most 2 * len + 8 bytes come
 * out.
 */
void body_feed(struct body_filter *f, const char *bytes, size_t len, struct buf *out);
/* Ends the last line. */
void body_finish(struct body_filter *f, struct buf *out);
/* Whether a byte above 127 is among these. */
bool body_is_8bit(const char *bytes, size_t len);
#endif
