/* age.c - see age.h. Steps are written down in the journal as "clock-steps": "ID MS" each, ID the last message before
 * it. */
#include "scheduler/age.h"
#include "lib/log.h"
#include "lib/text.h"
#include "scheduler/pause.h"
#include "scheduler/permit.h"
#include <stdlib.h>

enum { NOTE_BYTES = CLOCK_STEPS_MAX * 48 };

static const char NOTE[] = "clock-steps";

static int64_t distance(void)
{
	return clock_wall().ms - clock_mono().ms;
}

static void add_step(struct scheduler *s, uint64_t last_id, int64_t by_ms)
{
	if (s->clock_step_count == CLOCK_STEPS_MAX)
		memmove(s->clock_step, s->clock_step + 1, --s->clock_step_count * sizeof(s->clock_step[0]));
	s->clock_step[s->clock_step_count++] = (struct clock_step){ last_id, by_ms };
}

static void write_down(struct scheduler *s)
{
	struct buf text;

	buf_init(&text, NOTE_BYTES);
	for (unsigned i = 0; i < s->clock_step_count; i++)
		buf_printf(&text, "%llu %lld ", (unsigned long long)s->clock_step[i].last_id,
			   (long long)s->clock_step[i].by_ms);
	if (journal_put_note(s->journal, NOTE, buf_slice(&text)) != STORE_OK)
		log_warn("no room to write down that the clock was set: a restart would forget it");
	buf_release(&text);
}

/* Ids go with the clock and never back: after a step forward they are beyond where it stood, else beyond the last. */
static uint64_t last_before(const struct scheduler *s, int64_t by_ms)
{
	int64_t stood_ms = clock_wall().ms - by_ms;

	return by_ms > 0 && stood_ms > 0 ? ((uint64_t)stood_ms * 1000 + 999) << 12 | 0xfff : s->last_id;
}

void age_watch_clock(struct scheduler *s)
{
	int64_t now = distance(), by_ms = now - s->clock_distance_ms;
	bool is_first = s->clock_distance_ms == 0;

	s->clock_distance_ms = now;
	if (is_first || (by_ms < STEP_MIN_MS && by_ms > -STEP_MIN_MS))
		return;
	log_warn("the clock was set %s by %lld s: mail does not become older or younger by that",
		 by_ms > 0 ? "forward" : "back", (long long)(by_ms > 0 ? by_ms : -by_ms) / 1000);
	add_step(s, last_before(s, by_ms), by_ms);
	write_down(s);
	pause_clock_set(s, by_ms);
	permit_ask_again(s, slice_of("")); /* the limiter says by its clock when */
}

int64_t age_of(const struct scheduler *s, uint64_t id)
{
	int64_t age = clock_wall().ms - (int64_t)(id >> 12) / 1000;

	for (unsigned i = 0; i < s->clock_step_count; i++)
		if (id <= s->clock_step[i].last_id)
			age -= s->clock_step[i].by_ms;
	return age;
}

void age_load(struct scheduler *s)
{
	struct buf text;
	char *at;

	age_watch_clock(s);
	buf_init(&text, NOTE_BYTES);
	if (journal_get_note(s->journal, NOTE, &text)) {
		at = text.ptr;
		for (unsigned i = 0; i < CLOCK_STEPS_MAX && *at >= '0' && *at <= '9'; i++) {
			uint64_t last_id = strtoull(at, &at, 10);

			add_step(s, last_id, strtoll(at, &at, 10));
			at += *at == ' ';
		}
	}
	buf_release(&text);
}
