/* hosts.c - encoding of host lists.
 *
 * count u8; per host: preference u16, flags u8 (1: secure, 2: TLSA records of no use, 4: TLSA records, 8: MTA-STS),
 * name u8 + bytes, address count u8; per address: family u8 (4 or 6), 4 or 16 bytes; with flag 4: base u8 + bytes
 * (none: the name), bytes u16 of records: usage u8, selector u8, matching u8, data u16 + bytes. Big-endian.
 */
#include "lib/hosts.h"
#include "lib/text.h"
#include <arpa/inet.h>

enum { HOST_SECURE = 1, HOST_TLSA_UNUSABLE = 2, HOST_TLSA = 4, HOST_STS = 8, HOST_FLAGS = 15 };

static unsigned address_len(const struct host_address *a)
{
	return a->family == AF_INET6 ? 16 : 4;
}

/* --- TLSA records --- */

bool host_tlsa_is_usable(const struct host_tlsa *r)
{
	enum { DANE_TA = 2, DANE_EE = 3, SPKI = 1, WHOLE = 0, SHA_256 = 1, SHA_512 = 2 };

	if ((r->usage != DANE_TA && r->usage != DANE_EE) || r->selector > SPKI)
		return false;
	switch (r->matching) {
	case WHOLE:
		return r->data.len > 0;
	case SHA_256:
		return r->data.len == 32;
	case SHA_512:
		return r->data.len == 64;
	}
	return false;
}

void host_tlsa_put(struct buf *out, const struct host_tlsa *r)
{
	buf_put_be(out, r->usage, 1);
	buf_put_be(out, r->selector, 1);
	buf_put_be(out, r->matching, 1);
	buf_put_be(out, r->data.len, 2);
	buf_put_slice(out, r->data);
}

bool host_tlsa_next(struct slice *rest, struct host_tlsa *out)
{
	const unsigned char *at = (const unsigned char *)rest->ptr;
	size_t len;

	if (rest->len < HOST_TLSA_HEAD_BYTES)
		return false;
	len = (size_t)at[3] << 8 | at[4];
	if (rest->len - HOST_TLSA_HEAD_BYTES < len)
		return false;
	*out = (struct host_tlsa){ at[0], at[1], at[2], { rest->ptr + HOST_TLSA_HEAD_BYTES, len } };
	rest->ptr += HOST_TLSA_HEAD_BYTES + len;
	rest->len -= HOST_TLSA_HEAD_BYTES + len;
	return true;
}

struct slice hosts_tlsa(const struct hosts *hosts, const struct host *host)
{
	return (struct slice){ hosts->tlsa + host->tlsa_at, host->tlsa_bytes };
}

/* --- host lists --- */

static unsigned flags_of(const struct host *h)
{
	unsigned flags = (h->is_secure ? HOST_SECURE : 0) | (h->is_sts ? HOST_STS : 0);

	if (h->dane == HOST_DANE_UNUSABLE)
		flags |= HOST_TLSA_UNUSABLE;
	else if (h->dane == HOST_DANE_USABLE)
		flags |= HOST_TLSA;
	return flags;
}

static void put_dane(struct buf *out, const struct hosts *hosts, const struct host *h)
{
	size_t len = strcmp(h->tlsa_base, h->name) == 0 ? 0 : strnlen(h->tlsa_base, sizeof(h->tlsa_base) - 1);

	buf_put_be(out, len, 1);
	buf_put(out, h->tlsa_base, len);
	buf_put_be(out, h->tlsa_bytes, 2);
	buf_put_slice(out, hosts_tlsa(hosts, h));
}

