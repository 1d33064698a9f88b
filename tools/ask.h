/* ask.h - one question to the scheduler over SPOOL/run/control, and its answer line by line. */
#ifndef TOOLS_ASK_H
#define TOOLS_ASK_H
#include "tools/instance.h"

/* Called for each line of the answer but the last; `line` is borrowed. */
typedef void (*ask_fn)(void *arg, json_t *line);

struct ask_result {
	int status; /* what the scheduler says to exit with; 69 not reachable, 75 no answer, 77 not permitted */
	char *text; /* its words, or why there was no answer ("": that was said); the caller frees; never NULL */
	bool is_answered;
};

/* Sends `request` (taken, an object) and reads until the last line. Waits at most `timeout_ms` between lines. */
struct ask_result ask_scheduler(const struct instance *in, json_t *request, int timeout_ms, ask_fn on_line,
				void *arg) MUST_CHECK;
/* The same, of the instance that the command is about. */
struct ask_result ask_instance(const struct command_context *c, json_t *request, int timeout_ms, ask_fn on_line,
			       void *arg) MUST_CHECK;

enum { ASK_NUMBER_BYTES = 24 };
/* A member of an answer for people: "" or 0 when there is none. The text is borrowed. */
const char *ask_text(const json_t *object, const char *name);
void ask_format_number(char cell[ASK_NUMBER_BYTES], const json_t *value);
void ask_print_json(const json_t *line);
#endif
