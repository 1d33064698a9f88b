/* host.c - mail hosts that need no DNS. */
#include "resolver/host.h"
#include "lib/deny.h"
#include "lib/idn.h"
#include "lib/text.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <strings.h>

enum { HOST_LINE_MAX = 4096 };

struct host_file {
	unsigned count;
	struct host *host;
};

/* True for a relay's name in A-label form. */
static bool is_relay(const struct conf *conf, struct slice name)
{
	struct buf key;
	bool is_found = false;

	buf_init(&key, sizeof(((struct host *)0)->name));
	for (unsigned i = 0; i < conf->server_count && !is_found; i++) {
		const struct conf_server *server = &conf->server[i];

		if (server->method != METHOD_RELAY || !server->host)
			continue;
		buf_clear(&key);
		is_found = idn_to_ascii(&key, slice_of(server->host)) && slice_equal_nocase(buf_slice(&key), name);
	}
	buf_release(&key);
	return is_found;
}

static bool parse_address(const char *text, struct host_address *out)
{
	memset(out, 0, sizeof(*out));
	out->family = AF_INET;
	if (inet_pton(AF_INET, text, out->bytes) == 1)
		return true;
	out->family = AF_INET6;
	return inet_pton(AF_INET6, text, out->bytes) == 1;
}

static struct host *find(const struct host_file *file, const char *name)
{
	for (unsigned i = 0; i < file->count; i++)
		if (strcasecmp(file->host[i].name, name) == 0)
			return &file->host[i];
	return NULL;
}

static void add(struct host_file *file, struct slice name, const struct host_address *address)
{
	char lower[sizeof(((struct host *)0)->name)];
	struct host *h;

	memcpy(lower, name.ptr, name.len);
	lower[name.len] = 0;
	text_lower(lower, name.len);
	h = find(file, lower);
	if (!h) {
		file->host = xrealloc(file->host, file->count + 1, sizeof(*file->host));
		h = &file->host[file->count++];
		memset(h, 0, sizeof(*h));
		memcpy(h->name, lower, name.len + 1);
	}
	if (h->address_count < HOST_ADDRESSES_MAX)
		h->address[h->address_count++] = *address;
}

static void read_line(struct host_file *file, const struct conf *conf, char *line)
{
	static const char BLANKS[] = " \t\r\n";
	char *end = line + strcspn(line, "#"), *word = line + strspn(line, BLANKS);
	struct host_address address;
	bool is_first = true;

	*end = 0;
	while (*word) {
		size_t len = strcspn(word, BLANKS);
		char *next = word + len + strspn(word + len, BLANKS);

		word[len] = 0;
		if (is_first && !parse_address(word, &address))
			return;
		if (!is_first && len < sizeof(file->host->name) && is_relay(conf, (struct slice){ word, len }))
			add(file, (struct slice){ word, len }, &address);
		is_first = false;
		word = next;
	}
}

struct host_file *host_file_read(const char *path, const struct conf *conf)
{
	struct host_file *file = xcalloc(1, sizeof(*file));
	char line[HOST_LINE_MAX];
	FILE *in = fopen(path, "re");

	if (!in)
		return file;
	while (fgets(line, sizeof(line), in))
		read_line(file, conf, line);
	fclose(in);
	return file;
}

void host_file_free(struct host_file **file)
{
	if (!*file)
		return;
	free((*file)->host);
	free(*file);
	*file = NULL;
}

bool host_file_find(const struct host_file *file, const char *name, struct host *out)
{
	const struct host *h = find(file, name);

	if (h)
		*out = *h;
	return h != NULL;
}

enum host_literal host_parse_literal(struct slice text, bool may_be_bare, struct host *out)
{
	static const char TAG[] = "IPv6:";
	bool has_brackets = text.len >= 2 && text.ptr[0] == '[';
	struct slice inner = text;
	char copy[INET6_ADDRSTRLEN];
	bool has_tag, is_ok;

	if (!has_brackets && !may_be_bare)
		return HOST_NO_LITERAL;
	if (has_brackets && text.ptr[text.len - 1] != ']')
		return HOST_BAD_LITERAL;
	if (has_brackets)
		inner = (struct slice){ text.ptr + 1, text.len - 2 };
	has_tag = inner.len >= strlen(TAG) && strncasecmp(inner.ptr, TAG, strlen(TAG)) == 0;
	if (has_tag) {
		inner.ptr += strlen(TAG);
		inner.len -= strlen(TAG);
	}
	memset(out, 0, sizeof(*out));
	is_ok = inner.len < sizeof(copy) && !memchr(inner.ptr, 0, inner.len);
	if (is_ok) {
		memcpy(copy, inner.ptr, inner.len);
		copy[inner.len] = 0;
		is_ok = parse_address(copy, &out->address[0]);
	}
	/* "IPv6:" is not optional in a mail address, nor does it go with IPv4 */
	is_ok = is_ok && has_tag <= (out->address[0].family == AF_INET6) &&
		(may_be_bare || has_tag == (out->address[0].family == AF_INET6));
	if (!is_ok)
		return has_brackets ? HOST_BAD_LITERAL : HOST_NO_LITERAL;
	out->address_count = 1;
	memcpy(out->name, text.ptr, text.len);
	out->name[text.len] = 0;
	return HOST_LITERAL;
}

bool host_filter(struct host *host, const struct conf_cidr *deny, unsigned count)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < host->address_count; i++)
		if (!deny_matches(deny, count, &host->address[i]))
			host->address[kept++] = host->address[i];
	host->address_count = (uint8_t)kept;
	return kept > 0;
}
