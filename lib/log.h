/* log.h - one line per fact, to syslog, stderr or a file; never blocks delivery. */
#ifndef LIB_LOG_H
#define LIB_LOG_H
#include "lib/base.h"
#include <stdarg.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR, LOG_LEVEL_COUNT };
enum log_target { LOG_TARGET_SYSLOG, LOG_TARGET_STDERR, LOG_TARGET_FILE };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/*
 * `fd` is borrowed: a connected /dev/log datagram socket, stderr, or a file opened O_APPEND. `program` (without
 * "postern/") and `host` are copied. Before log_open() lines go to stderr as "postern/PROGRAM[PID]: text".
 * warn = an operator may have to act; error = something is broken now; both
 * carry "warning: " or "error: " before the text, as Postfix has it. May be called again (another target); errno is
 * kept by every function here.
 */
void log_open(enum log_target target, enum log_format format, int fd, const char *program, const char *host);
void log_info(const char *format, ...) PRINTF_LIKE(1, 2);
void log_warn(const char *format, ...) PRINTF_LIKE(1, 2);
void log_error(const char *format, ...) PRINTF_LIKE(1, 2);
void log_debug(const char *format, ...) PRINTF_LIKE(1, 2);
void log_set_level(enum log_level lowest);
/*
 * A line about one message. `event` and the key/value pairs serve log-format=json; in text form the line is exactly
 * "QUEUE_ID: TEXT". `fields` is a list of "key", "value" pairs ended by NULL, strings already printable; keys
 * that name a number (size, nrcpt, uid, delay, attempt, port, count, code) become JSON numbers.
 */
void log_message(const char *queue_id, const char *event, const char *text, const char *const *fields);
/*
 * Lines are gathered and written once per loop turn by log_flush() (or when 4000 bytes wait, or at once for warnings
 * and errors). What a full pipe, a dead syslogd or a full disk does not take is counted, and the count logged later.
 */
void log_flush(void);
uint64_t log_lost_count(void);
#endif