void hosts_encode(struct buf *out, const struct hosts *hosts)
{
	size_t begin = out->len, mark;
	unsigned count = 0;

	buf_put_be(out, 0, 1);
	for (; count < hosts->count && !out->failed; count++) {
		const struct host *h = &hosts->host[count];
		size_t name_len = strnlen(h->name, sizeof(h->name) - 1);

		mark = out->len;
		buf_put_be(out, h->preference, 2);
		buf_put_be(out, flags_of(h), 1);
		buf_put_be(out, name_len, 1);
		buf_put(out, h->name, name_len);
		buf_put_be(out, h->address_count, 1);
		for (unsigned i = 0; i < h->address_count; i++) {
			buf_put_be(out, h->address[i].family == AF_INET6 ? 6 : 4, 1);
			buf_put(out, h->address[i].bytes, address_len(&h->address[i]));
		}
		if (h->dane == HOST_DANE_USABLE)
			put_dane(out, hosts, h);
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

static unsigned take_u16(struct cursor *c)
{
	unsigned high = take_u8(c);

	return high << 8 | take_u8(c);
}

/* Of a name that may be absent; `out` has room for the longest. */
static void take_name(struct cursor *c, char *out)
{
	unsigned len = take_u8(c);
	const unsigned char *name = take(c, len);

	if (!name)
		return;
	for (unsigned i = 0; i < len; i++)
		if (name[i] < 0x21 || name[i] > 0x7e)
			c->failed = true;
	memcpy(out, name, len);
	out[len] = '\0';
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

static bool are_usable(struct slice records)
{
	struct host_tlsa r;

	if (records.len == 0 || records.len > HOST_TLSA_BYTES_MAX)
		return false;
	while (host_tlsa_next(&records, &r))
		if (!host_tlsa_is_usable(&r))
			return false;
	return records.len == 0;
}

static void take_dane(struct cursor *c, struct hosts *hosts, struct host *h)
{
	const unsigned char *records;
	size_t len;

	take_name(c, h->tlsa_base);
	if (strcmp(h->tlsa_base, h->name) == 0)
		c->failed = true; /* is written as none: one list has one form */
	if (h->tlsa_base[0] == '\0')
		memcpy(h->tlsa_base, h->name, sizeof(h->tlsa_base));
	len = take_u16(c);
	records = take(c, len);
	if (!records || !are_usable((struct slice){ (const char *)records, len })) {
		c->failed = true;
		return;
	}
	h->tlsa_at = hosts->tlsa_bytes;
	h->tlsa_bytes = (uint16_t)len;
	memcpy(hosts->tlsa + hosts->tlsa_bytes, records, len); /* fits: the whole list has no more bytes than this */
	hosts->tlsa_bytes = (uint16_t)(hosts->tlsa_bytes + len);
}

static void take_host(struct cursor *c, struct hosts *hosts, struct host *h)
{
	unsigned flags, count;

	h->preference = (uint16_t)take_u16(c);
	flags = take_u8(c);
	h->is_secure = flags & HOST_SECURE;
	h->is_sts = flags & HOST_STS;
	h->dane = flags & HOST_TLSA            ? HOST_DANE_USABLE
		  : flags & HOST_TLSA_UNUSABLE ? HOST_DANE_UNUSABLE
					       : HOST_DANE_NONE;
	if (flags & ~(unsigned)HOST_FLAGS ||
	    (flags & (HOST_TLSA | HOST_TLSA_UNUSABLE)) == (HOST_TLSA | HOST_TLSA_UNUSABLE))
		c->failed = true;
	take_name(c, h->name);
	if (h->name[0] == '\0')
		c->failed = true;
	count = take_u8(c);
	if (count > HOST_ADDRESSES_MAX) {
		c->failed = true;
		return;
	}
	h->address_count = (uint8_t)count;
	for (unsigned i = 0; i < count && !c->failed; i++)
		take_address(c, &h->address[i]);
	if (h->dane == HOST_DANE_USABLE && !c->failed)
		take_dane(c, hosts, h);
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
		take_host(&c, out, &out->host[i]);
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

static int compare_hosts(const void *a, const void *b)
{
	return strcasecmp((*(const struct host *const *)a)->name, (*(const struct host *const *)b)->name);
}

uint64_t hosts_site_hash(const struct hosts *hosts)
{
	const struct host *host[HOSTS_MAX] = { NULL };
	struct buf all;
	uint64_t hash;

	for (unsigned i = 0; i < hosts->count; i++)
		host[i] = &hosts->host[i];
	qsort(host, hosts->count, sizeof(host[0]), compare_hosts);
	buf_init(&all, HOSTS_MAX * (sizeof(host[0]->name) + 2) + 1);
	for (unsigned i = 0; i < hosts->count; i++) {
		buf_put_str(&all, host[i]->name);
		buf_put_char(&all, '\0');
		buf_put_be(&all, flags_of(host[i]), 1);
	}
	text_lower(all.ptr, all.len);
	hash = text_hash(all.ptr, all.len);
	buf_release(&all);
	return hash;
}
