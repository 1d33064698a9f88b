/* Records survive the way to bytes and back; damaged ones are refused. */
#include "scheduler/record.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct record *sample(void)
{
	struct record *r = record_new();

	r->id = UINT64_C(0x0123456789abcdef);
	r->group = 7;
	r->group_count = 9;
	r->state = RECORD_WAITING;
	r->priority = PRIORITY_BULK;
	r->flags = RECORD_WARNED | RECORD_MAYBE_REPEATED;
	r->attempts = 3;
	r->due.ms = 1234567890123;
	r->known.ms = 1234567000000;
	r->size_bytes = 4711;
	r->bounce_id = 99;
	r->held_s = 60;
	r->message_rcpt_count = 3;
	r->sender = xstrdup("a@here.example");
	r->sender_hash = record_sender_hash(slice_of(r->sender));
	r->domain = xstrdup("there.example");
	r->rcpt_count = 2;
	r->rcpt[0] = (struct record_rcpt){ .index = 4, .state = RCPT_PENDING, .address = xstrdup("x@there.example") };
	r->rcpt[1] = (struct record_rcpt){ .index = 5, .state = RCPT_DELIVERED, .address = xstrdup("y@there.example") };
	r->rcpt[0].outcome = record_add_outcome(r, (struct wall){ 42 }, "isp", slice_of("h[1]:25"), 450,
						slice_of("4.2.0"), slice_of("later"));
	r->rcpt[0].is_temporary_seen = true;
	return r;
}

static void encode(struct buf *out, const struct record *r)
{
	buf_init(out, RECORD_BYTES_MAX);
	record_encode(out, r);
	assert_false(out->failed);
}

static void test_round_trip(void **state)
{
	struct record *r = sample(), *back;
	char key[RECORD_KEY_BYTES];
	struct buf bytes, again;

	(void)state;
	record_key(r->id, r->group, key);
	encode(&bytes, r);
	back = record_decode((struct slice){ key, sizeof(key) }, buf_slice(&bytes));
	assert_non_null(back);
	assert_int_equal(back->id, r->id);
	assert_int_equal(back->group, 7);
	assert_int_equal(back->held_s, 60);
	assert_string_equal(back->sender, "a@here.example");
	assert_string_equal(back->rcpt[1].address, "y@there.example");
	assert_string_equal(back->outcome[back->rcpt[0].outcome - 1].text, "later");
	assert_int_equal(record_pending_count(back), 1);
	assert_null(record_find_rcpt(back, 6));
	encode(&again, back);
	assert_int_equal(again.len, bytes.len);
	assert_memory_equal(again.ptr, bytes.ptr, bytes.len);
	buf_release(&bytes);
	buf_release(&again);
	record_free(&r);
	record_free(&back);
}

static void test_damage_is_refused(void **state)
{
	struct record *r = sample(), *back;
	char key[RECORD_KEY_BYTES];
	struct buf bytes;

	(void)state;
	record_key(r->id, r->group, key);
	encode(&bytes, r);
	for (size_t len = 0; len < bytes.len; len++) {
		back = record_decode((struct slice){ key, sizeof(key) }, (struct slice){ bytes.ptr, len });
		assert_null(back);
	}
	for (size_t at = 0; at < bytes.len; at++) { /* any byte may be anything: it decodes or it does not, no more */
		for (unsigned bit = 0; bit < 8; bit++) {
			bytes.ptr[at] = (char)(bytes.ptr[at] ^ (1 << bit));
			back = record_decode((struct slice){ key, sizeof(key) }, buf_slice(&bytes));
			record_free(&back);
			bytes.ptr[at] = (char)(bytes.ptr[at] ^ (1 << bit));
		}
	}
	buf_put_char(&bytes, 'x');
	assert_null(record_decode((struct slice){ key, sizeof(key) }, buf_slice(&bytes)));
	buf_release(&bytes);
	record_free(&r);
}

/* Outcomes that nobody refers to any more make room; those in use keep their meaning. */
static void test_outcomes_are_reused(void **state)
{
	struct record *r = sample();

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		char text[16];
		uint8_t outcome;

		snprintf(text, sizeof(text), "%u", i);
		outcome = record_add_outcome(r, (struct wall){ i }, "isp", slice_of("none"), 451, slice_of("4.0.0"),
					     slice_of(text));
		r->rcpt[i % 2].outcome = outcome;
		assert_true(r->outcome_count <= 3);
		assert_string_equal(r->outcome[outcome - 1].text, text);
		if (i > 0) {
			snprintf(text, sizeof(text), "%u", i - 1);
			assert_string_equal(r->outcome[r->rcpt[(i + 1) % 2].outcome - 1].text, text);
		}
	}
	record_free(&r);
}

/* Each recipient has been told something of its own, and one of them is told something else. */
static void test_each_recipient_has_its_own_outcome(void **state)
{
	struct record *r = record_new();
	char text[16];

	(void)state;
	r->sender = xstrdup("");
	r->domain = xstrdup("there.example");
	for (r->rcpt_count = 0; r->rcpt_count < RECORD_RCPT_MAX; r->rcpt_count++) {
		struct record_rcpt *rcpt = &r->rcpt[r->rcpt_count];

		*rcpt = (struct record_rcpt){ .index = r->rcpt_count,
					      .state = RCPT_PENDING,
					      .address = xstrdup("x@y") };
		snprintf(text, sizeof(text), "no %u", r->rcpt_count);
		rcpt->outcome = record_add_outcome(r, (struct wall){ 1 }, "isp", slice_of("h"), 450, slice_of("4.2.0"),
						   slice_of(text));
	}
	r->rcpt[0].outcome = record_add_outcome(r, (struct wall){ 2 }, "isp", slice_of("h"), 550, slice_of("5.1.1"),
						slice_of("unknown"));
	assert_string_equal(r->outcome[r->rcpt[0].outcome - 1].text, "unknown");
	assert_string_equal(r->outcome[r->rcpt[99].outcome - 1].text, "no 99");
	record_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_damage_is_refused),
		cmocka_unit_test(test_outcomes_are_reused),
		cmocka_unit_test(test_each_recipient_has_its_own_outcome),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
