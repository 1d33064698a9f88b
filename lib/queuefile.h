/* queuefile.h - the immutable file of one accepted message: text header, END line, message as it goes on the wire.
 *
 *   postern 1\n
 *   id=ID\n               arrival=MS-SINCE-1970\n      uid=UID\n
 *   size=BYTES\n          (of the message below, CRLF line ends)
 *   flags=WORDS\n         blank-separated: dots (some line begins with a dot), 8bit (a byte above 127 in header or
 *                         body), utf8 (needs SMTPUTF8: 8-bit in the local part of an address of the envelope; a header
 *                         in UTF-8 alone goes out as it is, as it always has)
 *   priority=high|normal|bulk\n   server=NAME\n   send-after=MS\n   envid=XTEXT\n   ret=full|hdrs\n   (each optional)
 *   sender=ADDRESS\n      (empty: the null sender)
 *   rcpt=ADDRESS\n        one per recipient, in order; index 0 is the first. Optional DSN parameters follow a tab:
 *                         notify=...\torcpt=...
 *   sum=HEX\n             64-bit FNV-1a over everything above this line
 *   \n                    then the message
 *
 * Addresses are validated before they get here: no control bytes. The header is padded by nothing; it is at most
 * QUEUEFILE_HEAD_MAX bytes. A trailing "end\n" line behind the message is the END mark: size says where it stands.
 */
#ifndef LIB_QUEUEFILE_H
#define LIB_QUEUEFILE_H
#include "lib/buf.h"
#include "lib/clock.h"

enum { QUEUEFILE_HEAD_MAX = 16 * 1024 * 1024, QUEUEFILE_RCPT_MAX = 100000 };
enum queuefile_flags { QUEUEFILE_DOTS = 1, QUEUEFILE_8BIT = 2, QUEUEFILE_UTF8 = 4 };
enum mail_priority { PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_BULK, PRIORITY_COUNT };
enum dsn_notify { NOTIFY_UNSET = 0, NOTIFY_NEVER = 1, NOTIFY_FAILURE = 2, NOTIFY_DELAY = 4, NOTIFY_SUCCESS = 8 };

struct queuefile_rcpt {
	struct slice address;
	struct slice orcpt; /* "rfc822;..." as submitted; empty: none */
	unsigned notify;    /* enum dsn_notify bits */
};

/* The header, parsed. Slices point into `text`, which the struct owns. */
struct queuefile {
	char *text;
	size_t text_len;
	uint64_t id;
	struct wall arrival, send_after; /* send_after.ms 0: at once */
	uint32_t uid;
	uint64_t size_bytes;        /* of the message */
	uint64_t body_offset_bytes; /* where the message begins in the file */
	unsigned flags;             /* enum queuefile_flags */
	enum mail_priority priority;
	bool is_ret_full;
	struct slice server, envid, sender;
	uint32_t rcpt_count;
	struct queuefile_rcpt *rcpt;
};

enum queuefile_result {
	QUEUEFILE_OK,
	QUEUEFILE_IO,     /* errno says; try again later */
	QUEUEFILE_DAMAGED /* not ours, checksum wrong, END mark missing: hold it, tell the operator */
};

/* Writes the header text for a message of qf->size_bytes that will follow; out->failed when too long. */
void queuefile_format_head(struct buf *out, const struct queuefile *qf);
extern const char QUEUEFILE_END[]; /* "end\n" */

/*
 * Reads and checks the header of an open file (pread, the position does not matter) and the END mark. One read of
 * 4 KiB serves ordinary messages. Parses the file as hostile. Release in every case.
 */
enum queuefile_result queuefile_read(int fd, struct queuefile *out) MUST_CHECK;
/* Of a file that is DAMAGED: does its first line name a version of this format that we do not know? */
bool queuefile_is_foreign_version(int fd) MUST_CHECK;
/* The parser behind it, pure, for fuzzing: bytes must hold the whole header. */
enum queuefile_result queuefile_parse(struct slice head, struct queuefile *out) MUST_CHECK;
void queuefile_release(struct queuefile *qf); /* accepts a zeroed struct */
#endif
