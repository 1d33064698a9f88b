/*
 * conf_lex.c - the tokens of postern.conf. Comments are `#` and `//` to the end of the line and C's. A quoted text ends
 * on its line (no option takes a line break), which turns a forgotten quote into one clear message instead of a
 * cascade. `$` has no meaning anywhere.
 */
#include "lib/conf_lex.h"
#include "lib/text.h"

static const char NOT_UTF8[] = "the text is not valid UTF-8";

struct lexer {
	struct conf_report *report;
	const char *at, *end;
	unsigned line;
	struct conf_tokens *out;
};

static void add(struct lexer *l, struct conf_token token)
{
	struct conf_tokens *o = l->out;

	if ((o->count & (o->count + 1)) == 0) /* 0, 1, 3, 7 ...: double */
		o->token = xrealloc(o->token, 2 * (size_t)o->count + 1, sizeof(o->token[0]));
	o->token[o->count++] = token;
}

static void add_sign(struct lexer *l, enum conf_token_kind kind, size_t len)
{
	add(l, (struct conf_token){ .kind = kind, .line = l->line, .text = { l->at, len } });
	l->at += len;
}

static bool starts_with(const struct lexer *l, const char *text)
{
	size_t len = strlen(text);

	return (size_t)(l->end - l->at) >= len && memcmp(l->at, text, len) == 0;
}

static void skip_line(struct lexer *l)
{
	while (l->at < l->end && *l->at != '\n')
		l->at++;
}

static void skip_block_comment(struct lexer *l)
{
	unsigned line = l->line;

	for (l->at += 2; l->at < l->end; l->at++) {
		if (starts_with(l, "*/")) {
			l->at += 2;
			return;
		}
		l->line += *l->at == '\n';
	}
	conf_mistake_add(l->report, line, "syntax", "the comment that begins here has no end");
}

/* The escape behind a backslash in double quotes; libconfuse would cut the value at \0 and stop the process' reading at
 * \777. */
static bool escape_is_right(struct slice digits)
{
	unsigned value = 0, i = 0;

	if (digits.len == 0)
		return true;
	if (digits.ptr[0] == 'x') {
		for (i = 1; i < digits.len && i < 3; i++) {
			const char *hex = "0123456789abcdef0123456789ABCDEF";
			const char *found = digits.ptr[i] ? strchr(hex, digits.ptr[i]) : NULL;

			if (!found)
				break;
			value = value * 16 + (unsigned)((found - hex) & 15);
		}
		return i > 1 && value >= 32;
	}
	if (digits.ptr[0] < '0' || digits.ptr[0] > '9')
		return true;
	for (; i < digits.len && digits.ptr[i] >= '0' && digits.ptr[i] <= '9'; i++) {
		if (i == 3 || digits.ptr[i] > '7')
			return false;
		value = value * 8 + (unsigned)(digits.ptr[i] - '0');
	}
	return value >= 32 && value <= 255;
}

/* Behind the opening quote. */
static void lex_quoted(struct lexer *l)
{
	struct conf_token t = { .kind = TOKEN_WORD, .is_quoted = true, .quote = *l->at, .line = l->line };
	const char *begin = ++l->at;

	for (; l->at < l->end && *l->at != t.quote && *l->at != '\n'; l->at++) {
		if (*l->at != '\\' || l->at + 1 >= l->end)
			continue;
		l->at++;
		if (*l->at == '\n') {
			l->line++; /* a backslash at the end of the line goes on in the next */
		} else if (t.quote == '"' && !escape_is_right((struct slice){ l->at, (size_t)(l->end - l->at) })) {
			t.problem = "bad escape in a quoted text; write \"\\\\\" for a backslash, or use single quotes";
		}
	}
	t.text = (struct slice){ begin, (size_t)(l->at - begin) };
	if (l->at < l->end && *l->at == t.quote) {
		l->at++;
	} else {
		t.problem = t.quote == '"' ? "the closing quote (\") is missing on this line"
					   : "the closing quote (') is missing on this line";
	}
	if (!t.problem && !text_is_utf8(t.text))
		t.problem = NOT_UTF8;
	if (t.problem)
		t.kind = TOKEN_BAD;
	add(l, t);
}

static bool is_bare(char c)
{
	return (unsigned char)c > ' ' && !strchr("#\"'={}(),+*$\x7f", c);
}

