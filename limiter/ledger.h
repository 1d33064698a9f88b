/* ledger.h - what each server has used up, in memory and, before anyone is told, in db/limits. */
#ifndef LIMITER_LEDGER_H
#define LIMITER_LEDGER_H
#include "lib/store.h"
#include "limiter/timebase.h"
#include "limiter/window.h"

enum limit_unit { UNIT_MESSAGES, UNIT_RECIPIENTS, UNIT_COUNT };

/* One limit as configured. */
struct limit_spec {
	const char *text; /* as written, for people; borrowed while the ledger lives */
	enum limit_unit unit;
	uint64_t amount, width_ms;
};

struct account_spec {
	const char *server; /* copied */
	unsigned limit_count;
	const struct limit_spec *limit;
};

/*
 * A limit in force, or one that the configuration no longer has: that one goes on counting without limiting, for as
 * long as its window is wide, so that a limit taken out by mistake comes back with its counts.
 */
struct account_limit {
	const char *text;
	enum limit_unit unit;
	struct window *window;
	int64_t dormant_since; /* limiter time; 0: in force */
	bool is_known;         /* the database has it */
};

/* One server's. What is outstanding was granted and not yet settled. */
struct account {
	char *server;
	struct account_limit *limit;
	unsigned limit_count;
	uint64_t outstanding[UNIT_COUNT]; /* granted by us to the present scheduler, or adopted by it */
	uint64_t inherited[UNIT_COUNT];   /* from before we or the scheduler were restarted; waits for ADOPT */
	struct account *next_changed;
	bool is_changed;
};

struct ledger;

struct ledger_options {
	const char *dir; /* the environment's folder */
	unsigned account_count;
	const struct account_spec *account;
	const char *boot_id;
	int64_t boot_ms, wall_ms;
};

/*
 * Servers and limits may differ from last time. Of two limits of the same unit and width the lower counts. Counts go
 * with (server, unit, width): a changed amount keeps them. A new width takes over the charges of the server's window of
 * the same unit that reaches back far enough, or else of the one that reaches back farthest.
 *
 * As store_open(); DAMAGED also when durable records are gone or unreadable: no counter may silently be too low. *why,
 * in words, is static; *out is set for OPENED and CREATED only.
 */
enum store_open_result ledger_open(struct ledger **out, const struct ledger_options *o, const char **why) MUST_CHECK;
void ledger_close(struct ledger **l); /* what was not committed is lost: commit first */

int64_t ledger_now(struct ledger *l, int64_t boot_ms);              /* limiter time */
struct account *ledger_find(struct ledger *l, struct slice server); /* NULL: unknown, or without limits */
unsigned ledger_account_count(const struct ledger *l);
struct account *ledger_account(struct ledger *l, unsigned index);
void ledger_touch(struct ledger *l, struct account *a); /* call after every change of an account */
bool ledger_has_changes(const struct ledger *l);
/*
 * All changes in one transaction, then on stable storage. Nothing that rests on them may be said before it returned OK.
 * FULL: all is kept in memory, call it again later. FATAL: exit.
 */
enum store_result ledger_commit(struct ledger *l, int64_t wall_ms) MUST_CHECK;
#endif
