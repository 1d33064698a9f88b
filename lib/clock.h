/* clock.h - the two clocks, in types that do not mix. */
#ifndef LIB_CLOCK_H
#define LIB_CLOCK_H
#include "lib/base.h"
#include "lib/buf.h"

/* Milliseconds of CLOCK_BOOTTIME: deadlines, retries in memory; counts suspend, never steps. */
struct mono {
	int64_t ms;
};

/* Milliseconds since 1970 UTC: what is stored and shown. May step. */
struct wall {
	int64_t ms;
};

struct mono clock_mono(void);
struct wall clock_wall(void);
uint64_t clock_wall_us(void);
/* The name of this boot of the machine; "" when it is not told. Read at the first call: before the jail. */
const char *clock_boot_id(void);
void clock_format_rfc3339(struct buf *out, struct wall t);    /* 2026-11-21T15:04:05Z */
void clock_format_rfc3339_ms(struct buf *out, struct wall t); /* 2026-11-21T15:04:05.123Z */
void clock_format_rfc5322(struct buf *out, struct wall t);    /* Sat, 21 Nov 2026 15:04:05 +0000, local offset */
void clock_format_syslog(struct buf *out, struct wall t);     /* Nov 21 15:04:05, local: RFC 3164 4.1.2 */
/* RFC 5322 3.3 with comments and the obsolete forms of 4.3; a wrong day of the week is not minded. */
bool clock_parse_rfc5322(struct slice s, struct wall *out) MUST_CHECK;
#endif
