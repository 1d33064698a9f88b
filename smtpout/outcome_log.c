/* outcome_log.c - the line about one recipient's outcome. */
#include "smtpout/outcome_log.h"
#include "lib/text.h"

void outcome_log_seconds(struct buf *out, int64_t ms)
{
	int64_t hundredths = ms < 0 ? 0 : (ms + 5) / 10;

	if (hundredths >= 995) { /* from 9.95 on it rounds to whole seconds */
		buf_printf(out, "%lld", (long long)((ms + 500) / 1000));
		return;
	}
	if (hundredths >= 100)
		hundredths = (ms + 50) / 100 * 10;
	if (hundredths % 100 == 0)
		buf_printf(out, "%lld", (long long)(hundredths / 100));
	else if (hundredths % 10 == 0)
		buf_printf(out, "%lld.%lld", (long long)(hundredths / 100), (long long)(hundredths % 100 / 10));
	else
		buf_printf(out, "%lld.%02lld", (long long)(hundredths / 100), (long long)(hundredths % 100));
}

static const char *status_name(enum disposition d)
{
	switch (d) {
	case DISPOSITION_SENT:
		return "sent";
	case DISPOSITION_DEFERRED:
		return "deferred";
	case DISPOSITION_BOUNCED:
		return "bounced";
	default:
		return NULL;
	}
}

/* Fills a small array with printable text. */
static void copy_escaped(char *out, size_t size, struct slice text)
{
	struct buf b;

	buf_init(&b, 4 * size);
	text_escape(&b, text, size - 1);
	snprintf(out, size, "%s", buf_text(&b));
	buf_release(&b);
}

/* Our fields stand behind the closing parenthesis: pflogsumm passes over a line with another one there. */
static void copy_server(char *out, size_t size, const char *name)
{
	copy_escaped(out, size, slice_of(name));
	for (char *at = out; *at; at++) {
		if (*at == '(' || *at == ')' || *at == ' ')
			*at = '_';
	}
}

static void format_delays(const struct outcome_line *l, struct outcome_fields *f)
{
	const int64_t parts[] = { l->scheduled.ms - l->arrived.ms, l->active.ms - l->scheduled.ms,
				  l->begun.ms - l->active.ms, l->done.ms - l->begun.ms };
	struct buf b;

	buf_init(&b, OUTCOME_DELAYS_MAX - 1);
	outcome_log_seconds(&b, l->done.ms - l->arrived.ms);
	snprintf(f->delay, sizeof(f->delay), "%s", buf_text(&b));
	buf_clear(&b);
	for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
		buf_put_str(&b, i > 0 ? "/" : "");
		outcome_log_seconds(&b, parts[i]);
	}
	snprintf(f->delays, sizeof(f->delays), "%s", buf_text(&b));
	buf_release(&b);
}

static void format_fields(const struct outcome_line *l, struct outcome_fields *f)
{
	struct buf b;

	copy_escaped(f->rcpt, sizeof(f->rcpt), l->rcpt);
	copy_server(f->server, sizeof(f->server), l->server);
	snprintf(f->attempt, sizeof(f->attempt), "%u", l->attempt & 0xffff);
	f->next[0] = '\0';
	if (l->next.ms > 0) {
		buf_init(&b, sizeof(f->next) - 1);
		clock_format_rfc3339(&b, l->next);
		snprintf(f->next, sizeof(f->next), "%s", buf_text(&b));
		buf_release(&b);
	}
	format_delays(l, f);
}

static void fill_pairs(const struct outcome_line *l, struct outcome_fields *f, const char *status)
{
	const char *pairs[] = { "to",      f->rcpt,    "relay",  l->relay, "delay", f->delay, "delays", f->delays,
				"dsn",     l->dsn,     "status", status,   "text",  l->text,  "server", f->server,
				"attempt", f->attempt, NULL,     NULL,     NULL,    NULL,     NULL };

	_Static_assert(sizeof(pairs) <= sizeof(f->pairs), "room for the pairs");
	memcpy(f->pairs, pairs, sizeof(pairs));
	if (f->next[0]) {
		f->pairs[18] = "next";
		f->pairs[19] = f->next;
	}
	if (f->next[0] && l->may_repeat) {
		f->pairs[20] = "dup";
		f->pairs[21] = "possible";
	}
}

bool outcome_log_format(struct buf *out, const struct outcome_line *l, struct outcome_fields *f)
{
	const char *status = status_name(l->disposition);

	if (!status && l->disposition != DISPOSITION_PASSED_ON)
		return false;
	format_fields(l, f);
	if (!status) {
		buf_printf(out, "not sent to %s through server %s, the next one is tried: %s", f->rcpt, f->server,
			   l->text);
		f->pairs[0] = NULL;
		return false;
	}
	fill_pairs(l, f, status);
	buf_printf(out, "to=<%s>, relay=%s, delay=%s, delays=%s, dsn=%s, status=%s (%s), server=%s attempt=%s", f->rcpt,
		   l->relay, f->delay, f->delays, l->dsn, status, l->text, f->server, f->attempt);
	if (f->next[0])
		buf_printf(out, " next=%s%s", f->next, l->may_repeat ? " dup=possible" : "");
	return true;
}
