/* account.h - one scope's limits (a server, a destination, a sender ...) and what was used of them; pure. */
#ifndef LIMITER_ACCOUNT_H
#define LIMITER_ACCOUNT_H
#include "lib/table.h"
#include "limiter/calendar.h"
#include "limiter/lease.h"
#include "limiter/window.h"

enum limit_unit { UNIT_MESSAGES, UNIT_RECIPIENTS, UNIT_COUNT };
/* Whose mail: a reserve keeps part of each limit for the high one. */
enum mail_class { CLASS_USUAL, CLASS_HIGH, CLASS_COUNT };

/* What a limit counts and how; with unit, width and slot it says which one it is, in the database, too. */
enum limit_kind {
	LIMIT_ROLLING = 0,
	LIMIT_CALENDAR = 1, /* one of the clock's periods */
	LIMIT_USUAL = 2,    /* counts CLASS_USUAL only: what a reserve leaves to it */
	LIMIT_RAMP = 4      /* of a warm-up: the amount changes */
};

/* One limit as configured. */
struct limit_spec {
	const char *text; /* as written, for people; borrowed while the account lives */
	enum limit_unit unit;
	uint64_t amount, width_ms;
	const struct calendar *calendar; /* borrowed; NULL: rolling */
};

struct account_spec {
	const char *name; /* copied */
	unsigned limit_count;
	const struct limit_spec *limit;
	unsigned initial_count;
	const struct limit_spec *initial; /* amounts used elsewhere when the account is new */
	unsigned ramp_count;
	const struct limit_spec *ramp;        /* borrowed while the account lives */
	const struct calendar *ramp_calendar; /* its days; borrowed */
	unsigned reserve_percent;             /* of each limit, for CLASS_HIGH */
	struct lease_book *book;              /* of a fleet, which shares the counters; borrowed. NULL: they are ours */
	bool is_paced;
};

/*
 * A limit in force, or one that the configuration no longer has: that one goes on counting without limiting, for as
 * long as its window is wide, so that a limit taken out by mistake comes back with its counts.
 */
struct account_limit {
	const char *text;
	enum limit_unit unit;
	uint8_t kind, slot; /* slot: tells calendars of one width apart */
	uint64_t amount, width_ms;
	struct window *window; /* NULL for a calendar's */
	const struct calendar *calendar;
	struct calendar_count count;
	struct lease *lease;   /* NULL: nobody shares it. Else that decides, and what is counted here is what we used */
	int64_t dormant_since; /* limiter time; 0: in force */
	bool is_known;         /* the database has it */
};

/* What is outstanding was granted and not yet settled. */
struct account {
	struct table_node node; /* by name */
	char *name;
	struct account_limit *limit;
	unsigned limit_count;
	uint64_t outstanding[CLASS_COUNT][UNIT_COUNT]; /* granted by us to the present scheduler, or adopted by it */
	uint64_t inherited[CLASS_COUNT][UNIT_COUNT];   /* from before a restart; waits for ADOPT */
	double pace_us[UNIT_COUNT];                    /* per message, per recipient; 0: not paced */
	const char *pace_text;
	int64_t pace_next_us;
	const struct limit_spec *ramp;
	unsigned ramp_count, ramp_step;
	const struct calendar *ramp_calendar;
	struct calendar_count ramp_day;
	struct account *next_changed;
	struct account *older, *newer; /* senders by last use */
	bool is_changed, is_stored, is_sender, is_leaving;
};

/* The moment, in limiter time and as the wall clock has it; both in ms. */
struct moment {
	int64_t now, wall;
};

/* Of two limits of the same kind, unit and width the lower counts. */
struct account *account_new(const struct account_spec *spec);
/* For playing with: in no table, in no list; of a shared limit what others used counts as used just now. */
struct account *account_copy(const struct account *a, struct moment t);
void account_free(struct account **a);
struct account_limit *account_find_limit(struct account *a, uint8_t kind, enum limit_unit unit, uint64_t width_ms,
					 unsigned slot);
/* One that the configuration does not have (any more). */
struct account_limit *account_add_dormant(struct account *a, uint8_t kind, enum limit_unit unit, uint64_t width_ms,
					  unsigned slot, int64_t since);

uint64_t account_outstanding(const struct account *a, const struct account_limit *limit);
uint64_t limit_used(struct account_limit *limit, struct moment t); /* stamped by us, still counted */
/* With what is under way; by the whole fleet, as far as its store has told. */
uint64_t limit_used_in_all(const struct account *a, struct account_limit *limit, struct moment t);
uint64_t limit_room(const struct account *a, struct account_limit *limit, struct moment t);
/* As window_free_at(), in limiter time. */
int64_t limit_free_at(const struct account *a, struct account_limit *limit, struct moment t, uint64_t need);
void limit_add(struct account_limit *limit, struct moment t, uint64_t count);
void limit_fill(const struct account *a, struct account_limit *limit, struct moment t); /* it is used up */
void limit_clear(struct account_limit *limit);

/* Settled: so much was used now. Moves a warm-up on. */
void account_stamp(struct account *a, enum mail_class class, enum limit_unit unit, struct moment t, uint64_t used);
void account_look_at_leases(struct account *a, struct moment t); /* after a grant, or what was granted came back */
/* Before anything is decided: the warm-up's step for today. True when it changed. */
bool account_advance(struct account *a, struct moment t);
/* Every limit is taken to be used up: the counts are lost. */
void account_fill(struct account *a, struct moment t);
bool account_has_outstanding(const struct account *a);
/* Of an account with the same limits, on top of its own. */
void account_copy_charges(struct account *to, struct account *from, struct moment t);
bool account_is_idle(struct account *a, struct moment t); /* nothing counts any more */
#endif
