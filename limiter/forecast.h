/* forecast.h - when so much mail will have gone if nothing but the limits holds it back: played through on copies. */
#ifndef LIMITER_FORECAST_H
#define LIMITER_FORECAST_H
#include "limiter/permits.h"

enum { FORECAST_GROUPS_MAX = 256, FORECAST_STEPS_MAX = 300000 };

struct forecast;

struct forecast_result {
	int64_t done_at;   /* limiter time; 0: never, a limit is 0 */
	bool is_complete;  /* false: it takes longer than this, who knows how long */
	const char *limit; /* that makes it wait longest, "" when none does; borrowed from the configuration */
	char scope[SCOPE_NAME_MAX + 1];
};

/* The ledger is only read: what is played through are copies of the accounts that mail is added for. */
struct forecast *forecast_new(struct ledger *ledger_borrowed, int64_t now);
void forecast_free(struct forecast **f);
/* Mail that falls under the same scopes; beyond FORECAST_GROUPS_MAX it joins the last one. */
void forecast_add(struct forecast *f, struct slice scopes, enum mail_class class, uint32_t messages,
		  uint32_t recipients);
struct forecast_result forecast_run(struct forecast *f);
#endif
