/*
 * conf_scan.c - the structure of postern.conf, checked before libconfuse reads it.
 *
 * libconfuse stops at the first mistake, takes a missing closing brace at the end of the file for granted, lets the
 * last of two settings win, expands ${NAME} from the environment, cuts a text at a NUL and loses count of lines at C
 * comments. So the tokens are walked here first, against the option table: every mistake is reported, its statement
 * left out of the text that libconfuse gets, and the walk goes on behind it. What libconfuse then sees is sound.
 */
#include "lib/conf_lex.h"
#include "lib/table.h"
#include "lib/text.h"
#include <stdlib.h>

struct walk {
	struct conf_reader *reader;
	struct conf_scan *out;
	struct conf_tokens tokens;
	unsigned at;
	unsigned out_line;                    /* of the clean text so far */
	unsigned seen_line[256];              /* per option: where it was set in the present section */
	unsigned section_line[SECTION_COUNT]; /* likewise for plain sections */
	unsigned secret_line;                 /* a line that may hold a password: nothing of it is shown */
	struct table titles;                  /* of all titled sections so far */
};

struct known_title {
	struct table_node node;
	enum conf_section_id section;
	struct conf_title title;
};

static void walk_block(struct walk *w, enum conf_section_id section, const struct conf_token *opener);

static const struct conf_token *peek(struct walk *w, unsigned ahead)
{
	unsigned i = w->at + ahead, last = w->tokens.count - 1; /* the last one is TOKEN_END */

	return &w->tokens.token[i < last ? i : last];
}

static bool is_assignment(const struct conf_token *t)
{
	return t->kind == TOKEN_EQUALS || t->kind == TOKEN_APPEND;
}

/* Puts a token into the clean text, at its line. */
static void emit_one(struct walk *w, const struct conf_token *t)
{
	for (; w->out_line < t->line; w->out_line++)
		buf_put_char(&w->out->clean, '\n');
	buf_put_char(&w->out->clean, ' ');
	w->out_line += conf_token_format(&w->out->clean, t);
}

/* Likewise those from `first` up to the present one. */
static void emit(struct walk *w, unsigned first)
{
	for (unsigned i = first; i < w->at; i++)
		emit_one(w, &w->tokens.token[i]);
}

/* From an opening brace to behind its closing one. */
static void skip_braces(struct walk *w)
{
	unsigned depth = 0;

	do {
		const struct conf_token *t = peek(w, 0);

		if (t->kind == TOKEN_END)
			return;
		depth += t->kind == TOKEN_OPEN;
		depth -= t->kind == TOKEN_CLOSE;
		w->at++;
	} while (depth > 0);
}

/* Behind a name that means nothing here: "= value", "= { ... }", "title { ... }" or "{ ... }". */
static void skip_statement(struct walk *w)
{
	unsigned line = peek(w, 0)->line;
	bool has_value = is_assignment(peek(w, 0));

	if (has_value)
		w->at++;
	if (peek(w, 0)->kind == TOKEN_WORD && !is_assignment(peek(w, 1)) &&
	    (has_value || peek(w, 0)->line == line || peek(w, 1)->kind == TOKEN_OPEN))
		w->at++;
	if (peek(w, 0)->kind == TOKEN_OPEN)
		skip_braces(w);
}

static void report_unknown(struct walk *w, enum conf_section_id section, const struct conf_token *name)
{
	struct buf hint, shown;

	buf_init(&hint, 400);
	buf_init(&shown, 100);
	if (name->line == w->secret_line) {
		buf_put_str(&shown, "(hidden)");
	} else {
		text_escape(&shown, name->text, 60);
		conf_suggest(&hint, section, name->text);
	}
	conf_mistake_add(&w->reader->report, name->line, buf_text(&shown), "unknown option%s", buf_text(&hint));
	w->out->harmless++;
	buf_release(&hint);
	buf_release(&shown);
}

/* What stands behind a statement on its line: the next option, a closing brace, or a mistake, told unless `o` is NULL.
 */