static void lex_bare(struct lexer *l)
{
	struct conf_token t = { .kind = TOKEN_WORD, .line = l->line };
	const char *begin = l->at;

	while (l->at < l->end && is_bare(*l->at) && !starts_with(l, "/*"))
		l->at++;
	t.text = (struct slice){ begin, (size_t)(l->at - begin) };
	if (!text_is_utf8(t.text)) {
		t.kind = TOKEN_BAD;
		t.problem = NOT_UTF8;
	}
	add(l, t);
}

static void lex_stray(struct lexer *l)
{
	struct conf_token t = { .kind = TOKEN_BAD, .line = l->line, .text = { l->at, 1 } };

	t.problem = starts_with(l, "${")
			    ? "\"${\": environment variables are not expanded; quote the text if it is meant literally"
			    : "a value with \"*\", \"$\", \"+\", \"(\" or \")\" in it needs quotes";
	add(l, t);
	l->at++;
	/* The rest of the word belongs to the same mistake. */
	while (l->at < l->end && (is_bare(*l->at) || strchr("*$+()", *l->at)))
		l->at++;
}

static void lex_one(struct lexer *l)
{
	switch (*l->at) {
	case '\n':
		l->line++;
		l->at++;
		return;
	case ' ':
	case '\t':
	case '\r':
		l->at++;
		return;
	case '#':
		skip_line(l);
		return;
	case '{':
		add_sign(l, TOKEN_OPEN, 1);
		return;
	case '}':
		add_sign(l, TOKEN_CLOSE, 1);
		return;
	case '=':
		add_sign(l, TOKEN_EQUALS, 1);
		return;
	case ',':
		add_sign(l, TOKEN_COMMA, 1);
		return;
	case '"':
	case '\'':
		lex_quoted(l);
		return;
	default:
		break;
	}
	if (starts_with(l, "//"))
		skip_line(l);
	else if (starts_with(l, "/*"))
		skip_block_comment(l);
	else if (starts_with(l, "+="))
		add_sign(l, TOKEN_APPEND, 2);
	else if (is_bare(*l->at))
		lex_bare(l);
	else
		lex_stray(l);
}

/* One message for each line that holds control bytes: a binary file would give thousands. */
static bool has_control_bytes(struct conf_report *r, struct slice text)
{
	unsigned line = 1, told = 0;

	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];

		if (c == '\n')
			line++;
		else if ((c < ' ' && c != '\t' && c != '\r') || c == 0x7f) {
			if (told != line)
				conf_mistake_add(r, line, "syntax", "control byte 0x%02x; only text may stand here", c);
			told = line;
		}
	}
	return told != 0;
}

void conf_lex(struct conf_report *r, struct slice text, struct conf_tokens *out)
{
	struct lexer l = { .report = r, .at = text.ptr, .end = text.ptr + text.len, .line = 1, .out = out };

	memset(out, 0, sizeof(*out));
	if (!has_control_bytes(r, text)) {
		if (starts_with(&l, "\xef\xbb\xbf")) /* a byte order mark, as some editors leave it */
			l.at += 3;
		while (l.at < l.end)
			lex_one(&l);
	}
	add_sign(&l, TOKEN_END, 0);
}

void conf_tokens_release(struct conf_tokens *t)
{
	free(t->token);
	memset(t, 0, sizeof(*t));
}

unsigned conf_token_format(struct buf *out, const struct conf_token *t)
{
	unsigned lines = 0;

	if (t->kind != TOKEN_WORD) {
		buf_put_slice(out, t->text);
		return 0;
	}
	/* Bare words become quoted ones: libconfuse takes "//x" for a word or a comment depending on what follows. */
	char quote = t->is_quoted ? t->quote : '"';

	buf_put_char(out, quote);
	for (size_t i = 0; i < t->text.len; i++) {
		char c = t->text.ptr[i];
		bool is_escape = t->is_quoted && c == '\\' && i + 1 < t->text.len; /* the file's own: left as it is */
		bool is_special = (!t->is_quoted && c == '\\') || (quote == '"' && c == '$'); /* "${X}": environment */

		if (is_escape || is_special)
			buf_put_char(out, '\\');
		if (is_escape)
			c = t->text.ptr[++i];
		lines += c == '\n';
		buf_put_char(out, c);
	}
	buf_put_char(out, quote);
	return lines;
}
