/* conf_store.c - see conf_store.h. */
#include "lib/conf_store.h"
#include "lib/conf_private.h"
#include "lib/text.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <strings.h>

static const char WRONG[] = "is not a store; use \"local\" or \"redis://HOST:PORT/DB\"";

static bool take_prefix(struct slice *s, const char *prefix)
{
	size_t len = strlen(prefix);

	if (s->len < len || memcmp(s->ptr, prefix, len) != 0)
		return false;
	*s = (struct slice){ s->ptr + len, s->len - len };
	return true;
}

/* What stands before the last of these characters, which goes, too; false: there is none. */
static bool split_last(struct slice *s, char at, struct slice *after)
{
	const char *found = s->len > 0 ? memrchr(s->ptr, at, s->len) : NULL;

	if (!found)
		return false;
	*after = (struct slice){ found + 1, (size_t)(s->ptr + s->len - found - 1) };
	s->len = (size_t)(found - s->ptr);
	return true;
}

static bool read_number(struct slice s, unsigned max, unsigned *out)
{
	uint64_t number;

	if (!text_parse_u64(s, &number) || number > max)
		return false;
	*out = (unsigned)number;
	return true;
}

/* HOST, HOST:PORT, [ADDRESS]:PORT */
static bool read_place(struct slice s, struct conf_store *out)
{
	struct slice after;

	if (s.len > 0 && s.ptr[s.len - 1] != ']' && split_last(&s, ':', &after) &&
	    (!read_number(after, 65535, &out->port) || out->port == 0))
		return false;
	if (s.len > 2 && s.ptr[0] == '[' && s.ptr[s.len - 1] == ']')
		s = (struct slice){ s.ptr + 1, s.len - 2 };
	else if (memchr(s.ptr, ':', s.len))
		return false;
	if (s.len >= sizeof(out->host) || !(conf_is_ip(s) || conf_is_host_name(s)))
		return false;
	(void)snprintf(out->host, sizeof(out->host), "%.*s", (int)s.len, s.ptr);
	return true;
}

const char *conf_store_parse(struct slice url, struct conf_store *out)
{
	struct slice after, user;

	*out = (struct conf_store){ .port = CONF_STORE_PORT };
	if (take_prefix(&url, "rediss://"))
		return "asks for TLS, which is not available; use \"redis://\" through a tunnel, or a network of your "
		       "own";
	if (take_prefix(&url, "unix:") || take_prefix(&url, "redis+unix:"))
		return "is a socket's path, which is not available; use \"redis://127.0.0.1:6379/0\"";
	if (!take_prefix(&url, "redis://"))
		return WRONG;
	user = url;
	if (split_last(&user, '@', &url)) {
		if (memchr(user.ptr, ':', user.len))
			return "holds a password; put it into a file, and the file into limits-store-password-file";
		if (user.len == 0 || user.len >= sizeof(out->user))
			return WRONG;
		(void)snprintf(out->user, sizeof(out->user), "%.*s", (int)user.len, user.ptr);
	}
	if (split_last(&url, '/', &after) && !read_number(after, 65535, &out->database))
		return WRONG;
	return read_place(url, out) ? NULL : WRONG;
}

/* --- the host --- */

static bool read_address(const char *text, unsigned port, struct sockaddr_storage *address, socklen_t *len)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };

	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
		memcpy(address, &v4, sizeof(v4));
		*len = sizeof(v4);
		return true;
	}
	if (inet_pton(AF_INET6, text, &v6.sin6_addr) != 1)
		return false;
	memcpy(address, &v6, sizeof(v6));
	*len = sizeof(v6);
	return true;
}

/* "ADDRESS NAME NAME ... # whatever"; writes over the line. */
static bool line_names(char *line, const char *host, char **address)
{
	char *rest = NULL, *word;

	line[strcspn(line, "#\n")] = '\0';
	*address = strtok_r(line, " \t", &rest);
	while (*address && (word = strtok_r(NULL, " \t", &rest)))
		if (strcasecmp(word, host) == 0)
			return true;
	return false;
}

bool conf_store_find_host(const struct conf_store *s, struct sockaddr_storage *address, socklen_t *len)
{
	char line[2048], *found;
	bool is_found = read_address(s->host, s->port, address, len);
	FILE *file = is_found ? NULL : fopen("/etc/hosts", "re");

	while (file && !is_found && fgets(line, sizeof(line), file))
		is_found = line_names(line, s->host, &found) && read_address(found, s->port, address, len);
	if (file)
		fclose(file);
	return is_found;
}
