/* worker.h - what all sessions of a smtpout process share. */
#ifndef SMTPOUT_WORKER_H
#define SMTPOUT_WORKER_H
#include "lib/conf.h"
#include "lib/loop.h"
#include "lib/table.h"
#include "smtpout/report.h"
#include "smtpout/sasl.h"
#include "smtpout/tls.h"

enum {
	/* Each session has one dot under way at most; reports that wait for the pipe hold the rest of the board. */
	WORKER_SESSIONS_MAX = 3000,
	WORKER_INPUT_BYTES = 64 * 1024,
	WORKER_OUTPUT_BYTES = 512 * 1024
};

struct pop_visit;

struct worker {
	struct loop *loop;
	const struct conf *conf;
	int queue_fd; /* the queue directory; borrowed */
	struct report_book *book;
	struct board *board;           /* may be NULL: tests */
	struct tls_policy **policy;    /* one per server; NULL where TLS is off */
	struct sasl_account **account; /* likewise; NULL where no login is wanted, or its secret could not be read */
	struct sasl_account **pop_account; /* likewise, and */
	struct tls_policy **pop_policy;    /* likewise: for POP before SMTP */
	struct pop_visit *visits;
	struct table sessions; /* by id */
	bool is_draining;
	char *input;         /* WORKER_INPUT_BYTES, used within one callback */
	struct buf output;   /* likewise */
	unsigned slot_count; /* board slots that are free, on top of slot[] */
	uint16_t slot[BOARD_SLOTS];
};

/* All borrowed. No policies and no accounts yet. */
void worker_init(struct worker *w, struct loop *loop, const struct conf *conf, int queue_fd);
void worker_release(struct worker *w);
/* A free board slot, or -1; report_book gives it back. */
int worker_take_slot(struct worker *w);
void worker_give_slot(void *worker, unsigned slot);
#endif
