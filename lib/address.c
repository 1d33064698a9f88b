/* address.c - parsing mail addresses, alone and in header fields; pure.  RFC 5321 4.1.2, 5322 3.4 and 4.4, 6531, 6532.
 */
#include "lib/address.h"
#include "lib/text.h"
#include <arpa/inet.h>

const char *address_error(enum address_result result)
{
	static const char *const TEXTS[] = {
		[ADDRESS_OK] = "is right",
		[ADDRESS_EMPTY] = "is empty",
		[ADDRESS_BAD_SYNTAX] = "is not of the form user@domain",
		[ADDRESS_TOO_LONG] = "is too long",
		[ADDRESS_NO_DOMAIN] = "the part after @ is missing",
		[ADDRESS_BAD_CHARACTER] = "has a blank, a control character or broken UTF-8 in it",
	};

	return (size_t)result < ARRAY_LEN(TEXTS) ? TEXTS[result] : "is wrong";
}

/* RFC 5322 3.2.3 atext, and UTF-8 (RFC 6532 3.2). */
static bool is_atext(char c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (uint8_t)c > 127)
		return true;
	return c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL;
}

/* Length of the dot-atom or quoted string that text begins with; 0: neither. */
static size_t local_length(struct slice text)
{
	size_t i = 0;

	if (text.len > 0 && text.ptr[0] == '"') {
		for (i = 1; i < text.len && text.ptr[i] != '"'; i++) {
			if (text.ptr[i] == '\\' && ++i == text.len)
				return 0;
		}
		return i < text.len ? i + 1 : 0;
	}
	while (i < text.len && (is_atext(text.ptr[i]) || text.ptr[i] == '.')) {
		bool is_misplaced = i == 0 || text.ptr[i - 1] == '.';

		if (text.ptr[i] == '.' && is_misplaced)
			return 0;
		i++;
	}
	return i > 0 && text.ptr[i - 1] != '.' ? i : 0;
}

/* RFC 5321 4.1.3; general address literals have no registered form. */
static bool is_literal(struct slice domain)
{
	static const char V6[] = "[IPv6:";
	char text[INET6_ADDRSTRLEN + 1];
	uint8_t address[16];
	size_t skip = 1;
	int family = AF_INET;

	if (domain.len < 3 || domain.ptr[domain.len - 1] != ']')
		return false;
	if (domain.len > sizeof(V6) && slice_equal_nocase((struct slice){ domain.ptr, sizeof(V6) - 1 }, slice_of(V6))) {
		skip = sizeof(V6) - 1;
		family = AF_INET6;
	}
	if (domain.len - skip - 1 >= sizeof(text))
		return false;
	memcpy(text, domain.ptr + skip, domain.len - skip - 1);
	text[domain.len - skip - 1] = '\0';
	return inet_pton(family, text, address) == 1;
}

/* Host names as DNS has them: letters, digits, hyphens, underscores (they exist) and UTF-8; no empty label. */
static bool is_host_name(struct slice name)
{
	size_t label = 0;

	if (name.len > 0 && name.ptr[name.len - 1] == '.')
		name.len--;
	for (size_t i = 0; i <= name.len; i++) {
		char c = i < name.len ? name.ptr[i] : '.';

		if (c == '.') {
			if (label == 0 || name.ptr[i - 1] == '-')
				return false;
			label = 0;
		} else if ((c == '-' && label == 0) || !is_atext(c) || strchr("!#$%&'*+/=?^`{|}~", c)) {
			return false;
		} else if (++label > ADDRESS_LABEL_MAX && (uint8_t)c <= 127) {
			return false; /* a U-label may be longer: the A-label is what counts, and libidn2 counts it */
		}
	}
	return true;
}

/* A byte that has no place in an address at all, wherever it stands; a blank may stand in quotes. */
static bool has_bad_character(struct slice text, bool may_blank)
{
	for (size_t i = 0; i < text.len; i++) {
		uint8_t c = (uint8_t)text.ptr[i];

		if (c < ' ' || c == 127 || (c == ' ' && !may_blank))
			return true;
		if (c == 0xc2 && i + 1 < text.len && (uint8_t)text.ptr[i + 1] < 0xa0) /* U+0080 to U+009F */
			return true;
	}
	return !text_is_utf8(text);
}

static enum address_result parse_bare(struct slice text, struct address_parts *out)
{
	size_t local = local_length(text);

