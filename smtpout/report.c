/* report.c - what goes back to the scheduler, in order. */
#include "smtpout/report.h"
#include "lib/log.h"
#include "lib/spool.h"
#include "smtpout/outcome_log.h"

/* A report with everything it needs in one piece of memory. */
struct kept {
	struct report r; /* its pointers lead into `bytes`; rcpt into the array behind it */
	char bytes[];
};

struct waiting {
	struct waiting *next;
	uint32_t after; /* sequence of the last report that goes before it */
	struct packet packet;
};

struct report_book {
	struct channel *ch;
	struct board *board;
	const struct conf *conf;
	report_slot_cb on_slot_free;
	void *arg;
	struct kept **ring;   /* by sequence; NULL: acknowledged */
	uint32_t cap;         /* a power of two */
	uint32_t first, next; /* sequences kept: first <= s < next */
	uint32_t unsent;      /* the next to send */
	uint32_t unflushed;   /* reports before it are in the pipe, off the board */
	unsigned kept_count;
	bool is_paused;
	struct waiting *head, *tail;
};

struct report_book *report_book_new(struct channel *ch, struct board *board, const struct conf *conf,
				    report_slot_cb on_slot_free, void *arg)
{
	struct report_book *b = xcalloc(1, sizeof(*b));

	b->ch = ch;
	b->board = board;
	b->conf = conf;
	b->on_slot_free = on_slot_free;
	b->arg = arg;
	b->cap = 64;
	b->ring = xcalloc(b->cap, sizeof(struct kept *));
	b->first = b->next = b->unsent = b->unflushed = 1;
	return b;
}

static void drop_waiting(struct report_book *b)
{
	while (b->head) {
		struct waiting *w = b->head;

		b->head = w->next;
		free(w);
	}
	b->tail = NULL;
}

void report_book_free(struct report_book **book)
{
	struct report_book *b = *book;

	if (!b)
		return;
	drop_waiting(b);
	for (uint32_t s = b->first; s != b->next; s++)
		free(b->ring[s & (b->cap - 1)]);
	free(b->ring);
	free(b);
	*book = NULL;
}

static struct kept **slot_of(const struct report_book *b, uint32_t sequence)
{
	return &b->ring[sequence & (b->cap - 1)];
}

static void grow(struct report_book *b)
{
	struct kept **bigger = xcalloc((size_t)b->cap * 2, sizeof(struct kept *));

	for (uint32_t s = b->first; s != b->next; s++)
		bigger[s & (b->cap * 2 - 1)] = *slot_of(b, s);
	free(b->ring);
	b->ring = bigger;
	b->cap *= 2;
}

/* Moves a piece behind the others and returns where it stands now. */
static const void *put_piece(char **at, const void *bytes, size_t len)
{
	char *to = *at;

	if (len > 0)
		memcpy(to, bytes, len);
	*at += len;
	return to;
}

static struct kept *keep(const struct report *r)
{
	size_t texts = strlen(r->dsn) + strlen(r->text) + strlen(r->relay) + 3, names = 0;
	struct kept *k;
	struct slice *rcpt;
	char *at;

	for (unsigned i = 0; r->rcpt && i < r->rcpt_count; i++)
		names += r->rcpt[i].len;
	k = xmalloc(sizeof(*k) + r->rcpt_count * (sizeof(struct slice) + sizeof(uint32_t)) + texts + names);
	k->r = *r;
	at = k->bytes; /* aligned for the slices, which come first, then the indices */
	rcpt = (struct slice *)(void *)at;
	at += r->rcpt_count * sizeof(struct slice);
	k->r.index = put_piece(&at, r->index, r->rcpt_count * sizeof(uint32_t));
	for (unsigned i = 0; r->rcpt && i < r->rcpt_count; i++)
		rcpt[i] = (struct slice){ put_piece(&at, r->rcpt[i].ptr, r->rcpt[i].len), r->rcpt[i].len };
	k->r.rcpt = r->rcpt ? rcpt : NULL;
	k->r.dsn = put_piece(&at, r->dsn, strlen(r->dsn) + 1);
	k->r.text = put_piece(&at, r->text, strlen(r->text) + 1);
	k->r.relay = put_piece(&at, r->relay, strlen(r->relay) + 1);
	return k;
}

void report_book_add(struct report_book *b, const struct report *r)
{
	if (b->next - b->first == b->cap)
		grow(b);
	*slot_of(b, b->next) = keep(r);
	b->next++;
	b->kept_count++;
	report_book_flush(b);
}

void report_book_send(struct report_book *b, const struct packet *p)
{
	struct waiting *w;

	if (!b->head && b->unsent == b->next && !b->is_paused && !channel_is_full(b->ch)) {
		channel_send(b->ch, p);
		return;
	}
	w = xmalloc(sizeof(*w));
	w->next = NULL;
	w->after = b->next - 1;
	w->packet = *p;
	if (b->tail)
		b->tail->next = w;
	else
		b->head = w;
	b->tail = w;
}

struct channel *report_book_channel(const struct report_book *b)
{
	return b->ch;
}

static struct slice cut(const char *text, size_t max)
{
	size_t len = strlen(text);

	return (struct slice){ text, len < max ? len : max };
}

