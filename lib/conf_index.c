/* conf_index.c - servers and destinations, found by name and by key. */
#include "lib/conf_private.h"

/* FNV-1a: the same in every process, unlike text_hash(). conf_rules.c sees to it that no two are equal. */
static uint32_t key_of(struct slice name)
{
	uint32_t key = 0x811c9dc5u;

	for (size_t i = 0; i < name.len; i++)
		key = (key ^ (uint8_t)name.ptr[i]) * 0x01000193u;
	return key;
}

uint32_t conf_server_key(const struct conf_server *s)
{
	return key_of(slice_of(s->name));
}

uint32_t conf_destination_key(const struct conf_destination *d)
{
	uint32_t key = key_of(slice_of(d->name));

	return key ? key : 1;
}

const struct conf_destination *conf_find_destination_key(const struct conf *c, uint32_t key)
{
	for (unsigned i = 0; i < c->destination_count; i++)
		if (conf_destination_key(&c->destination[i]) == key)
			return &c->destination[i];
	return NULL;
}

struct keyed {
	uint32_t key;
	unsigned index;
};

static int compare_keys(const void *left, const void *right)
{
	const struct keyed *a = left, *b = right;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

void conf_index_servers(struct conf *c)
{
	struct keyed *all = xcalloc(c->server_count, sizeof(*all));

	for (unsigned i = 0; i < c->server_count; i++)
		all[i] = (struct keyed){ conf_server_key(&c->server[i]), i };
	if (c->server_count > 0)
		qsort(all, c->server_count, sizeof(*all), compare_keys);
	c->server_by_key = xrealloc(c->server_by_key, c->server_count, sizeof(unsigned));
	for (unsigned i = 0; i < c->server_count; i++)
		c->server_by_key[i] = all[i].index;
	free(all);
}

/* The first place in server_by_key whose key is not below `key`. */
static unsigned lower_bound(const struct conf *c, uint32_t key)
{
	unsigned low = 0, high = c->server_count;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if (conf_server_key(&c->server[c->server_by_key[middle]]) < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int conf_find_server_key(const struct conf *c, uint32_t key)
{
	unsigned at = lower_bound(c, key);

	if (at == c->server_count || conf_server_key(&c->server[c->server_by_key[at]]) != key)
		return -1;
	return (int)c->server_by_key[at];
}

/* Equal keys are a mistake in the configuration, but one that has to be found first: so all of them are looked at. */
int conf_find_server(const struct conf *c, struct slice name)
{
	uint32_t key = key_of(name);

	for (unsigned at = lower_bound(c, key); at < c->server_count; at++) {
		const struct conf_server *s = &c->server[c->server_by_key[at]];

		if (conf_server_key(s) != key)
			break;
		if (slice_is(name, s->name))
			return (int)c->server_by_key[at];
	}
	return -1;
}
