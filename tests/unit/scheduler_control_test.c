/* scheduler_control_test.c - operators ask, are answered in portions, and can hold up nobody. */
#include "scheduler/control.h"
#include "tests/unit/loop_turn.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

struct fixture {
	struct loop *loop;
	struct control *control;
	struct sockaddr_un sun;
	socklen_t sun_len;
	int listener;
	unsigned next, steps, released;
	struct control_client *waiting;
	uid_t uid;
	size_t longest;
};

/* --- commands --- */

static enum control_step step_count(void *iterator, struct control_reply *reply, struct buf *out)
{
	struct fixture *f = iterator;

	f->steps++;
	if (out->len > f->longest)
		f->longest = out->len;
	buf_printf(out, "{\"line\":%u}\n", f->next++);
	(void)snprintf(reply->text, sizeof(reply->text), "%u lines", f->next);
	return f->next == 100000 ? CONTROL_END : CONTROL_MORE;
}

static void on_release(void *iterator)
{
	((struct fixture *)iterator)->released++;
}

static void start_count(void *arg, const struct control_request *request, struct control_reply *reply)
{
	struct fixture *f = arg;

	f->uid = request->uid;
	reply->step = step_count;
	reply->release = on_release;
	reply->iterator = f;
}

static enum control_step step_search(void *iterator, struct control_reply *reply UNUSED, struct buf *out UNUSED)
{
	struct fixture *f = iterator;

	return ++f->steps == 10000 ? CONTROL_END : CONTROL_MORE; /* finds nothing for long */
}

static void start_search(void *arg, const struct control_request *request, struct control_reply *reply)
{
	start_count(arg, request, reply);
	reply->step = step_search;
}

static enum control_step step_wait(void *iterator, struct control_reply *reply, struct buf *out)
{
	struct fixture *f = iterator;

	if (f->steps++ == 0) {
		f->waiting = reply->client;
		return CONTROL_WAIT;
	}
	buf_put_str(out, "{\"came\":true}\n");
	return CONTROL_END;
}

static void start_wait(void *arg, const struct control_request *request, struct control_reply *reply)
{
	start_count(arg, request, reply);
	reply->step = step_wait;
}

static enum control_step step_huge(void *iterator UNUSED, struct control_reply *reply UNUSED, struct buf *out)
{
	(void)buf_reserve(out, CONTROL_STEP_MAX + 1);
	return CONTROL_MORE;
}

static void start_huge(void *arg, const struct control_request *request, struct control_reply *reply)
{
	start_count(arg, request, reply);
	reply->step = step_huge;
}

static void start_echo(void *arg UNUSED, const struct control_request *request, struct control_reply *reply)
{
	const char *word = control_get_string(request, "word");

	control_refuse(reply, word ? EXIT_STATUS_DONE : EXIT_STATUS_USAGE, "%s", word ? word : "no word");
}

static const struct control_command COMMANDS[] = {
	{ "count", start_count }, { "search", start_search }, { "wait", start_wait },
	{ "huge", start_huge },   { "echo", start_echo },
};

/* --- the other side --- */

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	f->sun.sun_family = AF_UNIX;
	f->sun_len = sizeof(sa_family_t); /* the kernel finds a name */
	assert_int_equal(bind(f->listener, (struct sockaddr *)&f->sun, f->sun_len), 0);
	f->sun_len = sizeof(f->sun);
	assert_int_equal(getsockname(f->listener, (struct sockaddr *)&f->sun, &f->sun_len), 0);
	assert_int_equal(listen(f->listener, 100), 0);
	f->loop = loop_new();
	f->control = control_new(f->loop, f->listener, COMMANDS, ARRAY_LEN(COMMANDS), f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	control_free(&f->control);
	loop_free(&f->loop);
	(void)close(f->listener);
	free(f);
	return 0;
}

static int ask(struct fixture *f, const char *request)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&f->sun, f->sun_len), 0);
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	return fd;
}

