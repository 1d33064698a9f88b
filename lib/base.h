/* base.h - what every file may use: attributes, BUG(), allocation that cannot fail, slices. */
#ifndef LIB_BASE_H
#define LIB_BASE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define NORETURN          __attribute__((noreturn))
#define UNUSED            __attribute__((unused))
#define ARRAY_LEN(a)      (sizeof(a) / sizeof((a)[0]))

/* How a process ends; master decides by these whether and when to start it again (master/service.c). */
enum exit_status {
	EXIT_STATUS_DONE = 0,        /* asked to stop, all work recorded */
	EXIT_STATUS_NO_MATCH = 1,    /* commands: nothing matched */
	EXIT_STATUS_NOT_RUNNING = 3, /* `postern status` only */
	EXIT_STATUS_USAGE = 64,      /* sysexits.h from here on */
	EXIT_STATUS_DATA = 65,
	EXIT_STATUS_UNAVAILABLE = 69,
	EXIT_STATUS_SOFTWARE = 70,  /* our bug */
	EXIT_STATUS_OS = 71,        /* a system call that must not fail did */
	EXIT_STATUS_TEMPORARY = 75, /* try again later; children: restart me */
	EXIT_STATUS_NOT_PERMITTED = 77,
	EXIT_STATUS_CONFIG = 78 /* stay down until the configuration changes */
};

/* Our mistake, never the environment's and never a peer's: says where and aborts (core, master restarts). */
#define BUG(...) bug_at(__FILE__, __LINE__, __VA_ARGS__)
NORETURN void bug_at(const char *file, int line, const char *format, ...) PRINTF_LIKE(3, 4);

/*
 * Allocation of bounded size; never NULL. When memory is exhausted the process exits with EXIT_STATUS_TEMPORARY and
 * master restarts it. Sizes that a peer chooses are capped by the caller before they get here.
 */
void *xmalloc(size_t bytes);
void *xcalloc(size_t count, size_t bytes_each); /* zeroed; overflow-checked */
void *xrealloc(void *old, size_t count, size_t bytes_each);
char *xstrdup(const char *text);
char *xstrndup(const char *ptr, size_t len); /* copy of len bytes, NUL added */
char *xasprintf(const char *format, ...) PRINTF_LIKE(1, 2);

/* Borrowed bytes; not NUL-terminated. */
struct slice {
	const char *ptr;
	size_t len;
};

static inline struct slice slice_of(const char *text)
{
	return (struct slice){ text, strlen(text) };
}

bool slice_equal(struct slice a, struct slice b);
bool slice_equal_nocase(struct slice a, struct slice b); /* ASCII case only */
bool slice_is(struct slice s, const char *text);
#endif
