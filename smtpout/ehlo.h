/* ehlo.h - what a server says it can do; pure.  RFC 5321 4.1.1.1, RFC 1870, 2034, 2920, 3207, 4954, 6152, 6531, 9422 */
#ifndef SMTPOUT_EHLO_H
#define SMTPOUT_EHLO_H
#include "smtpout/mechanism.h"

enum ehlo_features {
	EHLO_PIPELINING = 1,
	EHLO_SIZE = 2,
	EHLO_8BITMIME = 4,
	EHLO_ENHANCEDSTATUSCODES = 8,
	EHLO_STARTTLS = 16,
	EHLO_SMTPUTF8 = 32,
	EHLO_DSN = 64,
	EHLO_CHUNKING = 128,
	EHLO_AUTH = 256,
	EHLO_LIMITS = 512,
};

struct ehlo {
	unsigned features;                             /* enum ehlo_features */
	unsigned auth;                                 /* bits by enum mechanism */
	uint64_t size_limit_bytes;                     /* 0: none given, or not a number that fits */
	uint32_t rcpt_limit, mail_limit, domain_limit; /* RFC 9422 RCPTMAX, MAILMAX, RCPTDOMAINMAX; 0: none given */
};

/* `text` is the reply's text, lines joined by LF; its first line greets. Unknown and broken keywords are passed over.
 */
void ehlo_parse(struct slice text, struct ehlo *out);
#endif
