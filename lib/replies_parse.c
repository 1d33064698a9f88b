/* replies_parse.c - the text of postern-replies(5): statements of one or more lines; all mistakes in one go. */
#include "lib/replies_private.h"
#include "lib/text.h"
#include <ctype.h>

/* One statement under way: words, with what they need to be complained about. */
struct statement {
	struct replies *replies;
	const struct conf *conf;
	struct conf_report *report;
	unsigned line;
	char *at; /* what is left of its text, NUL-terminated, ours */
	bool is_wrong;
};

#define wrong(s, word, ...)                                                  \
	do {                                                                 \
		conf_mistake_add((s)->report, (s)->line, word, __VA_ARGS__); \
		(s)->is_wrong = true;                                        \
	} while (0)

/*
 * The next word, in place; quotes are taken off, and inside them \" is a quote (every other backslash belongs to the
 * regular expression). NULL at the end.
 */
static char *next_word(struct statement *s, bool *is_quoted)
{
	char *word, *to;

	*is_quoted = false;
	s->at += strspn(s->at, " \t");
	if (*s->at == '\0')
		return NULL;
	if (*s->at != '"') {
		word = s->at;
		s->at += strcspn(s->at, " \t");
		if (*s->at)
			*s->at++ = '\0';
		return word;
	}
	*is_quoted = true;
	word = to = ++s->at;
	while (*s->at && *s->at != '"') {
		if (s->at[0] == '\\' && s->at[1] == '"')
			s->at++;
		*to++ = *s->at++;
	}
	if (*s->at != '"')
		wrong(s, "text", "has no closing quote");
	else
		s->at++;
	*to = '\0';
	return word;
}

/* Splits "a,b,c" into a list; each must pass the test. */
static void read_list(struct statement *s, const char *word, char *values, struct conf_list *out,
		      bool (*is_valid)(const struct statement *s, struct slice value), const char *right)
{
	char *rest = values, *value;

	while ((value = strsep(&rest, ","))) {
		if (is_valid(s, slice_of(value)))
			conf_list_add(out, slice_of(value));
		else
			wrong(s, word, "\"%s\" is not right; use %s", value, right);
	}
}

static bool is_code(const struct statement *s UNUSED, struct slice v)
{
	return v.len == 3 && (v.ptr[0] == '4' || v.ptr[0] == '5') &&
	       (isdigit((unsigned char)v.ptr[1]) || v.ptr[1] == 'x') &&
	       (isdigit((unsigned char)v.ptr[2]) || v.ptr[2] == 'x');
}

/* "4.7.28", "4.7.*", "5.*" */
static bool is_dsn(const struct statement *s UNUSED, struct slice v)
{
	unsigned dots = 0;

	if (v.len < 3 || v.len > 12 || (v.ptr[0] != '4' && v.ptr[0] != '5') || v.ptr[1] != '.')
		return false;
	for (size_t i = 1; i < v.len; i++) {
		if (v.ptr[i] == '.')
			dots++;
		else if (!isdigit((unsigned char)v.ptr[i]) &&
			 !(v.ptr[i] == '*' && i == v.len - 1 && v.ptr[i - 1] == '.'))
			return false;
		if (v.ptr[i] == '.' && (i == v.len - 1 || v.ptr[i + 1] == '.'))
			return false;
	}
	return dots == 2 || (dots == 1 && v.ptr[v.len - 1] == '*');
}

static bool is_known_provider(const struct statement *s, struct slice v)
{
	return replies_find_provider(s->replies, v) != NULL;
}

static bool is_known_server(const struct statement *s, struct slice v)
{
	return v.len > 0 && (!s->conf || conf_find_server(s->conf, v) >= 0);
}

static bool is_host(const struct statement *s UNUSED, struct slice v)
{
	return conf_is_mx_pattern(v);
}

/* --- conditions --- */

static void read_method(struct statement *s, struct reply_entry *e, char *value)
{
	if (strcmp(value, "relay") == 0)
		e->method = REPLY_RELAY_ONLY;
	else if (strcmp(value, "direct") == 0)
		e->method = REPLY_DIRECT_ONLY;
	else
		wrong(s, "method", "\"%s\" is not right; use relay or direct", value);
}

