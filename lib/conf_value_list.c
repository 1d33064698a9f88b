/* conf_value_list.c - elements of lists: limits, patterns, addresses, names of servers; and freeing what options hold.
 */
#include "lib/address.h"
#include "lib/conf_value.h"
#include "lib/text.h"

static void list_add(struct conf_value *v, struct slice item)
{
	conf_list_add(v->field, item);
}

void conf_value_limit(struct conf_value *v)
{
	struct conf_limit limit;
	struct buf wrong;

	buf_init(&wrong, 500);
	if (conf_limit_parse(v->text, &limit, &wrong))
		conf_limits_add(v->field, &limit);
	else
		conf_value_wrong(v, "%s", buf_text(&wrong));
	buf_release(&wrong);
}

/* An element may be a list with commas. Stored in lower case: domains and, as Postfix does, local parts. */
void conf_value_patterns(struct conf_value *v)
{
	struct slice rest = v->text, one;

	for (bool more = true; more;) {
		const char *comma = memchr(rest.ptr, ',', rest.len);

		one = text_trim((struct slice){ rest.ptr, comma ? (size_t)(comma - rest.ptr) : rest.len });
		more = comma != NULL;
		if (more)
			rest = (struct slice){ comma + 1, (size_t)(rest.ptr + rest.len - comma - 1) };
		if (!address_pattern_is_valid(one)) {
			conf_value_wrong(
				v,
				"is not a pattern; use an address, a domain, \".domain\" for its subdomains, or \"*\"");
			return;
		}
		list_add(v, one);
		struct conf_list *l = v->field;

		text_lower(l->item[l->count - 1], one.len);
	}
}

void conf_value_source(struct conf_value *v)
{
	if (conf_is_ip(v->text))
		list_add(v, v->text);
	else
		conf_value_wrong(
			v, "is not an IP address; use one of this host's, such as \"192.0.2.1\" or \"2001:db8::1\"");
}

void conf_value_dns_server(struct conf_value *v)
{
	const char *at = memchr(v->text.ptr, '@', v->text.len);
	struct slice address = { v->text.ptr, at ? (size_t)(at - v->text.ptr) : v->text.len };
	struct slice port = { at ? at + 1 : "", at ? v->text.len - address.len - 1 : 0 };
	uint64_t number;

	if (!conf_is_ip(address))
		conf_value_wrong(v, "is not an address; use \"192.0.2.53\" or, with a port, \"192.0.2.53@5353\"");
	else if (at && (!text_parse_u64(port, &number) || number < 1 || number > 65535))
		conf_value_wrong(v, "has no right port behind \"@\"; use 1 to 65535");
	else
		list_add(v, v->text);
}

/* SHA-256, with or without colons; stored without, in lower case. */
void conf_value_fingerprint(struct conf_value *v)
{
	char hex[64];
	size_t n = 0;

	for (size_t i = 0; i < v->text.len; i++) {
		char c = v->text.ptr[i];
		bool is_digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');

		if (c == ':' && n > 0 && n % 2 == 0)
			continue;
		if (!is_digit || n == sizeof(hex)) {
			n = 0;
			break;
		}
		hex[n++] = c;
	}
	if (n != sizeof(hex)) {
		conf_value_wrong(v, "is not a fingerprint; use the 64 hex digits of SHA-256, with or without colons");
		return;
	}
	text_lower(hex, sizeof(hex));
	list_add(v, (struct slice){ hex, sizeof(hex) });
}

void conf_value_auth(struct conf_value *v)
{
	const struct conf_list *l = v->field;
	int choice = conf_value_choose(v);

	if (choice < 0)
		return;
	for (unsigned i = 0; i < l->count; i++)
		if (slice_is(v->text, l->item[i])) {
			conf_value_wrong(v, "is named twice");
			return;
		}
	if (l->count > 0 && (choice == 0 || strcmp(l->item[0], "auto") == 0))
		conf_value_wrong(v, "does not go together with others; \"auto\" stands alone");
	list_add(v, v->text);
}

void conf_value_mx(struct conf_value *v)
{
	if (!conf_is_mx_pattern(v->text)) {
		conf_value_wrong(
			v, "is not a host name of an MX; use one such as \"mx.example.com\" or \"*.example.com\"");
		return;
	}
	list_add(v, v->text);
	struct conf_list *l = v->field;

	text_lower(l->item[l->count - 1], v->text.len);
}

void conf_value_cidr(struct conf_value *v)
{
	struct conf_cidr block;

	if (conf_cidr_parse(v->text, &block))
		conf_deny_add(v->base, &block);
	else
		conf_value_wrong(v, "is not an address block; use CIDR such as \"10.0.0.0/8\" or \"fc00::/7\", no bits "
				    "set behind the prefix");
}

/* One of retry.after. */
void conf_value_wait(struct conf_value *v)
{
	struct conf *c = v->base;
	uint64_t ms;

	if (!conf_value_duration(v, 1, 30 * 86400, &ms))
		return;
	c->retry.after_ms = xrealloc(c->retry.after_ms, (size_t)c->retry.after_count + 1, sizeof(uint64_t));
	c->retry.after_ms[c->retry.after_count++] = ms;
}

/* The servers' names are all known when the first list of them is read. */
void conf_value_server_name(struct conf_value *v)
{
	struct conf *c = v->reader->conf;
	struct conf_route *route = v->option->section == SECTION_ROUTE ? v->base : NULL;
	unsigned *count = route ? &route->server_count : &c->primary_count;
	unsigned **list = route ? &route->server : &c->primary;
	int found = conf_find_server(c, v->text);

	if (found < 0) {
		conf_value_wrong(v, "is not the name of a server in this file");
		return;
	}
	for (unsigned i = 0; i < *count; i++)
		if ((*list)[i] == (unsigned)found) {
			conf_value_wrong(v, "is named twice");
			return;
		}
	*list = xrealloc(*list, (size_t)*count + 1, sizeof(unsigned));
	(*list)[(*count)++] = (unsigned)found;
}

static void release_string(char **field, bool is_secret)
{
	if (*field && is_secret)
		explicit_bzero(*field, strlen(*field));
	free(*field);
	*field = NULL;
}

void conf_value_release(const struct conf_option *o, void *base)
{
	void *field = conf_value_field(o, base);

	switch (o->type) {
	case TYPE_TEXT:
	case TYPE_SECRET:
	case TYPE_HOSTNAME:
	case TYPE_HOST:
	case TYPE_ADDRESS:
	case TYPE_PATH:
	case TYPE_USER:
	case TYPE_URL:
	case TYPE_STORE:
		release_string(field, o->type == TYPE_SECRET);
		break;
	case TYPE_LOG:
		release_string(&((struct conf *)base)->log_file, false);
		break;
	case TYPE_METHOD:
		release_string(&((struct conf_server *)base)->preset, false);
		break;
	case TYPE_LIMITS:
		conf_limits_release(field);
		break;
	case TYPE_PATTERNS:
	case TYPE_SOURCES:
	case TYPE_DNS_SERVERS:
	case TYPE_FINGERPRINTS:
	case TYPE_AUTH:
	case TYPE_MX:
		conf_list_release(field);
		break;
	case TYPE_CIDRS:
		free(((struct conf_server *)base)->deny);
		break;
	case TYPE_DURATIONS:
		free(((struct conf *)base)->retry.after_ms);
		break;
	case TYPE_SERVER_NAMES:
		free(o->section == SECTION_ROUTE ? ((struct conf_route *)base)->server
						 : ((struct conf *)base)->primary);
		break;
	default: /* nothing on the heap */
		break;
	}
}
