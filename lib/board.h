/* board.h - which transactions of a worker hang between the final dot and its reply.
 *
 * A page of memory that master creates per worker (memfd), smtpout writes and scheduler reads. It outlives a killed
 * worker: what stands on it then may have been delivered (RFC 1047) and is logged as possibly repeated; everything
 * else surely was not. One slot per session; a store costs nothing, no packet, no wait.
 */
#ifndef LIB_BOARD_H
#define LIB_BOARD_H
#include "lib/base.h"

enum { BOARD_SLOTS = 4096 };

struct board;

int board_create(void);                            /* memfd of the right size, sealed; -1 with errno */
struct board *board_map(int fd, bool is_writable); /* NULL with errno; fd may be closed afterwards */
void board_unmap(struct board **b);
void board_post(struct board *b, unsigned slot, uint64_t queue_id, uint32_t group); /* before the dot is sent */
void board_erase(struct board *b, unsigned slot); /* after the report is in the pipe */
void board_erase_all(struct board *b);            /* a new worker's, once the scheduler has read it */
/* What stands in a slot; false: nothing. */
bool board_read(const struct board *b, unsigned slot, uint64_t *queue_id, uint32_t *group);
bool board_has(const struct board *b, uint64_t queue_id, uint32_t group);
#endif
