/* lib_channel_test.c - packets over pipes: generations, full pipes, overlong packets, killed readers. */
#include "lib/channel.h"
#include "lib/log.h"
#include "tests/unit/loop_turn.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

enum { OURS = 7, THEIRS = 9 };

/* Our side of a pair of pipes, and raw ends that play the partner. As master does, all ends stay open. */
struct fixture {
	struct loop *loop;
	struct channel *channel;
	int to_us[2], from_us[2];
	unsigned received, sum, rooms;
	bool frees_channel, pauses, refuses;
	struct msg_head head;
};

static bool on_packet(void *arg, const struct msg_head *head, const struct packet *p)
{
	struct fixture *f = arg;
	struct msg_ping ping;

	f->head = *head;
	if (head->type != MSG_PING || !msg_decode_ping(p, &ping) || f->refuses)
		return false;
	f->received++;
	f->sum += ping.sequence;
	if (f->pauses)
		channel_pause_input(f->channel, true);
	if (f->frees_channel)
		channel_free(&f->channel);
	return true;
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	assert_int_equal(pipe2(f->to_us, O_DIRECT | O_NONBLOCK | O_CLOEXEC), 0);
	assert_int_equal(pipe2(f->from_us, O_DIRECT | O_NONBLOCK | O_CLOEXEC), 0);
	f->loop = loop_new();
	f->channel = channel_new(f->loop, f->to_us[0], f->from_us[1], "partner", OURS, on_packet, f);
	channel_set_peer(f->channel, THEIRS);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	channel_free(&f->channel);
	loop_free(&f->loop);
	for (int i = 0; i < 2; i++) {
		(void)close(f->to_us[i]);
		(void)close(f->from_us[i]);
	}
	free(f);
	return 0;
}

static void make_ping(struct packet *p, uint32_t from, uint32_t to, uint32_t sequence)
{
	struct msg_head head = { .from_generation = from, .to_generation = to };

	msg_encode_ping(p, &head, &(struct msg_ping){ .sequence = sequence });
}

static bool peer_sends(struct fixture *f, uint32_t to, uint32_t sequence)
{
	struct packet p;

	make_ping(&p, THEIRS, to, sequence);
	return write(f->to_us[1], p.bytes, p.len) == p.len;
}

/* The sequence of the next packet in the pipe that we wrote; -1 when there is none. */
static int peer_reads(int fd, struct msg_head *head)
{
	struct packet p;
	struct msg_ping ping;
	ssize_t n = read(fd, p.bytes, sizeof(p.bytes));

	if (n < 0)
		return -1;
	p.len = (uint16_t)n;
	assert_true(msg_decode_head(&p, head));
	assert_true(msg_decode_ping(&p, &ping));
	return (int)ping.sequence;
}

static void we_send(struct fixture *f, uint32_t sequence)
{
	struct msg_head head = channel_head(f->channel);
	struct packet p;

	msg_encode_ping(&p, &head, &(struct msg_ping){ .sequence = sequence });
	channel_send(f->channel, &p);
}

static void test_send_and_receive(void **state)
{
	struct fixture *f = *state;
	struct msg_head head;

	we_send(f, 41);
	assert_int_equal(peer_reads(f->from_us[0], &head), 41);
	assert_int_equal(head.from_generation, OURS);
	assert_int_equal(head.to_generation, THEIRS);
	assert_true(peer_sends(f, OURS, 5));
	assert_true(peer_sends(f, 0, 6)); /* to whoever reads */
	loop_turn(f->loop);
	assert_int_equal(f->received, 2);
	assert_int_equal(f->sum, 11);
	assert_int_equal(f->head.from_generation, THEIRS);
}

static void test_packets_for_a_predecessor_are_dropped(void **state)
{
	struct fixture *f = *state;

	assert_true(peer_sends(f, OURS - 1, 1));
	assert_true(peer_sends(f, OURS + 1, 1));
	assert_true(peer_sends(f, OURS, 1));
	loop_turn(f->loop);
	assert_int_equal(f->received, 1);
	assert_int_equal(channel_malformed_count(f->channel), 0);
}

