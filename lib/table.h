/* table.h - intrusive hash table: the nodes live inside the caller's objects, the caller compares keys. */
#ifndef LIB_TABLE_H
#define LIB_TABLE_H
#include "lib/base.h"

struct table_node {
	struct table_node *next;
	uint64_t hash;
};

struct table {
	struct table_node **slot;
	size_t slot_count; /* a power of two */
	size_t count;
};

/* The object that holds `node` as its member. */
#define TABLE_OBJECT(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

void table_init(struct table *t);
void table_release(struct table *t); /* the objects are the caller's */
void table_add(struct table *t, struct table_node *node, uint64_t hash);
void table_remove(struct table *t, struct table_node *node);
/* Candidates: nodes of that very hash, in no order; NULL at the end. Compare the keys. */
struct table_node *table_first(const struct table *t, uint64_t hash);
struct table_node *table_next(const struct table_node *node);
/* All nodes; fn may remove and free the node it is given, and no other. */
void table_each(struct table *t, void (*fn)(void *arg, struct table_node *node), void *arg);
#endif
