/* channel.h - one partner at the other end of two packet pipes. */
#ifndef LIB_CHANNEL_H
#define LIB_CHANNEL_H
#include "lib/loop.h"
#include "lib/msg.h"

struct channel;

/*
 * Packets that wait in memory for room in the pipe; a channel that holds this many is full: pause the source. What is
 * already under way then may still be sent; eight times as many is our bug.
 */
enum { CHANNEL_QUEUE_MAX = 1024 };

/*
 * Called for each well-formed packet meant for this generation (to_generation is ours or 0). The packet is borrowed
 * until return. May free the channel. Decode with msg_decode_*(); a false return tells the channel it was malformed.
 */
typedef bool (*channel_cb)(void *arg, const struct msg_head *head, const struct packet *p);

/*
 * `in`, `out`: borrowed non-blocking packet pipe ends. `own`: our generation. Malformed packets are counted, logged
 * (rate-limited) and dropped; never obeyed, never fatal.
 */
struct channel *channel_new(struct loop *loop, int in, int out, const char *peer_name, uint32_t own,
			    channel_cb on_packet, void *arg);
void channel_free(struct channel **ch);
/* Packets are addressed to this generation from now on; what waits in memory for the old one is thrown away. */
void channel_set_peer(struct channel *ch, uint32_t generation);
uint32_t channel_peer(const struct channel *ch);
/* Header for msg_encode_*(): from us to the peer's present generation; the type is set by the encoder. */
struct msg_head channel_head(const struct channel *ch);
/* Writes at once or queues; copies the packet. Ask channel_is_full() before taking on work that will send. */
void channel_send(struct channel *ch, const struct packet *p);
bool channel_is_full(const struct channel *ch);
/* Everything sent so far is in the pipe, where it outlives us; nothing waits in memory. */
bool channel_is_flushed(const struct channel *ch);
/* Called (deferred, from the loop) when a channel that was full has fallen below half. */
void channel_on_room(struct channel *ch, loop_cb fn, void *arg);
/* Read now what is in the pipe: before declaring a dead partner's work lost. */
void channel_drain_input(struct channel *ch);
/* Leaves packets in the pipe for now: how a full partner slows its source. */
void channel_pause_input(struct channel *ch, bool is_paused);
/* Called at once for each malformed packet, with the generation that sent it: the one it names, else the peer's. */
void channel_on_malformed(struct channel *ch, void (*fn)(void *arg, uint32_t generation), void *arg);
uint64_t channel_malformed_count(const struct channel *ch);
#endif
