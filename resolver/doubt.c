/* doubt.c - see doubt.h. */
#include "resolver/doubt.h"
#include "lib/text.h"

bool doubt_is_over(struct doubt *d, uint64_t found)
{
	bool was_full = d->count == DOUBT_DENIALS_MAX;

	if (found == d->found)
		return false;
	d->found = found;
	d->count = 0;
	return was_full;
}

bool doubt_denied(struct doubt *d, const char *name, uint64_t found)
{
	uint64_t hash = text_hash(name, strlen(name));

	(void)doubt_is_over(d, found);
	if (d->count == DOUBT_DENIALS_MAX)
		return false;
	for (unsigned i = 0; i < d->count; i++)
		if (d->denied[i] == hash)
			return false;
	d->denied[d->count++] = hash;
	return d->count == DOUBT_DENIALS_MAX;
}

bool doubt_is_on(const struct doubt *d, uint64_t found)
{
	return found == 0 || (found == d->found && d->count == DOUBT_DENIALS_MAX);
}
