/* conf_blank.c - the configuration's text without its passwords: for processes that have no business with them. */
#include "lib/conf_lex.h"

static bool is_secret(struct slice word)
{
	for (unsigned i = 0; i < conf_option_count; i++) {
		if (conf_options[i].type == TYPE_SECRET && slice_is(word, conf_options[i].name))
			return true;
	}
	return false;
}

void conf_blank_secrets(char *text, size_t len)
{
	struct conf_report report = { .path = "" };
	struct conf_errors errors = { 0 };
	struct conf_tokens tokens = { 0 };

	conf_lex(&report, (struct slice){ text, len }, &tokens);
	for (unsigned i = 0; i + 2 < tokens.count; i++) {
		const struct conf_token *t = &tokens.token[i];

		if (t[0].kind == TOKEN_WORD && is_secret(t[0].text) &&
		    (t[1].kind == TOKEN_EQUALS || t[1].kind == TOKEN_APPEND) && t[2].kind == TOKEN_WORD)
			memset(text + (t[2].text.ptr - text), 'x', t[2].text.len);
	}
	conf_tokens_release(&tokens);
	conf_report_finish(&report, &errors); /* nothing new: the text was read before */
	conf_errors_release(&errors);
}
