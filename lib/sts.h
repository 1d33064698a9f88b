/* sts.h - MTA-STS policies: what a domain publishes about them, how one is kept, whom it allows; pure.  RFC 8461 */
#ifndef LIB_STS_H
#define LIB_STS_H
#include "lib/buf.h"

/* A kept policy fits into a packet of lib/msg.h. */
enum { STS_ID_MAX = 32, STS_MX_BYTES_MAX = 2800, STS_LINE_MAX = 3200, STS_FILE_MAX = 64 << 10 };
enum { STS_AGE_MAX_S = 31557600 };

enum sts_mode { STS_NONE, STS_TESTING, STS_ENFORCE };

struct sts_policy {
	char domain[256];        /* A-labels, lower case */
	char id[STS_ID_MAX + 1]; /* of the TXT record that it was fetched for */
	uint64_t fetched_s;      /* since 1970 */
	uint64_t max_age_s;      /* at most STS_AGE_MAX_S */
	enum sts_mode mode;
	char mx[STS_MX_BYTES_MAX + 1]; /* patterns, lower case, a comma between two */
};

/* A domain name in A-labels, lower case: what may be looked up, and stand in a URL and in a kept policy. */
bool sts_is_domain(struct slice name) MUST_CHECK;
/* The TXT record of _mta-sts.DOMAIN, its strings joined. False: it is not one of these, or breaks their rules. 3.1 */
bool sts_read_record(struct slice text, char id[STS_ID_MAX + 1]) MUST_CHECK;
/* The policy file: mode, max_age_s and mx of *out, nothing else of it. On false *why says what is wrong; static. 3.2 */
bool sts_read_file(struct slice file, struct sts_policy *out, const char **why) MUST_CHECK;
/* One line, without its end: how a policy is kept and handed on. Reading believes nothing. */
void sts_put_line(struct buf *out, const struct sts_policy *p);
bool sts_read_line(struct slice line, struct sts_policy *out) MUST_CHECK;
const char *sts_mode_name(enum sts_mode mode);
/* "*.example.net" stands for one more label in front. 4.1 */
bool sts_allows(const struct sts_policy *p, const char *host);
/* How long it may still be used. */
uint64_t sts_left_s(const struct sts_policy *p, uint64_t now_s);
#endif
