/* oauth_reply.c - the token server's JSON as records. A file of its own: only the program `token` reads JSON of
 * strangers. */
#include "lib/json.h"
#include "lib/oauth.h"
#include "lib/text.h"

static const char *text_of(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name)); /* a NUL in it ends it */
}

/* A number, or one in quotes: some servers have it so. */
static bool number_of(const json_t *object, const char *name, uint64_t *out)
{
	const json_t *value = json_object_get(object, name);

	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		*out = (uint64_t)json_integer_value(value);
		return true;
	}
	return json_is_string(value) && text_parse_u64(slice_of(json_string_value(value)), out);
}

static void put_number(struct buf *out, const char *record, const json_t *object, const char *name)
{
	uint64_t value;
	char text[24];

	if (!number_of(object, name, &value))
		return;
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	oauth_put_record(out, record, slice_of(text));
}

struct covering {
	const char *const *secrets;
	unsigned count;
};

/* Printable, not too long, and without our secrets. */
static void put_words(struct buf *out, const char *record, const char *words, const struct covering *c)
{
	char *copy = xstrdup(words), *at;
	struct buf printable;

	for (unsigned i = 0; i < c->count; i++) {
		size_t len = strlen(c->secrets[i]);

		while (len > 0 && (at = strstr(copy, c->secrets[i])))
			memset(at, '*', len);
	}
	buf_init(&printable, 4 * OAUTH_TEXT_MAX);
	text_escape(&printable, slice_of(copy), OAUTH_TEXT_MAX);
	oauth_put_record(out, record, buf_slice(&printable));
	buf_release(&printable);
	explicit_bzero(copy, strlen(copy));
	free(copy);
}

/* RFC 6749 5.2. Too much to do, or its own trouble, is no refusal, whatever it says. */
static void put_refusal(struct buf *out, unsigned status, const json_t *object, const struct covering *c)
{
	const char *error = text_of(object, "error"), *more = text_of(object, "error_description");
	bool is_final = status >= 400 && status < 500 && status != 408 && status != 429;
	char *words = error ? xasprintf("the token server says %s%s%s", error, more ? ": " : "", more ? more : "")
			    : xasprintf("the token server answers with HTTP status %u", status);

	if (error && is_final)
		put_words(out, "error", error, c);
	put_words(out, "text", words, c);
	free(words);
}

static void put_token(struct buf *out, const char *name, const json_t *object)
{
	const char *value = text_of(object, name);

	if (value)
		oauth_put_record(out, name, slice_of(value));
}

static bool is_usable(const char *token)
{
	size_t len = strlen(token);

	for (size_t i = 0; i < len; i++)
		if (token[i] <= ' ' || token[i] > '~')
			return false;
	return len > 0 && len <= OAUTH_TOKEN_MAX;
}

/* NULL: nothing is wrong with it. */
static const char *fault_of(enum oauth_kind kind, const json_t *object)
{
	const char *token = text_of(object, kind == OAUTH_DEVICE ? "device_code" : "access_token");
	const char *fresh = text_of(object, "refresh_token"), *type = text_of(object, "token_type");

	if (!token)
		return kind == OAUTH_DEVICE ? "the token server's answer has no device_code"
					    : "the token server's answer has no access_token";
	if (!is_usable(token) || (fresh && !is_usable(fresh)))
		return "the token server's answer has a token that is too long, or not printable";
	if (kind != OAUTH_DEVICE && type && !slice_equal_nocase(slice_of(type), slice_of("bearer")))
		return "the token server's answer is no bearer token";
	if (kind == OAUTH_DEVICE && !text_of(object, "user_code"))
		return "the token server's answer has no user_code";
	return NULL;
}

/* The one that was sent comes back: it is not another one. */
static bool is_known(const char *token, const struct covering *c)
{
	for (unsigned i = 0; token && i < c->count; i++)
		if (strcmp(token, c->secrets[i]) == 0)
			return true;
	return false;
}

static void put_grant(struct buf *out, enum oauth_kind kind, const json_t *object, const struct covering *c)
{
	const char *url = text_of(object, "verification_uri"), *full = text_of(object, "verification_uri_complete");

	put_number(out, "expires", object, "expires_in");
	if (kind != OAUTH_DEVICE) {
		put_token(out, "access_token", object);
		if (!is_known(text_of(object, "refresh_token"), c))
			put_token(out, "refresh_token", object);
		return;
	}
	put_token(out, "device_code", object);
	put_number(out, "interval", object, "interval");
	put_words(out, "user_code", text_of(object, "user_code"), c);
	if (!url)
		url = text_of(object, "verification_url"); /* Google's, from before the RFC */
	put_words(out, "url", url ? url : "", c);
	if (full)
		put_words(out, "full_url", full, c);
}

void oauth_put_reply(struct buf *out, enum oauth_kind kind, unsigned http_status, struct slice body,
		     const char *const secrets[], unsigned secret_count)
{
	const struct covering c = { secrets, secret_count };
	json_error_t ignored;
	json_t *object = json_loadb(body.ptr, body.len, JSON_REJECT_DUPLICATES, &ignored);
	const char *fault = json_is_object(object) ? NULL : "the token server's answer is no JSON object";

	if (http_status != 200) {
		put_refusal(out, http_status, object, &c);
	} else if (fault || (fault = fault_of(kind, object))) {
		put_words(out, "text", fault, &c);
	} else {
		put_grant(out, kind, object, &c);
	}
	json_decref(object);
}
