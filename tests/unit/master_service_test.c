/* master_service_test.c - the restart policy: every row is a life of a process, event by event. */
#include "master/service.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

struct step {
	enum service_event event;
	int64_t at_ms;
	enum service_state state;
	enum service_action action;
};

#define STEPS_MAX 12
struct life {
	const char *label;
	struct step steps[STEPS_MAX];
	unsigned count;
	uint64_t delay_ms; /* after the last step */
};

static const struct life LIVES[] = {
	{ "starts and becomes ready",
	  { { SERVICE_START, 0, SERVICE_STARTING, SERVICE_DO_SPAWN },
	    { SERVICE_READY, 5, SERVICE_UP, SERVICE_DO_ANNOUNCE } },
	  2,
	  0 },
	{ "killed once: back at once",
	  { { SERVICE_START, 0, SERVICE_STARTING, SERVICE_DO_SPAWN },
	    { SERVICE_READY, 5, SERVICE_UP, SERVICE_DO_ANNOUNCE },
	    { SERVICE_DIED, 20, SERVICE_WAITING, SERVICE_DO_WAIT } },
	  3,
	  0 },
	{ "dies before it is ready: 1 s",
	  { { SERVICE_START, 0, SERVICE_STARTING, SERVICE_DO_SPAWN },
	    { SERVICE_DIED, 20, SERVICE_WAITING, SERVICE_DO_WAIT } },
	  2,
	  1000 },
	{ "dies before it is ready, again: 2 s",
	  { { SERVICE_START, 0, SERVICE_STARTING, SERVICE_DO_SPAWN },
	    { SERVICE_DIED, 20, SERVICE_WAITING, SERVICE_DO_WAIT },
	    { SERVICE_DUE, 1020, SERVICE_STARTING, SERVICE_DO_SPAWN },
	    { SERVICE_DIED, 1040, SERVICE_WAITING, SERVICE_DO_WAIT } },
	  4,
	  2000 },
	{ "refuses its configuration: stays down until another comes",
	  { { SERVICE_START, 0, SERVICE_STARTING, SERVICE_DO_SPAWN },
	    { SERVICE_REFUSED, 20, SERVICE_DOWN, SERVICE_DO_GIVE_UP },
	    { SERVICE_DUE, 99, SERVICE_DOWN, SERVICE_DO_NOTHING },
	    { SERVICE_REPLACE, 5000, SERVICE_STARTING, SERVICE_DO_SPAWN } },
	  4,
	  0 },
	{ "reload: asked to end, started again at its death whatever it died of",
	  { { SERVICE_START, 0, SERVICE_STARTING, SERVICE_DO_SPAWN },
	    { SERVICE_READY, 5, SERVICE_UP, SERVICE_DO_ANNOUNCE },
	    { SERVICE_REPLACE, 50, SERVICE_ENDING, SERVICE_DO_ASK_END },
	    { SERVICE_READY, 51, SERVICE_ENDING, SERVICE_DO_NOTHING },
	    { SERVICE_DIED, 60, SERVICE_STARTING, SERVICE_DO_SPAWN } },
	  5,
	  0 },
	{ "mute: killed, started again like any dead one",
	  { { SERVICE_START, 0, SERVICE_STARTING, SERVICE_DO_SPAWN },
	    { SERVICE_READY, 5, SERVICE_UP, SERVICE_DO_ANNOUNCE },
	    { SERVICE_MUTE, 60000, SERVICE_UP, SERVICE_DO_KILL },
	    { SERVICE_DIED, 60001, SERVICE_WAITING, SERVICE_DO_WAIT },
	    { SERVICE_DUE, 60001, SERVICE_STARTING, SERVICE_DO_SPAWN } },
	  5,
	  0 },
	{ "stop: asked once, gone for good",
	  { { SERVICE_START, 0, SERVICE_STARTING, SERVICE_DO_SPAWN },
	    { SERVICE_STOP, 5, SERVICE_STOPPING, SERVICE_DO_ASK_STOP },
	    { SERVICE_STOP, 6, SERVICE_STOPPING, SERVICE_DO_NOTHING },
	    { SERVICE_DIED, 7, SERVICE_IDLE, SERVICE_DO_FORGET },
	    { SERVICE_DUE, 8, SERVICE_IDLE, SERVICE_DO_NOTHING } },
	  5,
	  1000 },
	{ "stop while it waits to be started: no process to ask",
	  { { SERVICE_START, 0, SERVICE_STARTING, SERVICE_DO_SPAWN },
	    { SERVICE_DIED, 7, SERVICE_WAITING, SERVICE_DO_WAIT },
	    { SERVICE_STOP, 8, SERVICE_IDLE, SERVICE_DO_FORGET } },
	  3,
	  1000 },
	{ "stop during a reload",
	  { { SERVICE_START, 0, SERVICE_STARTING, SERVICE_DO_SPAWN },
	    { SERVICE_REPLACE, 5, SERVICE_ENDING, SERVICE_DO_ASK_END },
	    { SERVICE_STOP, 6, SERVICE_STOPPING, SERVICE_DO_ASK_STOP },
	    { SERVICE_DIED, 7, SERVICE_IDLE, SERVICE_DO_FORGET } },
	  4,
	  1000 },
};