static void walk_line_end(struct walk *w, const struct conf_option *o)
{
	const struct conf_token *last = &w->tokens.token[w->at - 1], *t = peek(w, 0);
	bool is_name = t->kind == TOKEN_WORD &&
		       (is_assignment(peek(w, 1)) || peek(w, 1)->kind == TOKEN_OPEN || peek(w, 2)->kind == TOKEN_OPEN);
	const char *problem = "something stands behind its value; a value with blanks or signs needs quotes";

	if (t->kind == TOKEN_END || t->kind == TOKEN_CLOSE || t->line != last->line || is_name)
		return;
	if (t->kind == TOKEN_BAD)
		problem = t->problem;
	else if (o && o->type >= TYPE_LIST_FIRST)
		problem = "something stands behind its value; several values go into braces: { \"a\", \"b\" }";
	if (o && last->kind != TOKEN_BAD) /* else it is the rest of a mistake already told */
		conf_mistake_add(&w->reader->report, last->line, o->name, "%s", problem);
	for (unsigned line = last->line; t->kind != TOKEN_END && t->kind != TOKEN_CLOSE && t->line == line;
	     t = peek(w, 0)) {
		if (t->kind == TOKEN_OPEN)
			skip_braces(w);
		else
			w->at++;
	}
}

/* The elements of a list, from behind its opening brace. False when the list is not sound. */
static bool walk_list(struct walk *w, const struct conf_option *o, unsigned line)
{
	struct conf_report *r = &w->reader->report;
	uint64_t count = 0;
	bool is_right = true;

	for (;;) {
		const struct conf_token *t = peek(w, 0);

		if (t->kind == TOKEN_CLOSE) {
			w->at++;
			break;
		}
		if (t->kind == TOKEN_END || (t->kind == TOKEN_WORD && !t->is_quoted && is_assignment(peek(w, 1)))) {
			conf_mistake_add(r, line, o->name, "closing brace of the list is missing");
			return false;
		}
		if (t->kind == TOKEN_OPEN) {
			conf_mistake_add(r, t->line, o->name, "a list cannot stand inside a list");
			skip_braces(w);
			is_right = false;
			continue;
		}
		w->at++;
		if (t->kind != TOKEN_WORD) {
			conf_mistake_add(r, t->line, o->name, "%s",
					 t->kind == TOKEN_BAD ? t->problem : "expected a value of the list");
			is_right = false;
			continue;
		}
		count++;
		if (peek(w, 0)->kind == TOKEN_COMMA) {
			w->at++;
		} else if (peek(w, 0)->kind == TOKEN_WORD && is_right && !is_assignment(peek(w, 1))) {
			conf_mistake_add(r, peek(w, 0)->line, o->name,
					 "a comma is missing between two values of the list");
			is_right = false;
		}
	}
	if (is_right && (count < o->min || count > o->max)) {
		conf_mistake_add(r, line, o->name, "%s",
				 count < o->min ? "needs at least one value" : "has too many values");
		is_right = false;
	}
	return is_right;
}

/* The value behind the sign. False when it is not sound. */
static bool walk_value(struct walk *w, const struct conf_option *o, const struct conf_token *sign)
{
	struct conf_report *r = &w->reader->report;
	const struct conf_token *t = peek(w, 0);
	bool is_list = o->type >= TYPE_LIST_FIRST;

	if (t->kind == TOKEN_BAD) {
		conf_mistake_add(r, t->line, o->name, "%s", t->problem);
		w->at++;
		return false;
	}
	if (t->kind == TOKEN_WORD && (t->is_quoted || !is_assignment(peek(w, 1)) || t->line == sign->line)) {
		w->at++;
		return true;
	}
	if (t->kind == TOKEN_OPEN && is_list) {
		w->at++;
		return walk_list(w, o, sign->line);
	}
	if (t->kind == TOKEN_OPEN) {
		conf_mistake_add(r, sign->line, o->name, "takes one value, not a list");
		skip_braces(w);
		return false;
	}
	conf_mistake_add(r, sign->line, o->name, "its value is missing");
	return false;
}

