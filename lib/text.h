/* text.h - strict parsing and safe printing of small values; pure. */
#ifndef LIB_TEXT_H
#define LIB_TEXT_H
#include "lib/base.h"
#include "lib/buf.h"

/* Decimal digits only, no sign, no blanks, no overflow; false otherwise and *out untouched. */
bool text_parse_u64(struct slice s, uint64_t *out) MUST_CHECK;
/* "90s", "1h30m", "5d", "2w"; a bare number only when it is 0. Result in milliseconds. */
bool text_parse_duration(struct slice s, uint64_t *ms) MUST_CHECK;
/* "10", "50k", "50m", "2g" (1024-based). Result in bytes. */
bool text_parse_size(struct slice s, uint64_t *bytes) MUST_CHECK;
/* "1h30m", "5d", "0s", "250ms": the shortest form with at most two units. */
void text_format_duration(struct buf *out, uint64_t ms);
/*
 * What comes from outside, made printable: control bytes, DEL and bytes that are not valid UTF-8 become \ooo octal,
 * backslash doubles; stops at max_bytes of output with "...". The only road of remote text into logs and bounces.
 */
void text_escape(struct buf *out, struct slice remote, size_t max_bytes);
bool text_is_utf8(struct slice s); /* well-formed, no overlongs, no surrogates */
bool text_is_ascii(struct slice s);
void text_lower(char *ptr, size_t len); /* ASCII, in place */
static inline bool text_is_blank(char c)
{
	return c == ' ' || c == '\t';
}
struct slice text_trim(struct slice s);            /* blanks and tabs off both ends */
uint64_t text_hash(const void *bytes, size_t len); /* 64-bit, seeded per process: for hash tables only */
void text_seed(uint64_t seed);                     /* proc_main does it from getrandom(2) */
#endif
