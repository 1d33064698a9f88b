/* limiter_window_test.c - never more than the amount in any span, and hardly less than allowed. */
#include "limiter/window.h"
#include "tests/unit/random_below.h"
#include <setjmp.h>
#include <stdarg.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

/* Two per hour sent three: a charge must still count when it is exactly as old as the window is wide. */
static void limit_holds_at_the_edge(void **state)
{
	struct window *w = window_new(2, 3600000);

	window_add(w, 1000, 1);
	window_add(w, 2000, 1);
	assert_int_equal(window_room(w, 2000, 0), 0);
	assert_int_equal(window_free_at(w, 2000, 0, 1), 3601001);
	assert_int_equal(window_room(w, 3601000, 0), 0);
	assert_int_equal(window_room(w, 3601001, 0), 1);
	assert_int_equal(window_room(w, 3602001, 0), 2);
	window_free(&w);
}

static void amounts_at_the_border(void **state)
{
	static const struct {
		uint64_t amount, width_ms;
	} CASES[] = { { 0, 1000 },
		      { 1, 1 },
		      { 1, 1000 },
		      { WINDOW_EXACT_MAX, 1000 },
		      { WINDOW_EXACT_MAX + 1, 1 },
		      { 20000, 1000 },
		      { 5000000000, 3600000 },
		      { UINT64_MAX, 60000 } };

	for (unsigned i = 0; i < ARRAY_LEN(CASES); i++) {
		struct window *w = window_new(CASES[i].amount, CASES[i].width_ms);
		int64_t now = 1700000000000, free_at;

		assert_int_equal(window_room(w, now, 0), CASES[i].amount);
		if (CASES[i].amount == 0) {
			assert_int_equal(window_free_at(w, now, 0, 1), -1);
		} else {
			assert_int_equal(window_free_at(w, now, 0, 1), now);
			if (CASES[i].amount < UINT64_MAX) {
				window_add(w, now, CASES[i].amount);
				assert_int_equal(window_room(w, now, 0), 0);
				free_at = window_free_at(w, now, 0, 1);
				assert_true(free_at > now + (int64_t)CASES[i].width_ms);
				assert_int_equal(window_room(w, free_at - 1, 0), 0);
				assert_int_equal(window_room(w, free_at, 0), CASES[i].amount);
			}
		}
		window_free(&w);
		assert_null(w);
	}
}

static void outstanding_counts_and_never_expires(void **state)
{
	struct window *w = window_new(10, 1000);

	assert_int_equal(window_room(w, 0, 4), 6);
	assert_int_equal(window_room(w, 1000000, 10), 0);
	assert_int_equal(window_room(w, 1000000, 11), 0); /* adopted more than the amount */
	window_add(w, 1000000, 3);
	assert_int_equal(window_room(w, 1000000, 4), 3);
	/* 3 stamped and 7 outstanding: room for 2 when the 3 expire, for 5 only when the outstanding do, too */
	assert_int_equal(window_free_at(w, 1000500, 7, 2), 1001001);
	assert_int_equal(window_free_at(w, 1000500, 7, 5), 1001501);
	window_free(&w);
}

/* The wall clock is not our business, but a caller's slip must not move charges into the past. */
static void time_never_goes_back(void **state)
{
	struct window *w = window_new(5, 1000);

	window_add(w, 5000, 3);
	window_add(w, 4000, 2);
	assert_int_equal(window_used(w, 3000), 5);
	assert_int_equal(window_used(w, 6000), 5);
	assert_int_equal(window_used(w, 6001), 0);
	window_free(&w);
}

static void idle_for_years(void **state)
{
	struct window *w = window_new(100, 86400000);

	window_add(w, 1000, 100);
	assert_int_equal(window_used(w, 1000 + (INT64_C(1) << 32)), 0);
	window_add(w, 2000 + (INT64_C(1) << 32), 7);
	assert_int_equal(window_used(w, 2000 + (INT64_C(1) << 32)), 7);
	assert_int_equal(window_used(w, 2000 + (INT64_C(1) << 40)), 0);
	window_free(&w);
}

/* --- against an exact log and a checker that knows only when things were sent --- */

struct sends {
	int64_t *at;
	size_t count, cap;
};

static void note_send(struct sends *s, int64_t at)
{
	if (s->count == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 1024;
		s->at = xrealloc(s->at, s->cap, sizeof(*s->at));
	}
	s->at[s->count++] = at;
}