static void walk_option(struct walk *w, const struct conf_option *o, const struct conf_token *name)
{
	struct conf_report *r = &w->reader->report;
	const struct conf_token *sign = peek(w, 0);
	unsigned first = w->at - 1;
	unsigned *seen = &w->seen_line[o - conf_options];

	if (!is_assignment(sign)) {
		conf_mistake_add(r, name->line, o->name, "an equals sign is missing: %s = VALUE", o->name);
		skip_statement(w);
		return;
	}
	w->at++;
	bool is_right = walk_value(w, o, sign);

	if (sign->kind == TOKEN_APPEND && o->type < TYPE_LIST_FIRST) {
		conf_mistake_add(r, name->line, o->name, "takes one value: use \"=\" instead of \"+=\"");
		is_right = false;
	} else if (sign->kind == TOKEN_EQUALS && *seen) {
		conf_mistake_add(r, name->line, o->name, "given twice; the first is in line %u", *seen);
		w->out->harmless += is_right;
		is_right = false;
	}
	if (!*seen)
		*seen = name->line;
	if (is_right)
		emit(w, first);
	if (o->type == TYPE_SECRET)
		w->secret_line = name->line;
	walk_line_end(w, o);
}

/* A title is shown in logs and typed in commands: plain characters only. Destinations and routes may be freer. */
static bool is_title(enum conf_section_id section, struct slice s)
{
	if (s.len == 0 || s.len > 64)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
				c == '-' || c == '_' || c == '.';

		if (!is_plain && (section == SECTION_SERVER || c == '\\' || c == '"' || c == '\''))
			return false;
	}
	return text_is_utf8(s);
}

static bool title_is_free(struct walk *w, enum conf_section_id section, const struct conf_token *title)
{
	uint64_t hash = text_hash(title->text.ptr, title->text.len);
	struct known_title *known;

	for (struct table_node *n = table_first(&w->titles, hash); n; n = table_next(n)) {
		known = TABLE_OBJECT(n, struct known_title, node);
		if (known->section == section && slice_equal(known->title.name, title->text)) {
			conf_mistake_add(&w->reader->report, title->line, conf_sections[section].name,
					 "\"%.*s\" is defined twice; the first is in line %u", (int)title->text.len,
					 title->text.ptr, known->title.line);
			w->out->harmless++;
			return false;
		}
	}
	known = xmalloc(sizeof(*known));
	*known = (struct known_title){ .section = section, .title = { title->text, title->line } };
	table_add(&w->titles, &known->node, hash);
	return true;
}

static void known_title_free(void *arg UNUSED, struct table_node *node)
{
	free(TABLE_OBJECT(node, struct known_title, node));
}

/* The title, or its absence. False when the section is to be left out. */
static bool walk_title(struct walk *w, enum conf_section_id section, const struct conf_token *name)
{
	const struct conf_section *s = &conf_sections[section];
	struct conf_report *r = &w->reader->report;
	const struct conf_token *t = peek(w, 0);
	bool has_title = t->kind == TOKEN_WORD;

	if (has_title)
		w->at++;
	if (s->titling == TITLED) {
		if (!has_title) {
			conf_mistake_add(r, name->line, s->name, "needs a title: %s \"NAME\" { }", s->name);
			return false;
		}
		if (!is_title(section, t->text)) {
			conf_mistake_add(r, t->line, s->name,
					 "a title is 1 to 64 characters: letters, digits, \"-\", \"_\" and \".\"");
			return false;
		}
		return title_is_free(w, section, t);
	}
	if (has_title) {
		conf_mistake_add(r, name->line, s->name, "takes no title: %s { }", s->name);
		return false;
	}
	if (w->section_line[section]) {
		conf_mistake_add(r, name->line, s->name, "given twice; the first is in line %u",
				 w->section_line[section]);
		w->out->harmless++;
		return false;
	}
	w->section_line[section] = name->line;
	return true;
}

static void note_title(struct conf_scan *out, enum conf_section_id section, struct slice name, unsigned line)
{
	unsigned n = out->titled[section].count++;
	struct conf_title **all = &out->titled[section].title;

	if ((n & (n + 1)) == 0) /* 0, 1, 3, 7 ...: double */
		*all = xrealloc(*all, 2 * (size_t)n + 1, sizeof(**all));
	(*all)[n] = (struct conf_title){ name, line };
}