static void send_report(struct report_book *b, uint32_t sequence, const struct report *r)
{
	struct msg_head head = channel_head(b->ch);
	struct packet p;
	struct msg_report m = {
		.sequence = sequence,
		.session = r->session,
		.server = conf_server_key(&b->conf->server[r->server]),
		.queue_id = r->queue_id,
		.group = r->group,
		.attempt = r->attempt,
		.verdict = r->verdict,
		.cause = r->cause,
		.was_seen = r->was_seen,
		.after_dot = r->is_after_dot,
		.last = r->is_last,
		.code = r->code,
		.dsn = cut(r->dsn, 16),
		.text = cut(r->text, REPORT_TEXT_MAX),
		.relay = cut(r->relay, REPORT_RELAY_MAX),
		.rcpts = { .values = r->index, .count = (uint16_t)r->rcpt_count },
	};

	msg_encode_report(&p, &head, &m);
	channel_send(b->ch, &p);
}

/* Reports and packets in the order in which they were given. */
static void send_next(struct report_book *b)
{
	struct waiting *w = b->head;

	if (w && (int32_t)(b->unsent - w->after) > 0) {
		b->head = w->next;
		if (!b->head)
			b->tail = NULL;
		channel_send(b->ch, &w->packet);
		free(w);
		return;
	}
	if (*slot_of(b, b->unsent))
		send_report(b, b->unsent, &(*slot_of(b, b->unsent))->r);
	b->unsent++;
}

static void clear_board(struct report_book *b)
{
	for (; b->unflushed != b->unsent; b->unflushed++) {
		struct kept *k = *slot_of(b, b->unflushed);

		if (!k || k->r.board_slot < 0)
			continue;
		if (b->board)
			board_erase(b->board, (unsigned)k->r.board_slot);
		b->on_slot_free(b->arg, (unsigned)k->r.board_slot);
		k->r.board_slot = -1;
	}
}

void report_book_flush(struct report_book *b)
{
	while (!b->is_paused && (b->head || b->unsent != b->next) && !channel_is_full(b->ch))
		send_next(b);
	if ((int32_t)(b->unsent - b->unflushed) > 0 && channel_is_flushed(b->ch))
		clear_board(b);
}

void report_book_pause(struct report_book *b)
{
	b->is_paused = true;
}

void report_book_resync(struct report_book *b)
{
	drop_waiting(b);
	b->unsent = b->first;
	b->is_paused = false;
	report_book_flush(b);
}

bool report_book_is_full(const struct report_book *b)
{
	return b->kept_count >= REPORT_KEPT_MAX;
}

bool report_book_is_empty(const struct report_book *b)
{
	return b->kept_count == 0 && (b->is_paused || (!b->head && channel_is_flushed(b->ch)));
}

static void log_outcome(const struct report_book *b, const struct report *r, enum disposition disposition,
			uint32_t next_s)
{
	struct outcome_line line = {
		.relay = r->relay,
		.dsn = r->dsn,
		.text = r->text,
		.server = b->conf->server[r->server].name,
		.arrived = r->arrived,
		.scheduled = r->scheduled,
		.active = r->active,
		.begun = r->begun,
		.done = r->done,
		.attempt = r->attempt,
		.disposition = disposition,
		.may_repeat = r->is_after_dot,
	};
	struct outcome_fields fields;
	struct buf text;
	char id[SPOOL_ID_TEXT];

	if (next_s > 0)
		line.next.ms = clock_wall().ms + (int64_t)next_s * 1000;
	spool_id_format(r->queue_id, id);
	buf_init(&text, OUTCOME_LOG_MAX);
	for (unsigned i = 0; r->rcpt && i < r->rcpt_count; i++) {
		line.rcpt = r->rcpt[i];
		buf_clear(&text);
		if (outcome_log_format(&text, &line, &fields))
			log_message(id, "outcome", buf_text(&text), fields.pairs);
		else if (text.len > 0)
			log_message(id, "passed-on", buf_text(&text), fields.pairs);
	}
	buf_release(&text);
}

static void forget(struct report_book *b, uint32_t sequence)
{
	free(*slot_of(b, sequence));
	*slot_of(b, sequence) = NULL;
	b->kept_count--;
	while (b->first != b->next && !*slot_of(b, b->first))
		b->first++;
	if ((int32_t)(b->first - b->unflushed) > 0)
		b->unflushed = b->first;
}

void report_book_acknowledge(struct report_book *b, const struct msg_report_ack *ack)
{
	for (unsigned i = 0; i + 2 < ack->triples.count; i += 3) {
		uint32_t sequence = msg_u32(&ack->triples, i);
		struct kept *k;

		/* Only what was sent can be durable: anything else is a mistake of the scheduler's, or an old packet.
		 */
		if (sequence - b->first >= b->next - b->first || (int32_t)(b->unsent - sequence) <= 0)
			continue;
		k = *slot_of(b, sequence);
		if (!k)
			continue;
		log_outcome(b, &k->r, (enum disposition)msg_u32(&ack->triples, i + 1), msg_u32(&ack->triples, i + 2));
		report_book_flush(b);
		if (k->r.board_slot >= 0) { /* acknowledged before it was off the board */
			if (b->board)
				board_erase(b->board, (unsigned)k->r.board_slot);
			b->on_slot_free(b->arg, (unsigned)k->r.board_slot);
		}
		forget(b, sequence);
	}
}
