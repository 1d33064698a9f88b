/* react.c - see react.h. */
#include "scheduler/react.h"
#include "lib/log.h"
#include "scheduler/gate.h"
#include "scheduler/limits.h"
#include "scheduler/pause.h"
#include "scheduler/slots.h"

const struct reply_rule *react_find(const struct scheduler *s, unsigned server, unsigned code, struct slice dsn,
				    struct slice text)
{
	struct reply_facts f = { .code = code, .dsn = dsn };

	/* What nobody said is not a reply: no connection, TLS, our own side. Of a server that was removed nothing is
	 * asked. */
	if (server >= s->conf->server_count)
		return NULL;
	f.server = &s->conf->server[server];
	return code >= 400 && replies_take_apart(&f, text) ? replies_match(s->rules, &f) : NULL;
}

bool react_spares_recipient(const struct reply_rule *rule)
{
	return rule && (rule->action == REPLY_RETRY || rule->scope == REPLY_CONNECTION || rule->scope == REPLY_SITE ||
			rule->scope == REPLY_SERVER);
}

uint64_t react_wait_ms(const struct scheduler *s, const struct reply_rule *rule)
{
	if (!rule)
		return 0;
	return rule->is_greylist ? s->conf->retry.greylist_after_ms : rule->wait_ms;
}

/*
 * The server is left alone. When the reply speaks of a quota, others used it, too, or we counted too little: then that
 * limit of ours is used up as well, so that mail waits until its window opens. Where POP opens the way, a login is
 * tried first.
 */
static void pause_server(struct scheduler *s, unsigned server, const struct reply_rule *rule, struct slice text)
{
	if (gate_on_refusal(s, server, text))
		return;
	pause_begin(s, server, rule->wait_ms, text);
	if (rule->action == REPLY_QUOTA)
		limits_fill(s, server, rule->window_ms);
}

/* A relay has one lane. False: there is only one connection. */
static bool use_fewer(struct scheduler *s, const struct reply_rule *rule, struct lane *l)
{
	if (rule->scope == REPLY_SERVER && lane_server(s, l)->method == METHOD_DIRECT)
		return slots_use_fewer(s, l->server);
	if (l->sessions < 2)
		return false;
	lane_use_fewer(s, l);
	return true;
}

bool react_to_reply(struct scheduler *s, const struct reply_rule *rule, struct session *session, unsigned server,
		    struct slice text)
{
	struct lane *l = session ? session->lane : NULL;

	if (!rule)
		return false;
	switch (rule->action) {
	case REPLY_RECONNECT:
		if (!l || session->delivered_count == 0)
			return false;
		session_hang_up(s, session);
		return true;
	case REPLY_FEWER:
		if (!l || !use_fewer(s, rule, l))
			return false;
		session_hang_up(s, session);
		return true;
	case REPLY_PAUSE:
	case REPLY_QUOTA:
		if (rule->scope == REPLY_SERVER) {
			pause_server(s, server, rule, text);
			return true;
		}
		if (l)
			lane_pause(s, l, rule->wait_ms, text);
		return false;
	default:
		return false;
	}
}

bool react_to_session(struct scheduler *s, const struct reply_rule *rule, struct lane *l,
		      const struct msg_session_down *m)
{
	if (!rule)
		return false;
	switch (rule->action) {
	case REPLY_FEWER:
	case REPLY_RECONNECT:
		return use_fewer(s, rule, l);
	case REPLY_PAUSE:
	case REPLY_QUOTA:
		if (rule->scope == REPLY_SERVER)
			pause_server(s, l->server, rule, m->text);
		else
			lane_pause(s, l, rule->wait_ms, m->text);
		return true;
	default:
		return false;
	}
}
