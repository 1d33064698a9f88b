/* random_below.h - numbers that look random and are the same in every run: xorshift64 (Marsaglia 2003). */
#ifndef TESTS_UNIT_RANDOM_BELOW_H
#define TESTS_UNIT_RANDOM_BELOW_H
#include <stdint.h>

static uint64_t random_state = 88172645463325252u; /* never 0; a test that wants its own row sets it */

static inline uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % limit;
}
#endif
