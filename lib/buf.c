/* buf.c - a growing byte buffer with a hard maximum. One byte beyond cap is always allocated, for the NUL. */
#include "lib/buf.h"

enum {
	BUF_FIRST_BYTES = 64,
	PRINTF_FIRST_BYTES = 512 /* what is shorter is formatted once */
};

void buf_init(struct buf *b, size_t max_bytes)
{
	*b = (struct buf){ .max = max_bytes };
}

void buf_release(struct buf *b)
{
	free(b->ptr);
	buf_init(b, b->max);
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
	if (b->ptr)
		b->ptr[0] = '\0';
}

char *buf_reserve(struct buf *b, size_t bytes)
{
	size_t want, cap;

	if (b->failed || bytes > b->max - b->len) {
		b->failed = true;
		return NULL;
	}
	want = b->len + bytes;
	if (want > b->cap || !b->ptr) {
		cap = b->cap < BUF_FIRST_BYTES / 2 ? BUF_FIRST_BYTES : b->cap * 2;
		if (cap < want)
			cap = want;
		if (cap > b->max)
			cap = b->max;
		b->ptr = xrealloc(b->ptr, cap + 1, 1);
		b->cap = cap;
	}
	return b->ptr + b->len;
}

void buf_put(struct buf *b, const void *bytes, size_t len)
{
	char *at = buf_reserve(b, len);

	if (!at)
		return;
	if (len > 0)
		memcpy(at, bytes, len);
	b->len += len;
	b->ptr[b->len] = '\0';
}

void buf_put_char(struct buf *b, char c)
{
	buf_put(b, &c, 1);
}

void buf_put_str(struct buf *b, const char *text)
{
	buf_put(b, text, strlen(text));
}

void buf_put_be(struct buf *b, uint64_t value, unsigned bytes)
{
	char text[8];

	for (unsigned i = 0; i < bytes; i++)
		text[i] = (char)(value >> 8 * (bytes - 1 - i));
	buf_put(b, text, bytes);
}

uint64_t buf_get_be(const void *at, unsigned bytes)
{
	const uint8_t *byte = at;
	uint64_t value = 0;

	while (bytes-- > 0)
		value = value << 8 | *byte++;
	return value;
}

void buf_put_slice(struct buf *b, struct slice s)
{
	buf_put(b, s.ptr, s.len);
}

void buf_printf(struct buf *b, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	buf_vprintf(b, format, args);
	va_end(args);
}

void buf_vprintf(struct buf *b, const char *format, va_list args)
{
	char first[PRINTF_FIRST_BYTES], *at;
	va_list again;
	int len;

	va_copy(again, args);
	len = vsnprintf(first, sizeof(first), format, args);
	if (len < 0)
		BUG("format \"%s\" cannot be printed", format);
	if ((size_t)len < sizeof(first)) {
		buf_put(b, first, (size_t)len);
	} else if ((at = buf_reserve(b, (size_t)len))) {
		(void)vsnprintf(at, (size_t)len + 1, format, again);
		b->len += (size_t)len;
	}
	va_end(again);
}

void buf_consume(struct buf *b, size_t len)
{
	if (len > b->len)
		BUG("%zu bytes consumed of %zu", len, b->len);
	if (len == 0)
		return;
	b->len -= len;
	memmove(b->ptr, b->ptr + len, b->len);
	b->ptr[b->len] = '\0';
}

const char *buf_text(const struct buf *b)
{
	if (!b->ptr)
		return "";
	b->ptr[b->len] = '\0'; /* what was committed after buf_reserve() has none yet */
	return b->ptr;
}

struct slice buf_slice(const struct buf *b)
{
	return (struct slice){ b->ptr ? b->ptr : "", b->len };
}

char *buf_detach(struct buf *b)
{
	char *text = b->ptr ? b->ptr : xstrndup("", 0);

	text[b->len] = '\0';
	buf_init(b, b->max);
	return text;
}
