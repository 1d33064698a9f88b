/* ledger_private.h - shared by ledger.c (changes) and ledger_load.c (start).
 *
 * Keys and values, integers big-endian:
 *   "f"                    the fleet's note: text
 *   "c"                    clock: version u8, boot_ms, wall_ms, time_ms u64, boot id
 *   "s" NAME NUL           account: version u8 (2), outstanding u64 each [class][unit], last change u64, ramp step u16,
 *                          ramp day (calendar), limits u16; per limit kind u8, slot u8, unit u8, width u64, dormant
 *                          since u64 and, for a calendar's, its count (calendar)
 *                          (calendar: end, wall, ready, count u64 each)
 *                          version 1: outstanding u64 [unit], last change u64, limits u16; per limit unit u8, width
 * u64, dormant since u64 "w" NAME NUL which u8 width u64 chunk u64   charges of a window: see window_encode_chunk();
 * which: unit, 16 * kind A commit writes the accounts that changed, of their windows the chunks that changed, and the
 * clock.
 */
#ifndef LIMITER_LEDGER_PRIVATE_H
#define LIMITER_LEDGER_PRIVATE_H
#include "limiter/ledger.h"

enum { RECORD_VERSION = 2, CLOCK_VERSION = 1, KEY_MAX = 2 + SCOPE_NAME_MAX + 17, VALUE_MAX = 64 * 1024 };

struct ledger {
	struct store *store;
	struct timebase time;
	int64_t wall_lead;
	struct account **account;
	unsigned account_count, account_room, sender_count, leaving_count, sender_max;
	struct table by_name;
	const struct account_spec *sender;
	struct account *overflow;        /* NULL, or the newcomers' common account */
	struct account *oldest, *newest; /* senders, by last use */
	struct account *changed;
	struct buf key, value;
	char *note;
	bool is_note_changed, needs_sync;
};

struct account *ledger_add_sender(struct ledger *l, struct slice name);
/* NULL, or why the counters cannot be used. */
const char *ledger_load(struct ledger *l, const struct ledger_options *o);
#endif
