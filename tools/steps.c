/* steps.c - what `postern test` prints. */
#include "tools/steps.h"
#include "lib/json.h"
#include "lib/text.h"
#include "tools/columns.h"

enum { TEXT_MAX = 4000 };

static const struct column COLUMNS[] = {
	{ "RESULT", 6, false },
	{ "STEP", 11, false },
	{ "TIME", 9, true },
	{ "WHAT HAPPENED", 0, false },
};

static const char *const RESULTS[] = { "ok", "failed", "advice" };

void steps_begin(const struct steps *s)
{
	(void)columns_is_terminal(); /* asks now: there may be a jail soon */
	if (!s->is_json)
		columns_print_headings(COLUMNS, ARRAY_LEN(COLUMNS));
}

static void put_json(enum step_result result, const char *name, int64_t took_ms, const char *text)
{
	struct buf out, printable;

	buf_init(&out, 8 * TEXT_MAX);
	buf_init(&printable, 2 * TEXT_MAX);
	text_escape(&printable, slice_of(text), TEXT_MAX);
	buf_put_char(&out, '{');
	json_put_member(&out, "step", slice_of(name));
	json_put_member(&out, "result", slice_of(RESULTS[result]));
	if (took_ms >= 0)
		buf_printf(&out, ",\"seconds\":%lld.%03lld", (long long)took_ms / 1000, (long long)took_ms % 1000);
	json_put_member(&out, "text", buf_slice(&printable));
	printf("%s}\n", buf_text(&out));
	buf_release(&printable);
	buf_release(&out);
}

void steps_put(const struct steps *s, enum step_result result, const char *name, int64_t took_ms, const char *text)
{
	char took[32] = "";
	const char *const cells[] = { RESULTS[result], name, took, text };

	if (s->is_json) {
		put_json(result, name, took_ms, text);
		return;
	}
	if (took_ms >= 0)
		(void)snprintf(took, sizeof(took), "%lld.%03lld s", (long long)took_ms / 1000,
			       (long long)took_ms % 1000);
	columns_print_row(COLUMNS, ARRAY_LEN(COLUMNS), cells);
}

void steps_end(const struct steps *s, int status, const char *text)
{
	struct buf out;

	if (!s->is_json) {
		printf("%s\n", text);
		return;
	}
	buf_init(&out, 2 * TEXT_MAX);
	buf_put_char(&out, '{');
	json_put_member(&out, "step", slice_of("end"));
	json_put_member(&out, "result", slice_of(RESULTS[status == 0 ? STEP_OK : STEP_FAILED]));
	json_put_member_u64(&out, "status", (uint64_t)status);
	json_put_member(&out, "text", slice_of(text));
	printf("%s}\n", buf_text(&out));
	buf_release(&out);
}
