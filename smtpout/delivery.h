/* delivery.h - one message for some of its recipients, from DELIVER to the last REPORT. */
#ifndef SMTPOUT_DELIVERY_H
#define SMTPOUT_DELIVERY_H
#include "lib/conf.h"
#include "lib/queuefile.h"
#include "smtpout/engine.h"

struct delivery {
	struct delivery *next; /* in its session's list, in the order of DELIVER */
	uint64_t queue_id;
	uint32_t group;
	uint16_t attempt;
	struct wall arrived, scheduled, active, begun;
	bool is_open, is_in_engine;
	int board_slot; /* -1: its dot is not on the way */
	/* Once open: */
	int fd;
	struct queuefile qf;
	struct slice *rcpt;          /* addresses in the order of `index`, as they go on the wire */
	struct engine_rcpt_dsn *dsn; /* beside it */
	struct buf converted;        /* domains turned into A-labels */
	struct buf head;             /* the header as this server gets it; empty: as it is in the file */
	size_t head_bytes;           /* of the file that it stands for */
	struct engine_mail mail;
	unsigned rcpt_count;
	uint32_t index[]; /* of the recipients in the queue file */
};

/* What the message says is copied; its file is not open yet. */
struct delivery *delivery_new(const struct msg_deliver *m);
void delivery_free(struct delivery **d);
/*
 * Opens XX/ID beneath the queue directory, reads its header and fills d->mail as this server wants it: its
 * rewrite-sender is worked out here, at each attempt. NULL when all is well, else why not (caller frees): then only the
 * ids of the delivery can be used.
 */
char *delivery_open(struct delivery *d, int queue_fd, const struct conf_server *server) MUST_CHECK;
#endif
