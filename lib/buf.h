/* buf.h - a growing byte buffer with a hard maximum. */
#ifndef LIB_BUF_H
#define LIB_BUF_H
#include "lib/base.h"
#include <stdarg.h>

/*
 * Invariants: len <= cap <= max; ptr[len] is NUL once anything was added (the length is authoritative). A put that
 * would pass max changes nothing but `failed`, which stays set until buf_clear(): put, put, put, check once.
 */
struct buf {
	char *ptr;
	size_t len, cap, max;
	bool failed;
};

void buf_init(struct buf *b, size_t max_bytes); /* allocates nothing yet */
void buf_release(struct buf *b);                /* frees, leaves it usable with the same max */
void buf_clear(struct buf *b);                  /* len = 0, failed = false; keeps the memory */
void buf_put(struct buf *b, const void *bytes, size_t len);
void buf_put_char(struct buf *b, char c);
void buf_put_str(struct buf *b, const char *text);
void buf_put_slice(struct buf *b, struct slice s);
void buf_printf(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *b, const char *format, va_list args) PRINTF_LIKE(2, 0);
void buf_put_be(struct buf *b, uint64_t value, unsigned bytes); /* a number in network order, in 1 to 8 bytes */
uint64_t buf_get_be(const void *at, unsigned bytes);            /* and back */
void buf_consume(struct buf *b, size_t len);                    /* drop the first len bytes (len <= b->len) */
/* Room for at least `bytes` more behind len (may be NULL with failed set); commit with b->len += n. */
char *buf_reserve(struct buf *b, size_t bytes);
const char *buf_text(const struct buf *b);   /* NUL-terminated view, "" when empty; borrowed */
struct slice buf_slice(const struct buf *b); /* borrowed */
char *buf_detach(struct buf *b);             /* caller frees; buffer is empty afterwards; never NULL */
#endif
