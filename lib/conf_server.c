/* conf_server.c - one server: what its preset, its port and its user name imply, and what does not go together. */
#include "lib/conf_private.h"
#include "lib/text.h"

enum { PORT_SMTPS = 465, PORT_POP3S = 995 };

struct server_rules {
	struct conf_reader *reader;
	struct conf_server *server;
};

static unsigned line_of(const struct server_rules *s, const void *field)
{
	return conf_line(s->reader->conf, field);
}

/* At the line of `field`, or of the section when the option was not given. */
#define wrong(s, field, option, ...)                                                                              \
	conf_mistake_add(&(s)->reader->report, line_of(s, field) ? line_of(s, field) : (s)->server->line, option, \
			 __VA_ARGS__)

static void apply_preset_limits(struct server_rules *s, const char *text)
{
	struct conf_limit limit;
	struct buf ignored;

	buf_init(&ignored, 500);
	while (*text) {
		size_t len = strcspn(text, ",");

		if (!conf_limit_parse((struct slice){ text, len }, &limit, &ignored))
			BUG("preset's limits: %s", text);
		conf_limits_add(&s->server->limits, &limit);
		text += len;
		text += strspn(text, ", ");
	}
	buf_release(&ignored);
}

static void apply_preset(struct server_rules *s)
{
	struct conf_server *v = s->server;
	const struct conf_preset *p = v->preset ? conf_preset_find(v->preset) : NULL;

	if (!p)
		return;
	if (!line_of(s, &v->host) && *p->host)
		v->host = xstrdup(p->host);
	if (!line_of(s, &v->port))
		v->port = p->port;
	if (!line_of(s, &v->tls))
		v->tls = TLS_VERIFY;
	if (!line_of(s, &v->limits))
		apply_preset_limits(s, p->limits);
	v->is_refused_free = !p->counts_refused;
	if (!line_of(s, &v->max_connections) && p->max_connections > 0)
		v->max_connections = p->max_connections;
	if (!line_of(s, &v->username))
		wrong(s, &v->username, "username", "server \"%s\" uses the preset %s, which needs one", v->name,
		      v->preset);
}

static void check_host(struct server_rules *s)
{
	struct conf_server *v = s->server;
	bool is_given = line_of(s, &v->host) > 0;

	if (v->method == METHOD_DIRECT && is_given)
		wrong(s, &v->host, "host",
		      "does not go with method = direct, which finds the hosts by MX; "
		      "use method = relay");
	else if (v->method == METHOD_RELAY && !is_given && v->preset && !v->host)
		wrong(s, &v->host, "host", "the preset %s needs it: it depends on your account", v->preset);
	else if (v->method == METHOD_RELAY && !is_given && !v->host)
		wrong(s, &v->host, "host",
		      "server \"%s\" needs one; use host = \"smtp.example.com\", or method = direct", v->name);
}

static void check_certificates(struct server_rules *s)
{
	struct conf_server *v = s->server;
	static const char *const LEVELS[] = { "none", "opportunistic", "require", "verify", "dane" };

	if (v->tls_fingerprints.count > 0 && v->tls != TLS_REQUIRE && v->tls != TLS_VERIFY && v->tls != TLS_UNSET)
		wrong(s, &v->tls_fingerprints, "tls-fingerprints",
		      "have no use with tls = %s; use verify, or leave tls out", LEVELS[v->tls]);
	if (v->tls == TLS_NONE && line_of(s, &v->tls_client_cert))
		wrong(s, &v->tls_client_cert, "tls-client-cert", "has no use with tls = none");
}

static void resolve_tls(struct server_rules *s)
{
	struct conf_server *v = s->server;
	bool is_smtps = v->port == PORT_SMTPS;

	if (!line_of(s, &v->tls) && v->tls == TLS_UNSET)
		v->tls = line_of(s, &v->username) || v->tls_fingerprints.count > 0 ? TLS_VERIFY : TLS_OPPORTUNISTIC;
	if (is_smtps && line_of(s, &v->is_tls_wrapper) && !v->is_tls_wrapper)
		wrong(s, &v->is_tls_wrapper, "tls-wrapper",
		      "port 465 means TLS from the first byte; leave the option out, or use another port");
	v->is_tls_wrapper |= is_smtps;
	if (v->is_tls_wrapper && v->tls == TLS_NONE)
		wrong(s, &v->tls, "tls", "none contradicts TLS from the first byte (%s); use require or verify",
		      is_smtps ? "port 465" : "tls-wrapper");
	if (v->is_tls_wrapper && v->tls == TLS_OPPORTUNISTIC)
		v->tls = TLS_REQUIRE;
	check_certificates(s);
	if (line_of(s, &v->tls_client_key) && !line_of(s, &v->tls_client_cert))
		wrong(s, &v->tls_client_key, "tls-client-key", "needs tls-client-cert beside it");
}

