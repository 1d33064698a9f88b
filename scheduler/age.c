/* age.c - see age.h. Written down in the journal as "clock": the boot's name, both clocks, and "ID MS" of each step. */
#include "scheduler/age.h"
#include "lib/log.h"
#include "lib/text.h"
#include "scheduler/pause.h"
#include "scheduler/permit.h"
#include <stdlib.h>

enum {
	NOTE_BYTES = 100 + CLOCK_STEPS_MAX * 48,
	KEEP_EVERY_MS = 60 * 1000,
	ON_THE_WAY =
		1 << 24 /* ids that pickup may have given and we have not heard of, while the clock was behind them */
};

static const char NOTE[] = "clock";

static int64_t distance(void)
{
	return clock_wall().ms - clock_mono().ms;
}

static int64_t id_ms(uint64_t id)
{
	return (int64_t)(id >> 12) / 1000;
}

static uint64_t last_id_of(int64_t ms)
{
	return ms > 0 ? ((uint64_t)ms * 1000 + 999) << 12 | 0xfff : 0;
}

/* --- steps --- */

static void add_step(struct scheduler *s, uint64_t last_id, int64_t by_ms)
{
	if (s->clock_step_count == CLOCK_STEPS_MAX)
		memmove(s->clock_step, s->clock_step + 1, --s->clock_step_count * sizeof(s->clock_step[0]));
	s->clock_step[s->clock_step_count++] = (struct clock_step){ last_id, by_ms };
}

static int64_t steps_since(const struct scheduler *s, uint64_t id)
{
	int64_t sum = 0;

	for (unsigned i = 0; i < s->clock_step_count; i++)
		if (id <= s->clock_step[i].last_id)
			sum += s->clock_step[i].by_ms;
	return sum;
}

int64_t age_of(const struct scheduler *s, uint64_t id, struct wall known)
{
	int64_t came_ms = id_ms(id) < known.ms ? id_ms(id) : known.ms;

	return clock_wall().ms - came_ms - steps_since(s, id);
}

/* Ids never go back: after a step forward they are beyond where the clock stood, else beyond the last. */
static void note_step(struct scheduler *s, int64_t by_ms)
{
	int64_t now_ms = clock_wall().ms;
	uint64_t last = s->clock_last_id;

	/* Of what was on the way at earlier steps we have heard. */
	for (unsigned i = 0; i < s->clock_step_count; i++)
		if (s->clock_step[i].last_id > last)
			s->clock_step[i].last_id = last;
	if (by_ms > 0 && last_id_of(now_ms - by_ms) > last)
		last = last_id_of(now_ms - by_ms);
	if (by_ms > 0 && id_ms(last) < now_ms)
		last += ON_THE_WAY;
	add_step(s, last, by_ms);
}

/* --- what is written down --- */

static void write_down(struct scheduler *s)
{
	struct buf text;

	s->clock_written = clock_mono();
	buf_init(&text, NOTE_BYTES);
	buf_printf(&text, "%s %lld %lld", s->boot_id[0] ? s->boot_id : "-",
		   (long long)s->clock_distance_ms + s->clock_written.ms, (long long)s->clock_written.ms);
	for (unsigned i = 0; i < s->clock_step_count; i++)
		buf_printf(&text, " %llu %lld", (unsigned long long)s->clock_step[i].last_id,
			   (long long)s->clock_step[i].by_ms);
	if (journal_put_note(s->journal, NOTE, buf_slice(&text)) != STORE_OK)
		log_warn("no room to write down how the clock was set: a restart would forget it");
	buf_release(&text);
}

void age_keep(struct scheduler *s)
{
	if (clock_mono().ms - s->clock_written.ms >= KEEP_EVERY_MS)
		write_down(s);
}

/* The distance that the clocks would have, had nobody set one and had the machine not been off; 0: unknown. */
static int64_t distance_since(const char *boot_id, struct slice boot, int64_t wall_ms, int64_t boot_ms)
{
	if (!boot_id[0] || slice_is(boot, "-"))
		return 0;
	if (!slice_is(boot, boot_id))
		return wall_ms;
	return clock_mono().ms >= boot_ms ? wall_ms - boot_ms : 0;
}

static void parse(struct scheduler *s, const char *text)
{
	size_t len = strcspn(text, " ");
	char *at;
	int64_t wall_ms = strtoll(text + len, &at, 10), boot_ms = strtoll(at, &at, 10);

	s->clock_distance_ms = distance_since(s->boot_id, (struct slice){ text, len }, wall_ms, boot_ms);
	while (*at == ' ') {
		uint64_t last_id = strtoull(at, &at, 10);

		add_step(s, last_id, strtoll(at, &at, 10));
	}
}

void age_load(struct scheduler *s, const char *boot_id)
{
	struct buf text;
	int64_t by_ms;

	s->boot_id = boot_id;
	buf_init(&text, NOTE_BYTES);
	if (journal_get_note(s->journal, NOTE, &text))
		parse(s, buf_text(&text));
	buf_release(&text);
	by_ms = s->clock_distance_ms ? distance() - s->clock_distance_ms : 0;
	s->clock_back_ms = by_ms <= -STEP_MIN_MS ? by_ms : 0;
}

void age_begin(struct scheduler *s)
{
	s->clock_last_id = s->last_id;
	age_watch_clock(s);
	s->clock_back_ms = 0;
	write_down(s);
}

void age_watch_clock(struct scheduler *s)
{
	int64_t now = distance(), by_ms = now - s->clock_distance_ms;
	bool is_first = s->clock_distance_ms == 0;

	s->clock_distance_ms = now;
	if (!is_first && (by_ms >= STEP_MIN_MS || by_ms <= -STEP_MIN_MS)) {
		log_warn("the clock was set %s by %lld s%s: mail does not become older or younger by that",
			 by_ms > 0 ? "forward" : "back", (long long)(by_ms > 0 ? by_ms : -by_ms) / 1000,
			 s->clock_written.ms ? "" : ", or the machine was off");
		note_step(s, by_ms);
		write_down(s);
		pause_clock_set(s, by_ms);
		permit_ask_again(s, slice_of("")); /* the limiter says by its clock when */
	}
	s->clock_last_id = s->last_id;
}
