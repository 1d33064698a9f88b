/* bounce.h - reports to senders: delivery status notifications (RFC 3461, 3462, 3464, 3834, 6533).
 *
 * A report is a message like any other: a complete queue file in incoming/ under an id that the caller chose and
 * recorded before. Its text depends on nothing but its arguments, so a crash between writing and recording writes the
 * same report under the same name again.
 */
#ifndef SCHEDULER_BOUNCE_H
#define SCHEDULER_BOUNCE_H
#include "lib/conf.h"
#include "lib/queuefile.h"

enum bounce_kind {
	BOUNCE_NONE,    /* nobody is to be told */
	BOUNCE_FAILED,  /* to the sender: these recipients did not and will not get it */
	BOUNCE_DELAYED, /* to the sender: still trying */
	BOUNCE_DOUBLE,  /* to the postmaster: a message without sender (a report itself) failed */
	BOUNCE_DEAD     /* not even the postmaster: bounce_file_to_dead() */
};

/* One recipient to report. Texts are printable already (text_escape) and borrowed. */
struct bounce_rcpt {
	uint32_t index;      /* into original->rcpt */
	bool is_expired;     /* given up for its age; dsn then is 4.4.7 */
	uint16_t code;       /* SMTP reply code; 0: nobody replied, the reason is ours */
	struct slice dsn;    /* "5.1.1"; empty: unknown */
	struct slice server; /* display name of the server of postern.conf; empty: none was involved */
	struct slice relay;  /* "HOST[ADDR]:PORT"; "none" or empty: no connection */
	struct slice text; /* what was said: "host H[A] said: 550 ... (in reply to RCPT TO command)", or plain words */
	struct wall when;  /* of the last attempt; ms 0: there was none */
};

struct bounce {
	enum bounce_kind kind;
	const struct queuefile *original;
	int fd;                  /* of its queue file; read with pread */
	struct wall retry_until; /* BOUNCE_DELAYED: when we will give up */
	uint32_t rcpt_count;     /* at least 1 */
	const struct bounce_rcpt *rcpt;
};

/*
 * Who is to be told about this recipient: the sender, when NOTIFY (RFC 3461 4.1) does not forbid it; the postmaster for
 * the null sender; nobody when the recipient is the postmaster itself. A report holds recipients of one kind only.
 */
enum bounce_kind bounce_kind_of(const struct conf *conf, const struct queuefile *original, uint32_t index,
				bool is_delay);

/*
 * Writes the report incoming/NEW_ID, durable (file and directory), replacing one of that name. Dates in it come from
 * new_id. Returns 0, or -1 with errno: nothing is there then; try again later. May fsync; copies at most
 * BOUNCE_FULL_MAX bytes of the original.
 */
enum { BOUNCE_FULL_MAX = 1024 * 1024, BOUNCE_HEADER_MAX = 64 * 1024 };
int bounce_write(int spool_fd, const struct conf *conf, const struct bounce *b, uint64_t new_id) MUST_CHECK;

/*
 * BOUNCE_DEAD: puts the original into dead/ID (a further link to its file) with the reasons in dead/ID.reason, durable.
 * The caller may remove it from the queue afterwards. Repeating it does no harm. -1 with errno.
 */
int bounce_file_to_dead(int spool_fd, const struct bounce *b) MUST_CHECK;

/* The same for a file that may be damaged: `words` become the reason. */
int bounce_put_aside(int spool_fd, uint64_t queue_id, struct slice words) MUST_CHECK;

/* Removes what a predecessor that was killed had begun to write (incoming/ and dead/ NAME.report); once, at the start.
 */
void bounce_sweep(int spool_fd);
#endif
