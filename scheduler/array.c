/* array.c - see scheduler.h. */
#include "scheduler/scheduler.h"

void *array_add(void **array, unsigned *count, unsigned *room, size_t element_bytes)
{
	if (*count == *room) {
		*room = *room ? *room * 2 : 16;
		*array = xrealloc(*array, *room, element_bytes);
	}
	return (char *)*array + (size_t)(*count)++ * element_bytes;
}
