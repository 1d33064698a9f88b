/* announce.c - the window of ids that the scheduler has not answered. */
#include "pickup/announce.h"

enum { PACKET_IDS = 256 };

struct announce {
	struct channel *channel;
	uint64_t ids[ANNOUNCE_MAX];
	unsigned count, sent;     /* ids[0..sent) are on their way */
	uint32_t open_generation; /* of the scheduler that opened intake */
	uint32_t peer_generation; /* of the one that master told of; 0: none lives */
	uint32_t rejected;        /* not told yet */
	loop_cb on_room;
	void *arg;
};

static void on_channel_room(void *arg)
{
	struct announce *a = arg;

	announce_flush(a);
	a->on_room(a->arg);
}

struct announce *announce_new(loop_cb on_room, void *arg)
{
	struct announce *a = xcalloc(1, sizeof(*a));

	a->on_room = on_room;
	a->arg = arg;
	return a;
}

void announce_free(struct announce **a)
{
	free(*a);
	*a = NULL;
}

void announce_set_channel(struct announce *a, struct channel *channel)
{
	a->channel = channel;
	channel_on_room(channel, on_channel_room, a);
}

bool announce_is_open(const struct announce *a)
{
	return a->open_generation != 0 && (a->peer_generation == 0 || a->peer_generation == a->open_generation);
}

unsigned announce_room(const struct announce *a)
{
	return announce_is_open(a) ? ANNOUNCE_MAX - a->count : 0;
}

static void send_again(struct announce *a)
{
	a->sent = 0;
	announce_flush(a);
	a->on_room(a->arg);
}

void announce_open(struct announce *a, uint32_t generation)
{
	a->open_generation = generation;
	send_again(a);
}

/*
 * Master's word and the scheduler's come by different pipes, in any order: a death closes only what the dead one
 * opened, and what answered an early INTAKE_OPEN still bore the old generation, so it is sent again.
 */
void announce_peer(struct announce *a, uint32_t generation, bool is_alive)
{
	if (!is_alive) {
		if (a->open_generation == generation)
			a->open_generation = 0;
		a->peer_generation = 0;
		return;
	}
	a->peer_generation = generation;
	if (announce_is_open(a))
		send_again(a);
}

void announce_add(struct announce *a, uint64_t id)
{
	for (unsigned i = 0; i < a->count; i++) {
		if (a->ids[i] == id)
			return;
	}
	if (a->count == ANNOUNCE_MAX)
		BUG("more ids than the window holds");
	a->ids[a->count++] = id;
}

void announce_rejected(struct announce *a, unsigned count)
{
	a->rejected += count;
}

static void tell_rejected(struct announce *a)
{
	struct msg_rejected m = { .count = a->rejected };
	struct msg_head head = channel_head(a->channel);
	struct packet p;

	if (a->rejected == 0 || !announce_is_open(a) || channel_is_full(a->channel))
		return;
	msg_encode_rejected(&p, &head, &m);
	channel_send(a->channel, &p);
	a->rejected = 0;
}

void announce_flush(struct announce *a)
{
	tell_rejected(a);
	while (announce_is_open(a) && a->sent < a->count && !channel_is_full(a->channel)) {
		unsigned n = a->count - a->sent < PACKET_IDS ? a->count - a->sent : PACKET_IDS;
		struct msg_admit m = { .ids = { .values = a->ids + a->sent, .count = (uint16_t)n } };
		struct msg_head head = channel_head(a->channel);
		struct packet p;

		msg_encode_admit(&p, &head, &m);
		channel_send(a->channel, &p);
		a->sent += n;
	}
}

static void remove_id(struct announce *a, uint64_t id)
{
	for (unsigned i = 0; i < a->count; i++) {
		if (a->ids[i] != id)
			continue;
		memmove(a->ids + i, a->ids + i + 1, (a->count - i - 1) * sizeof(a->ids[0]));
		a->count--;
		if (i < a->sent)
			a->sent--;
		return;
	}
}

void announce_admitted(struct announce *a, const struct msg_admitted *m)
{
	for (unsigned i = 0; i < m->ids.count; i++)
		remove_id(a, msg_u64(&m->ids, i));
	a->on_room(a->arg);
}
