/* bounce_words.c - the part of a report that people read: which server, what it said, what to do. */
#include "scheduler/bounce_report.h"

enum { WORDS_RCPT_MAX = 100 }; /* the others stand in the delivery status part */

/* By status code (RFC 3463, RFC 7505), longer beginnings first. */
static const struct {
	const char *dsn, *advice;
} ADVICE[] = {
	{ "5.1.10", "The domain accepts no mail at all. Ask the recipient for another address." },
	{ "5.1.0", "Check the address for typing mistakes, or ask the recipient for the present one." },
	{ "5.1.1", "Check the address for typing mistakes, or ask the recipient for the present one." },
	{ "5.1.2", "Check what follows the @ for typing mistakes: no such domain takes mail." },
	{ "5.1.3", "Check the address for typing mistakes, or ask the recipient for the present one." },
	{ "5.1.6", "The mailbox has moved. Ask the recipient for the present address." },
	{ "5.1.7", "Your own address was not accepted. Ask your mail administrator, and show this report." },
	{ "5.1.8", "Your own address was not accepted. Ask your mail administrator, and show this report." },
	{ "5.2.1", "The mailbox is switched off. Reach the recipient in another way." },
	{ "5.2.2", "The mailbox is full. Try again later, or reach the recipient in another way." },
	{ "5.2.3", "The message is too large. Make it smaller, for example by sending a link to large files." },
	{ "5.3.4", "The message is too large. Make it smaller, for example by sending a link to large files." },
	{ "5.4.4", "Check what follows the @ for typing mistakes: no such domain takes mail." },
	{ "5.4.6", "The mail servers of that domain cannot be used. Its administrator has to correct this." },
	{ "5.6.", "The form of the message was not accepted. Try plain text, without attachments." },
	{ "5.7.",
	  "Refused as a matter of policy, not because of the address. What was said may tell why; else ask your mail "
	  "administrator, and show this report." },
	{ "4.4.7", "Nobody took it in all that time. Send it again later, or reach the recipient in another way." },
	{ "", "If what was said does not help, ask your mail administrator, and show this report." },
};

static const char *advice_for(const struct bounce_rcpt *r)
{
	struct slice dsn = r->is_expired ? slice_of("4.4.7") : r->dsn;

	for (unsigned i = 0;; i++) {
		size_t len = strlen(ADVICE[i].dsn);
		bool is_class = len == 0 || ADVICE[i].dsn[len - 1] == '.';

		if (dsn.len >= len && memcmp(dsn.ptr, ADVICE[i].dsn, len) == 0 && (is_class || dsn.len == len))
			return ADVICE[i].advice;
	}
}

static bool has_relay(const struct bounce_rcpt *r)
{
	return r->relay.len > 0 && !slice_is(r->relay, "none");
}

static void put_rcpt(struct buf *out, const struct bounce *b, const struct bounce_rcpt *r)
{
	buf_put_str(out, "\n<");
	buf_put_slice(out, b->original->rcpt[r->index].address);
	buf_put_str(out, ">\n");
	if (r->is_expired)
		buf_put_str(out, "    was given up: the time for delivery is over. The last thing heard:\n");
	if (has_relay(r)) {
		buf_put_str(out, "    through ");
		buf_put_slice(out, r->relay);
		if (r->server.len > 0) {
			buf_put_str(out, " (server \"");
			buf_put_slice(out, r->server);
			buf_put_str(out, "\")");
		}
		buf_put_str(out, ":\n");
	} else if (r->server.len > 0) {
		buf_put_str(out, "    through server \"");
		buf_put_slice(out, r->server);
		buf_put_str(out, "\":\n");
	}
	buf_put_str(out, "    ");
	if (r->text.len > 0)
		buf_put_slice(out, r->text);
	else
		buf_put_str(out, "no reason was given");
	buf_put_char(out, '\n');
	if (b->kind != BOUNCE_DELAYED)
		buf_printf(out, "    What to do: %s\n", advice_for(r));
}

static void put_opening(struct buf *out, const struct bounce *b)
{
	const char *them = b->rcpt_count == 1 ? "this recipient" : "these recipients";

	switch (b->kind) {
	case BOUNCE_DELAYED:
		buf_printf(out,
			   "Your message has not been delivered to %s yet. You need not send it\n"
			   "again: delivery is tried until ",
			   them);
		clock_format_rfc5322(out, b->retry_until);
		buf_put_str(out, ".\n");
		break;
	case BOUNCE_DOUBLE:
		buf_printf(out,
			   "A message without sender, most likely a report that some other message could\n"
			   "not be delivered, could itself not be delivered to %s. Nobody else\n"
			   "is told of it.\n",
			   them);
		break;
	case BOUNCE_DEAD:
		buf_printf(out, "This message could not be delivered to %s, and there is nobody left to tell.\n", them);
		break;
	default:
		buf_printf(out, "Your message could not be delivered to %s, and will not be tried again.\n", them);
	}
}

void bounce_words_format(struct buf *out, const struct bounce *b, const struct conf *conf)
{
	uint32_t shown = b->rcpt_count < WORDS_RCPT_MAX ? b->rcpt_count : WORDS_RCPT_MAX;

	if (conf)
		buf_printf(out, "This is the mail system at %s.\n\n", conf->hostname);
	put_opening(out, b);
	for (uint32_t i = 0; i < shown && !out->failed; i++)
		put_rcpt(out, b, &b->rcpt[i]);
	if (shown < b->rcpt_count)
		buf_printf(out, "\nand %u more: see the delivery status below.\n", b->rcpt_count - shown);
	if (conf)
		buf_printf(out, "\nThe %s is attached. For help write to\n<%s> and enclose this report.\n",
			   b->kind != BOUNCE_DELAYED && b->original->is_ret_full ? "message" : "message's header",
			   conf->postmaster);
}
