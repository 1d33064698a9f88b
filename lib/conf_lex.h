/* conf_lex.h - the tokens of postern.conf; libconfuse's lexical rules without its surprises. */
#ifndef LIB_CONF_LEX_H
#define LIB_CONF_LEX_H
#include "lib/conf_private.h"

enum conf_token_kind {
	TOKEN_WORD,   /* bare or quoted */
	TOKEN_OPEN,   /* { */
	TOKEN_CLOSE,  /* } */
	TOKEN_EQUALS, /* = */
	TOKEN_APPEND, /* += */
	TOKEN_COMMA,
	TOKEN_BAD, /* see problem */
	TOKEN_END
};

struct conf_token {
	enum conf_token_kind kind;
	bool is_quoted;
	char quote;        /* ' or " */
	unsigned line;     /* where it begins */
	struct slice text; /* borrowed from the file's text; without the quotes */
	const char *problem;
};

struct conf_tokens {
	unsigned count; /* at least 1: the last one is TOKEN_END */
	struct conf_token *token;
};

/* Reports control bytes (then there are no tokens) and endless comments; other problems are left in the tokens. */
void conf_lex(struct conf_report *r, struct slice text, struct conf_tokens *out);
void conf_tokens_release(struct conf_tokens *t);
/* As libconfuse has to see it so that nothing but escapes is interpreted. Returns how many lines it takes up beyond
 * one. */
unsigned conf_token_format(struct buf *out, const struct conf_token *t);
#endif
