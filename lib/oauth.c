/* oauth.c - requests to a token server and answers from it, as records. */
#include "lib/oauth.h"
#include "lib/text.h"

enum { EXPIRES_UNSAID_S = 3600, INTERVAL_UNSAID_S = 5 };

/* --- records --- */

void oauth_put_record(struct buf *out, const char *name, struct slice value)
{
	buf_put(out, name, strlen(name) + 1);
	buf_put_slice(out, value);
	buf_put_char(out, '\0');
}

static bool next_text(struct slice *rest, struct slice *out)
{
	const char *end = memchr(rest->ptr, '\0', rest->len);

	if (!end)
		return false;
	*out = (struct slice){ rest->ptr, (size_t)(end - rest->ptr) };
	*rest = (struct slice){ end + 1, rest->len - out->len - 1 };
	return true;
}

bool oauth_next_record(struct slice *rest, struct slice *name, struct slice *value)
{
	struct slice at = *rest;

	if (at.len == 0 || !next_text(&at, name) || !next_text(&at, value))
		return false;
	*rest = at;
	return true;
}

/* --- the request --- */

uint64_t oauth_deadline_ms(const struct conf_server *s)
{
	return s->connect_timeout_ms;
}

/* application/x-www-form-urlencoded, as RFC 6749 B has it */
static void put_encoded(struct buf *out, const char *text)
{
	for (; *text; text++) {
		char c = *text;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c))
			buf_put_char(out, c);
		else
			buf_printf(out, "%%%02X", (unsigned char)c);
	}
}

static void put_field(struct buf *form, const char *name, const char *value)
{
	if (!value)
		return;
	if (form->len > 0)
		buf_put_char(form, '&');
	buf_put_str(form, name);
	buf_put_char(form, '=');
	put_encoded(form, value);
}

static void put_form(struct buf *form, const struct oauth_ask *ask)
{
	const struct conf_oauth2 *o = &ask->server->oauth2;

	switch (ask->kind) {
	case OAUTH_REFRESH:
		put_field(form, "grant_type", "refresh_token");
		put_field(form, "refresh_token", ask->token);
		break;
	case OAUTH_DEVICE:
		put_field(form, "scope", o->scope);
		break;
	case OAUTH_POLL:
		put_field(form, "grant_type", "urn:ietf:params:oauth:grant-type:device_code");
		put_field(form, "device_code", ask->token);
		break;
	}
	put_field(form, "client_id", o->client_id);
	/* RFC 8628 3.1 has no secret there; who may start a login is no secret either. */
	if (ask->kind != OAUTH_DEVICE)
		put_field(form, "client_secret", ask->client_secret);
}

void oauth_put_number(struct buf *out, const char *name, uint64_t value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	oauth_put_record(out, name, slice_of(text));
}

void oauth_put_dns(struct buf *out, const struct conf *c)
{
	oauth_put_number(out, "dns-timeout", c->dns.timeout_ms);
	for (unsigned i = 0; i < c->dns.servers.count; i++)
		oauth_put_record(out, "dns-server", slice_of(c->dns.servers.item[i]));
	if (c->dns.trust_anchor_file)
		oauth_put_record(out, "trust-anchor", slice_of(c->dns.trust_anchor_file));
}

void oauth_put_request(struct buf *out, const struct oauth_ask *ask)
{
	const struct conf_oauth2 *o = &ask->server->oauth2;
	struct buf form;

	buf_init(&form, OAUTH_RECORDS_MAX);
	put_form(&form, ask);
	oauth_put_number(out, "kind", ask->kind);
	oauth_put_record(out, "url", slice_of(ask->kind == OAUTH_DEVICE ? o->device_url : o->token_url));
	oauth_put_record(out, "form", buf_slice(&form));
	oauth_put_number(out, "deadline", oauth_deadline_ms(ask->server));
	oauth_put_dns(out, ask->conf);
	if (ask->token)
		oauth_put_record(out, "secret", slice_of(ask->token));
	if (ask->client_secret)
		oauth_put_record(out, "secret", slice_of(ask->client_secret));
	if (form.ptr)
		explicit_bzero(form.ptr, form.cap);
	buf_release(&form);
}

/* --- the answer --- */

static bool is_token(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] <= ' ' || s.ptr[i] > '~')
			return false;
	return s.len > 0 && s.len <= OAUTH_TOKEN_MAX;
}

static void wipe(char **text)
{
	if (*text)
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

static bool take(char **field, struct slice value, bool is_right)
{
	if (!is_right)
		return false;
	wipe(field);
	*field = xstrndup(value.ptr, value.len);
	return true;
}

static bool is_printable(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 0x7f)
			return false;
	return s.len <= 4 * OAUTH_TEXT_MAX && text_is_utf8(s);
}

static bool take_record(struct oauth_answer *a, struct slice name, struct slice value)
{
	const struct {
		const char *name;
		char **field;
		bool is_right;
	} TEXTS[] = {
		{ "access_token", &a->access_token, is_token(value) },
		{ "refresh_token", &a->refresh_token, is_token(value) },
		{ "device_code", &a->device_code, is_token(value) },
		{ "user_code", &a->user_code, is_printable(value) },
		{ "url", &a->url, is_printable(value) },
		{ "full_url", &a->full_url, is_printable(value) },
		{ "error", &a->error, is_printable(value) },
		{ "text", &a->text, is_printable(value) },
	};

	for (unsigned i = 0; i < ARRAY_LEN(TEXTS); i++)
		if (slice_is(name, TEXTS[i].name))
			return take(TEXTS[i].field, value, TEXTS[i].is_right);
	if (slice_is(name, "kept"))
		a->is_kept = true;
	else if (slice_is(name, "expires"))
		return text_parse_u64(value, &a->expires_s);
	else if (slice_is(name, "interval"))
		return text_parse_u64(value, &a->interval_s);
	return true;
}

void oauth_read_answer(struct oauth_answer *a, struct slice records)
{
	struct slice name, value;
	bool is_right = records.len > 0;

	*a = (struct oauth_answer){ .expires_s = EXPIRES_UNSAID_S, .interval_s = INTERVAL_UNSAID_S };
	while (is_right && oauth_next_record(&records, &name, &value))
		is_right = take_record(a, name, value);
	if (is_right && records.len == 0 && (a->access_token || a->device_code || a->text)) {
		if (a->expires_s == 0)
			a->expires_s = EXPIRES_UNSAID_S;
		if (a->expires_s > OAUTH_LIFE_MAX_S)
			a->expires_s = OAUTH_LIFE_MAX_S;
		if (a->interval_s == 0)
			a->interval_s = 1;
		return;
	}
	oauth_answer_release(a);
	a->text = xstrdup("the program that fetches tokens has ended without an answer");
}

void oauth_answer_release(struct oauth_answer *a)
{
	wipe(&a->access_token);
	wipe(&a->refresh_token);
	wipe(&a->device_code);
	free(a->user_code);
	free(a->url);
	free(a->full_url);
	free(a->error);
	free(a->text);
	*a = (struct oauth_answer){ 0 };
}

bool oauth_is_final(const struct oauth_answer *a)
{
	static const char *const PASSING[] = { "authorization_pending", "slow_down", "temporarily_unavailable",
					       "server_error" };

	for (unsigned i = 0; a->error && i < ARRAY_LEN(PASSING); i++)
		if (strcmp(a->error, PASSING[i]) == 0)
			return false;
	return a->error != NULL;
}
