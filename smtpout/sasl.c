/* sasl.c - what is said in a login. libgsasl does SCRAM, CRAM-MD5, PLAIN and LOGIN; tokens are formatted here. */
#include "smtpout/sasl.h"
#include "lib/text.h"
#include "smtpout/tls.h"
#include <gsasl.h>

/* Of a server's text: a shorter secret is let stand; so are shorter pieces of what was said in base64, or of a token.
 */
enum { SALT_MAX = 512, SHOWN_MAX = 4, PIECE_MIN = 8 };

/*
 * SCRAM's password, stretched as this salt and count want it: computed once, not for every connection. Kept as libgsasl
 * writes it down.
 */
struct stretched {
	enum mechanism mechanism;
	char salt[SALT_MAX], count[16], password[2 * 32 + 1];
};

struct sasl_account {
	char *username, *secret, *token, *host; /* token: NULL when none has come, or the secret is one */
	size_t secret_len;
	unsigned token_serial;
	unsigned port;
	struct stretched stretched;
};

struct sasl {
	struct sasl_account *account;
	enum mechanism mechanism;
	Gsasl_session *session; /* NULL: a token */
	unsigned rounds;
	unsigned token_serial; /* the account's, when its token was said */
	bool is_complete;
	const char *error;
};

static Gsasl *library;

/* --- the account --- */

struct sasl_account *sasl_account_new(const char *username, struct slice secret, const char *host, unsigned port)
{
	struct sasl_account *a = xcalloc(1, sizeof(*a));

	a->username = xstrdup(username);
	a->host = xstrdup(host);
	a->port = port;
	a->stretched.mechanism = MECHANISM_NONE;
	sasl_account_set_secret(a, secret);
	return a;
}

static void wipe_secret(struct sasl_account *a)
{
	if (a->secret)
		explicit_bzero(a->secret, a->secret_len);
	free(a->secret);
	explicit_bzero(&a->stretched, sizeof(a->stretched));
	a->stretched.mechanism = MECHANISM_NONE;
}

void sasl_account_set_secret(struct sasl_account *a, struct slice secret)
{
	wipe_secret(a);
	a->secret = xstrndup(secret.ptr, secret.len);
	a->secret_len = secret.len;
}

static void wipe_token(struct sasl_account *a)
{
	if (a->token)
		explicit_bzero(a->token, strlen(a->token));
	free(a->token);
	a->token = NULL;
}

void sasl_account_set_token(struct sasl_account *a, struct slice token)
{
	wipe_token(a);
	a->token = xstrndup(token.ptr, token.len);
	a->token_serial++;
}

bool sasl_account_has_token(const struct sasl_account *a)
{
	return a->token != NULL;
}

bool sasl_account_has_password(const struct sasl_account *a)
{
	return a->secret_len > 0;
}

void sasl_account_free(struct sasl_account **account)
{
	struct sasl_account *a = *account;

	if (!a)
		return;
	wipe_secret(a);
	wipe_token(a);
	free(a->username);
	free(a->host);
	free(a);
	*account = NULL;
}

const char *sasl_account_username(const struct sasl_account *a)
{
	return a->username;
}

bool sasl_account_put_secret(const struct sasl_account *a, struct buf *out)
{
	if (memchr(a->secret, '\r', a->secret_len) || memchr(a->secret, '\n', a->secret_len) ||
	    memchr(a->secret, '\0', a->secret_len))
		return false;
	buf_put(out, a->secret, a->secret_len);
	return true;
}

/* How many bytes at `at` stand in the secret, too, in a row; `at` ends with a NUL. */
static size_t common_run(const char *at, const char *secret, size_t len)
{
	size_t best = 0;

	for (size_t i = 0; i + best < len; i++) {
		size_t run = 0;

		while (i + run < len && at[run] != '\0' && at[run] == secret[i + run])
			run++;
		if (run > best)
			best = run;
	}
	return best;
}

/* Every piece of the secret that is as long as `least`: servers cut what they quote, and so do we. */
static void cover(char *text, const char *secret, size_t len, size_t least)
{
	if (len < SHOWN_MAX) /* as short as that it stands in many a text by chance, and covering it would betray it */
		return;
	for (char *at = text; *at;) {
		size_t run = common_run(at, secret, len);

		if (run >= least)
			memset(at, '*', run);
		at += run >= least ? run : 1;
	}
}

static void cover_base64(char *text, struct slice bytes)
{
	char *coded = NULL;
	size_t len = 0;

	if (gsasl_base64_to(bytes.ptr, bytes.len, &coded, &len) != GSASL_OK)
		return;
	/* Its end depends on what follows: without padding, and without the last letter, it is found inside others. */
	while (len > 0 && coded[len - 1] == '=')
		len--;
	if (len > 6)
		cover(text, coded, len, len < PIECE_MIN ? len : PIECE_MIN);
	explicit_bzero(coded, len);
	gsasl_free(coded);
}

static void put_token_message(const struct sasl_account *a, enum mechanism m, struct buf *out);

static void wipe(struct buf *b)
{
	if (b->ptr)
		explicit_bzero(b->ptr, b->cap);
	buf_release(b);
}

