/* pause.c - see pause.h. Written down in the journal as "paused/NAME": until (ms since 1970, decimal), blank, why. */
#include "scheduler/pause.h"
#include "lib/log.h"
#include "lib/text.h"
#include "scheduler/age.h"
#include "scheduler/dispatch.h"
#include "scheduler/permit.h"
#include <stdlib.h>

enum { WHY_MAX = 400, TIMER_MAX_MS = 3600 * 1000 };

struct pause {
	struct scheduler *s;
	unsigned server;
	struct wall until;
	char *why;
	struct loop_timer *timer;
};

bool pause_is_on(const struct scheduler *s, unsigned server)
{
	return s->server[server].pause != NULL;
}

struct wall pause_until(const struct scheduler *s, unsigned server)
{
	return s->server[server].pause->until;
}

static char *note_name(const struct pause *p)
{
	return xasprintf("paused/%s", p->s->conf->server[p->server].name);
}

static void write_down(const struct pause *p)
{
	char *name = note_name(p), *value = xasprintf("%lld %s", (long long)p->until.ms, p->why);

	if (journal_put_note(p->s->journal, name, slice_of(value)) != STORE_OK)
		log_warn("no room to write down that %s: a restart would forget it", name);
	free(name);
	free(value);
}

static void strike_out(const struct pause *p)
{
	char *name = note_name(p);

	if (journal_delete_note(p->s->journal, name) != STORE_OK)
		log_warn("%s stays written down: the queue database has no room", name);
	free(name);
}

static void set_timer(struct pause *p)
{
	int64_t left = p->until.ms - clock_wall().ms;

	loop_timer_set_ms(p->timer, left <= 0 ? 0 : left < TIMER_MAX_MS ? (uint64_t)left : TIMER_MAX_MS);
}

static void on_timer(void *arg)
{
	struct pause *p = arg;

	if (p->until.ms > clock_wall().ms)
		set_timer(p); /* the wait is longer than one timer */
	else
		pause_end(p->s, p->server);
}

static struct pause *pause_new(struct scheduler *s, unsigned server, struct wall until, struct slice why)
{
	struct pause *p = xcalloc(1, sizeof(*p));

	p->s = s;
	p->server = server;
	p->until = until;
	p->why = xstrndup(why.ptr, why.len < WHY_MAX ? why.len : WHY_MAX);
	p->timer = loop_timer_new(s->loop, on_timer, p);
	s->server[server].pause = p;
	hold_begin(&s->server[server].hold, s->journal, s->conf->server[server].name, until);
	set_timer(p);
	return p;
}

void pause_clock_set(struct scheduler *s, int64_t by_ms)
{
	for (unsigned i = 0; i < s->conf->server_count; i++) {
		struct pause *p = s->server[i].pause;

		if (!p)
			continue;
		p->until.ms += by_ms;
		set_timer(p);
		write_down(p);
	}
}

static void pause_free(struct pause *p)
{
	loop_timer_free(&p->timer);
	free(p->why);
	free(p);
}

void pause_format(struct buf *out, const struct scheduler *s, unsigned server)
{
	const struct pause *p = s->server[server].pause;

	buf_printf(out, "server %s is paused until ", s->conf->server[server].name);
	clock_format_rfc3339(out, p->until);
	buf_printf(out, ": %s", p->why);
}

void pause_begin(struct scheduler *s, unsigned server, uint64_t wait_ms, struct slice why)
{
	struct pause *p = s->server[server].pause;
	struct wall until;
	struct buf text;

	age_watch_clock(s);
	until.ms = clock_wall().ms + (int64_t)wait_ms;
	if (p) {
		if (until.ms > p->until.ms) {
			p->until = until;
			set_timer(p);
			write_down(p);
			hold_change(&s->server[server].hold, s->journal, s->conf->server[server].name, until);
		}
		return;
	}
	p = pause_new(s, server, until, why);
	write_down(p);
	buf_init(&text, 2048);
	pause_format(&text, s, server);
	log_warn("%s", buf_text(&text));
	buf_release(&text);
	dispatch_server_paused(s, server);
}

void pause_end(struct scheduler *s, unsigned server)
{
	struct pause *p = s->server[server].pause;

	if (!p)
		return;
	s->server[server].pause = NULL;
	strike_out(p);
	pause_free(p);
	hold_end(&s->server[server].hold);
	log_warn("server %s: the pause is over, one delivery tries it", s->conf->server[server].name);
	dispatch_server_resumed(s, server);
}

static void load_one(struct scheduler *s, unsigned server)
{
	struct buf value;
	struct slice rest;
	uint64_t until;
	char *name = xasprintf("paused/%s", s->conf->server[server].name);

	buf_init(&value, 1024);
	if (journal_get_note(s->journal, name, &value)) {
		const char *blank = memchr(value.ptr, ' ', value.len);
		size_t len = blank ? (size_t)(blank - value.ptr) : value.len;

		rest = blank ? (struct slice){ blank + 1, value.len - len - 1 } : (struct slice){ "", 0 };
		if (text_parse_u64((struct slice){ value.ptr, len }, &until) && until <= INT64_MAX)
			(void)pause_new(s, server, (struct wall){ (int64_t)until }, rest);
	}
	buf_release(&value);
	free(name);
}

void pause_load(struct scheduler *s)
{
	for (unsigned i = 0; i < s->conf->server_count; i++)
		load_one(s, i);
}
