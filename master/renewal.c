/* renewal.c - see renewal.h. */
#include "master/renewal.h"

enum { DUE_MIN_MS = 1000 };

uint64_t renewal_due_ms(uint64_t life_ms, uint64_t random)
{
	uint64_t margin = life_ms / 5 < RENEWAL_MARGIN_MAX_MS ? life_ms / 5 : RENEWAL_MARGIN_MAX_MS, due;

	due = life_ms - margin - random % (margin / 4 + 1);
	return due > DUE_MIN_MS ? due : DUE_MIN_MS;
}

uint64_t renewal_retry_ms(unsigned failures, uint64_t random)
{
	uint64_t wait = RENEWAL_RETRY_MIN_MS;

	while (--failures > 0 && wait < RENEWAL_RETRY_MAX_MS)
		wait *= 2;
	if (wait > RENEWAL_RETRY_MAX_MS)
		wait = RENEWAL_RETRY_MAX_MS;
	return wait - wait / 5 + random % (2 * wait / 5 + 1);
}
