/* setup.h - what the configuration says of limits, in the ledger's terms. */
#ifndef LIMITER_SETUP_H
#define LIMITER_SETUP_H
#include "lib/conf.h"
#include "limiter/ledger.h"

struct setup;

/* Reads time zones, so before the jail. Borrows the configuration; lives as long as ledgers opened with it. `book`:
 * of a fleet's leases, or NULL. */
struct setup *setup_new(const struct conf *c, struct lease_book *book);
uint64_t setup_widest_ms(const struct setup *s); /* of all windows */
void setup_free(struct setup **s);
bool setup_has_limits(const struct setup *s);
const char *setup_missing_zone(const struct setup *s); /* NULL: all are known */
/* As ledger_open(), in the present folder. */
enum store_open_result setup_open(const struct setup *s, struct ledger **out, bool are_counts_lost,
				  const char **why) MUST_CHECK;
#endif
