/* The reply parser, fed in pieces, and the engine behind it: no sequence of bytes may lead to a crash, an unbounded
 * reply, a mail without an outcome, or a bounce without a 5yz. The first byte chooses the size of the pieces and the
 * kind of session. */
#include "lib/text.h"
#include "smtpout/engine.h"

enum { MAILS = 3, RCPTS = 3 };

struct fuzzed {
	struct engine e;
	struct engine_mail mail[MAILS];
	unsigned given, over;
	bool is_closed, is_sending;
};

static void check_mail(const struct engine_mail *m)
{
	for (unsigned i = 0; i < m->rcpt_count; i++) {
		const struct engine_outcome *o;

		if (m->rcpt_outcome[i] == 0 || m->rcpt_outcome[i] > m->outcome_count)
			BUG("a recipient without outcome");
		o = &m->outcome[m->rcpt_outcome[i] - 1];
		if (o->verdict == VERDICT_PERMANENT && o->cause == FAILURE_REPLY && (o->code < 500 || o->code > 599))
			BUG("a bounce for code %u", o->code);
		if (o->verdict == VERDICT_DELIVERED && (o->code < 250 || o->code > 259))
			BUG("delivered with code %u", o->code);
		if (o->verdict == VERDICT_DELIVERED && m->stage != MAIL_OVER)
			BUG("delivered while under way");
		if (strlen(o->text) > ENGINE_TEXT_MAX || !text_is_utf8(slice_of(o->text)))
			BUG("a text that is too long or not printable");
	}
}

static void act(struct fuzzed *f)
{
	static const struct slice RCPT[RCPTS] = { { "a@x.example", 11 }, { "b@x.example", 11 }, { "c@x.example", 11 } };
	struct engine_mail *mail;
	enum engine_action action;

	for (;;) {
		if (f->given < MAILS && engine_wants_mail(&f->e)) {
			struct engine_mail *m = &f->mail[f->given++];

			*m = (struct engine_mail){
				.sender = { "s@y.example", 11 }, .rcpt = RCPT, .rcpt_count = RCPTS, .size_bytes = 1000
			};
			engine_take_mail(&f->e, m);
			continue;
		}
		if (f->given == MAILS && f->over == MAILS)
			engine_hang_up(&f->e);
		action = engine_next(&f->e, &mail);
		switch (action) {
		case ENGINE_NONE:
			return;
		case ENGINE_MAIL_DONE:
			check_mail(mail);
			f->over++;
			break;
		case ENGINE_SEND:
			engine_sent(&f->e);
			break;
		case ENGINE_BODY:
			f->is_sending = true;
			break;
		case ENGINE_START_TLS:
			engine_secured(&f->e);
			break;
		case ENGINE_CLOSE:
			f->is_closed = true;
			break;
		case ENGINE_UP:
			break;
		}
	}
}

static void end_body(struct fuzzed *f)
{
	if (!f->is_sending || f->e.state == ENGINE_OVER)
		return;
	f->is_sending = false;
	engine_dot_sent(&f->e);
	engine_sent(&f->e);
}

static size_t feed(struct fuzzed *f, struct reply_parser *p, struct slice in)
{
	size_t taken = 0, used;
	struct reply r;

	while (f->e.state != ENGINE_OVER) {
		enum reply_result result = reply_parse(p, (struct slice){ in.ptr + taken, in.len - taken }, &used, &r);

		taken += used;
		if (result == REPLY_MALFORMED)
			engine_malformed(&f->e, p->why);
		if (result != REPLY_DONE)
			break;
		if (r.code < 100 || r.code > 599 || r.text.len > REPLY_BYTES_MAX + REPLY_LINES_MAX)
			BUG("a reply that cannot be");
		engine_reply(&f->e, &r);
	}
	engine_input_left(&f->e, taken < in.len || !reply_parser_is_idle(p));
	return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzzed f = { 0 };
	struct reply_parser parser;
	size_t begin = 1, end = 1, step;

	if (size < 2)
		return 0;
	step = data[0] & 15 ? data[0] & 15 : size;
	engine_init(&f.e, "me.example", "mx.example[192.0.2.1]", (enum engine_tls)((data[0] >> 4) % 3));
	reply_parser_init(&parser);
	engine_connected(&f.e, false);
	while (end < size && f.e.state != ENGINE_OVER) {
		end = end + step < size ? end + step : size;
		begin += feed(&f, &parser, (struct slice){ (const char *)data + begin, end - begin });
		act(&f);
		if (!(data[0] & 128) || f.given > 1)
			end_body(&f);
		act(&f);
	}
	engine_lost(&f.e, data[0] & 64, "");
	act(&f);
	if (!f.is_closed || f.over != f.given)
		BUG("an ended session keeps %u mails", f.given - f.over);
	for (unsigned i = 0; i < f.given; i++)
		engine_mail_release(&f.mail[i]);
	engine_release(&f.e);
	reply_parser_release(&parser);
	return 0;
}
