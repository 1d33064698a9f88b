/* renewal.h - when an access token is fetched (again); pure. */
#ifndef MASTER_RENEWAL_H
#define MASTER_RENEWAL_H
#include "lib/base.h"

enum {
	RENEWAL_MARGIN_MAX_MS = 5 * 60 * 1000,
	RENEWAL_RETRY_MIN_MS = 2000,
	RENEWAL_RETRY_MAX_MS = 15 * 60 * 1000,
	RENEWAL_FINAL_MS = 6 * 3600 * 1000, /* after a refusal for good: only a person can help, but who knows */
	RENEWAL_REFUSED_MS = 60 * 1000      /* a token fetched because of a refusal, refused itself within this time */
};

/*
 * How long after it was fetched: a fifth of its life before its end, five minutes at most, and up to a quarter of that
 * earlier, so that those fetched together do not stay together. `random` is any number.
 */
uint64_t renewal_due_ms(uint64_t life_ms, uint64_t random);
/* After so many failures in a row (1 ...): 2 s doubling to 15 min, a fifth more or less. */
uint64_t renewal_retry_ms(unsigned failures, uint64_t random);
#endif
