/* replies.c - the rules in memory, where they come from, and the match. */
#include "lib/replies.h"
#include "lib/replies_private.h"
#include "lib/text.h"
#include <limits.h>
#include <unistd.h>

const char *const reply_command_words[] = {
	[REPLY_TO_CONNECT] = "connect", [REPLY_TO_HELO] = "helo", [REPLY_TO_STARTTLS] = "starttls",
	[REPLY_TO_AUTH] = "auth",       [REPLY_TO_MAIL] = "mail", [REPLY_TO_RCPT] = "rcpt",
	[REPLY_TO_DATA] = "data",       [REPLY_TO_END] = "end",
};
const unsigned reply_command_word_count = ARRAY_LEN(reply_command_words);

const char *const reply_scope_words[REPLY_SCOPE_COUNT] = {
	[REPLY_RECIPIENT] = "recipient", [REPLY_MESSAGE] = "message", [REPLY_CONNECTION] = "connection",
	[REPLY_SITE] = "site",           [REPLY_SERVER] = "server",
};

const char *const reply_action_words[REPLY_ACTION_COUNT] = {
	[REPLY_BOUNCE] = "bounce", [REPLY_RETRY] = "retry", [REPLY_NEXT] = "next",   [REPLY_RECONNECT] = "reconnect",
	[REPLY_FEWER] = "fewer",   [REPLY_PAUSE] = "pause", [REPLY_QUOTA] = "quota",
};

struct replies *replies_new(void)
{
	return xcalloc(1, sizeof(struct replies));
}

void reply_entry_release(struct reply_entry *e)
{
	conf_list_release(&e->server);
	conf_list_release(&e->provider);
	conf_list_release(&e->code);
	conf_list_release(&e->dsn);
	if (e->has_text)
		regfree(&e->text);
}

void replies_clear(struct replies *r)
{
	for (unsigned i = 0; i < r->count; i++)
		reply_entry_release(&r->entry[i]);
	r->count = 0;
}

void replies_free(struct replies **at)
{
	struct replies *r = *at;

	if (!r)
		return;
	replies_clear(r);
	for (unsigned i = 0; i < r->provider_count; i++) {
		free(r->provider[i].name);
		conf_list_release(&r->provider[i].host);
	}
	for (unsigned i = 0; i < r->file_count; i++)
		free(r->file[i]);
	free(r->file);
	free(r->provider);
	free(r->entry);
	free(r);
	*at = NULL;
}

/* --- where the shipped rules are --- */

/*
 * Programs lie in sbin/ and libexec/postern/, tests deeper; the rules in share/postern/ of the same tree, installed or
 * built: the nearest one above the program.
 */
static char *shipped_path(void)
{
	static const char DATA[] = "share/postern/replies.conf";
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[len > 0 ? len : 0] = '\0';
	for (unsigned up = 0; up < 4 && strrchr(self, '/'); up++) {
		*strrchr(self, '/') = '\0';
		char *path = xasprintf("%s/%s", self, DATA);

		if (access(path, R_OK) == 0)
			return path;
		free(path);
	}
	return xasprintf("/usr/local/%s", DATA); /* named in the message that it cannot be opened */
}

struct replies *replies_load(const struct conf *conf, struct conf_errors *errors)
{
	struct replies *r = replies_new();
	char *shipped = shipped_path();
	bool is_sound = replies_read(r, shipped, NULL, errors);

	if (conf->reply_rules)
		is_sound &= replies_read(r, conf->reply_rules, conf, errors);
	(void)is_sound; /* what was right counts, and `errors` has the rest */
	free(shipped);
	return r;
}

/* --- the match --- */

static bool host_matches(const char *pattern, struct slice host)
{
	size_t len = strlen(pattern);

	if (pattern[0] != '*')
		return slice_equal_nocase(slice_of(pattern), host);
	pattern++; /* ".google.com" */
	len--;
	return host.len > len &&
	       slice_equal_nocase((struct slice){ host.ptr + host.len - len, len }, (struct slice){ pattern, len });
}

struct reply_provider *replies_find_provider(const struct replies *r, struct slice name)
{
	for (unsigned i = 0; i < r->provider_count; i++)
		if (slice_is(name, r->provider[i].name))
			return &r->provider[i];
	return NULL;
}

static bool is_of_provider(const struct replies *r, const char *name, const struct reply_facts *f)
{
	const struct reply_provider *p = replies_find_provider(r, slice_of(name));

	if (f->server && f->server->preset && strcmp(f->server->preset, name) == 0)
		return true;
	for (unsigned i = 0; p && i < p->host.count; i++)
		if (host_matches(p->host.item[i], f->host))
			return true;
	return false;
}

