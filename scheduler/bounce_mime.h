/* bounce_mime.h - text into forms that every mail server carries: folding, quoted-printable, base64; pure. */
#ifndef SCHEDULER_BOUNCE_MIME_H
#define SCHEDULER_BOUNCE_MIME_H
#include "lib/buf.h"

/*
 * "Name: value" CRLF as one header field of ASCII: folded at blanks before column 78, within words before 998 (RFC 5322
 * 2.1.1). Control bytes become "?", bytes above 127 \ooo. Nothing is written for an empty value.
 */
void bounce_put_field(struct buf *out, const char *name, struct slice value);
/* The same from parts, "dns; mx.example.com". */
void bounce_put_typed_field(struct buf *out, const char *name, const char *type, struct slice value);

/* Quoted-printable (RFC 2045 6.7) of text with LF or CRLF line ends, lines of at most 76 bytes. */
void bounce_put_quoted_printable(struct buf *out, struct slice text);

/* Base64 in lines of 76; whole lines only for as long as more comes: feed pieces that are multiples of 57 bytes. */
void bounce_put_base64(struct buf *out, struct slice bytes);

/* xtext (RFC 3461 4) undone; false when it is malformed or holds anything but printable ASCII. */
bool bounce_put_xtext_decoded(struct buf *out, struct slice xtext) MUST_CHECK;

/* An address in ASCII: itself, or as utf-8-addr-xtext, \x{HEX} for each character above 127 (RFC 6533 3). */
void bounce_put_ascii_address(struct buf *out, struct slice address);
#endif
