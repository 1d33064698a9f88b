/* conf_names.c - small checks of names and addresses that stand in postern.conf; pure. */
#include "lib/conf_private.h"
#include "lib/text.h"
#include <arpa/inet.h>

bool conf_is_host_name(struct slice s)
{
	size_t label = 0;

	if (s.len == 0 || s.len > 253 || !text_is_utf8(s))
		return false;
	for (size_t i = 0; i <= s.len; i++) {
		unsigned char c = i < s.len ? (unsigned char)s.ptr[i] : '.';
		bool is_letter = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
				 c == '_' || c >= 0x80;

		if (c == '.') { /* one at the end is the root's */
			bool is_root = i == s.len && label == 0 && s.len > 1;

			if (label > 63 || (label == 0 && !is_root) || (i > 0 && i < s.len + 1 && s.ptr[i - 1] == '-'))
				return false;
			label = 0;
		} else if (is_letter || (c == '-' && label > 0)) {
			label++;
		} else {
			return false;
		}
	}
	return true;
}

/* inet_pton() wants a string; every address fits. */
static bool parse_ip(struct slice s, struct conf_cidr *out)
{
	char text[INET6_ADDRSTRLEN + 1];

	if (s.len == 0 || s.len >= sizeof(text))
		return false;
	memcpy(text, s.ptr, s.len);
	text[s.len] = '\0';
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, out->bytes) == 1) {
		out->family = AF_INET;
		out->prefix = 32;
		return true;
	}
	if (inet_pton(AF_INET6, text, out->bytes) == 1) {
		out->family = AF_INET6;
		out->prefix = 128;
		return true;
	}
	return false;
}

bool conf_is_ip(struct slice s)
{
	struct conf_cidr ignored;

	return parse_ip(s, &ignored);
}

static bool has_host_bits(const struct conf_cidr *c)
{
	for (unsigned bit = c->prefix; bit < 128; bit++)
		if (c->bytes[bit / 8] & (0x80u >> bit % 8))
			return true;
	return false;
}

bool conf_cidr_parse(struct slice s, struct conf_cidr *out)
{
	const char *slash = memchr(s.ptr, '/', s.len);
	struct slice address = { s.ptr, slash ? (size_t)(slash - s.ptr) : s.len };
	uint64_t prefix;

	if (!parse_ip(address, out))
		return false;
	if (slash) {
		struct slice digits = { slash + 1, s.len - address.len - 1 };

		if (!text_parse_u64(digits, &prefix) || prefix > out->prefix)
			return false;
		out->prefix = (uint8_t)prefix;
	}
	return !has_host_bits(out); /* 10.1.2.3/8 is more likely a slip than meant as 10/8 */
}

bool conf_is_mx_pattern(struct slice s)
{
	if (s.len > 2 && s.ptr[0] == '*' && s.ptr[1] == '.')
		s = (struct slice){ s.ptr + 2, s.len - 2 };
	return conf_is_host_name(s);
}

void conf_deny_add(struct conf_server *s, const struct conf_cidr *block)
{
	s->deny = xrealloc(s->deny, (size_t)s->deny_count + 1, sizeof(s->deny[0]));
	s->deny[s->deny_count++] = *block;
}

void conf_deny_default(struct conf_server *s)
{
	static const char *const BLOCKS[] = { "127.0.0.0/8", "0.0.0.0/8",       "169.254.0.0/16",
					      "224.0.0.0/4", "255.255.255.255", "::1",
					      "::",          "fe80::/10",       "ff00::/8" };
	struct conf_cidr c;

	for (unsigned i = 0; i < ARRAY_LEN(BLOCKS); i++) {
		if (!conf_cidr_parse(slice_of(BLOCKS[i]), &c))
			BUG("default block %s", BLOCKS[i]);
		conf_deny_add(s, &c);
	}
}

void conf_list_add(struct conf_list *l, struct slice item)
{
	if ((l->count & (l->count + 1)) == 0) /* 0, 1, 3, 7 ...: double */
		l->item = xrealloc(l->item, 2 * (size_t)l->count + 1, sizeof(l->item[0]));
	l->item[l->count++] = xstrndup(item.ptr, item.len);
}

void conf_list_release(struct conf_list *l)
{
	for (unsigned i = 0; i < l->count; i++)
		free(l->item[i]);
	free(l->item);
	memset(l, 0, sizeof(*l));
}
