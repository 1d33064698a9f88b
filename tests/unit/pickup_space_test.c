/* The reserve of the spool's file system. */
#include "pickup/space.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

#define MIB (1ull << 20)

static void table(void **state UNUSED)
{
	static const struct {
		const char *label;
		uint64_t total_mib, free_mib, files, free_files, left_mib;
	} ROWS[] = {
		{ "roomy", 10000, 5000, 1000000, 500000, 4800 },
		{ "two per cent", 10000, 200, 1000000, 500000, 0 },
		{ "just above", 10000, 201, 1000000, 500000, 1 },
		{ "at least 64 MiB", 1000, 65, 1000000, 500000, 1 },
		{ "at most a GiB", 1000000, 1025, 1000000, 500000, 1 },
		{ "a tenth of a small one", 100, 11, 100000, 50000, 1 },
		{ "no inodes", 10000, 5000, 1000000, 1000, 0 },
		{ "some inodes", 10000, 5000, 1000000, 1001, 4800 },
		{ "inodes are not counted", 10000, 5000, 0, 0, 4800 },
	};

	for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
		struct statvfs fs = { .f_frsize = 4096, .f_bsize = 4096 };
		const char *why;
		uint64_t left;

		fs.f_blocks = ROWS[i].total_mib * (MIB / 4096);
		fs.f_bavail = ROWS[i].free_mib * (MIB / 4096);
		fs.f_files = ROWS[i].files;
		fs.f_favail = ROWS[i].free_files;
		left = space_left(&fs, &why);
		if (left != ROWS[i].left_mib * MIB || (left == 0) != (why != NULL))
			fail_msg("%s: %llu", ROWS[i].label, (unsigned long long)left);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(table) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