static void check_login(struct server_rules *s)
{
	struct conf_server *v = s->server;
	bool has_user = line_of(s, &v->username), has_password = line_of(s, &v->password);
	bool has_file = line_of(s, &v->password_file), has_oauth2 = v->oauth2.is_set;

	if (has_password && has_file)
		wrong(s, &v->password, "password", "and password-file exclude one another; keep password-file");
	if ((has_password || has_file) && !has_user)
		wrong(s, has_file ? (void *)&v->password_file : (void *)&v->password,
		      has_file ? "password-file" : "password", "needs username beside it");
	if (has_oauth2 && !has_user && !v->preset)
		wrong(s, &v->username, "username", "oauth2 { } of server \"%s\" needs it beside it", v->name);
	if (has_user && !has_password && !has_file && !has_oauth2)
		wrong(s, &v->username, "username", "needs password-file (or password, or oauth2 { }) beside it");
	if (has_user && v->method == METHOD_DIRECT)
		wrong(s, &v->username, "username", "has no use with method = direct: MX hosts take no login");
}

/* Called before check_login(), who asks whether there is any. */
static void apply_oauth2(struct server_rules *s)
{
	struct conf_oauth2 *o = &s->server->oauth2;
	const struct conf_preset_oauth2 *p = s->server->preset ? conf_preset_find_oauth2(s->server->preset) : NULL;
	const struct {
		char **field;
		const char *name, *preset;
		bool is_needed;
	} parts[] = { { &o->token_url, "token-url", p ? p->token_url : "", true },
		      { &o->client_id, "client-id", "", true },
		      { &o->refresh_token_file, "refresh-token-file", "", true },
		      { &o->client_secret_file, "client-secret-file", "", false },
		      { &o->device_url, "device-url", p ? p->device_url : "", false },
		      { &o->scope, "scope", p ? p->scope : "", false } };

	for (unsigned i = 0; i < ARRAY_LEN(parts); i++)
		o->is_set |= line_of(s, parts[i].field) > 0;
	for (unsigned i = 0; o->is_set && i < ARRAY_LEN(parts); i++) {
		if (line_of(s, parts[i].field))
			continue;
		if (*parts[i].preset)
			*parts[i].field = xstrdup(parts[i].preset);
		else if (parts[i].is_needed)
			wrong(s, parts[i].field, parts[i].name, "oauth2 { } of server \"%s\" needs it",
			      s->server->name);
	}
}

static void check_pop(struct server_rules *s)
{
	struct conf_pop *p = &s->server->pop;

	if (!p->is_set)
		return;
	if (!line_of(s, &p->host))
		wrong(s, &p->host, "host", "pop-before-smtp { } of server \"%s\" needs it", s->server->name);
	if (!line_of(s, &p->username))
		wrong(s, &p->username, "username", "pop-before-smtp { } of server \"%s\" needs it", s->server->name);
	if (!line_of(s, &p->password_file))
		wrong(s, &p->password_file, "password-file", "pop-before-smtp { } of server \"%s\" needs it",
		      s->server->name);
	if (p->port == PORT_POP3S && p->tls == TLS_NONE)
		wrong(s, &p->tls, "tls", "none contradicts TLS from the first byte (port 995); use require or verify");
	if (p->port == PORT_POP3S && p->tls == TLS_OPPORTUNISTIC)
		p->tls = TLS_REQUIRE;
}

static void check_sender_rules(struct server_rules *s)
{
	struct conf_server *v = s->server;

	if (!line_of(s, &v->rewrite_sender) && line_of(s, &v->rewrite) && v->rewrite != REWRITE_NEVER)
		wrong(s, &v->rewrite, "rewrite", "needs rewrite-sender beside it");
	if (!line_of(s, &v->rewrite_sender) && v->allowed_senders.count > 0)
		wrong(s, &v->allowed_senders, "allowed-senders", "needs rewrite-sender beside it");
}

static bool has_window(const struct conf_limits *l, const struct conf_limit *like)
{
	for (unsigned i = 0; i < l->count; i++)
		if (l->limit[i].window_ms == like->window_ms && l->limit[i].is_recipients == like->is_recipients)
			return true;
	return false;
}

static void check_limit_helpers(struct server_rules *s)
{
	struct conf_server *v = s->server;

	for (unsigned i = 0; i < v->initial_used.count; i++)
		if (v->initial_used.limit[i].is_unlimited || !has_window(&v->limits, &v->initial_used.limit[i])) {
			wrong(s, &v->initial_used, "initial-used", "\"%s\" has no limit of the same window in limits",
			      v->initial_used.limit[i].text);
			break;
		}
	for (unsigned i = 0; i < v->ramp.count; i++)
		if (v->ramp.limit[i].is_unlimited || v->ramp.limit[i].window_ms != 86400000u) {
			wrong(s, &v->ramp, "ramp", "\"%s\" is not a step for a day; use \"50/day\" and the like",
			      v->ramp.limit[i].text);
			break;
		}
}

void conf_server_rules_apply(struct conf_reader *r, struct conf_server *server)
{
	struct server_rules s = { r, server };

	if (!server->display_name)
		server->display_name = xstrdup(server->name);
	apply_preset(&s);
	check_host(&s);
	resolve_tls(&s);
	apply_oauth2(&s);
	check_login(&s);
	check_pop(&s);
	check_sender_rules(&s);
	check_limit_helpers(&s);
	if (server->method == METHOD_DIRECT && !line_of(&s, &server->deny_count))
		conf_deny_default(server);
}
