/* address.h - mail addresses: strict RFC 5321 4.1.2 / RFC 5322 3.4 with UTF-8 (RFC 6531, 6532); pure. */
#ifndef LIB_ADDRESS_H
#define LIB_ADDRESS_H
#include "lib/buf.h"

/* RFC 5321 4.5.3.1: 64 bytes of local part are what everybody must take, not a maximum: long VERP senders are real. */
enum { ADDRESS_MAX = 320, ADDRESS_DOMAIN_MAX = 255, ADDRESS_LABEL_MAX = 63 };

enum address_result {
	ADDRESS_OK,
	ADDRESS_EMPTY, /* "<>": the null sender */
	ADDRESS_BAD_SYNTAX,
	ADDRESS_TOO_LONG,
	ADDRESS_NO_DOMAIN,    /* bare "user" */
	ADDRESS_BAD_CHARACTER /* control byte, NUL, blank, invalid UTF-8 */
};

const char *address_error(enum address_result result); /* plain words: "the part after @ is missing" */

/* Borrowed parts of a valid address. */
struct address_parts {
	struct slice local;  /* as written, quotes included */
	struct slice domain; /* as written; "[...]" for a literal */
	bool is_utf8;        /* a byte above 127 in the local part (needs SMTPUTF8) */
	bool is_literal;
};

/* One addr-spec or <addr-spec> as an envelope address; source routes are refused. A dot may end the domain. */
enum address_result address_parse(struct slice text, struct address_parts *out) MUST_CHECK;
/* Lower-cased domain with a trailing dot removed; U-labels stay (resolver turns them into A-labels). */
void address_domain_key(struct buf *out, const struct address_parts *parts);

/*
 * The addresses of one header value (To, Cc, From ...), unfolded or not: display names, comments, quoted strings,
 * groups, routes (RFC 5322 4.4, dropped) are understood, and semicolons between addresses and groups that nobody
 * closed are put up with, as real mail has them. Calls fn for each addr-spec: no angle brackets, comments and blanks
 * around dots removed, valid as address_parse() says; borrowed until fn returns. Stops with the first error, which
 * `where` (borrowed from value) points at. At most `max` addresses: more is ADDRESS_TOO_LONG. "<>" is ADDRESS_EMPTY.
 */
enum address_result address_list_parse(struct slice value, unsigned max, void (*fn)(void *arg, struct slice addr_spec),
				       void *arg, struct slice *where) MUST_CHECK;

/* Patterns of routes, filters, exclude-domains: "a@b.c", "b.c", ".b.c" (its subdomains), "*". Case-insensitive. */
bool address_matches(struct slice pattern, struct slice address);
bool address_pattern_is_valid(struct slice pattern);
#endif
