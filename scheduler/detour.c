/* detour.c - see detour.h. */
#include "scheduler/detour.h"
#include "lib/hosts.h"
#include "lib/log.h"

enum { SPARE_MS = 3600 * 1000 }; /* mail that is due may have to wait for limits, or its turn */

bool detour_is_remembered(const struct lane *l)
{
	return (l->detour > 0 || l->put_off_since.ms > 0) && clock_mono().ms < l->detour_until.ms;
}

struct slice detour_order(struct session *session, const struct lane *l, struct slice encoded)
{
	static struct hosts hosts, turned; /* 14 KiB each, too much for a stack */
	static struct buf out;

	if (!hosts_decode(encoded, &hosts))
		BUG("hosts that came from the resolver do not decode again");
	session->detour = detour_is_remembered(l) ? l->detour : 0;
	session->has_other_hosts = hosts.count > 1;
	if (session->detour % hosts.count == 0)
		return encoded;
	turned = hosts;
	for (unsigned i = 0; i < hosts.count; i++)
		turned.host[i] = hosts.host[(i + session->detour) % hosts.count];
	buf_release(&out);
	buf_init(&out, 2 * HOSTS_BYTES_MAX);
	hosts_encode(&out, &turned);
	return buf_slice(&out);
}

void detour_on_report(struct session *session, const struct msg_report *m, const struct reply_rule *rule)
{
	bool is_reply = m->cause == FAILURE_REPLY && m->code != 421;
	bool is_about_rcpt = m->dsn.len > 2 && (m->dsn.ptr[2] == '1' || m->dsn.ptr[2] == '2'); /* 4.1.x, 4.2.x */

	session->was_useful |= m->verdict == VERDICT_DELIVERED || m->verdict == VERDICT_PERMANENT;
	if (m->verdict != VERDICT_TEMPORARY || rule)
		return;
	session->was_put_off |= is_reply && !is_about_rcpt;
	session->was_left |=
		(m->cause == FAILURE_REPLY && !is_reply) || m->cause == FAILURE_LOST || m->cause == FAILURE_PROTOCOL;
}

bool detour_is_due(const struct session *session)
{
	return session->has_other_hosts && session->was_put_off && !session->was_useful;
}

/* The host says "later" since: it may be greylisting, then it is the one to ask again. */
static bool is_worth_another_try(const struct scheduler *s, struct lane *l)
{
	int64_t now_ms = clock_mono().ms;

	if (l->put_off_since.ms == 0)
		l->put_off_since.ms = now_ms;
	return now_ms < l->put_off_since.ms + (int64_t)s->conf->retry.greylist_after_ms;
}

static void remember(const struct scheduler *s, struct lane *l)
{
	uint64_t wait_ms = 0;

	for (unsigned i = 0; i < s->conf->retry.after_count; i++)
		if (s->conf->retry.after_ms[i] > wait_ms)
			wait_ms = s->conf->retry.after_ms[i];
	l->detour_until.ms = clock_mono().ms + (int64_t)wait_ms + SPARE_MS;
}

void detour_on_end(struct scheduler *s, struct session *session, bool is_fruitless, struct slice relay)
{
	struct lane *l = session->lane;

	if (!detour_is_remembered(l)) {
		l->detour = 0;
		l->put_off_since.ms = 0;
	}
	if (!session->has_other_hosts || session->detour != l->detour)
		return; /* or another session to this host has told */
	if (session->was_useful)
		l->put_off_since.ms = 0;
	if (session->was_useful || !(is_fruitless || session->was_left || session->was_put_off))
		return;
	remember(s, l);
	if (!is_fruitless && !session->was_left && is_worth_another_try(s, l))
		return;
	l->detour++;
	l->put_off_since.ms = 0;
	log_info("server %s: %.*s takes connections, but no mail: the next one begins with another host of %s",
		 lane_server(s, l)->name, (int)relay.len, relay.ptr, l->name);
}
