/* search.c - see search.h. */
#include "tools/search.h"
#include <sys/random.h>

enum { CONFIRM_PAUSE_MS = 1000 }; /* between the two answers that make "does not exist" final */

struct search;

struct question {
	struct search *search;
	struct dns_query *query;
};

struct search {
	struct loop *loop;
	struct dns *dns;
	struct mx_search *mx;
	struct loop_timer *pause, *deadline;
	struct question question[MX_QUESTIONS_MAX];
	bool is_found, is_late;
};

static void on_answer(void *arg, const struct wire_answer *answer);

static void on_deadline(void *arg)
{
	struct search *s = arg;

	s->is_late = true;
	loop_stop(s->loop);
}

static void go_on(struct search *s)
{
	switch (mx_step(s->mx)) {
	case MX_STEP_ASK:
		for (unsigned i = 0; i < s->mx->question_count; i++) {
			s->question[i].search = s;
			s->question[i].query = dns_ask(s->dns, mx_question_name(s->mx, i), s->mx->question[i].type,
						       s->mx->is_fresh, on_answer, &s->question[i]);
		}
		break;
	case MX_STEP_PAUSE:
		loop_timer_set_ms(s->pause, CONFIRM_PAUSE_MS);
		break;
	case MX_STEP_DONE:
		s->is_found = true;
		loop_stop(s->loop);
		break;
	}
}

static void on_answer(void *arg, const struct wire_answer *answer)
{
	struct question *q = arg;

	q->query = NULL;
	if (mx_answer(q->search->mx, (unsigned)(q - q->search->question), answer))
		go_on(q->search);
}

static void on_pause_over(void *arg)
{
	struct search *s = arg;

	mx_resume(s->mx);
	go_on(s);
}

uint64_t search_seed(void)
{
	uint64_t seed = 0;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = clock_wall_us();
	return seed;
}

bool search_run(struct loop *loop, struct dns *dns, struct mx_search *mx, uint64_t deadline_ms)
{
	struct search s = { .loop = loop, .dns = dns, .mx = mx };

	s.pause = loop_timer_new(loop, on_pause_over, &s);
	s.deadline = loop_timer_new(loop, on_deadline, &s);
	if (deadline_ms > 0)
		loop_timer_set_ms(s.deadline, deadline_ms);
	go_on(&s);
	while (!s.is_found && !s.is_late)
		loop_run(loop);
	for (unsigned i = 0; i < MX_QUESTIONS_MAX; i++)
		dns_cancel(&s.question[i].query);
	loop_timer_free(&s.pause);
	loop_timer_free(&s.deadline);
	return s.is_found;
}

/* --- one question --- */

struct lone {
	struct loop *loop;
	struct wire_answer *answer;
	struct dns_query *query;
	bool is_over;
};

static void on_lone_answer(void *arg, const struct wire_answer *answer)
{
	struct lone *l = arg;

	l->query = NULL;
	*l->answer = *answer;
	l->is_over = true;
	loop_stop(l->loop);
}

void search_ask(struct loop *loop, struct dns *dns, const char *name, uint16_t type, struct wire_answer *answer)
{
	struct lone l = { .loop = loop, .answer = answer };

	l.query = dns_ask(dns, name, type, false, on_lone_answer, &l);
	while (!l.is_over) /* dns.timeout ends it */
		loop_run(loop);
}
