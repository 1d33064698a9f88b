/* bounce_report.h - the text of a report: header, plain words, delivery status, the original or its header. */
#ifndef SCHEDULER_BOUNCE_REPORT_H
#define SCHEDULER_BOUNCE_REPORT_H
#include "scheduler/bounce.h"

/* What belongs to a report and is not in struct bounce. All borrowed. */
struct bounce_report {
	const struct bounce *bounce;
	const struct conf *conf;
	uint64_t id;          /* of the report: dates, Message-ID and boundary come from it */
	struct slice to;      /* whom it goes to */
	struct slice content; /* the original as far as it is returned: whole, or its header alone */
	bool is_content_full;
};

/* Appends the message, CRLF line ends. Sets *flags to the enum queuefile_flags that it needs. */
void bounce_report_format(struct buf *out, const struct bounce_report *r, unsigned *flags);
/* Appends the plain words alone, LF line ends: also what dead/ID.reason says. */
void bounce_words_format(struct buf *out, const struct bounce *b, const struct conf *conf);
#endif