/* "45x" against 451. */
static bool code_matches(const char *pattern, unsigned code)
{
	char digits[12];

	(void)snprintf(digits, sizeof(digits), "%u", code);
	if (strlen(digits) != 3)
		return false;
	for (unsigned i = 0; i < 3; i++)
		if (pattern[i] != 'x' && pattern[i] != digits[i])
			return false;
	return true;
}

/* "4.7.*" against "4.7.28". */
static bool dsn_matches(const char *pattern, struct slice dsn)
{
	size_t len = strlen(pattern);

	if (pattern[len - 1] != '*')
		return slice_is(dsn, pattern);
	return dsn.len > len - 1 && memcmp(dsn.ptr, pattern, len - 1) == 0;
}

static bool is_one_of_codes(const struct conf_list *l, unsigned code)
{
	for (unsigned i = 0; i < l->count; i++)
		if (code_matches(l->item[i], code))
			return true;
	return l->count == 0;
}

static bool is_one_of_dsns(const struct conf_list *l, struct slice dsn)
{
	for (unsigned i = 0; i < l->count; i++)
		if (dsn_matches(l->item[i], dsn))
			return true;
	return l->count == 0;
}

static bool is_from(const struct replies *r, const struct reply_entry *e, const struct reply_facts *f)
{
	bool found = e->server.count == 0;

	if (e->method != REPLY_ANY_METHOD &&
	    (!f->server || (f->server->method == METHOD_RELAY) != (e->method == REPLY_RELAY_ONLY)))
		return false;
	for (unsigned i = 0; i < e->server.count && !found; i++)
		found = f->server && strcmp(f->server->name, e->server.item[i]) == 0;
	if (!found || e->provider.count == 0)
		return found;
	for (unsigned i = 0; i < e->provider.count; i++)
		if (is_of_provider(r, e->provider.item[i], f))
			return true;
	return false;
}

const struct reply_rule *replies_match(const struct replies *r, const struct reply_facts *f)
{
	char *text = NULL;
	const struct reply_rule *found = NULL;

	for (unsigned i = 0; i < r->count && !found; i++) {
		const struct reply_entry *e = &r->entry[i];

		if (!is_one_of_codes(&e->code, f->code) || !is_one_of_dsns(&e->dsn, f->dsn) ||
		    (e->commands && !(e->commands & (1u << f->command))) || !is_from(r, e, f))
			continue;
		if (e->has_text && !text)
			text = xstrndup(f->text.ptr, f->text.len);
		if (!e->has_text || regexec(&e->text, text, 0, NULL, 0) == 0)
			found = &e->rule;
	}
	free(text);
	return found;
}

/* --- smtpout's words --- */

/* Takes `end` off the end of *s. */
static bool take_end(struct slice *s, const char *end)
{
	size_t len = strlen(end);

	if (s->len < len || memcmp(s->ptr + s->len - len, end, len) != 0)
		return false;
	s->len -= len;
	return true;
}

static enum reply_command take_command(struct slice *said)
{
	static const struct {
		const char *end;
		enum reply_command command;
	} ENDS[] = {
		{ " (in the initial server greeting)", REPLY_TO_CONNECT },
		{ " (in reply to EHLO command)", REPLY_TO_HELO },
		{ " (in reply to HELO command)", REPLY_TO_HELO },
		{ " (in reply to STARTTLS command)", REPLY_TO_STARTTLS },
		{ " (in reply to AUTH command)", REPLY_TO_AUTH },
		{ " (in reply to MAIL FROM command)", REPLY_TO_MAIL },
		{ " (in reply to RCPT TO command)", REPLY_TO_RCPT },
		{ " (in reply to DATA command)", REPLY_TO_DATA },
		{ " (in reply to end of DATA)", REPLY_TO_END },
	};

	for (unsigned i = 0; i < ARRAY_LEN(ENDS); i++)
		if (take_end(said, ENDS[i].end))
			return ENDS[i].command;
	return REPLY_TO_OTHER;
}

bool replies_take_apart(struct reply_facts *f, struct slice said)
{
	static const char HOST[] = "host ", SAID[] = " said: ";
	const char *at;

	if (said.len < sizeof(HOST) || memcmp(said.ptr, HOST, sizeof(HOST) - 1) != 0)
		return false;
	said.ptr += sizeof(HOST) - 1;
	said.len -= sizeof(HOST) - 1;
	at = memmem(said.ptr, said.len, SAID, sizeof(SAID) - 1);
	if (!at)
		return false;
	f->host = (struct slice){ said.ptr, (size_t)(at - said.ptr) };
	for (size_t i = 0; i < f->host.len; i++)
		if (f->host.ptr[i] == '[')
			f->host.len = i; /* "mx.example.com[192.0.2.1]:25" */
	said.len -= (size_t)(at - said.ptr) + sizeof(SAID) - 1;
	said.ptr = at + sizeof(SAID) - 1;
	f->command = take_command(&said);
	f->text = said;
	return true;
}