static void test_malformed_is_counted_and_dropped(void **state)
{
	static const char *const ROWS[] = { "x", "garbage that is longer than a header, by far" };
	struct fixture *f = *state;
	struct packet p;

	for (unsigned i = 0; i < ARRAY_LEN(ROWS); i++)
		assert_true(write(f->to_us[1], ROWS[i], strlen(ROWS[i])) > 0);
	make_ping(&p, THEIRS, OURS, 1);
	assert_true(write(f->to_us[1], p.bytes, p.len - 1u) > 0); /* short */
	p.bytes[2] = 77;                                          /* version */
	assert_true(write(f->to_us[1], p.bytes, p.len) > 0);
	assert_true(peer_sends(f, OURS, 3)); /* framing is not lost */
	loop_turn(f->loop);
	assert_int_equal(channel_malformed_count(f->channel), 4);
	assert_int_equal(f->sum, 3);
	f->refuses = true; /* the decoder of the owner says no */
	assert_true(peer_sends(f, OURS, 3));
	loop_turn(f->loop);
	assert_int_equal(channel_malformed_count(f->channel), 5);
}

/* A writer that breaks the rule of 4096 bytes: the kernel cuts it up, none of the pieces is obeyed. */
static void test_overlong_packet(void **state)
{
	static uint8_t bytes[10000];
	struct fixture *f = *state;
	struct packet p;

	make_ping(&p, THEIRS, OURS, 1);
	memcpy(bytes, p.bytes, p.len);
	assert_int_equal(write(f->to_us[1], bytes, sizeof(bytes)), sizeof(bytes));
	assert_true(peer_sends(f, OURS, 3));
	loop_turn(f->loop);
	assert_int_equal(channel_malformed_count(f->channel), 3);
	assert_int_equal(f->sum, 3);
}

static void on_room(void *arg)
{
	((struct fixture *)arg)->rooms++;
}

static void test_full_pipe_queues_in_order(void **state)
{
	struct fixture *f = *state;
	struct msg_head head;
	uint32_t sent = 0;
	int got = 0;

	channel_on_room(f->channel, on_room, f);
	for (; !channel_is_full(f->channel); sent++)
		we_send(f, sent);
	assert_true(sent >= CHANNEL_QUEUE_MAX + 16); /* a default pipe takes 16 */
	loop_turn(f->loop);
	assert_int_equal(f->rooms, 0);
	for (unsigned turns = 0; got < (int)sent && turns < 10000; turns++) {
		int next;

		while ((next = peer_reads(f->from_us[0], &head)) >= 0)
			assert_int_equal(next, got++);
		loop_turn(f->loop);
	}
	assert_int_equal(got, sent);
	assert_int_equal(f->rooms, 1); /* once, when it fell below half */
	assert_false(channel_is_full(f->channel));
}

/* RE16: both pipes are full, and neither side reads before it has written: the channel takes what comes all the same.
 */
static void test_re16_full_both_ways(void **state)
{
	struct fixture *f = *state;
	struct msg_head head;
	uint32_t sent = 0, came = 0;
	int got = 0;

	for (; !channel_is_full(f->channel); sent++)
		we_send(f, sent);
	while (peer_sends(f, OURS, 1))
		came++;
	assert_true(came >= 16);
	for (unsigned turns = 0; f->received < came && turns < 1000; turns++)
		loop_turn(f->loop);
	assert_int_equal(f->received, came);
	assert_true(channel_is_full(f->channel)); /* nobody has read a word of ours */
	for (unsigned turns = 0; got < (int)sent && turns < 10000; turns++) {
		int next;

		while ((next = peer_reads(f->from_us[0], &head)) >= 0)
			assert_int_equal(next, got++);
		loop_turn(f->loop);
	}
	assert_int_equal(got, sent);
}