/* What was said as a whole comes first, the pieces that it is made of then. */
void sasl_account_mask(const struct sasl_account *a, char *text)
{
	struct buf said;

	buf_init(&said, SASL_CHALLENGE_MAX);
	buf_put(&said, "", 1);
	buf_put(&said, a->username, strlen(a->username) + 1);
	buf_put(&said, a->secret, a->secret_len);
	cover_base64(text, buf_slice(&said));
	for (unsigned m = 0; m < MECHANISM_COUNT; m++) {
		buf_clear(&said);
		if (mechanism_is_token((enum mechanism)m))
			put_token_message(a, (enum mechanism)m, &said);
		cover_base64(text, buf_slice(&said));
	}
	if (a->token) {
		cover(text, a->token, strlen(a->token), PIECE_MIN);
		cover_base64(text, slice_of(a->token));
	}
	cover(text, a->secret, a->secret_len, a->secret_len); /* pieces of it may be words of any language */
	cover_base64(text, (struct slice){ a->secret, a->secret_len });
	wipe(&said);
}

void sasl_apop(const struct sasl_account *a, struct slice stamp, struct buf *out)
{
	struct buf text;

	buf_init(&text, stamp.len + a->secret_len + 1);
	buf_put_slice(&text, stamp);
	buf_put(&text, a->secret, a->secret_len);
	tls_put_md5(out, buf_slice(&text));
	if (text.ptr)
		explicit_bzero(text.ptr, text.len);
	buf_release(&text);
}

/* --- libgsasl asks --- */

static int give(Gsasl_session *session, Gsasl_property property, const char *value)
{
	return gsasl_property_set(session, property, value);
}

static const char *property(Gsasl_session *session, Gsasl_property name)
{
	const char *value = gsasl_property_fast(session, name);

	return value ? value : "";
}

static bool is_stretched_for(const struct sasl *s)
{
	const struct stretched *kept = &s->account->stretched;

	return kept->mechanism == s->mechanism && strcmp(kept->salt, property(s->session, GSASL_SCRAM_SALT)) == 0 &&
	       strcmp(kept->count, property(s->session, GSASL_SCRAM_ITER)) == 0;
}

static int on_question(Gsasl *gsasl UNUSED, Gsasl_session *session, Gsasl_property name)
{
	struct sasl *s = gsasl_session_hook_get(session);

	switch (name) {
	case GSASL_AUTHID:
		return give(session, name, s->account->username);
	case GSASL_PASSWORD:
		return give(session, name, s->account->secret);
	case GSASL_SCRAM_SALTED_PASSWORD:
		if (is_stretched_for(s))
			return give(session, name, s->account->stretched.password);
		return GSASL_NO_CALLBACK;
	default: /* no authorization identity, no channel binding */
		return GSASL_NO_CALLBACK;
	}
}

bool sasl_init(void)
{
	if (library)
		return true;
	if (gsasl_init(&library) != GSASL_OK)
		return false;
	gsasl_callback_set(library, on_question);
	return true;
}

/* --- a login --- */

struct sasl *sasl_new(struct sasl_account *a, enum mechanism m)
{
	struct sasl *s = xcalloc(1, sizeof(*s));

	s->account = a;
	s->mechanism = m;
	s->error = "";
	if (mechanism_is_token(m))
		return s;
	if (!library || gsasl_client_start(library, mechanism_name(m), &s->session) != GSASL_OK) {
		free(s);
		return NULL;
	}
	gsasl_session_hook_set(s->session, s);
	return s;
}

void sasl_free(struct sasl **sasl)
{
	struct sasl *s = *sasl;

	if (!s)
		return;
	if (s->session)
		gsasl_finish(s->session);
	free(s);
	*sasl = NULL;
}

bool sasl_is_first(const struct sasl *s)
{
	return s->mechanism != MECHANISM_CRAM_MD5 && s->mechanism != MECHANISM_LOGIN;
}

bool sasl_is_complete(const struct sasl *s)
{
	return s->is_complete;
}

const char *sasl_error(const struct sasl *s)
{
	return s->error;
}

bool sasl_is_outdated(const struct sasl *s)
{
	return mechanism_is_token(s->mechanism) && s->token_serial != s->account->token_serial;
}

static bool fail(struct sasl *s, const char *why)
{
	s->error = why;
	s->is_complete = false;
	return false;
}

/* Base64 as text with NUL behind it; NULL when it is none. The caller frees with gsasl_free(). */
static char *decode(struct slice coded)
{
	char *bytes = NULL;
	size_t len = 0;

	if (gsasl_base64_from(coded.ptr, coded.len, &bytes, &len) != GSASL_OK)
		return NULL;
	bytes = xrealloc(bytes, len + 1, 1);
	bytes[len] = '\0';
	return bytes;
}

static bool encode(struct buf *out, struct slice bytes)
{
	char *coded = NULL;
	size_t len = 0;

	if (gsasl_base64_to(bytes.ptr, bytes.len, &coded, &len) != GSASL_OK)
		return false;
	buf_put(out, coded, len);
	explicit_bzero(coded, len);
	gsasl_free(coded);
	return true;
}