static void read_commands(struct statement *s, struct reply_entry *e, char *values)
{
	char *rest = values, *value;

	while ((value = strsep(&rest, ","))) {
		unsigned i = 0;

		while (i < reply_command_word_count && strcmp(value, reply_command_words[i]) != 0)
			i++;
		if (i < reply_command_word_count)
			e->commands |= 1u << i;
		else
			wrong(s, "command",
			      "\"%s\" is none; use connect, helo, starttls, auth, mail, rcpt, data or end", value);
	}
}

/* Back references make matching exponential, and what is matched comes from outside. */
static bool has_back_reference(const char *text)
{
	for (; *text; text++) {
		if (text[0] == '\\' && text[1] >= '1' && text[1] <= '9')
			return true;
		if (text[0] == '\\' && text[1])
			text++;
	}
	return false;
}

static void read_text(struct statement *s, struct reply_entry *e, const char *value)
{
	char why[200];
	int error;

	if (e->has_text) {
		wrong(s, "text", "may be given once; join two with |");
		return;
	}
	if (!*value || has_back_reference(value)) {
		wrong(s, "text", "\"%s\": %s", value, *value ? "back references are not allowed" : "is empty");
		return;
	}
	error = regcomp(&e->text, value, REG_EXTENDED | REG_NOSUB | REG_ICASE);
	if (error) {
		(void)regerror(error, &e->text, why, sizeof(why));
		wrong(s, "text", "\"%s\" is no regular expression: %s", value, why);
		return;
	}
	e->has_text = true;
}

static void read_condition(struct statement *s, struct reply_entry *e, const char *word)
{
	static const char *const WORDS[] = { "server", "provider", "code", "enhanced", "method", "command", "text" };
	bool is_quoted, is_known = false;
	char *value;

	for (unsigned i = 0; i < ARRAY_LEN(WORDS); i++)
		is_known |= strcmp(word, WORDS[i]) == 0;
	if (!is_known) {
		wrong(s, "rule",
		      "\"%s\" is no condition; use server, method, provider, command, code, enhanced or text, "
		      "then -> and what to do",
		      word);
		return;
	}
	value = next_word(s, &is_quoted);
	if (!value || (!is_quoted && strcmp(value, "->") == 0)) {
		wrong(s, word, "needs a value behind it");
		return;
	}
	if (strcmp(word, "server") == 0)
		read_list(s, word, value, &e->server, is_known_server, "the name of a server of the configuration");
	else if (strcmp(word, "provider") == 0)
		read_list(s, word, value, &e->provider, is_known_provider, "the name of a provider defined above");
	else if (strcmp(word, "code") == 0)
		read_list(s, word, value, &e->code, is_code, "421, 45x or 5xx");
	else if (strcmp(word, "enhanced") == 0)
		read_list(s, word, value, &e->dsn, is_dsn, "4.7.28 or 5.7.*");
	else if (strcmp(word, "method") == 0)
		read_method(s, e, value);
	else if (strcmp(word, "command") == 0)
		read_commands(s, e, value);
	else
		read_text(s, e, value);
}

/* --- what to do --- */

static const struct {
	enum reply_scope scope;
	enum reply_action action;
	enum { NO_TIME, MAY_HAVE_TIME, NEEDS_TIME, NEEDS_TIME_MAY_HAVE_WINDOW } time;
} DEEDS[] = {
	{ REPLY_RECIPIENT, REPLY_BOUNCE, NO_TIME },     { REPLY_RECIPIENT, REPLY_RETRY, MAY_HAVE_TIME },
	{ REPLY_RECIPIENT, REPLY_NEXT, NO_TIME },       { REPLY_MESSAGE, REPLY_BOUNCE, NO_TIME },
	{ REPLY_MESSAGE, REPLY_RETRY, MAY_HAVE_TIME },  { REPLY_MESSAGE, REPLY_NEXT, NO_TIME },
	{ REPLY_CONNECTION, REPLY_RECONNECT, NO_TIME }, { REPLY_SITE, REPLY_FEWER, NO_TIME },
	{ REPLY_SITE, REPLY_PAUSE, NEEDS_TIME },        { REPLY_SERVER, REPLY_FEWER, NO_TIME },
	{ REPLY_SERVER, REPLY_PAUSE, NEEDS_TIME },      { REPLY_SERVER, REPLY_QUOTA, NEEDS_TIME_MAY_HAVE_WINDOW },
};