/* Any amount + 1 sends in a row span more than the width, both ends included. */
static void check_no_span_over(const struct sends *s, uint64_t amount, uint64_t width_ms)
{
	for (size_t i = 0; i + amount < s->count; i++)
		if (s->at[i + amount] - s->at[i] <= (int64_t)width_ms)
			fail_msg("%llu per %llu ms: one more within %lld ms, from send %zu on",
				 (unsigned long long)amount, (unsigned long long)width_ms,
				 (long long)(s->at[i + amount] - s->at[i]), i);
}

/* Bursty demand; whatever fits is granted, sent and settled at once. Returns how many. */
static size_t run_greedy(uint64_t amount, uint64_t width_ms, uint64_t seed, unsigned steps, bool is_saturating)
{
	struct window *w = window_new(amount, width_ms);
	struct sends sends = { 0 }, exact = { 0 };
	size_t exact_first = 0, granted, wanted_exact;
	int64_t now = 1700000000000;

	random_state = seed * 2654435761u + 1;
	for (unsigned i = 0; i < steps; i++) {
		uint64_t want = is_saturating ? amount : random_below(amount / 2 + 2), fits;

		now += (int64_t)(random_below(10) ? random_below(width_ms / 50 + 2) : random_below(width_ms * 2 + 2));
		while (exact_first < exact.count && now - exact.at[exact_first] > (int64_t)width_ms)
			exact_first++;
		wanted_exact = amount - (exact.count - exact_first);
		for (size_t k = 0; k < want && k < wanted_exact; k++)
			note_send(&exact, now);
		fits = window_room(w, now, 0);
		fits = fits < want ? fits : want;
		window_add(w, now, fits);
		for (uint64_t k = 0; k < fits; k++)
			note_send(&sends, now);
	}
	check_no_span_over(&sends, amount, width_ms);
	granted = sends.count;
	if (amount <= WINDOW_EXACT_MAX)
		assert_int_equal(granted, exact.count);
	else if (is_saturating)
		assert_true((double)granted >= 0.99 * (double)exact.count);
	free(sends.at);
	free(exact.at);
	window_free(&w);
	return granted;
}

static void random_bursts_keep_to_the_limit(void **state)
{
	static const uint64_t AMOUNTS[] = { 1, 2, 3, 10, 200, 9999, 10000, 10001, 15000, 40000 };
	static const uint64_t WIDTHS[] = { 1, 7, 287, 288, 289, 1000, 3600000, 86400000, 2592000000u };
	size_t granted = 0;

	for (unsigned a = 0; a < ARRAY_LEN(AMOUNTS); a++)
		for (unsigned b = 0; b < ARRAY_LEN(WIDTHS); b++)
			granted += run_greedy(AMOUNTS[a], WIDTHS[b], a * 31 + b, AMOUNTS[a] > 1000 ? 60 : 1000, false);
	print_message("%zu grants\n", granted);
	assert_true(granted > 1000000);
}

/* As much waiting as can be, asked every few milliseconds. */
static void buckets_grant_nearly_all(void **state)
{
	static const uint64_t WIDTHS[] = { 3600000, 86400000 };

	for (unsigned i = 0; i < ARRAY_LEN(WIDTHS); i++) {
		struct window *w = window_new(20000, WIDTHS[i]);
		struct sends sends = { 0 };
		int64_t start = 1700000000000, end = start + 10 * (int64_t)WIDTHS[i];
		uint64_t ideal = 10 * 20000;

		/* a steady demand of twice the limit */
		for (int64_t now = start; now < end; now += (int64_t)WIDTHS[i] / 4000) {
			uint64_t fits = window_room(w, now, 0);

			fits = fits < 10 ? fits : 10;
			window_add(w, now, fits);
			for (uint64_t k = 0; k < fits; k++)
				note_send(&sends, now);
		}
		check_no_span_over(&sends, 20000, WIDTHS[i]);
		print_message("%.2f %% of what an exact log grants\n", 100.0 * (double)sends.count / (double)ideal);
		assert_true((double)sends.count >= 0.99 * (double)ideal);
		free(sends.at);
		window_free(&w);
	}
}

static void four_buckets_fit_ten_kilobytes(void **state)
{
	static const uint64_t WIDTHS[] = { 60000, 3600000, 86400000, 2592000000u };
	size_t bytes = 0;

	for (unsigned i = 0; i < ARRAY_LEN(WIDTHS); i++) {
		struct window *w = window_new(1000000, WIDTHS[i]);

		for (int64_t now = 0; now < 3 * (int64_t)WIDTHS[i]; now += (int64_t)WIDTHS[i] / 1000)
			window_add(w, now, 1);
		bytes += window_memory_bytes(w);
		window_free(&w);
	}
	print_message("%zu bytes\n", bytes);
	assert_true(bytes <= 10000);
}

/* --- chunks --- */

