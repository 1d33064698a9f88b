/* worker.c - what all sessions of a smtpout process share. */
#include "smtpout/worker.h"

void worker_init(struct worker *w, struct loop *loop, const struct conf *conf, int queue_fd)
{
	*w = (struct worker){ .loop = loop, .conf = conf, .queue_fd = queue_fd };
	table_init(&w->sessions);
	w->input = xmalloc(WORKER_INPUT_BYTES);
	buf_init(&w->output, WORKER_OUTPUT_BYTES);
	w->policy = xcalloc(conf->server_count ? conf->server_count : 1, sizeof(struct tls_policy *));
	w->pop_policy = xcalloc(conf->server_count ? conf->server_count : 1, sizeof(struct tls_policy *));
	w->pop_account = xcalloc(conf->server_count ? conf->server_count : 1, sizeof(struct sasl_account *));
	w->account = xcalloc(conf->server_count ? conf->server_count : 1, sizeof(struct sasl_account *));
	while (w->slot_count < BOARD_SLOTS) {
		w->slot[w->slot_count] = (uint16_t)(BOARD_SLOTS - 1 - w->slot_count);
		w->slot_count++;
	}
}

void worker_release(struct worker *w)
{
	for (unsigned i = 0; i < w->conf->server_count; i++) {
		tls_policy_free(&w->policy[i]);
		sasl_account_free(&w->account[i]);
		tls_policy_free(&w->pop_policy[i]);
		sasl_account_free(&w->pop_account[i]);
	}
	free(w->policy);
	free(w->account);
	free(w->pop_policy);
	free(w->pop_account);
	free(w->input);
	buf_release(&w->output);
	table_release(&w->sessions);
	report_book_free(&w->book);
	board_unmap(&w->board);
}

int worker_take_slot(struct worker *w)
{
	return w->slot_count > 0 ? w->slot[--w->slot_count] : -1;
}

void worker_give_slot(void *worker, unsigned slot)
{
	struct worker *w = worker;

	if (w->slot_count == BOARD_SLOTS)
		BUG("board slot %u given back twice", slot);
	w->slot[w->slot_count++] = (uint16_t)slot;
}
