/* channel.c - packets over two pipes, with a bounded queue for a partner that does not keep up.
 *
 * master holds both ends of every pipe, so a partner's death shows neither as EOF nor as EPIPE: a full pipe to a dead
 * partner looks like a slow one until master tells of the successor.
 */
#include "lib/channel.h"
#include "lib/log.h"
#include <errno.h>
#include <unistd.h>

enum {
	CHANNEL_READS_PER_WAKEUP = 64,   /* then others have their turn */
	CHANNEL_WRITES_PER_WAKEUP = 256, /* as many as the largest pipe holds */
	CHANNEL_QUEUE_HARD_MAX = 8 * CHANNEL_QUEUE_MAX,
	CHANNEL_COMPLAIN_MS = 10000
};

struct queued {
	uint16_t len;
	uint32_t to_generation;
	uint8_t bytes[];
};

struct channel {
	struct loop *loop;
	int in, out;
	struct loop_io *reader, *writer;
	char *peer_name;
	uint32_t own, peer;
	channel_cb on_packet;
	void *arg;
	loop_cb on_room;
	void *room_arg;
	void (*on_malformed)(void *arg, uint32_t generation);
	void *malformed_arg;
	struct queued **queue; /* a ring of queue_cap places */
	unsigned queue_head, queue_count, queue_cap;
	bool was_full, is_room_due, is_paused, is_reading, is_dead, has_eof;
	uint64_t malformed, malformed_told;
	struct mono complained;
};

static void on_readable(void *arg, int fd, unsigned events);
static void on_writable(void *arg, int fd, unsigned events);
static void tell_room(void *arg);

struct channel *channel_new(struct loop *loop, int in, int out, const char *peer_name, uint32_t own,
			    channel_cb on_packet, void *arg)
{
	struct channel *ch = xcalloc(1, sizeof(*ch));

	ch->loop = loop;
	ch->in = in;
	ch->out = out;
	ch->peer_name = xstrdup(peer_name);
	ch->own = own;
	ch->on_packet = on_packet;
	ch->arg = arg;
	ch->complained.ms = clock_mono().ms - CHANNEL_COMPLAIN_MS;
	ch->reader = loop_io_new(loop, in, LOOP_READ, on_readable, ch);
	ch->writer = loop_io_new(loop, out, 0, on_writable, ch);
	return ch;
}

static struct queued *queue_at(const struct channel *ch, unsigned i)
{
	return ch->queue[(ch->queue_head + i) % ch->queue_cap];
}

static void queue_pop(struct channel *ch)
{
	free(ch->queue[ch->queue_head]);
	ch->queue_head = (ch->queue_head + 1) % ch->queue_cap;
	ch->queue_count--;
}

void channel_free(struct channel **channel)
{
	struct channel *ch = *channel;

	if (!ch)
		return;
	*channel = NULL;
	loop_io_free(&ch->reader);
	loop_io_free(&ch->writer);
	loop_defer_cancel(ch->loop, tell_room, ch);
	while (ch->queue_count > 0)
		queue_pop(ch);
	ch->is_dead = true;
	if (ch->is_reading)
		return; /* by its own callback: the reading loop frees the rest */
	free(ch->queue);
	free(ch->peer_name);
	free(ch);
}

uint32_t channel_peer(const struct channel *ch)
{
	return ch->peer;
}

struct msg_head channel_head(const struct channel *ch)
{
	return (struct msg_head){ .from_generation = ch->own, .to_generation = ch->peer };
}

uint64_t channel_malformed_count(const struct channel *ch)
{
	return ch->malformed;
}

void channel_on_room(struct channel *ch, loop_cb fn, void *arg)
{
	ch->on_room = fn;
	ch->room_arg = arg;
}

void channel_on_malformed(struct channel *ch, void (*fn)(void *arg, uint32_t generation), void *arg)
{
	ch->on_malformed = fn;
	ch->malformed_arg = arg;
}

/* --- writing --- */

bool channel_is_full(const struct channel *ch)
{
	return ch->queue_count >= CHANNEL_QUEUE_MAX;
}

bool channel_is_flushed(const struct channel *ch)
{
	return ch->queue_count == 0;
}

static void tell_room(void *arg)
{
	struct channel *ch = arg;

	ch->is_room_due = false;
	if (ch->on_room)
		ch->on_room(ch->room_arg);
}

static void after_removal(struct channel *ch)
{
	loop_io_set(ch->writer, ch->queue_count > 0 ? LOOP_WRITE : 0);
	if (ch->was_full && ch->queue_count < CHANNEL_QUEUE_MAX / 2) {
		ch->was_full = false;
		if (!ch->is_room_due)
			loop_defer(ch->loop, tell_room, ch);
		ch->is_room_due = true;
	}
}

/* False: no room in the pipe now. What the pipe refuses for another reason is dropped: only master's end does that. */
static bool write_packet(struct channel *ch, const uint8_t *bytes, size_t len)
{
	ssize_t n;

	do
		n = write(ch->out, bytes, len);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n < 0)
		log_debug("a packet to %s cannot be written: %m", ch->peer_name);
	return true;
}

