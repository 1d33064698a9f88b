/* ledger.h - what each scope has used up, in memory and, before anyone is told, in db/limits. */
#ifndef LIMITER_LEDGER_H
#define LIMITER_LEDGER_H
#include "lib/store.h"
#include "limiter/account.h"
#include "limiter/timebase.h"

/* Names of the scopes that are not servers; a server's is its own. The rest follows the colon. */
#define SCOPE_SENDER      "sender:"
#define SCOPE_DESTINATION "destination:"
#define SCOPE_ROUTE       "route:"
#define SCOPE_INSTANCE    "instance:"
enum { SCOPE_NAME_MAX = 330 };

struct ledger;

struct ledger_options {
	const char *dir; /* the environment's folder */
	unsigned account_count;
	const struct account_spec *account;
	const struct account_spec *sender; /* of each sender's account; NULL: senders have no limits. Borrowed */
	unsigned sender_max;               /* so many are told apart at the same time; 0: the default */
	bool are_counts_lost;              /* of new accounts all is taken to be used up */
	const char *boot_id;
	int64_t boot_ms, wall_ms;
};

/*
 * Servers and limits may differ from last time. Counts go with (name, kind, unit, width): a changed amount keeps them.
 * A new width takes over the charges of the account's window of the same unit that reaches back far enough, or else of
 * the one that reaches back farthest.
 *
 * As store_open(); DAMAGED also when durable records are gone or unreadable: no counter may silently be too low. *why,
 * in words, is static; *out is set for OPENED and CREATED only.
 */
enum store_open_result ledger_open(struct ledger **out, const struct ledger_options *o, const char **why) MUST_CHECK;
void ledger_close(struct ledger **l); /* what was not committed is lost: commit first */

/* Milliseconds of limiter time, which never goes back, also over restarts; boot_ms: CLOCK_BOOTTIME. */
int64_t ledger_now(struct ledger *l, int64_t boot_ms);
/* How far the wall clock is ahead of limiter time; 0 until told. Calendars follow it. */
void ledger_set_wall(struct ledger *l, int64_t now, int64_t wall_ms);
struct moment ledger_moment(const struct ledger *l, int64_t now);

struct account *ledger_find(struct ledger *l, struct slice name); /* NULL: unknown, or without limits */
/*
 * Finds or makes. Beyond sender_max, senders whose windows are empty are forgotten; when there are none, newcomers
 * share one account, and whoever gets an account of its own later begins with what is counted there: fewer permits,
 * never too many. NULL: senders have no limits.
 */
struct account *ledger_get_sender(struct ledger *l, struct slice name, struct moment t);
unsigned ledger_account_count(const struct ledger *l);
struct account *ledger_account(struct ledger *l, unsigned index); /* the configured ones first, in order of name */
void ledger_touch(struct ledger *l, struct account *a);           /* call after every change of an account */
/* A line of text that is kept beside the counters, for the fleet that shares them; "" when there is none. */
const char *ledger_note(const struct ledger *l);
void ledger_set_note(struct ledger *l, const char *text);
bool ledger_has_changes(const struct ledger *l);
/*
 * All changes in one transaction, then on stable storage. Nothing that rests on them may be said before it returned OK.
 * FULL: all is kept in memory, call it again later. FATAL: exit.
 */
enum store_result ledger_commit(struct ledger *l, int64_t wall_ms) MUST_CHECK;
#endif
