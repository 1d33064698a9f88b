/* reply.h - SMTP replies out of a stream of bytes; pure, no I/O.  RFC 5321 4.2, RFC 2034 */
#ifndef SMTPOUT_REPLY_H
#define SMTPOUT_REPLY_H
#include "lib/buf.h"

/* What a server may send as one reply; more is malformed. The line counts its end. RFC 5321 4.5.3.1.5 asks for 512. */
enum { REPLY_LINE_MAX = 4096, REPLY_LINES_MAX = 512, REPLY_BYTES_MAX = 65536, REPLY_DSN_MAX = 16 };

enum reply_result {
	REPLY_MORE,      /* the bytes given were taken or are an unfinished line: call again with what follows */
	REPLY_DONE,      /* *out is filled */
	REPLY_MALFORMED, /* not SMTP, or over a limit; parser->why says what. The stream cannot be used any more */
};

struct reply {
	unsigned code;           /* 100 to 599 */
	char dsn[REPLY_DSN_MAX]; /* enhanced status code whose class fits the code; "" when the server gave none */
	struct slice
		text; /* what follows the codes, lines joined by LF; any byte but LF. Borrowed, see reply_parse() */
};

struct reply_parser {
	unsigned code, lines; /* of the reply that has begun; lines 0: none */
	size_t bytes;
	char dsn[REPLY_DSN_MAX];
	struct buf text; /* lines before the last; empty for one-line replies, so they cost no copy */
	const char *why;
};

void reply_parser_init(struct reply_parser *p); /* allocates nothing yet */
void reply_parser_release(struct reply_parser *p);
/*
 * Takes one reply or part of it from the front of `in` and says in *used how many bytes were taken: whole lines only,
 * ended by CRLF or LF alone. out->text points into `in` or into the parser: valid until either changes.
 */
enum reply_result reply_parse(struct reply_parser *p, struct slice in, size_t *used, struct reply *out) MUST_CHECK;
bool reply_parser_is_idle(const struct reply_parser *p); /* no reply has begun */
#endif
