/* proof.c - a set of 64-bit fingerprints: open addressing, at most half full. */
#include "pickup/proof.h"
#include "lib/text.h"

enum { FIRST_SLOTS = 1024 };

static uint64_t fingerprint(const char *name, const struct stat *st)
{
	const uint64_t parts[] = {
		text_hash(name, strlen(name)),
		(uint64_t)st->st_ino,
		(uint64_t)st->st_size,
		(uint64_t)st->st_mtim.tv_sec << 30 ^ (uint64_t)st->st_mtim.tv_nsec,
		(uint64_t)st->st_ctim.tv_sec << 30 ^ (uint64_t)st->st_ctim.tv_nsec,
	};
	uint64_t hash = text_hash(parts, sizeof(parts));

	return hash ? hash : 1;
}

/* Where it is, or the free slot where it would be. */
static size_t place_of(const struct proof *p, uint64_t value)
{
	size_t i = (size_t)value & (p->slot_count - 1);

	while (p->slot[i] && p->slot[i] != value)
		i = (i + 1) & (p->slot_count - 1);
	return i;
}

static void grow(struct proof *p)
{
	struct proof larger = { .slot_count = p->slot_count ? 2 * p->slot_count : FIRST_SLOTS, .count = p->count };

	larger.slot = xcalloc(larger.slot_count, sizeof(larger.slot[0]));
	for (size_t i = 0; i < p->slot_count; i++) {
		if (p->slot[i])
			larger.slot[place_of(&larger, p->slot[i])] = p->slot[i];
	}
	free(p->slot);
	*p = larger;
}

void proof_add(struct proof *p, const char *name, const struct stat *st)
{
	uint64_t value = fingerprint(name, st);
	size_t i;

	if (p->count >= PROOF_MAX)
		return;
	if (2 * (p->count + 1) > p->slot_count)
		grow(p);
	i = place_of(p, value);
	if (!p->slot[i])
		p->count++;
	p->slot[i] = value;
}

bool proof_take(struct proof *p, const char *name, const struct stat *st)
{
	size_t mask = p->slot_count - 1, hole;

	if (p->count == 0)
		return false;
	hole = place_of(p, fingerprint(name, st));
	if (!p->slot[hole])
		return false;
	/* Those behind that would not be found across the hole move into it. */
	for (size_t i = (hole + 1) & mask; p->slot[i]; i = (i + 1) & mask) {
		if (((i - (size_t)p->slot[i]) & mask) >= ((i - hole) & mask)) {
			p->slot[hole] = p->slot[i];
			hole = i;
		}
	}
	p->slot[hole] = 0;
	p->count--;
	return true;
}

void proof_clear(struct proof *p)
{
	free(p->slot);
	*p = (struct proof){ 0 };
}
