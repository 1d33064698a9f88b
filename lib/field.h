/* field.h - a message's header, one field after the other; pure.  RFC 5322 2.2, 4.5
 *
 * One idea of what a field is, wherever a header is read: in a dropped file, in the queue, in a part of a message.
 */
#ifndef LIB_FIELD_H
#define LIB_FIELD_H
#include "lib/buf.h"

/* The fields that somebody here asks for. */
enum field_kind {
	FIELD_OTHER,
	FIELD_BCC,
	FIELD_CC,
	FIELD_CONTENT_LENGTH,
	FIELD_CONTENT_TRANSFER_ENCODING,
	FIELD_CONTENT_TYPE,
	FIELD_DATE,
	FIELD_FROM,
	FIELD_MESSAGE_ID,
	FIELD_MIME_VERSION,
	FIELD_RECEIVED,
	FIELD_REPLY_TO,
	FIELD_RESENT_BCC,
	FIELD_RESENT_CC,
	FIELD_RESENT_FROM,
	FIELD_RESENT_SENDER,
	FIELD_RESENT_TO,
	FIELD_RETURN_PATH,
	FIELD_SENDER,
	FIELD_TO,
	FIELD_X_POSTERN_PRIORITY,
	FIELD_X_POSTERN_SEND_AFTER,
	FIELD_X_POSTERN_SERVER,
	FIELD_X_RECEIVER,
	FIELD_X_SENDER,
	FIELD_KIND_COUNT
};

enum {
	FIELD_NAME_MAX = 255, /* a longer one is no field: it could not be sent in one line */
	FIELD_LINE_MAX = 998  /* RFC 5322 2.1.1 */
};

/* Borrowed from the header it stands in. */
struct field {
	enum field_kind kind;
	struct slice raw;   /* all of it, line ends included */
	struct slice name;  /* without the blanks that may stand before the colon (RFC 5322 4.5) */
	struct slice value; /* behind the colon, folded as it came, last line end removed */
};

/* Length of the field name that the line begins with, if it is a field's first line; else 0. */
size_t field_name_length(struct slice line);
enum field_kind field_kind_of(struct slice name);
/* Takes the next line off *rest, LF and one CR before it removed. false: nothing left. */
bool field_take_line(struct slice *rest, struct slice *line);
/* Takes the next field off *rest, which begins with one. false: nothing left. */
bool field_take(struct slice *rest, struct field *out);
/*
 * How many bytes are fields: up to a blank line, to a line that is no field, to the end when is_all. false: that cannot
 * be told yet.
 */
bool field_measure(struct slice bytes, bool is_all, size_t *header_bytes) MUST_CHECK;
/* One line, blanks at both ends removed: lone CRs and line ends become blanks. */
void field_unfold(struct buf *out, struct slice value);
/*
 * "Name: value" as it is sent: CRLF, no blanks before the colon, lines of blanks only left out, lines over
 * FIELD_LINE_MAX folded at white space, or where there is none, broken as Postfix does, by CRLF and a blank.
 */
void field_put(struct buf *out, const struct field *f);
#endif