static void test_lives(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_LEN(LIVES); i++) {
		struct service s = { .state = SERVICE_IDLE };

		for (unsigned k = 0; k < LIVES[i].count; k++) {
			const struct step *step = &LIVES[i].steps[k];
			enum service_action action = service_step(&s, step->event, (struct mono){ step->at_ms });

			if (action != step->action || s.state != step->state)
				fail_msg("%s: step %u: %s, action %d", LIVES[i].label, k, service_state_name(s.state),
					 (int)action);
		}
		if (service_delay_ms(&s) != LIVES[i].delay_ms)
			fail_msg("%s: waits %llu ms", LIVES[i].label, (unsigned long long)service_delay_ms(&s));
	}
}

static void crash_loop(bool is_ready, bool was_killed, const uint64_t *delay_ms, size_t count)
{
	struct service s = { .state = SERVICE_IDLE };
	int64_t now_ms = 0;

	assert_int_equal(service_step(&s, SERVICE_START, (struct mono){ now_ms }), SERVICE_DO_SPAWN);
	for (size_t i = 0; i < count; i++) {
		if (is_ready)
			(void)service_step(&s, SERVICE_READY, (struct mono){ now_ms + 1 });
		s.was_killed = was_killed;
		(void)service_step(&s, SERVICE_DIED, (struct mono){ now_ms += 10 });
		assert_int_equal(service_delay_ms(&s), delay_ms[i]);
		now_ms += (int64_t)delay_ms[i];
		assert_int_equal(service_step(&s, SERVICE_DUE, (struct mono){ now_ms }), SERVICE_DO_SPAWN);
	}
	assert_int_equal(s.starts, count + 1);
}

/* Dead 10 ms after its start, over and over. */
static void test_crash_loop_slows_down(void **state UNUSED)
{
	static const uint64_t READY[] = { 0, 0, 0, 1000, 2000, 4000, 4000, 4000 };
	static const uint64_t NEVER_READY[] = { 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000 };

	crash_loop(true, false, READY, ARRAY_LEN(READY));
	crash_loop(false, false, NEVER_READY, ARRAY_LEN(NEVER_READY));
	crash_loop(false, true, READY, ARRAY_LEN(READY)); /* kill -9 before it was ready is not its fault */
}

static void test_stable_life_forgives(void **state UNUSED)
{
	struct service s = { .state = SERVICE_UP, .was_ready = true, .failures = 9, .unready = 2, .pid = 7 };

	s.started.ms = 1000;
	(void)service_step(&s, SERVICE_DIED, (struct mono){ 1000 + SERVICE_STABLE_MS });
	assert_int_equal(s.failures, 1);
	assert_int_equal(service_delay_ms(&s), 0);
	assert_int_equal(s.pid, 0);
}

/* No event in any state may start a second process beside a living one, or ask a missing one for anything. */
static void test_table_is_sane(void **state UNUSED)
{
	static const bool HAS_PROCESS[SERVICE_STATE_COUNT] = {
		[SERVICE_STARTING] = true, [SERVICE_UP] = true, [SERVICE_ENDING] = true, [SERVICE_STOPPING] = true
	};

	for (unsigned from = 0; from < SERVICE_STATE_COUNT; from++) {
		for (unsigned event = 0; event < SERVICE_EVENT_COUNT; event++) {
			struct service s = { .state = (enum service_state)from };
			bool dies = event == SERVICE_DIED || event == SERVICE_REFUSED;
			enum service_action action = service_step(&s, (enum service_event)event, (struct mono){ 0 });

			if (action == SERVICE_DO_SPAWN && HAS_PROCESS[from] && !dies)
				fail_msg("state %u, event %u: a second process", from, event);
			if ((action == SERVICE_DO_ASK_END || action == SERVICE_DO_ASK_STOP ||
			     action == SERVICE_DO_KILL) &&
			    !HAS_PROCESS[from])
				fail_msg("state %u, event %u: nobody to ask", from, event);
			if ((action == SERVICE_DO_SPAWN) !=
			    (s.state == SERVICE_STARTING && (from != SERVICE_STARTING || dies)))
				fail_msg("state %u, event %u: STARTING means started now", from, event);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lives),
		cmocka_unit_test(test_crash_loop_slows_down),
		cmocka_unit_test(test_stable_life_forgives),
		cmocka_unit_test(test_table_is_sane),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