static void on_writable(void *arg, int fd UNUSED, unsigned events UNUSED)
{
	struct channel *ch = arg;

	for (int i = 0; i < CHANNEL_WRITES_PER_WAKEUP && ch->queue_count > 0; i++) {
		const struct queued *first = queue_at(ch, 0);

		if (!write_packet(ch, first->bytes, first->len))
			break;
		queue_pop(ch);
	}
	after_removal(ch);
}

static void queue_push(struct channel *ch, struct queued *q)
{
	if (ch->queue_count == ch->queue_cap) {
		unsigned cap = ch->queue_cap ? ch->queue_cap * 2 : 64;
		struct queued **ring = xcalloc(cap, sizeof(struct queued *));

		for (unsigned i = 0; i < ch->queue_count; i++)
			ring[i] = queue_at(ch, i);
		free(ch->queue);
		ch->queue = ring;
		ch->queue_cap = cap;
		ch->queue_head = 0;
	}
	ch->queue[(ch->queue_head + ch->queue_count) % ch->queue_cap] = q;
	ch->queue_count++;
}

void channel_send(struct channel *ch, const struct packet *p)
{
	struct msg_head head;
	struct queued *q;

	if (p->len > MSG_PACKET_MAX || !msg_decode_head(p, &head))
		BUG("not a packet of ours, to %s", ch->peer_name);
	if (ch->queue_count == 0 && write_packet(ch, p->bytes, p->len))
		return;
	if (ch->queue_count >= CHANNEL_QUEUE_HARD_MAX)
		BUG("%u packets wait for %s and nobody paused", ch->queue_count, ch->peer_name);
	q = xmalloc(sizeof(*q) + p->len);
	q->len = p->len;
	q->to_generation = head.to_generation;
	memcpy(q->bytes, p->bytes, p->len);
	queue_push(ch, q);
	ch->was_full = ch->was_full || channel_is_full(ch);
	loop_io_set(ch->writer, LOOP_WRITE);
}

void channel_set_peer(struct channel *ch, uint32_t generation)
{
	unsigned kept = 0, count = ch->queue_count;

	if (generation == ch->peer)
		return;
	ch->peer = generation;
	for (unsigned i = 0; i < count; i++) {
		struct queued *q = queue_at(ch, i);

		if (q->to_generation != generation && q->to_generation != 0)
			free(q);
		else
			ch->queue[(ch->queue_head + kept++) % ch->queue_cap] = q;
	}
	ch->queue_count = kept;
	after_removal(ch);
}

/* --- reading --- */

static void complain(struct channel *ch, const struct msg_head *head)
{
	struct mono now = clock_mono();

	ch->malformed++;
	if (ch->on_malformed)
		ch->on_malformed(ch->malformed_arg, head ? head->from_generation : ch->peer);
	if (now.ms - ch->complained.ms < CHANNEL_COMPLAIN_MS)
		return;
	log_warn("malformed packet from %s dropped (type %s, %llu more since the last such line)", ch->peer_name,
		 head ? msg_name(head->type) : "?", (unsigned long long)(ch->malformed - ch->malformed_told - 1));
	ch->complained = now;
	ch->malformed_told = ch->malformed;
}

static void take_packet(struct channel *ch, const struct packet *p)
{
	struct msg_head head;

	if (!msg_decode_head(p, &head)) {
		complain(ch, NULL);
		return;
	}
	if (head.to_generation != 0 && head.to_generation != ch->own)
		return; /* meant for a predecessor of ours */
	if (!ch->on_packet(ch->arg, &head, p) && !ch->is_dead)
		complain(ch, &head);
}

static void on_end(struct channel *ch)
{
	ch->has_eof = true;
	loop_io_set(ch->reader, 0); /* level-triggered: it would fire for ever */
}

/* At most `packets`; ends early when the pipe is empty, the channel is paused (unless `insist`), or gone. */
static void read_packets(struct channel *ch, unsigned packets, bool insist)
{
	struct packet p;
	ssize_t n;

	if (ch->is_reading || ch->has_eof)
		return;
	ch->is_reading = true;
	while (packets-- > 0 && !ch->is_dead && (insist || !ch->is_paused)) {
		n = read(ch->in, p.bytes, sizeof(p.bytes));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			BUG("the pipe from %s cannot be read: %m", ch->peer_name);
		if (n == 0) {
			on_end(ch);
			break;
		}
		p.len = (uint16_t)n;
		take_packet(ch, &p);
	}
	ch->is_reading = false;
	if (ch->is_dead)
		channel_free(&ch);
}

static void on_readable(void *arg, int fd UNUSED, unsigned events UNUSED)
{
	read_packets(arg, CHANNEL_READS_PER_WAKEUP, false);
}

void channel_drain_input(struct channel *ch)
{
	read_packets(ch, 65536, true);
}

void channel_pause_input(struct channel *ch, bool is_paused)
{
	ch->is_paused = is_paused;
	loop_io_set(ch->reader, is_paused || ch->has_eof ? 0 : LOOP_READ);
}