static void walk_section(struct walk *w, enum conf_section_id section, const struct conf_token *name)
{
	const struct conf_section *s = &conf_sections[section];
	struct conf_report *r = &w->reader->report;
	unsigned saved[256];

	if (is_assignment(peek(w, 0))) {
		conf_mistake_add(r, name->line, s->name, "is a section: %s%s { }", s->name,
				 s->titling == TITLED ? " \"NAME\"" : "");
		skip_statement(w);
		return;
	}
	struct slice title = peek(w, 0)->text;
	bool is_right = walk_title(w, section, name);

	if (peek(w, 0)->kind != TOKEN_OPEN) {
		if (is_right)
			conf_mistake_add(r, name->line, s->name, "its opening brace is missing");
		skip_statement(w);
		return;
	}
	/* A section that is left out is still walked, for its mistakes; its text is cut off again. */
	size_t keep = w->out->clean.len;
	unsigned keep_line = w->out_line;

	emit_one(w, name);
	emit_one(w, peek(w, 0));
	w->at++;
	memcpy(saved, w->seen_line, sizeof(saved));
	memset(w->seen_line, 0, sizeof(w->seen_line));
	for (unsigned i = 0; i < SECTION_COUNT; i++)
		if (i != SECTION_TOP && conf_sections[i].parent == section)
			w->section_line[i] = 0;
	walk_block(w, section, name);
	memcpy(w->seen_line, saved, sizeof(saved));
	if (is_right) {
		buf_put_str(&w->out->clean, " }");
		if (s->titling == TITLED)
			note_title(w->out, section, title, name->line);
	} else {
		w->out->clean.len = keep;
		w->out_line = keep_line;
	}
}

/* Everything up to the closing brace (consumed, not emitted) of `opener`, or to the end of the file. */
static void walk_block(struct walk *w, enum conf_section_id section, const struct conf_token *opener)
{
	struct conf_report *r = &w->reader->report;

	for (;;) {
		const struct conf_token *t = peek(w, 0);
		const struct conf_option *o;
		enum conf_section_id inner;

		if (t->kind == TOKEN_END) {
			if (opener)
				conf_mistake_add(r, opener->line, conf_sections[section].name,
						 "its closing brace is missing");
			return;
		}
		w->at++;
		if (t->kind == TOKEN_CLOSE && opener)
			return;
		if (t->kind != TOKEN_WORD) {
			if (t->kind == TOKEN_BAD)
				conf_mistake_add(r, t->line, "syntax", "%s", t->problem);
			else
				conf_mistake_add(r, t->line, "syntax",
						 "unexpected \"%.*s\"; the name of an option belongs here",
						 (int)t->text.len, t->text.ptr);
			if (t->kind == TOKEN_OPEN) {
				w->at--;
				skip_braces(w);
			}
			continue;
		}
		if ((o = conf_option_find(section, t->text))) {
			walk_option(w, o, t);
		} else if ((inner = conf_section_find(section, t->text)) != SECTION_COUNT) {
			walk_section(w, inner, t);
		} else if (opener && !is_assignment(peek(w, 0)) &&
			   conf_section_find(SECTION_TOP, t->text) != SECTION_COUNT) {
			conf_mistake_add(r, opener->line, conf_sections[section].name,
					 "its closing brace is missing before line %u", t->line);
			w->at--;
			return;
		} else {
			report_unknown(w, section, t);
			skip_statement(w);
			walk_line_end(w, NULL);
		}
	}
}

void conf_scan(struct conf_reader *r, struct slice text, struct conf_scan *out)
{
	struct walk w = { .reader = r, .out = out, .out_line = 1 };

	memset(out, 0, sizeof(*out));
	buf_init(&out->clean, 3 * (size_t)CONF_BYTES_MAX);
	table_init(&w.titles);
	conf_lex(&r->report, text, &w.tokens);
	walk_block(&w, SECTION_TOP, NULL);
	buf_put_char(&out->clean, '\n');
	if (out->clean.failed)
		BUG("clean text outgrew its bound");
	conf_tokens_release(&w.tokens);
	table_each(&w.titles, known_title_free, NULL);
	table_release(&w.titles);
}

void conf_scan_release(struct conf_scan *s)
{
	if (s->clean.ptr)
		explicit_bzero(s->clean.ptr, s->clean.cap); /* passwords */
	buf_release(&s->clean);
	for (unsigned i = 0; i < SECTION_COUNT; i++) {
		free(s->titled[i].title);
		s->titled[i].title = NULL;
		s->titled[i].count = 0;
	}
}
