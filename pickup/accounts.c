/* accounts.c - uid to login name. */
#include "pickup/accounts.h"
#include <pwd.h>
#include <sys/types.h>

struct account {
	uint32_t uid;
	unsigned order; /* the first of several names counts */
	char *name;
};

struct accounts {
	struct account *account;
	size_t count;
};

static int compare(const void *left, const void *right)
{
	const struct account *a = left, *b = right;

	if (a->uid != b->uid)
		return a->uid < b->uid ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

struct accounts *accounts_load(void)
{
	struct accounts *a = xcalloc(1, sizeof(*a));
	const struct passwd *entry;
	size_t cap = 0;

	setpwent();
	while (a->count < ACCOUNTS_MAX && (entry = getpwent())) {
		if (a->count == cap) {
			cap = cap ? 2 * cap : 64;
			a->account = xrealloc(a->account, cap, sizeof(*a->account));
		}
		a->account[a->count] = (struct account){ entry->pw_uid, (unsigned)a->count, xstrdup(entry->pw_name) };
		a->count++;
	}
	endpwent();
	if (a->count > 0)
		qsort(a->account, a->count, sizeof(*a->account), compare);
	return a;
}

const char *accounts_find(const struct accounts *a, uint32_t uid)
{
	size_t low = 0, high = a->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (a->account[middle].uid < uid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < a->count && a->account[low].uid == uid ? a->account[low].name : NULL;
}
