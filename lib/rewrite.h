/* rewrite.h - the sender that a server insists on, in envelope and header: rewrite-sender in postern.conf(5); pure.
 * RFC 5322 3.6.2
 *
 * Every address is judged by itself: the envelope's sender, the authors in From, the agent in Sender. A message from
 * the null sender is left alone as a whole; that is the caller's to see.
 */
#ifndef LIB_REWRITE_H
#define LIB_REWRITE_H
#include "lib/conf.h"

enum {
	REWRITE_FOLD_AT = 76,  /* a line with an encoded word has no more, RFC 2047 2 */
	REWRITE_NAME_MAX = 256 /* of a display name that has to be put into quotes */
};

struct rewrite {
	const struct conf_server *server;
	struct slice sender;  /* of the envelope, as submitted; never empty */
	struct slice address; /* what the server insists on, as it goes on the wire */
};

/* The server does not take this address: its rewrite-sender goes in its place. false for the null sender. */
bool rewrite_applies(const struct conf_server *server, struct slice address);
/*
 * Appends the header (see field_measure) as this server gets it:
 * - From with an address that the server does not take becomes one mailbox: the first author's name, the new address.
 *   What it was goes into Reply-To unless there is one; an old From that nobody could answer to gives the envelope's
 *   sender instead.
 * - Sender that the server does not take goes where From has one author, and that is the new address; else it becomes
 *   the new address. One that would say the same as the new From goes as well.
 * All other bytes stay. false: all may stay as it is, nothing was appended.
 */
bool rewrite_header(struct buf *out, const struct rewrite *r, struct slice header) MUST_CHECK;
#endif
