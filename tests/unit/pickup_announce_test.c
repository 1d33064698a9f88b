/* Which ids are sent when, and sent again to whom; the channel is a fake that keeps what it is given. */
#include "lib/channel.h"
#include "pickup/announce.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static struct {
	uint64_t sent[3 * ANNOUNCE_MAX];
	unsigned sent_count, room_calls, rejected;
	bool is_full;
} fake;

void channel_on_room(struct channel *ch UNUSED, loop_cb fn UNUSED, void *arg UNUSED)
{
}

bool channel_is_full(const struct channel *ch UNUSED)
{
	return fake.is_full;
}

struct msg_head channel_head(const struct channel *ch UNUSED)
{
	return (struct msg_head){ 0 };
}

void channel_send(struct channel *ch UNUSED, const struct packet *p)
{
	struct msg_rejected rejected;
	struct msg_head head;
	struct msg_admit m;

	assert_true(msg_decode_head(p, &head));
	if (head.type == MSG_REJECTED) {
		assert_true(msg_decode_rejected(p, &rejected));
		fake.rejected += rejected.count;
		return;
	}
	assert_true(msg_decode_admit(p, &m));
	for (unsigned i = 0; i < m.ids.count; i++)
		fake.sent[fake.sent_count++] = msg_u64(&m.ids, i);
}

static void on_room(void *arg UNUSED)
{
	fake.room_calls++;
}

static int set_up(void **state)
{
	memset(&fake, 0, sizeof(fake));
	*state = announce_new(on_room, NULL);
	announce_set_channel(*state, NULL);
	return 0;
}

static int tear_down(void **state)
{
	struct announce *a = *state;

	announce_free(&a);
	return 0;
}

static void admitted(struct announce *a, uint64_t id)
{
	const struct msg_admitted out = { .ids = { .values = &id, .count = 1 } };
	struct msg_head head = { 0 };
	struct msg_admitted in;
	struct packet p;

	msg_encode_admitted(&p, &head, &out);
	assert_true(msg_decode_admitted(&p, &in));
	announce_admitted(a, &in);
}

static void nothing_before_intake_opens(void **state)
{
	struct announce *a = *state;

	assert_int_equal(announce_room(a), 0);
	announce_add(a, 7);
	announce_flush(a);
	assert_int_equal(fake.sent_count, 0);
	announce_open(a, 1);
	assert_int_equal(fake.sent_count, 1);
	assert_int_equal(fake.sent[0], 7);
	assert_int_equal(announce_room(a), ANNOUNCE_MAX - 1);
}

static void a_successor_is_told_what_nobody_answered(void **state)
{
	struct announce *a = *state;

	announce_open(a, 1);
	announce_peer(a, 1, true);
	fake.sent_count = 0;
	for (uint64_t id = 1; id <= 3; id++)
		announce_add(a, id);
	announce_flush(a);
	admitted(a, 2);
	announce_peer(a, 1, false);
	assert_int_equal(announce_room(a), 0);
	announce_peer(a, 2, true);
	assert_int_equal(fake.sent_count, 3); /* it has not opened intake yet */
	announce_open(a, 2);
	assert_int_equal(fake.sent_count, 5);
	assert_int_equal(fake.sent[3], 1);
	assert_int_equal(fake.sent[4], 3);
}

/* Master's word of the old one's death may come after the new one's own. */
static void a_late_death_closes_nothing_of_the_successor(void **state)
{
	struct announce *a = *state;

	announce_open(a, 1);
	announce_open(a, 2);
	announce_peer(a, 1, false);
	assert_true(announce_is_open(a));
}

static void the_window_fills_and_empties(void **state)
{
	struct announce *a = *state;

	announce_open(a, 1);
	for (uint64_t id = 1; id <= ANNOUNCE_MAX; id++)
		announce_add(a, id);
	announce_add(a, 1); /* known */
	announce_flush(a);
	assert_int_equal(fake.sent_count, ANNOUNCE_MAX);
	assert_int_equal(announce_room(a), 0);
	fake.room_calls = 0;
	admitted(a, 5);
	assert_int_equal(announce_room(a), 1);
	assert_int_equal(fake.room_calls, 1);
	admitted(a, 5);
	assert_int_equal(announce_room(a), 1);
}

static void a_full_pipe_waits(void **state)
{
	struct announce *a = *state;

	announce_open(a, 1);
	fake.is_full = true;
	announce_add(a, 1);
	announce_flush(a);
	assert_int_equal(fake.sent_count, 0);
	fake.is_full = false;
	announce_flush(a);
	announce_flush(a);
	assert_int_equal(fake.sent_count, 1);
}

static void rejections_are_counted_once(void **state)
{
	struct announce *a = *state;

	announce_rejected(a, 2);
	announce_flush(a);
	assert_int_equal(fake.rejected, 0);
	announce_open(a, 1);
	assert_int_equal(fake.rejected, 2);
	fake.is_full = true;
	announce_rejected(a, 1);
	announce_flush(a);
	assert_int_equal(fake.rejected, 2);
	fake.is_full = false;
	announce_flush(a);
	announce_flush(a);
	assert_int_equal(fake.rejected, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TEST(nothing_before_intake_opens),
		TEST(a_successor_is_told_what_nobody_answered),
		TEST(a_late_death_closes_nothing_of_the_successor),
		TEST(the_window_fills_and_empties),
		TEST(a_full_pipe_waits),
		TEST(rejections_are_counted_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