/* A disk of chunks for one window. */
struct disk {
	struct buf chunk[2048];
};

static void disk_save(struct disk *d, struct window *w)
{
	struct window_changes c = window_changes(w);

	for (uint64_t i = c.first_stored; i < c.first_live; i++)
		buf_clear(&d->chunk[i]);
	for (uint64_t i = c.first; i < c.last; i++) {
		buf_clear(&d->chunk[i]);
		window_encode_chunk(w, i, &d->chunk[i]);
		assert_false(d->chunk[i].failed);
	}
	window_set_saved(w);
}

static struct window *disk_load(const struct disk *d, uint64_t amount, uint64_t width_ms, int64_t now)
{
	struct window *w = window_new(amount, width_ms);

	for (unsigned i = 0; i < ARRAY_LEN(d->chunk); i++)
		if (d->chunk[i].len > 0)
			assert_true(window_decode_chunk(w, i, buf_slice(&d->chunk[i]), now));
	window_finish_loading(w);
	return w;
}

/* Restarted at random, with another amount each time, which may turn exact times into buckets and back. */
static void chunks_survive_restarts_and_new_amounts(void **state)
{
	static const uint64_t AMOUNTS[] = { 500, 20000, 500, 500, 400, 30000, 20000, 600 };
	struct disk *d = xcalloc(1, sizeof(*d));
	struct window *w = window_new(500, 100000);
	struct sends sends = { 0 };
	int64_t now = 1700000000000;

	for (unsigned i = 0; i < ARRAY_LEN(d->chunk); i++)
		buf_init(&d->chunk[i], 4096);
	random_state = 4711;
	for (unsigned round = 0; round < 200; round++) {
		uint64_t live = 0;

		for (unsigned i = 0; i < random_below(60); i++) {
			now += (int64_t)random_below(2000);
			window_add(w, now, 1);
			note_send(&sends, now);
			if (random_below(3) == 0)
				disk_save(d, w);
		}
		disk_save(d, w);
		window_free(&w);
		w = disk_load(d, AMOUNTS[random_below(ARRAY_LEN(AMOUNTS))], 100000, now);
		while (live < sends.count && now - sends.at[sends.count - 1 - live] <= 100000)
			live++;
		assert_true(window_used(w, now) >= live);
		/* what was loaded twice is what was loaded once */
		disk_save(d, w);
		struct window *again = disk_load(d, window_amount(w), 100000, now);
		assert_int_equal(window_used(again, now), window_used(w, now));
		assert_int_equal(window_used(again, now + 200001), 0);
		window_free(&again);
	}
	window_free(&w);
	free(sends.at);
	for (unsigned i = 0; i < ARRAY_LEN(d->chunk); i++)
		buf_release(&d->chunk[i]);
	free(d);
}

static void strange_chunks_are_refused(void **state)
{
	static const struct {
		const char *label, *bytes;
		size_t len;
	} CASES[] = {
		{ "empty", "", 0 },
		{ "short", "\1\0", 2 },
		{ "version", "\2\0\0\0\0\0\0\0\0\0\0\1", 12 },
		{ "no grain", "\1\0\0\0\0\0\0\0\0\0\0\0", 12 },
		{ "huge grain", "\1\0\0\0\177\0\0\0\0\0\0\1", 12 },
		{ "entries missing", "\1\0\0\1\0\0\0\0\0\0\0\1", 12 },
		{ "too many", "\1\40\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\1", 24 },
		{ "stamp overflows", "\1\0\0\1\0\0\0\0\0\0\0\1\377\0\0\0\0\0\0\1\0\0\0\1", 24 },
	};
	struct window *w = window_new(10, 1000);

	for (unsigned i = 0; i < ARRAY_LEN(CASES); i++)
		if (window_decode_chunk(w, 0, (struct slice){ CASES[i].bytes, CASES[i].len }, 1000))
			fail_msg("%s: accepted", CASES[i].label);
	assert_false(window_decode_chunk(w, UINT64_MAX, (struct slice){ "\1\0\0\0\0\0\0\0\0\0\0\1", 12 }, 1000));
	window_free(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limit_holds_at_the_edge),
		cmocka_unit_test(amounts_at_the_border),
		cmocka_unit_test(outstanding_counts_and_never_expires),
		cmocka_unit_test(time_never_goes_back),
		cmocka_unit_test(idle_for_years),
		cmocka_unit_test(random_bursts_keep_to_the_limit),
		cmocka_unit_test(buckets_grant_nearly_all),
		cmocka_unit_test(four_buckets_fit_ten_kilobytes),
		cmocka_unit_test(chunks_survive_restarts_and_new_amounts),
		cmocka_unit_test(strange_chunks_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
