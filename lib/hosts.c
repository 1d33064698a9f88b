/* hosts.c - encoding of host lists.
 *
 * count u8; per host: preference u16, flags u8 (1: secure), name u8 + bytes, address count u8; per address: family u8
 * (4 or 6), 4 or 16 bytes. Big-endian.
 */
#include "lib/hosts.h"
#include "lib/text.h"
#include <arpa/inet.h>

enum { HOST_SECURE = 1 };

static unsigned address_len(const struct host_address *a)
{
	return a->family == AF_INET6 ? 16 : 4;
}

static void put_u8(struct buf *out, unsigned value)
{
	buf_put_char(out, (char)(unsigned char)value);
}

void hosts_encode(struct buf *out, const struct hosts *hosts)
{
	size_t begin = out->len, mark;
	unsigned count = 0;

	put_u8(out, 0);
	for (; count < hosts->count && !out->failed; count++) {
		const struct host *h = &hosts->host[count];
		size_t name_len = strnlen(h->name, sizeof(h->name) - 1);

		mark = out->len;
		put_u8(out, h->preference >> 8);
		put_u8(out, h->preference & 0xff);
		put_u8(out, h->is_secure ? HOST_SECURE : 0);
		put_u8(out, (unsigned)name_len);
		buf_put(out, h->name, name_len);
		put_u8(out, h->address_count);
		for (unsigned i = 0; i < h->address_count; i++) {
			put_u8(out, h->address[i].family == AF_INET6 ? 6 : 4);
			buf_put(out, h->address[i].bytes, address_len(&h->address[i]));
		}
		if (out->len - begin > HOSTS_BYTES_MAX) {
			out->len = mark;
			break;
		}
	}
	if (!out->failed)
		out->ptr[begin] = (char)(unsigned char)count;
}

struct cursor {
	const unsigned char *at, *end;
	bool failed;
};

static const unsigned char *take(struct cursor *c, size_t len)
{
	const unsigned char *at = c->at;

	if (c->failed || (size_t)(c->end - c->at) < len) {
		c->failed = true;
		return NULL;
	}
	c->at += len;
	return at;
}

static unsigned take_u8(struct cursor *c)
{
	const unsigned char *at = take(c, 1);

	return at ? *at : 0;
}

static void take_name(struct cursor *c, struct host *h)
{
	unsigned len = take_u8(c);
	const unsigned char *name = take(c, len);

	if (!name || len == 0) {
		c->failed = true;
		return;
	}
	for (unsigned i = 0; i < len; i++)
		if (name[i] < 0x21 || name[i] > 0x7e)
			c->failed = true;
	memcpy(h->name, name, len);
	h->name[len] = '\0';
}

static void take_address(struct cursor *c, struct host_address *a)
{
	unsigned version = take_u8(c);
	const unsigned char *bytes;

	if (version != 4 && version != 6) {
		c->failed = true;
		return;
	}
	a->family = version == 6 ? AF_INET6 : AF_INET;
	bytes = take(c, address_len(a));
	if (bytes)
		memcpy(a->bytes, bytes, address_len(a));
}

static void take_host(struct cursor *c, struct host *h)
{
	unsigned flags, count;

	h->preference = (uint16_t)(take_u8(c) << 8);
	h->preference = (uint16_t)(h->preference | take_u8(c));
	flags = take_u8(c);
	if (flags & ~(unsigned)HOST_SECURE)
		c->failed = true;
	h->is_secure = flags & HOST_SECURE;
	take_name(c, h);
	count = take_u8(c);
	if (count > HOST_ADDRESSES_MAX) {
		c->failed = true;
		return;
	}
	h->address_count = (uint8_t)count;
	for (unsigned i = 0; i < count && !c->failed; i++)
		take_address(c, &h->address[i]);
}

bool hosts_decode(struct slice bytes, struct hosts *out)
{
	struct cursor c = { (const unsigned char *)bytes.ptr, (const unsigned char *)bytes.ptr + bytes.len, false };
	unsigned count;

	memset(out, 0, sizeof(*out));
	count = take_u8(&c);
	if (bytes.len > HOSTS_BYTES_MAX || count > HOSTS_MAX)
		c.failed = true;
	for (unsigned i = 0; i < count && !c.failed; i++)
		take_host(&c, &out->host[i]);
	if (c.failed || c.at != c.end)
		return false;
	out->count = (uint8_t)count;
	return true;
}

void host_address_format(struct buf *out, const struct host_address *a)
{
	char text[INET6_ADDRSTRLEN];

	if (!inet_ntop(a->family, a->bytes, text, sizeof(text)))
		BUG("address of family %d", a->family);
	buf_put_str(out, text);
}

unsigned host_address_sockaddr(const struct host_address *a, uint16_t port, struct sockaddr_storage *out)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	memset(out, 0, sizeof(*out));
	if (a->family == AF_INET6) {
		memcpy(&v6.sin6_addr, a->bytes, sizeof(v6.sin6_addr));
		memcpy(out, &v6, sizeof(v6));
		return sizeof(v6);
	}
	memcpy(&v4.sin_addr, a->bytes, sizeof(v4.sin_addr));
	memcpy(out, &v4, sizeof(v4));
	return sizeof(v4);
}

static int compare_names(const void *a, const void *b)
{
	return strcasecmp(*(const char *const *)a, *(const char *const *)b);
}

uint64_t hosts_site_hash(const struct hosts *hosts)
{
	const char *name[HOSTS_MAX] = { NULL };
	struct buf all;
	uint64_t hash;
	bool is_secure = true;

	for (unsigned i = 0; i < hosts->count; i++) {
		name[i] = hosts->host[i].name;
		is_secure = is_secure && hosts->host[i].is_secure;
	}
	qsort(name, hosts->count, sizeof(name[0]), compare_names);
	buf_init(&all, HOSTS_MAX * (sizeof(hosts->host[0].name) + 1) + 1);
	for (unsigned i = 0; i < hosts->count; i++) {
		buf_put_str(&all, name[i]);
		buf_put_char(&all, '\0');
	}
	buf_put_char(&all, is_secure ? 'S' : 'i');
	text_lower(all.ptr, all.len - 1);
	hash = text_hash(all.ptr, all.len);
	buf_release(&all);
	return hash;
}
