/* steps.h - what `postern test` prints: a row for each step, an object a line with --json. */
#ifndef TOOLS_STEPS_H
#define TOOLS_STEPS_H
#include "lib/buf.h"
#include "lib/clock.h"

enum step_result { STEP_OK, STEP_FAILED, STEP_ADVICE };

struct steps {
	bool is_json;
};

/* The headings, for people on a terminal. */
void steps_begin(const struct steps *s);
/* `name` of the step, `took_ms` negative: not worth telling, `text` from anywhere: it is made printable. */
void steps_put(const struct steps *s, enum step_result result, const char *name, int64_t took_ms, const char *text);
/* The last line: how it went, and the status that the program exits with. */
void steps_end(const struct steps *s, int status, const char *text);
#endif