/* RFC 5802 5.1: "r=...,s=...,i=4096" may name any count; the work is ours. */
static bool asks_too_much(struct slice challenge)
{
	char *text = decode(challenge);
	const char *at = text ? strstr(text, ",i=") : NULL;
	uint64_t count = 0;
	bool too_much = false;

	if (at) {
		struct slice digits = { at + 3, strspn(at + 3, "0123456789") };

		too_much = !text_parse_u64(digits, &count) || count > SASL_ITERATIONS_MAX;
	}
	gsasl_free(text);
	return too_much;
}

static void keep_stretched(struct sasl *s)
{
	struct stretched *kept = &s->account->stretched;
	const char *salt = property(s->session, GSASL_SCRAM_SALT), *count = property(s->session, GSASL_SCRAM_ITER);
	const char *password = property(s->session, GSASL_SCRAM_SALTED_PASSWORD);

	if (strlen(salt) >= sizeof(kept->salt) || strlen(count) >= sizeof(kept->count) || *password == '\0' ||
	    strlen(password) >= sizeof(kept->password))
		return;
	kept->mechanism = s->mechanism;
	snprintf(kept->salt, sizeof(kept->salt), "%s", salt);
	snprintf(kept->count, sizeof(kept->count), "%s", count);
	snprintf(kept->password, sizeof(kept->password), "%s", password);
}

static const char *name_failure(const struct sasl *s, int rc)
{
	bool is_scram = s->mechanism == MECHANISM_SCRAM_SHA_256 || s->mechanism == MECHANISM_SCRAM_SHA_1;

	if (rc == GSASL_SASLPREP_ERROR)
		return "user name or password hold characters that this mechanism forbids";
	if (is_scram && rc == GSASL_AUTHENTICATION_ERROR)
		return "the server does not prove that it knows the password: it may not be the one it should be";
	return "the server's challenge makes no sense";
}

static bool step_library(struct sasl *s, struct slice challenge, struct buf *response)
{
	bool is_scram = s->mechanism == MECHANISM_SCRAM_SHA_256 || s->mechanism == MECHANISM_SCRAM_SHA_1;
	char *in, *out = NULL;
	int rc;

	if (is_scram && asks_too_much(challenge))
		return fail(s, "the server asks for more computing than is reasonable");
	/* LOGIN's prompts mean nothing; not every server encodes them. */
	in = s->mechanism == MECHANISM_LOGIN ? xstrdup("") : xstrndup(challenge.ptr, challenge.len);
	rc = gsasl_step64(s->session, in, &out);
	free(in);
	if (rc != GSASL_OK && rc != GSASL_NEEDS_MORE)
		return fail(s, name_failure(s, rc));
	s->is_complete = rc == GSASL_OK;
	if (s->is_complete && is_scram)
		keep_stretched(s);
	if (out) {
		buf_put_str(response, out);
		explicit_bzero(out, strlen(out));
		gsasl_free(out);
	}
	return true;
}

/* RFC 5801 4: what is no part of a name there. */
static void put_saslname(struct buf *out, const char *name)
{
	for (; *name; name++) {
		if (*name == ',' || *name == '=')
			buf_printf(out, "=%02X", (unsigned char)*name);
		else
			buf_put_char(out, *name);
	}
}

static void put_token_message(const struct sasl_account *a, enum mechanism m, struct buf *out)
{
	if (m == MECHANISM_XOAUTH2) {
		buf_printf(out, "user=%s\1auth=Bearer ", a->username);
	} else {
		buf_put_str(out, "n,a=");
		put_saslname(out, a->username);
		buf_printf(out, ",\1host=%s\1port=%u\1auth=Bearer ", a->host, a->port);
	}
	buf_put_slice(out, a->token ? slice_of(a->token) : (struct slice){ a->secret, a->secret_len });
	buf_put_str(out, "\1\1");
}

/* First the token; then a challenge can only be the reason why it is no good, which has to be answered. */
static bool step_token(struct sasl *s, struct slice challenge UNUSED, struct buf *response)
{
	struct buf message;
	bool is_done;

	if (s->rounds > 1) {
		s->is_complete = false;
		/* RFC 7628 3.2.3 wants a lone ^A there; XOAUTH2 an empty line. */
		return s->mechanism == MECHANISM_XOAUTH2 || encode(response, slice_of("\1"));
	}
	buf_init(&message, SASL_CHALLENGE_MAX);
	s->token_serial = s->account->token_serial;
	put_token_message(s->account, s->mechanism, &message);
	is_done = !message.failed && encode(response, buf_slice(&message));
	wipe(&message);
	s->is_complete = is_done;
	return is_done || fail(s, "user name and token are too long");
}

bool sasl_step(struct sasl *s, struct slice challenge, struct buf *response)
{
	if (++s->rounds > SASL_ROUNDS_MAX)
		return fail(s, "the server goes on asking");
	if (challenge.len > SASL_CHALLENGE_MAX)
		return fail(s, "the server's challenge is too long");
	return s->session ? step_library(s, challenge, response) : step_token(s, challenge, response);
}