static void read_time(struct statement *s, struct reply_entry *e, const char *word, unsigned deed)
{
	if (!word) {
		if (DEEDS[deed].time >= NEEDS_TIME)
			wrong(s, reply_action_words[e->rule.action], "needs a duration behind it, such as 10m");
		return;
	}
	if (DEEDS[deed].time == NO_TIME) {
		wrong(s, reply_action_words[e->rule.action], "takes nothing behind it, not \"%s\"", word);
	} else if (e->rule.action == REPLY_RETRY && strcmp(word, "greylist") == 0) {
		e->rule.is_greylist = true;
	} else if (!text_parse_duration(slice_of(word), &e->rule.wait_ms) || e->rule.wait_ms < 1000 ||
		   e->rule.wait_ms > UINT64_C(30) * 86400 * 1000) {
		wrong(s, reply_action_words[e->rule.action], "\"%s\" is no duration from 1s to 30d, such as 10m", word);
	}
}

static void read_window(struct statement *s, struct reply_entry *e, const char *word)
{
	if (!conf_window_parse(slice_of(word), &e->rule.window_ms))
		wrong(s, reply_action_words[e->rule.action],
		      "\"%s\" is no window; use second, minute, hour, day, week, month or a duration", word);
}

static void read_deed(struct statement *s, struct reply_entry *e)
{
	bool is_quoted;
	const char *scope = next_word(s, &is_quoted), *action = scope ? next_word(s, &is_quoted) : NULL, *time, *more;

	for (unsigned i = 0; i < ARRAY_LEN(DEEDS); i++) {
		if (!action || strcmp(scope, reply_scope_words[DEEDS[i].scope]) != 0 ||
		    strcmp(action, reply_action_words[DEEDS[i].action]) != 0)
			continue;
		e->rule.scope = DEEDS[i].scope;
		e->rule.action = DEEDS[i].action;
		time = next_word(s, &is_quoted);
		more = time ? next_word(s, &is_quoted) : NULL;
		read_time(s, e, time, i);
		if (more && DEEDS[i].time == NEEDS_TIME_MAY_HAVE_WINDOW) {
			read_window(s, e, more);
			more = next_word(s, &is_quoted);
		}
		if (more)
			wrong(s, "->", "\"%s\" is too much: a rule does one thing", more);
		return;
	}
	wrong(s, "->",
	      "\"%s%s%s\" cannot be done; use recipient or message with bounce, retry [TIME|greylist] or next, "
	      "connection reconnect, site or server with fewer or pause TIME, server quota TIME [WINDOW]",
	      scope ? scope : "", action ? " " : "", action ? action : "");
}

/* --- statements --- */

static void read_rule(struct statement *s, const char *word)
{
	struct reply_entry e = { .rule.line = s->line };
	bool is_quoted = false;
	struct replies *r = s->replies;

	for (; word && strcmp(word, "->") != 0; word = next_word(s, &is_quoted))
		read_condition(s, &e, word);
	if (!word)
		wrong(s, "rule", "lacks \"->\" and what to do");
	else
		read_deed(s, &e);
	if (!s->is_wrong && r->count >= REPLY_RULES_MAX)
		wrong(s, "rule", "is one too many; at most %d", REPLY_RULES_MAX);
	if (s->is_wrong) {
		reply_entry_release(&e);
		return;
	}
	e.rule.file = r->file[r->file_count - 1];
	if (r->count == r->room) {
		r->room = r->room ? r->room * 2 : 64;
		r->entry = xrealloc(r->entry, r->room, sizeof(r->entry[0]));
	}
	r->entry[r->count++] = e;
}