/* The partner dies with our packets waiting in memory: those meant for it are thrown away, not the newer ones. */
static void test_queue_of_a_dead_generation_goes(void **state)
{
	struct fixture *f = *state;
	struct msg_head head;
	unsigned to_old = 0;
	int next;

	channel_on_room(f->channel, on_room, f);
	for (uint32_t i = 0; !channel_is_full(f->channel); i++)
		we_send(f, 1000 + i);
	channel_set_peer(f->channel, THEIRS + 1);
	assert_int_equal(channel_peer(f->channel), THEIRS + 1);
	loop_turn(f->loop);
	assert_int_equal(f->rooms, 1);
	we_send(f, 7);
	while ((next = peer_reads(f->from_us[0], &head)) >= 1000) {
		assert_int_equal(head.to_generation, THEIRS); /* was in the pipe already: its reader drops it */
		to_old++;
	}
	assert_true(to_old > 0 && to_old <= 16);
	if (next < 0) { /* the pipe was full when 7 was sent */
		loop_turn(f->loop);
		next = peer_reads(f->from_us[0], &head);
	}
	assert_int_equal(next, 7);
	assert_int_equal(head.to_generation, THEIRS + 1);
}

static void test_channel_freed_by_its_callback(void **state)
{
	struct fixture *f = *state;

	f->frees_channel = true;
	for (uint32_t i = 0; i < 5; i++)
		assert_true(peer_sends(f, OURS, i));
	loop_turn(f->loop);
	assert_int_equal(f->received, 1);
	assert_null(f->channel);
}

static void test_paused_input_stays_in_the_pipe(void **state)
{
	struct fixture *f = *state;

	f->pauses = true;
	for (uint32_t i = 0; i < 3; i++)
		assert_true(peer_sends(f, OURS, 1));
	loop_turn(f->loop);
	loop_turn(f->loop);
	assert_int_equal(f->received, 1);
	channel_drain_input(f->channel); /* a dead partner's last words are read even so */
	assert_int_equal(f->received, 3);
	assert_true(peer_sends(f, OURS, 1));
	channel_pause_input(f->channel, false);
	loop_turn(f->loop);
	assert_int_equal(f->received, 4);
}

static void child_reads_for_ever(int fd)
{
	struct packet p;

	for (;;) {
		ssize_t n = read(fd, p.bytes, sizeof(p.bytes));

		p.len = n > 0 ? (uint16_t)n : 0;
		if (n > 0 && !msg_decode_any(&p))
			_exit(1); /* framing was lost */
	}
}

/* Readers are killed again and again: at most one packet a kill is lost, the framing never is. */
static void test_killed_readers(void **state)
{
	struct fixture *f = *state;
	uint32_t sent = 0;
	struct msg_head head;
	int status, next, last = -1;

	for (int kills = 0; kills < 20; kills++) {
		pid_t pid = fork();

		if (pid == 0)
			child_reads_for_ever(f->from_us[0]);
		assert_true(pid > 0);
		for (int i = 0; i < 200; i++) {
			if (!channel_is_full(f->channel))
				we_send(f, sent++);
			if (i % 10 == 0)
				loop_turn(f->loop);
		}
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status)); /* not exited by itself */
	}
	while ((next = peer_reads(f->from_us[0], &head)) >= 0) {
		assert_true(next > last);
		last = next;
		loop_turn(f->loop);
	}
	we_send(f, 4711);
	assert_int_equal(peer_reads(f->from_us[0], &head), 4711);
}

#define CHANNEL_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CHANNEL_TEST(test_send_and_receive),
		CHANNEL_TEST(test_packets_for_a_predecessor_are_dropped),
		CHANNEL_TEST(test_malformed_is_counted_and_dropped),
		CHANNEL_TEST(test_overlong_packet),
		CHANNEL_TEST(test_full_pipe_queues_in_order),
		CHANNEL_TEST(test_re16_full_both_ways),
		CHANNEL_TEST(test_queue_of_a_dead_generation_goes),
		CHANNEL_TEST(test_channel_freed_by_its_callback),
		CHANNEL_TEST(test_paused_input_stays_in_the_pipe),
		CHANNEL_TEST(test_killed_readers),
	};

	return cmocka_run_group_tests_name("lib_channel", tests, NULL, NULL);
}