	if (text.len == 0)
		return ADDRESS_BAD_SYNTAX;
	if (text.len > ADDRESS_MAX)
		return ADDRESS_TOO_LONG;
	if (has_bad_character(text, text.ptr[0] == '"') ||
	    (local < text.len && memchr(text.ptr + local, ' ', text.len - local)))
		return ADDRESS_BAD_CHARACTER;
	if (local == 0 || (local < text.len && text.ptr[local] != '@'))
		return ADDRESS_BAD_SYNTAX;
	if (local + 1 >= text.len)
		return ADDRESS_NO_DOMAIN;
	*out = (struct address_parts){
		{ text.ptr, local }, { text.ptr + local + 1, text.len - local - 1 }, false, false
	};
	if (out->domain.len > ADDRESS_DOMAIN_MAX)
		return ADDRESS_TOO_LONG;
	out->is_utf8 = !text_is_ascii(out->local);
	out->is_literal = out->domain.ptr[0] == '[';
	return (out->is_literal ? is_literal(out->domain) : is_host_name(out->domain)) ? ADDRESS_OK
										       : ADDRESS_BAD_SYNTAX;
}

enum address_result address_parse(struct slice text, struct address_parts *out)
{
	*out = (struct address_parts){ 0 };
	if (text.len >= 2 && text.ptr[0] == '<' && text.ptr[text.len - 1] == '>') {
		text = (struct slice){ text.ptr + 1, text.len - 2 };
		if (text.len == 0)
			return ADDRESS_EMPTY;
	}
	return parse_bare(text, out);
}

void address_domain_key(struct buf *out, const struct address_parts *parts)
{
	size_t len = parts->domain.len, begin = out->len;

	if (len > 0 && parts->domain.ptr[len - 1] == '.')
		len--;
	buf_put(out, parts->domain.ptr, len);
	if (!out->failed && len > 0)
		text_lower(out->ptr + begin, len);
}

/* --- lists --- */

/* What was read of one element, comments dropped: a display name until '<' comes, else the address itself. */
struct list_parser {
	const char *at, *end;
	const char *begin; /* of the present element, for `where` */
	char text[ADDRESS_MAX + 1];
	size_t len;   /* ADDRESS_MAX + 1: did not fit */
	bool had_gap; /* blanks or a comment since the last character */
	bool is_in_angle, is_behind_angle, is_in_group;
	bool is_malformed; /* an unclosed quote, comment, literal or angle bracket; something behind '>' */
	unsigned count, max;
	void (*fn)(void *arg, struct slice addr_spec);
	void *arg;
};

static void begin_element(struct list_parser *p)
{
	p->len = 0;
	p->begin = p->at;
	p->had_gap = p->is_in_angle = p->is_behind_angle = false;
}

static void put_raw(struct list_parser *p, char c)
{
	if (c == '\r' || c == '\n') /* folding inside quotes */
		return;
	if (p->len <= ADDRESS_MAX)
		p->text[p->len++] = c;
}

/* Blanks are allowed around dots and @ (RFC 5322 4.4) and vanish; elsewhere one stays, and makes the address wrong. */
static void put(struct list_parser *p, char c)
{
	if (p->is_behind_angle)
		p->is_malformed = true;
	if (p->had_gap && p->len > 0 && c != '.' && c != '@' && p->len <= ADDRESS_MAX && p->text[p->len - 1] != '.' &&
	    p->text[p->len - 1] != '@')
		put_raw(p, ' ');
	p->had_gap = false;
	put_raw(p, c);
}

static void skip_comment(struct list_parser *p)
{
	unsigned depth = 0;

	for (; p->at < p->end; p->at++) {
		if (*p->at == '\\' && p->at + 1 < p->end)
			p->at++;
		else if (*p->at == '(')
			depth++;
		else if (*p->at == ')' && --depth == 0)
			break;
	}
	if (p->at == p->end)
		p->is_malformed = true;
	else
		p->at++;
	p->had_gap = true;
}

/* From an opening character to `close`, both kept, backslash pairs too. */
static void take_enclosed(struct list_parser *p, char close)
{
	put(p, *p->at++);
	while (p->at < p->end && *p->at != close) {
		if (*p->at == '\\' && p->at + 1 < p->end)
			put_raw(p, *p->at++);
		put_raw(p, *p->at++);
	}
	if (p->at == p->end)
		p->is_malformed = true;
	else
		put_raw(p, *p->at++);
}

/* "<@relay.example,@other.example:user@domain>": the route means nothing any more (RFC 5321 appendix C). */
static void drop_route(struct list_parser *p)
{
	p->len = 0;
	p->had_gap = false;
}

static enum address_result end_element(struct list_parser *p)
{
	struct address_parts parts;
	enum address_result result;

	if (p->is_malformed || (p->is_in_angle && !p->is_behind_angle))
		return ADDRESS_BAD_SYNTAX;
	if (p->len == 0)
		return p->is_in_angle ? ADDRESS_EMPTY : ADDRESS_OK;
	if (p->len > ADDRESS_MAX)
		return ADDRESS_TOO_LONG;
	if (p->text[0] == '<')
		return ADDRESS_BAD_SYNTAX;
	result = address_parse((struct slice){ p->text, p->len }, &parts);
	if (result != ADDRESS_OK)
		return result;
	if (++p->count > p->max)
		return ADDRESS_TOO_LONG;
	p->fn(p->arg, (struct slice){ p->text, p->len });
	return ADDRESS_OK;
}

