/* verdict.c - the tables behind failover and retries. */
#include "scheduler/verdict.h"
#include "lib/text.h"
#include <ctype.h>

/* "5.1.10" into class, subject, detail; false when it is not of that form. */
static bool split_dsn(struct slice dsn, unsigned part[3])
{
	size_t at = 0;

	for (unsigned i = 0; i < 3; i++) {
		size_t start = at;

		for (part[i] = 0; at < dsn.len && isdigit((unsigned char)dsn.ptr[at]) && at - start < 3; at++)
			part[i] = part[i] * 10 + (unsigned)(dsn.ptr[at] - '0');
		if (at == start || (i < 2 && (at >= dsn.len || dsn.ptr[at++] != '.')))
			return false;
	}
	return at == dsn.len;
}

bool verdict_is_final(bool is_relay, unsigned code, struct slice dsn)
{
	unsigned part[3];

	/* 5.0.0 is what a reply without an enhanced code is reported as. */
	if (!split_dsn(dsn, part) || part[0] != 5 || part[1] == 0)
		return code == 552 || (is_relay && (code == 550 || code == 551 || code == 553));
	switch (part[1]) {
	case 1:
		return part[2] <= 3 || part[2] == 6 || part[2] == 10;
	case 2:
		return part[2] <= 3;
	case 3:
		return part[2] == 4;
	case 6:
		return true;
	default:
		return code == 552;
	}
}

bool verdict_is_about_message(unsigned code, struct slice dsn)
{
	unsigned part[3];

	if (!split_dsn(dsn, part) || part[0] != 5)
		return code == 552;
	return code == 552 || part[1] == 6 || (part[1] == 2 && part[2] == 3) || (part[1] == 3 && part[2] == 4);
}

uint64_t retry_wait_ms(const struct conf *conf, unsigned attempts, bool may_repeat)
{
	static const uint64_t DAY_MS = 86400u * 1000;
	unsigned last = conf->retry.after_count - 1;
	unsigned at = attempts > 0 ? attempts - 1 : 0;
	uint64_t wait = conf->retry.after_ms[at < last ? at : last], widened = conf->retry.after_ms[0];

	for (unsigned i = 0; i < at && widened < DAY_MS; i++)
		widened *= 2;
	if (widened > DAY_MS)
		widened = DAY_MS;
	return may_repeat && widened > wait ? widened : wait;
}

uint64_t lane_backoff_ms(const struct conf *conf, unsigned failures)
{
	uint64_t wait = 30u * 1000;

	for (unsigned i = 1; i < failures && wait < 3600u * 1000; i++)
		wait *= 2;
	if (wait > 3600u * 1000)
		wait = 3600u * 1000;
	for (unsigned i = 0; i < conf->retry.after_count; i++)
		if (conf->retry.after_ms[i] < wait)
			wait = conf->retry.after_ms[i];
	return wait;
}

bool retry_is_over(const struct conf *conf, unsigned attempts, int64_t age_ms)
{
	if (conf->retry.max_retries > 0 && attempts > conf->retry.max_retries)
		return true;
	return age_ms >= 0 && (uint64_t)age_ms >= conf->retry.max_age_ms;
}
