/* mime_header.h - what the header of a MIME entity says about its body; pure.  RFC 2045, 2046 */
#ifndef SMTPOUT_MIME_HEADER_H
#define SMTPOUT_MIME_HEADER_H
#include "lib/buf.h"

enum { MIME_BOUNDARY_MAX = 200 }; /* RFC 2046 allows 70; of a longer one this much is compared */

enum mime_kind { MIME_LEAF, MIME_MULTIPART, MIME_MESSAGE /* message/rfc822 or message/global */ };

/* Zeroed, it is that of a header without MIME lines: a text that is not encoded. */
struct mime_header {
	enum mime_kind kind;
	bool has_version, has_type, has_encoding;
	bool is_digest;    /* multipart/digest: its parts are messages unless they say otherwise */
	bool is_encoded;   /* as quoted-printable, base64 or something unknown */
	bool is_eight_bit; /* labelled 8bit or binary */
	size_t boundary_len;
	char boundary[MIME_BOUNDARY_MAX];
};

/* Takes one field, folded lines and line ends included. True when it is Content-Transfer-Encoding. */
bool mime_header_take(struct mime_header *m, struct slice field);

/* Whether bytes that come in pieces are UTF-8. Zeroed to begin with. */
struct mime_utf8 {
	uint8_t tail[4]; /* of a character that has not ended */
	uint8_t tail_len;
	bool is_broken;
};

void mime_utf8_feed(struct mime_utf8 *u, struct slice bytes);
bool mime_utf8_is_valid(const struct mime_utf8 *u);
#endif