/* All of the answer, turning the loop until the server hangs up. */
static void hear(struct fixture *f, int fd, struct buf *answer)
{
	ssize_t n = -1;

	buf_init(answer, 16 * 1024 * 1024);
	for (int turns = 0; n != 0; turns++) {
		char *at = buf_reserve(answer, 65536);

		assert_true(turns < 100000);
		loop_turn(f->loop);
		n = recv(fd, at, 65536, 0);
		if (n > 0)
			answer->len += (size_t)n;
		else
			assert_true(n == 0 || errno == EAGAIN);
	}
	(void)close(fd);
}

static void check_answer(struct fixture *f, const char *request, const char *want)
{
	struct buf answer;

	print_message("%s", request);
	hear(f, ask(f, request), &answer);
	assert_string_equal(buf_text(&answer), want);
	buf_release(&answer);
	assert_int_equal(control_client_count(f->control), 0);
}

/* --- tests --- */

static void test_requests(void **state)
{
	static const struct {
		const char *request, *want;
	} ROWS[] = {
		{ "{\"command\":\"echo\",\"word\":\"hi!\"}\n", "{\"end\":true,\"status\":0,\"text\":\"hi!\"}\n" },
		{ "{\"command\":\"echo\"}\nwhat follows is not read\n",
		  "{\"end\":true,\"status\":64,\"text\":\"no word\"}\n" },
		{ "{\"command\":\"echo\",\"word\":7}\n", "{\"end\":true,\"status\":64,\"text\":\"no word\"}\n" },
		{ "{\"command\":\"fly\"}\n",
		  "{\"end\":true,\"status\":64,\"text\":\"this version knows no such command\"}\n" },
		{ "{}\n", "{\"end\":true,\"status\":64,\"text\":\"the request names no command\"}\n" },
		{ "{\"command\":[]}\n", "{\"end\":true,\"status\":64,\"text\":\"the request names no command\"}\n" },
		{ "[1]\n",
		  "{\"end\":true,\"status\":64,\"text\":\"the request is no JSON object: something else\"}\n" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++)
		check_answer(*state, ROWS[i].request, ROWS[i].want);
}

static void test_rubbish_is_answered(void **state)
{
	static const char *const ROWS[] = { "\n", "rubbish\n", "{\"command\":\"echo\"\n", "{\"a\":1,\"a\":2}\n",
					    "{\"command\":\"\xff\"}\n" };
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct buf answer;
		json_t *object;

		hear(f, ask(f, ROWS[i]), &answer);
		object = json_loadb(answer.ptr, answer.len, 0, NULL);
		assert_int_equal(json_integer_value(json_object_get(object, "status")), EXIT_STATUS_USAGE);
		json_decref(object);
		buf_release(&answer);
	}
}

static void test_request_in_pieces(void **state)
{
	struct fixture *f = *state;
	int fd = ask(f, "{\"command\":\"ec");
	struct buf answer;

	loop_turn(f->loop);
	loop_turn(f->loop);
	assert_int_equal(control_client_count(f->control), 1);
	assert_int_equal(send(fd, "ho\",\"word\":\"x\"}", 15, 0), 15);
	assert_int_equal(shutdown(fd, SHUT_WR), 0); /* no line end: `printf ... | nc -N` */
	hear(f, fd, &answer);
	assert_string_equal(buf_text(&answer), "{\"end\":true,\"status\":0,\"text\":\"x\"}\n");
	buf_release(&answer);
}

static void test_request_too_long(void **state)
{
	struct fixture *f = *state;
	static char big[CONTROL_REQUEST_MAX + 2];
	struct buf answer;

	memset(big, 'x', sizeof(big) - 1);
	hear(f, ask(f, big), &answer);
	assert_string_equal(buf_text(&answer), "{\"end\":true,\"status\":64,\"text\":\"the request is too long\"}\n");
	buf_release(&answer);
}

