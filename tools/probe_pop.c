/* probe_pop.c - POP before SMTP: smtpout's engine for it, shown line by line. */
#include "lib/text.h"
#include "smtpout/pop.h"
#include "tools/probe.h"

struct visit {
	struct probe *p;
	const struct host *host;
	char *peer;
	struct probe_stream stream;
	struct pop pop;
	struct login *login;
	struct buf input;
	int64_t since_ms;
	bool is_told;
};

static void fail(struct visit *v)
{
	const struct engine_outcome *o = &v->pop.failure;
	struct probe_end why = { HINT_POP, (enum failure_cause)o->cause, o->code, "", NULL };

	why.words = xstrdup(o->text ? o->text : "");
	probe_fail(v->p, &why, "POP", clock_mono().ms - v->since_ms, v->host->name, v->p->pop.port, v->pop.is_secure);
	free(why.words);
}

/* Hands over the whole lines. */
static void take_lines(struct visit *v)
{
	const char *end;

	while (v->pop.state != POP_OVER && v->pop.state != POP_HANDSHAKE && v->input.len > 0 &&
	       (end = memchr(v->input.ptr, '\n', v->input.len))) {
		size_t len = (size_t)(end - v->input.ptr);

		pop_line(&v->pop,
			 (struct slice){ v->input.ptr, len > 0 && v->input.ptr[len - 1] == '\r' ? len - 1 : len });
		buf_consume(&v->input, len + 1);
	}
	pop_input_left(&v->pop, v->input.len > 0);
	if (v->input.len > POP_LINE_MAX)
		pop_malformed(&v->pop, "it sends a line without end");
}

static void lost(struct visit *v, enum probe_result result)
{
	pop_lost(&v->pop, result == PROBE_TIMED_OUT, result == PROBE_FAILED ? v->stream.error : "");
}

static bool start_tls(struct visit *v)
{
	struct tls_target target = { v->host->name, tls_need(&v->p->pop, HOST_DANE_NONE), "", { "", 0 } };

	v->is_told = !probe_start_tls(v->p, &v->stream, &v->p->pop, v->p->pop_policy, &target, HINT_POP, false);
	return !v->is_told;
}

/* False: it is over. */
static bool act(struct visit *v, enum pop_action action)
{
	int64_t deadline = clock_mono().ms + probe_wait_ms(v->p->server);
	enum probe_result result;

	switch (action) {
	case POP_SEND:
		result = probe_stream_write(&v->stream, buf_slice(&v->pop.out), deadline);
		pop_sent(&v->pop);
		break;
	case POP_START_TLS:
		if (!start_tls(v))
			return false;
		if (transport_is_ahead(&v->stream.io))
			pop_input_left(&v->pop, true);
		else
			pop_secured(&v->pop);
		return true;
	case POP_NONE:
		result = probe_stream_read(&v->stream, &v->input, deadline);
		if (result == PROBE_OK)
			take_lines(v);
		break;
	default:
		return false;
	}
	if (result != PROBE_OK)
		lost(v, result);
	return true;
}

static bool converse(struct visit *v)
{
	bool is_wrapper = v->p->pop.is_tls_wrapper, is_in;

	if (is_wrapper && !start_tls(v))
		return false;
	pop_connected(&v->pop, is_wrapper);
	while (act(v, pop_next(&v->pop)))
		;
	is_in = v->pop.failure.cause == FAILURE_NONE && !v->is_told;
	if (is_in) {
		char *words = xasprintf("logged in at %s as %s", v->peer, v->p->server->pop.username);

		steps_put(&v->p->steps, STEP_OK, "POP", clock_mono().ms - v->since_ms, words);
		free(words);
	} else if (!v->is_told) {
		fail(v);
	}
	return is_in;
}

static bool visit(struct probe *p, const struct host *host)
{
	static char automatic[] = "auto", *words[] = { automatic };
	static const struct conf_list AUTO = { 1, words };
	bool may_be_clear = p->pop.tls == TLS_NONE || p->pop.may_auth_without_tls, is_in;
	enum engine_tls tls = p->pop.tls == TLS_NONE || p->pop.is_tls_wrapper ? ENGINE_TLS_NEVER
			      : p->pop.tls == TLS_OPPORTUNISTIC               ? ENGINE_TLS_MAY
									      : ENGINE_TLS_MUST;
	struct host_address address;
	struct visit v = { .p = p, .host = host, .stream = { .loop = p->loop } };
	int fd = probe_connect(p, &p->pop, HINT_POP, host, &address);

	if (fd < 0)
		return false;
	v.peer = probe_peer(host, &address);
	v.since_ms = clock_mono().ms;
	v.login = login_new(p->pop_account, &AUTO, may_be_clear);
	probe_stream_open(&v.stream, fd);
	buf_init(&v.input, 3 * POP_LINE_MAX);
	pop_init(&v.pop, v.peer, tls, p->pop_account, v.login, may_be_clear);
	is_in = converse(&v);
	pop_release(&v.pop);
	probe_stream_close(&v.stream);
	login_free(&v.login);
	buf_release(&v.input);
	free(v.peer);
	return is_in;
}

bool probe_pop(struct probe *p)
{
	struct hosts *hosts = xcalloc(1, sizeof(*hosts));
	bool is_in = false;

	if (probe_find_hosts(p, &p->pop, hosts))
		is_in = visit(p, &hosts->host[0]);
	free(hosts);
	return is_in;
}
