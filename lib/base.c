/* base.c - BUG(), allocation that cannot fail, comparison of slices. */
#include "lib/base.h"
#include "lib/log.h"
#include <errno.h>
#include <stdarg.h>
#include <unistd.h>

void bug_at(const char *file, int line, const char *format, ...)
{
	static bool is_nested; /* a mistake in the log itself must not come back here */
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (!is_nested) {
		is_nested = true;
		log_error("internal error at %s:%d: %s", file, line, text);
		log_flush();
	}
	abort();
}

static NORETURN void out_of_memory(size_t bytes)
{
	log_error("out of memory (%zu bytes wanted); starting again", bytes);
	log_flush();
	_exit(EXIT_STATUS_TEMPORARY);
}

void *xmalloc(size_t bytes)
{
	void *p = malloc(bytes > 0 ? bytes : 1);

	if (!p)
		out_of_memory(bytes);
	return p;
}

void *xcalloc(size_t count, size_t bytes_each)
{
	void *p = calloc(count > 0 ? count : 1, bytes_each > 0 ? bytes_each : 1);

	if (!p)
		out_of_memory(count);
	return p;
}

void *xrealloc(void *old, size_t count, size_t bytes_each)
{
	void *p = reallocarray(old, count > 0 ? count : 1, bytes_each > 0 ? bytes_each : 1);

	if (!p)
		out_of_memory(count);
	return p;
}

char *xstrdup(const char *text)
{
	return xstrndup(text, strlen(text));
}

char *xstrndup(const char *ptr, size_t len)
{
	char *copy = xmalloc(len + 1);

	if (len > 0)
		memcpy(copy, ptr, len);
	copy[len] = '\0';
	return copy;
}

char *xasprintf(const char *format, ...)
{
	char *text;
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0)
		out_of_memory(0);
	return text;
}

bool slice_equal(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static unsigned char lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

bool slice_equal_nocase(struct slice a, struct slice b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		if (lower(a.ptr[i]) != lower(b.ptr[i]))
			return false;
	return true;
}

bool slice_is(struct slice s, const char *text)
{
	return slice_equal(s, slice_of(text));
}
