/* report.h - what goes back to the scheduler, in order: reports, kept until acknowledged, and short-lived packets.
 *
 * A report is repeated to each new scheduler until one says that it is durable; then it is logged. While the pipe is
 * full, or no scheduler lives, everything waits here. A transaction leaves the board when its last report is in the
 * pipe, which outlives this process. Bounded: report_book_is_full() stops the sessions from beginning new mails.
 */
#ifndef SMTPOUT_REPORT_H
#define SMTPOUT_REPORT_H
#include "lib/board.h"
#include "lib/channel.h"
#include "lib/clock.h"
#include "lib/conf.h"

enum { REPORT_KEPT_MAX = 16384, REPORT_TEXT_MAX = 1000, REPORT_RELAY_MAX = 320 };

struct report_book;

/* One outcome, for some recipients of a delivery; all borrowed during report_book_add(). */
struct report {
	uint32_t session;
	uint16_t server, attempt, code;
	uint32_t group;
	uint64_t queue_id;
	uint8_t verdict, cause;
	bool was_seen, is_last, is_after_dot;
	const char *dsn, *text, *relay;
	unsigned rcpt_count;
	const uint32_t *index;    /* of the recipients in the queue file */
	const struct slice *rcpt; /* their addresses, for the log; NULL: unknown, nothing will be logged */
	struct wall arrived, scheduled, active, begun, done;
	int board_slot; /* to erase and give back; -1: none */
};

typedef void (*report_slot_cb)(void *arg, unsigned board_slot);

/* channel, board (may be NULL) and conf are borrowed. `on_slot_free` is told when a board slot was erased. */
struct report_book *report_book_new(struct channel *ch, struct board *board, const struct conf *conf,
				    report_slot_cb on_slot_free, void *arg);
void report_book_free(struct report_book **book);
void report_book_add(struct report_book *book, const struct report *r);
/* A packet that no successor needs, sent after every report added so far. Copied. */
void report_book_send(struct report_book *book, const struct packet *p);
struct channel *report_book_channel(const struct report_book *book);
/* REPORT_ACK: logs and forgets. */
void report_book_acknowledge(struct report_book *book, const struct msg_report_ack *ack);
void report_book_pause(struct report_book *book); /* the scheduler is dead: keep everything */
/* A new scheduler asks: what waits is meant for the old one and dropped, every kept report goes again. */
void report_book_resync(struct report_book *book);
/* Sends what has room and erases the board behind it: each loop turn, and when the channel has room again. */
void report_book_flush(struct report_book *book);
bool report_book_is_full(const struct report_book *book);
/* Nothing is left that anybody waits for: when the scheduler is dead, short-lived packets do not count. */
bool report_book_is_empty(const struct report_book *book);
#endif
