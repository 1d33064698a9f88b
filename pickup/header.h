/* header.h - from a dropped message's header to an envelope and the header that is sent; pure.  RFC 5322, RFC 5321 4.4
 */
#ifndef PICKUP_HEADER_H
#define PICKUP_HEADER_H
#include "lib/conf.h"
#include "lib/queuefile.h"
#include "pickup/envelope.h"

enum {
	HEADER_BYTES_MAX = 16 * 1024 * 1024, /* a longer one is rejected; it is held in memory as a whole */
	HEADER_HOPS_MAX = 50                 /* Received fields; more is a mail loop */
};

enum header_extent { HEADER_WHOLE, HEADER_NEEDS_MORE };

/* Where the parts of a message stand. */
struct header_range {
	size_t begin, end; /* fields; an mbox "From " line before them is left out */
	size_t body;       /* where the body begins */
	bool has_no_blank; /* a line that is no field ended the header: it begins the body, as everywhere else */
};

/* `is_all`: no byte follows. */
enum header_extent header_measure(struct slice bytes, bool is_all, struct header_range *out);

struct header_source {
	struct slice fields; /* bytes [begin, end) of the message */
	struct slice behind; /* what stands behind a header that has_no_blank, as far as it is at hand */
	uint64_t id;
	struct wall arrival;
	uint32_t uid;            /* who dropped it */
	struct slice account;    /* that user's address, for a message that names no sender; empty: not known */
	const struct conf *conf; /* hostname, postmaster, recipient_limit, servers */
};

/* Reused from message to message. */
struct header {
	struct envelope envelope;
	struct buf text;   /* what is sent, without the blank line */
	struct buf reason; /* why not, in plain words */
	struct buf scratch;
	enum mail_priority priority;
	struct wall send_after;
	struct slice server; /* borrowed from the configuration; empty: not given */
	unsigned flags;      /* QUEUEFILE_DOTS, _8BIT, _UTF8 as far as header and envelope need them */
};

void header_init(struct header *h);
void header_release(struct header *h);
/*
 * Makes envelope, options and text. The same source gives the same text: a message taken up again after a crash keeps
 * its Date and Message-ID. false: rejected, `reason` says why.
 */
bool header_convert(struct header *h, const struct header_source *source) MUST_CHECK;
#endif