static void test_long_answer_is_streamed(void **state)
{
	struct fixture *f = *state;
	int fd = ask(f, "{\"command\":\"count\"}\n");
	struct buf answer;
	unsigned lines = 0;

	for (int i = 0; i < 1000; i++)
		loop_turn(f->loop); /* nobody takes anything yet: what is made must stay bounded */
	assert_true(f->steps > 0 && f->steps < 50000);
	hear(f, fd, &answer);
	assert_int_equal(f->next, 100000);
	assert_int_equal(f->released, 1);
	assert_true(f->longest <= 65536);
	assert_int_equal(f->uid, getuid());
	for (char *at = answer.ptr; (at = strchr(at, '\n')); at++)
		lines++;
	assert_int_equal(lines, 100001);
	assert_non_null(
		strstr(answer.ptr, "{\"line\":99999}\n{\"end\":true,\"status\":0,\"text\":\"100000 lines\"}\n"));
	buf_release(&answer);
}

/* A search without result goes on over many turns instead of holding up one. */
static void test_search_shares_the_loop(void **state)
{
	struct fixture *f = *state;
	int fd = ask(f, "{\"command\":\"search\"}\n");
	unsigned turns = 0;

	for (; f->steps < 10000; turns++)
		loop_turn(f->loop);
	assert_true(turns > 20);
	assert_int_equal(f->released, 1);
	(void)close(fd);
}

static void test_waiting_is_woken(void **state)
{
	struct fixture *f = *state;
	int fd = ask(f, "{\"command\":\"wait\"}\n");
	struct buf answer;

	for (int i = 0; i < 5; i++)
		loop_turn(f->loop);
	assert_int_equal(f->steps, 1);
	control_wake(f->waiting);
	control_wake(f->waiting);
	hear(f, fd, &answer);
	assert_string_equal(buf_text(&answer), "{\"came\":true}\n{\"end\":true,\"status\":0,\"text\":\"\"}\n");
	assert_int_equal(f->released, 1);
	buf_release(&answer);
}

static void test_too_large_a_line_ends_the_answer(void **state)
{
	check_answer(*state, "{\"command\":\"huge\"}\n",
		     "{\"end\":true,\"status\":70,\"text\":\"a line of the answer is too long\"}\n");
}

/* The client goes in the middle: its iterator is released, others are served. */
static void test_client_goes_away(void **state)
{
	struct fixture *f = *state;
	int fd = ask(f, "{\"command\":\"count\"}\n");

	loop_turn(f->loop);
	loop_turn(f->loop);
	(void)close(fd);
	for (int i = 0; i < 5; i++)
		loop_turn(f->loop);
	assert_int_equal(f->released, 1);
	assert_int_equal(control_client_count(f->control), 0);
	fd = ask(f, "");
	loop_turn(f->loop);
	(void)close(fd);
	loop_turn(f->loop);
	loop_turn(f->loop);
	assert_int_equal(control_client_count(f->control), 0);
}

static void test_too_many_clients(void **state)
{
	struct fixture *f = *state;
	int fds[CONTROL_CLIENTS_MAX + 1];
	char answer[200];
	ssize_t n;

	for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = ask(f, "");
	for (unsigned i = 0; i < 2 * ARRAY_LEN(fds); i++)
		loop_turn(f->loop);
	assert_int_equal(control_client_count(f->control), CONTROL_CLIENTS_MAX);
	n = recv(fds[CONTROL_CLIENTS_MAX], answer, sizeof(answer) - 1, 0);
	assert_true(n > 0);
	answer[n] = '\0';
	assert_non_null(strstr(answer, "\"status\":75"));
	for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
		(void)close(fds[i]);
}

#define CONTROL_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONTROL_TEST(test_requests),
		CONTROL_TEST(test_rubbish_is_answered),
		CONTROL_TEST(test_request_in_pieces),
		CONTROL_TEST(test_request_too_long),
		CONTROL_TEST(test_long_answer_is_streamed),
		CONTROL_TEST(test_search_shares_the_loop),
		CONTROL_TEST(test_waiting_is_woken),
		CONTROL_TEST(test_too_large_a_line_ends_the_answer),
		CONTROL_TEST(test_client_goes_away),
		CONTROL_TEST(test_too_many_clients),
	};

	return cmocka_run_group_tests_name("scheduler_control", tests, NULL, NULL);
}
