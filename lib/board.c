/* board.c - shared memory that says which transactions hang between the final dot and its reply. */
#include "lib/board.h"
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* queue_id 0: free. It is written last and erased first, so a writer killed between the two says nothing false. */
struct board_slot {
	_Atomic uint64_t queue_id;
	_Atomic uint64_t group;
};

struct board {
	struct board_slot slot[BOARD_SLOTS];
};

int board_create(void)
{
	int fd = memfd_create("board", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int saved;

	if (fd < 0)
		return -1;
	if (ftruncate(fd, sizeof(struct board)) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	saved = errno;
	(void)close(fd);
	errno = saved;
	return -1;
}

struct board *board_map(int fd, bool is_writable)
{
	struct stat st;
	void *at;

	if (fstat(fd, &st) < 0)
		return NULL;
	if (st.st_size != sizeof(struct board)) {
		errno = EINVAL;
		return NULL;
	}
	at = mmap(NULL, sizeof(struct board), PROT_READ | (is_writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
	return at == MAP_FAILED ? NULL : at;
}

void board_unmap(struct board **b)
{
	if (*b && munmap(*b, sizeof(struct board)) < 0)
		BUG("a board cannot be unmapped");
	*b = NULL;
}

static struct board_slot *slot_at(struct board *b, unsigned slot)
{
	if (slot >= BOARD_SLOTS)
		BUG("slot %u of %d", slot, BOARD_SLOTS);
	return &b->slot[slot];
}

void board_post(struct board *b, unsigned slot, uint64_t queue_id, uint32_t group)
{
	struct board_slot *s = slot_at(b, slot);

	atomic_store(&s->queue_id, 0);
	atomic_store(&s->group, group);
	atomic_store(&s->queue_id, queue_id);
}

void board_erase(struct board *b, unsigned slot)
{
	atomic_store(&slot_at(b, slot)->queue_id, 0);
}

void board_erase_all(struct board *b)
{
	for (unsigned i = 0; i < BOARD_SLOTS; i++)
		board_erase(b, i);
}

bool board_read(const struct board *b, unsigned slot, uint64_t *queue_id, uint32_t *group)
{
	if (slot >= BOARD_SLOTS)
		BUG("slot %u of %d", slot, BOARD_SLOTS);
	*queue_id = atomic_load(&b->slot[slot].queue_id);
	*group = (uint32_t)atomic_load(&b->slot[slot].group);
	return *queue_id != 0;
}

bool board_has(const struct board *b, uint64_t queue_id, uint32_t group)
{
	uint64_t id;
	uint32_t g;

	for (unsigned i = 0; i < BOARD_SLOTS; i++)
		if (board_read(b, i, &id, &g) && id == queue_id && g == group)
			return true;
	return false;
}
