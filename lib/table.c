/* table.c - chained hash table that grows by doubling. */
#include "lib/table.h"
#include <stdlib.h>

void table_init(struct table *t)
{
	t->slot_count = 16;
	t->count = 0;
	t->slot = xcalloc(t->slot_count, sizeof(*t->slot));
}

void table_release(struct table *t)
{
	free(t->slot);
	*t = (struct table){ 0 };
}

static void grow(struct table *t)
{
	size_t old_count = t->slot_count;
	struct table_node **old = t->slot;

	t->slot_count *= 2;
	t->slot = xcalloc(t->slot_count, sizeof(*t->slot));
	for (size_t i = 0; i < old_count; i++) {
		for (struct table_node *n = old[i], *next; n; n = next) {
			struct table_node **home = &t->slot[n->hash & (t->slot_count - 1)];

			next = n->next;
			n->next = *home;
			*home = n;
		}
	}
	free(old);
}

void table_add(struct table *t, struct table_node *node, uint64_t hash)
{
	struct table_node **home;

	if (t->count >= t->slot_count)
		grow(t);
	home = &t->slot[hash & (t->slot_count - 1)];
	node->hash = hash;
	node->next = *home;
	*home = node;
	t->count++;
}

void table_remove(struct table *t, struct table_node *node)
{
	struct table_node **at = &t->slot[node->hash & (t->slot_count - 1)];

	while (*at && *at != node)
		at = &(*at)->next;
	if (!*at)
		BUG("node is not in the table");
	*at = node->next;
	node->next = NULL;
	t->count--;
}

static struct table_node *same_hash(struct table_node *n, uint64_t hash)
{
	while (n && n->hash != hash)
		n = n->next;
	return n;
}

struct table_node *table_first(const struct table *t, uint64_t hash)
{
	return same_hash(t->slot[hash & (t->slot_count - 1)], hash);
}

struct table_node *table_next(const struct table_node *node)
{
	return same_hash(node->next, node->hash);
}

void table_each(struct table *t, void (*fn)(void *arg, struct table_node *node), void *arg)
{
	for (size_t i = 0; i < t->slot_count; i++) {
		for (struct table_node *n = t->slot[i], *next; n; n = next) {
			next = n->next;
			fn(arg, n);
		}
	}
}
