/* entry.c - slab of entries in pages that never move, and a binary heap of their indices. */
#include "scheduler/entry.h"
#include <stdlib.h>

enum { PAGE_ENTRIES = 1024 };

struct entries {
	struct entry **page;
	uint32_t page_count, page_room;
	entry_index limit;     /* first index never used */
	entry_index free_list; /* through next */
	uint32_t count;
	entry_index *heap; /* [0] is the earliest */
	uint32_t heap_count, heap_room;
};

struct entries *entries_new(void)
{
	struct entries *e = xcalloc(1, sizeof(*e));

	e->limit = 1;
	return e;
}

void entries_free(struct entries **e)
{
	if (!*e)
		return;
	for (uint32_t i = 0; i < (*e)->page_count; i++)
		free((*e)->page[i]);
	free((*e)->page);
	free((*e)->heap);
	free(*e);
	*e = NULL;
}

struct entry *entry_get(struct entries *e, entry_index i)
{
	if (i == 0 || i >= e->limit)
		BUG("entry %u of %u", i, e->limit);
	return &e->page[i / PAGE_ENTRIES][i % PAGE_ENTRIES];
}

static void add_page(struct entries *e)
{
	if (e->page_count == e->page_room) {
		e->page_room = e->page_room ? e->page_room * 2 : 16;
		e->page = xrealloc(e->page, e->page_room, sizeof(*e->page));
	}
	e->page[e->page_count++] = xcalloc(PAGE_ENTRIES, sizeof(struct entry));
}

entry_index entry_new(struct entries *e)
{
	entry_index i = e->free_list;

	if (i) {
		e->free_list = entry_get(e, i)->next;
	} else {
		i = e->limit++;
		if (i / PAGE_ENTRIES >= e->page_count)
			add_page(e);
	}
	*entry_get(e, i) = (struct entry){ 0 };
	e->count++;
	return i;
}

void entry_free(struct entries *e, entry_index i)
{
	struct entry *at = entry_get(e, i);

	if (at->place == ENTRY_HEAP)
		BUG("entry %u is still in the heap", i);
	*at = (struct entry){ .next = e->free_list };
	e->free_list = i;
	e->count--;
}

uint32_t entries_count(const struct entries *e)
{
	return e->count;
}

uint32_t entries_heap_count(const struct entries *e)
{
	return e->heap_count;
}

entry_index entries_limit(const struct entries *e)
{
	return e->limit;
}

static bool is_before(struct entries *e, entry_index a, entry_index b)
{
	const struct entry *x = entry_get(e, a), *y = entry_get(e, b);

	return x->due_ms != y->due_ms ? x->due_ms < y->due_ms : x->id < y->id;
}

static void heap_set(struct entries *e, uint32_t at, entry_index i)
{
	e->heap[at] = i;
	entry_get(e, i)->heap_at = at;
}

static void sift_up(struct entries *e, uint32_t at)
{
	entry_index i = e->heap[at];

	while (at > 0 && is_before(e, i, e->heap[(at - 1) / 2])) {
		heap_set(e, at, e->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_set(e, at, i);
}

static void sift_down(struct entries *e, uint32_t at)
{
	entry_index i = e->heap[at];

	for (;;) {
		uint32_t child = at * 2 + 1;

		if (child >= e->heap_count)
			break;
		if (child + 1 < e->heap_count && is_before(e, e->heap[child + 1], e->heap[child]))
			child++;
		if (!is_before(e, e->heap[child], i))
			break;
		heap_set(e, at, e->heap[child]);
		at = child;
	}
	heap_set(e, at, i);
}

void entries_push(struct entries *e, entry_index i, struct mono due)
{
	struct entry *at = entry_get(e, i);

	if (at->place == ENTRY_HEAP)
		BUG("entry %u is in the heap already", i);
	if (e->heap_count == e->heap_room) {
		e->heap_room = e->heap_room ? e->heap_room + e->heap_room / 2 : 256;
		e->heap = xrealloc(e->heap, e->heap_room, sizeof(*e->heap));
	}
	at->place = ENTRY_HEAP;
	at->due_ms = due.ms;
	heap_set(e, e->heap_count++, i);
	sift_up(e, at->heap_at);
}

void entries_remove(struct entries *e, entry_index i)
{
	struct entry *at = entry_get(e, i);
	uint32_t hole = at->heap_at;
	entry_index last;

	if (at->place != ENTRY_HEAP || e->heap[hole] != i)
		BUG("entry %u is not in the heap", i);
	at->place = ENTRY_LISTED;
	last = e->heap[--e->heap_count];
	if (last == i)
		return;
	heap_set(e, hole, last);
	sift_up(e, hole);
	sift_down(e, entry_get(e, last)->heap_at);
}

entry_index entries_first(struct entries *e)
{
	return e->heap_count ? e->heap[0] : 0;
}

entry_index entries_find_sorted(struct entries *e, uint64_t id)
{
	entry_index low = 1, high = e->limit;

	while (low < high) {
		entry_index middle = low + (high - low) / 2;

		if (entry_get(e, middle)->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < e->limit && entry_get(e, low)->id == id ? low : 0;
}

entry_index entries_find(struct entries *e, uint64_t id, uint32_t group)
{
	for (entry_index i = 1; i < e->limit; i++) {
		const struct entry *at = entry_get(e, i);

		if (at->place != ENTRY_FREE && at->id == id && at->group == group)
			return i;
	}
	return 0;
}