/* "provider NAME = HOST ..." once more adds hosts to it. */
static void read_provider(struct statement *s, char *name)
{
	struct replies *r = s->replies;
	struct reply_provider *p = replies_find_provider(r, slice_of(name));
	bool is_quoted;
	char *host;

	if (!p) {
		r->provider = xrealloc(r->provider, r->provider_count + 1, sizeof(r->provider[0]));
		p = &r->provider[r->provider_count++];
		*p = (struct reply_provider){ .name = xstrdup(name) };
	}
	while ((host = next_word(s, &is_quoted)))
		read_list(s, "provider", host, &p->host, is_host, "mx.example.com or *.example.com");
}

static bool is_provider_definition(const struct statement *s)
{
	const char *at = s->at + strspn(s->at, " \t");

	at += strcspn(at, " \t");
	at += strspn(at, " \t");
	return at[0] == '=' && (at[1] == ' ' || at[1] == '\t' || at[1] == '\0');
}

static void read_statement(struct statement *s)
{
	bool is_quoted;
	char *word = next_word(s, &is_quoted), *name;

	if (!word)
		return;
	if (strcmp(word, "provider") == 0 && is_provider_definition(s)) {
		name = next_word(s, &is_quoted);
		(void)next_word(s, &is_quoted); /* "=" */
		read_provider(s, name);
	} else if (strcmp(word, "ignore-shipped-rules") == 0) {
		if (next_word(s, &is_quoted))
			wrong(s, word, "stands alone on its line");
		else
			replies_clear(s->replies);
	} else {
		read_rule(s, word);
	}
}

/* A comment runs from # to the end of the line, outside of quotes. */
static void cut_comment(char *line)
{
	bool is_inside = false;

	for (; *line; line++) {
		if (is_inside && line[0] == '\\' && line[1] == '"')
			line++;
		else if (*line == '"')
			is_inside = !is_inside;
		else if (*line == '#' && !is_inside) {
			*line = '\0';
			return;
		}
	}
}

static void end_statement(struct statement *s, struct buf *text)
{
	s->is_wrong = false;
	if (text->failed) {
		wrong(s, "rule", "is longer than %d bytes", REPLY_LINE_BYTES_MAX);
	} else if (text->len > 0) {
		s->at = text->ptr;
		read_statement(s);
	}
	buf_clear(text);
}

/* Lines that begin with a blank belong to the statement above. */
static void read_lines(struct statement *s, char *text)
{
	struct buf whole;
	unsigned number = 0;
	char *line;

	buf_init(&whole, REPLY_LINE_BYTES_MAX);
	while ((line = strsep(&text, "\n"))) {
		size_t len = strlen(line);

		number++;
		if (len > 0 && line[len - 1] == '\r')
			line[len - 1] = '\0';
		cut_comment(line);
		if (line[strspn(line, " \t")] == '\0')
			continue;
		if (*line != ' ' && *line != '\t') {
			end_statement(s, &whole);
			s->line = number;
		} else if (whole.len == 0) {
			s->line = number;
		}
		if (whole.len > 0)
			buf_put_char(&whole, ' ');
		buf_put_str(&whole, line);
	}
	end_statement(s, &whole);
	buf_release(&whole);
}

bool replies_read_text(struct replies *r, const char *path, struct slice text, const struct conf *conf,
		       struct conf_errors *errors)
{
	struct conf_report report = { .path = path };
	struct conf_errors found = { 0 };
	struct statement s = { .replies = r, .conf = conf, .report = &report };
	char *copy = xstrndup(text.ptr, text.len);
	bool is_sound;

	r->file = xrealloc(r->file, r->file_count + 1, sizeof(r->file[0]));
	r->file[r->file_count++] = xstrdup(path);
	if (!text_is_utf8(text) || strlen(copy) != text.len)
		conf_mistake_add(&report, 0, NULL, "is not a text in UTF-8");
	else
		read_lines(&s, copy);
	free(copy);
	conf_report_finish(&report, &found);
	is_sound = found.count == 0;
	conf_errors_move(errors, &found);
	return is_sound;
}

bool replies_read(struct replies *r, const char *path, const struct conf *conf, struct conf_errors *errors)
{
	struct conf_errors found = { 0 };
	size_t len;
	char *text = conf_slurp(path, &len, &found);
	bool is_sound = text && replies_read_text(r, path, (struct slice){ text, len }, conf, &found);

	conf_errors_move(errors, &found);
	free(text);
	return is_sound;
}
