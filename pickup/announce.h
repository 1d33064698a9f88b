/* announce.h - ADMIT and ADMITTED: telling the scheduler of accepted messages until it has them on record. */
#ifndef PICKUP_ANNOUNCE_H
#define PICKUP_ANNOUNCE_H
#include "lib/channel.h"

enum { ANNOUNCE_MAX = 2048 }; /* ids without answer; then intake waits */

struct announce;

/* `on_room`: the scheduler opened intake, or answered: there may be room now. */
struct announce *announce_new(loop_cb on_room, void *arg);
void announce_free(struct announce **a);
void announce_set_channel(struct announce *a, struct channel *channel); /* borrowed */
/* The scheduler of this generation is ready: everything unanswered is sent (again). */
void announce_open(struct announce *a, uint32_t generation);
/* The scheduler of this generation was started, or died: nothing is sent before one opens intake. */
void announce_peer(struct announce *a, uint32_t generation, bool is_alive);
bool announce_is_open(const struct announce *a);
unsigned announce_room(const struct announce *a);
/* Durable in incoming/. A known id is ignored. More than announce_room() is our bug. Sent by announce_flush(). */
void announce_add(struct announce *a, uint64_t id);
/* For the scheduler's counters; a word lost with a scheduler is lost. Sent by announce_flush(). */
void announce_rejected(struct announce *a, unsigned count);
void announce_flush(struct announce *a);
void announce_admitted(struct announce *a, const struct msg_admitted *m);
#endif
