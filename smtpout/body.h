/* body.h - the message from its queue file to the wire: dot-stuffed, ended by exactly one CRLF.CRLF.  RFC 5321 4.5.2 */
#ifndef SMTPOUT_BODY_H
#define SMTPOUT_BODY_H
#include "smtpout/downgrade.h"
#include <sys/types.h>

enum {
	BODY_CHUNK = 64 * 1024,           /* read at once; a message up to this size leaves in one write */
	BODY_OUT_MAX = 2 * BODY_CHUNK + 8 /* what a chunk of nothing but dots and line ends can become */
};

struct body {
	int fd;                      /* borrowed */
	uint64_t offset, left;       /* of the file */
	struct slice head;           /* goes before it; borrowed */
	bool has_dots;               /* some line begins with a dot: no sendfile(2) */
	bool is_line_start;          /* the next byte begins a line */
	char last[2];                /* bytes of the message before `offset` */
	struct downgrade *downgrade; /* owned; NULL: the message goes as it is */
};

enum body_result {
	BODY_MORE,
	BODY_LAST,  /* the final dot is in the buffer */
	BODY_BROKEN /* unreadable or shorter than its header says: errno, 0 for short. Never end it with a dot */
};

void body_init(struct body *b, int fd, uint64_t offset, uint64_t size_bytes, bool has_dots);
/* Bytes that go before the file's, such as a header written anew; borrowed until the last is taken. Right after init.
 */
void body_set_head(struct body *b, struct slice head);
void body_release(struct body *b); /* accepts a zeroed struct */
/* For a server without 8BITMIME. Reads the message once; false when that fails: errno, 0 for short. */
bool body_downgrade(struct body *b) MUST_CHECK;
/* Reads the next chunk and appends it as it goes on the wire; behind the last one the end of data. */
enum body_result body_fill(struct body *b, struct buf *out) MUST_CHECK;
/*
 * Large messages without dots go by sendfile(2), but for a last piece that body_fill() sends together with the final
 * dot: a dot in a segment of its own would wait for a delayed acknowledgement. Only while body_can_sendfile(). Returns
 * what sendfile(2) does; 0 means the file ended early.
 */
bool body_can_sendfile(const struct body *b);
ssize_t body_sendfile(struct body *b, int socket);
/* The pure part, for tests: appends `in` dot-stuffed. */
void body_stuff(struct body *b, struct slice in, struct buf *out);
void body_end(const struct body *b, struct buf *out);
#endif
