/* What is remembered of complete files: each once, and only as they were. */
#include "pickup/proof.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

static struct stat stat_of(unsigned i)
{
	struct stat st = { .st_ino = 1000 + i, .st_size = 7 };

	st.st_mtim.tv_sec = st.st_ctim.tv_sec = 1800000000;
	st.st_ctim.tv_nsec = i;
	return st;
}

static void a_changed_file_is_another(void **state UNUSED)
{
	struct proof p = { 0 };
	struct stat st = stat_of(1), other;

	assert_false(proof_take(&p, "a", &st));
	proof_add(&p, "a", &st);
	assert_false(proof_take(&p, "b", &st));
	other = st, other.st_ino++;
	assert_false(proof_take(&p, "a", &other));
	other = st, other.st_size++;
	assert_false(proof_take(&p, "a", &other));
	other = st, other.st_mtim.tv_nsec++;
	assert_false(proof_take(&p, "a", &other));
	other = st, other.st_ctim.tv_sec++;
	assert_false(proof_take(&p, "a", &other));
	assert_true(proof_take(&p, "a", &st));
	assert_false(proof_take(&p, "a", &st));
	proof_clear(&p);
}

static void name_of(unsigned i, char name[16])
{
	snprintf(name, 16, "m%u", i);
}

/* Every third is taken out on the way, so that chains of neighbours close up; the others must still be there. */
static void taking_leaves_the_others(void **state UNUSED)
{
	enum { COUNT = 50000 };
	struct proof p = { 0 };
	char name[16];

	for (unsigned i = 0; i < COUNT; i++) {
		struct stat st = stat_of(i);

		name_of(i, name);
		proof_add(&p, name, &st);
		proof_add(&p, name, &st);
	}
	assert_int_equal(p.count, COUNT);
	for (unsigned pass = 0; pass < 3; pass++) {
		for (unsigned i = pass; i < COUNT; i += 3) {
			struct stat st = stat_of(i);

			name_of(i, name);
			assert_true(proof_take(&p, name, &st));
			assert_false(proof_take(&p, name, &st));
		}
	}
	assert_int_equal(p.count, 0);
	proof_clear(&p);
	assert_null(p.slot);
}

static void memory_is_bounded(void **state UNUSED)
{
	struct proof p = { 0 };
	struct stat st;

	for (unsigned i = 0; i < PROOF_MAX + 1000; i++) {
		st = stat_of(i);
		proof_add(&p, "x", &st);
	}
	assert_int_equal(p.count, PROOF_MAX);
	assert_int_equal(p.slot_count, 2 * PROOF_MAX);
	proof_clear(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_changed_file_is_another),
		cmocka_unit_test(taking_leaves_the_others),
		cmocka_unit_test(memory_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