static void open_angle(struct list_parser *p)
{
	if (p->is_in_angle)
		p->is_malformed = true;
	p->is_in_angle = true;
	p->len = 0;
	p->had_gap = false;
	p->at++;
}

static void close_angle(struct list_parser *p)
{
	if (!p->is_in_angle || p->is_behind_angle)
		p->is_malformed = true;
	p->is_behind_angle = true;
	p->at++;
}

/* A comma or semicolon, or the end of the value. */
static enum address_result separate(struct list_parser *p)
{
	enum address_result result = end_element(p);

	if (result != ADDRESS_OK)
		return result;
	if (p->at < p->end && *p->at++ == ';')
		p->is_in_group = false;
	begin_element(p);
	return ADDRESS_OK;
}

static void take_colon(struct list_parser *p)
{
	p->at++;
	if (p->is_in_angle) {
		if (p->is_behind_angle || p->len == 0 || p->text[0] != '@')
			p->is_malformed = true;
		drop_route(p);
		return;
	}
	if (p->is_in_group)
		p->is_malformed = true;
	p->is_in_group = true;
	begin_element(p);
}

/* Inside a route commas do not separate. */
static bool is_in_route(const struct list_parser *p)
{
	return p->is_in_angle && !p->is_behind_angle && p->len > 0 && p->text[0] == '@';
}

static enum address_result parse_step(struct list_parser *p)
{
	switch (*p->at) {
	case ' ':
	case '\t':
	case '\r':
	case '\n':
		p->had_gap = true;
		p->at++;
		return ADDRESS_OK;
	case '(':
		skip_comment(p);
		return ADDRESS_OK;
	case '"':
		take_enclosed(p, '"');
		return ADDRESS_OK;
	case '[':
		take_enclosed(p, ']');
		return ADDRESS_OK;
	case '<':
		open_angle(p);
		return ADDRESS_OK;
	case '>':
		close_angle(p);
		return ADDRESS_OK;
	case ':':
		take_colon(p);
		return ADDRESS_OK;
	case ',':
	case ';':
		if (!is_in_route(p))
			return separate(p);
		/* fall through */
	default:
		put(p, *p->at++);
		return ADDRESS_OK;
	}
}

enum address_result address_list_parse(struct slice value, unsigned max, void (*fn)(void *arg, struct slice addr_spec),
				       void *arg, struct slice *where)
{
	struct list_parser p = { .at = value.ptr, .end = value.ptr + value.len, .max = max, .fn = fn, .arg = arg };
	enum address_result result = ADDRESS_OK;

	begin_element(&p);
	while (result == ADDRESS_OK && p.at < p.end)
		result = parse_step(&p);
	if (result == ADDRESS_OK)
		result = separate(&p);
	*where = text_trim((struct slice){ p.begin, (size_t)(p.at - p.begin) });
	return result;
}

/* --- patterns --- */

static struct slice domain_of(struct slice address)
{
	const char *at = address.len ? memrchr(address.ptr, '@', address.len) : NULL;

	if (!at)
		return (struct slice){ "", 0 };
	return (struct slice){ at + 1, (size_t)(address.ptr + address.len - at) - 1 };
}

bool address_matches(struct slice pattern, struct slice address)
{
	struct slice domain = domain_of(address);

	if (slice_is(pattern, "*"))
		return true;
	if (pattern.len == 0 || domain.len == 0)
		return false;
	if (domain.ptr[domain.len - 1] == '.')
		domain.len--;
	if (memchr(pattern.ptr, '@', pattern.len))
		return slice_equal_nocase(
			pattern, (struct slice){ address.ptr, (size_t)(domain.ptr + domain.len - address.ptr) });
	if (pattern.ptr[0] != '.')
		return slice_equal_nocase(pattern, domain);
	return domain.len > pattern.len &&
	       slice_equal_nocase(pattern, (struct slice){ domain.ptr + domain.len - pattern.len, pattern.len });
}

bool address_pattern_is_valid(struct slice pattern)
{
	struct address_parts parts;

	if (slice_is(pattern, "*"))
		return true;
	if (pattern.len == 0 || pattern.len > ADDRESS_MAX || has_bad_character(pattern, pattern.ptr[0] == '"'))
		return false;
	if (memchr(pattern.ptr, '@', pattern.len))
		return pattern.ptr[0] != '<' && address_parse(pattern, &parts) == ADDRESS_OK;
	if (pattern.ptr[0] == '[')
		return is_literal(pattern);
	if (pattern.ptr[0] == '.')
		pattern = (struct slice){ pattern.ptr + 1, pattern.len - 1 };
	return pattern.len > 0 && pattern.ptr[pattern.len - 1] != '.' && is_host_name(pattern);
}
