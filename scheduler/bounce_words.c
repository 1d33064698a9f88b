/* bounce_words.c - the part of a report that people read: which server, what it said, what to do. */
#include "scheduler/bounce_report.h"

enum {
	WORDS_RCPT_MAX = 100, /* the others stand in the delivery status part */
	WORDS_COLUMN = 74
};

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
	{ "5.6.7",
	  "The address has letters that the recipient's mail server cannot take. Ask for one in plain letters." },
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

/* A paragraph: lines broken at blanks, each behind the indent; line ends and other controls become "?". */
static void put_paragraph(struct buf *out, const char *indent, struct slice text)
{
	size_t column = strlen(indent), word;
	bool is_first = true;

	buf_put_str(out, indent);
	for (; text.len > 0; text.ptr += word, text.len -= word) {
		for (word = 0; word < text.len && text.ptr[word] != ' ';)
			word++;
		if (word == 0) {
			word = 1; /* a blank */
			continue;
		}
		if (!is_first && column + 1 + word > WORDS_COLUMN) {
			buf_printf(out, "\n%s", indent);
			column = strlen(indent);
		} else if (!is_first) {
			buf_put_char(out, ' ');
			column++;
		}
		for (size_t i = 0; i < word; i++)
			buf_put_char(out, (unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7f ? '?' : text.ptr[i]);
		column += word;
		is_first = false;
	}
	buf_put_char(out, '\n');
}

/* The same from a format; at most a kilobyte. */
static void put_text(struct buf *out, const char *indent, const char *format, ...) PRINTF_LIKE(3, 4);
static void put_text(struct buf *out, const char *indent, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	put_paragraph(out, indent, slice_of(text));
}

static void put_rcpt(struct buf *out, const struct bounce *b, const struct bounce_rcpt *r)
{
	static const char INDENT[] = "    ";
	int server_len = (int)(r->server.len < 100 ? r->server.len : 100);

	buf_put_str(out, "\n<");
	buf_put_slice(out, b->original->rcpt[r->index].address);
	buf_put_str(out, ">\n");
	if (r->is_expired)
		put_text(out, INDENT, "was given up: the time for delivery is over. The last thing heard:");
	if (has_relay(r) && server_len > 0)
		put_text(out, INDENT, "through %.*s (server \"%.*s\"):", (int)r->relay.len, r->relay.ptr, server_len,
			 r->server.ptr);
	else if (has_relay(r))
		put_text(out, INDENT, "through %.*s:", (int)r->relay.len, r->relay.ptr);
	else if (server_len > 0)
		put_text(out, INDENT, "through server \"%.*s\":", server_len, r->server.ptr);
	put_paragraph(out, INDENT, r->text.len > 0 ? r->text : slice_of("no reason was given"));
	if (b->kind != BOUNCE_DELAYED)
		put_text(out, INDENT, "What to do: %s", advice_for(r));
}

static void put_opening(struct buf *out, const struct bounce *b)
{
	const char *them = b->rcpt_count == 1 ? "this recipient" : "these recipients";
	struct buf until;

	switch (b->kind) {
	case BOUNCE_DELAYED:
		buf_init(&until, 64);
		clock_format_rfc5322(&until, b->retry_until);
		put_text(out, "",
			 "Your message has not been delivered to %s yet. You need not send it again: delivery is tried "
			 "until %s.",
			 them, buf_text(&until));
		buf_release(&until);
		break;
	case BOUNCE_DOUBLE:
		put_text(out, "",
			 "A message without sender, most likely a report that some other message could not be "
			 "delivered, could "
			 "itself not be delivered to %s. Nobody else is told of it.",
			 them);
		break;
	case BOUNCE_DEAD:
		put_text(out, "", "This message could not be delivered to %s, and there is nobody left to tell.", them);
		break;
	default:
		put_text(out, "", "Your message could not be delivered to %s, and will not be tried again.", them);
	}
}

void bounce_words_format(struct buf *out, const struct bounce *b, const struct conf *conf)
{
	uint32_t shown = b->rcpt_count < WORDS_RCPT_MAX ? b->rcpt_count : WORDS_RCPT_MAX;
	bool is_whole =
		b->kind != BOUNCE_DELAYED && b->original->is_ret_full && b->original->size_bytes <= BOUNCE_FULL_MAX;

	if (conf)
		buf_printf(out, "This is the mail system at %s.\n\n", conf->hostname);
	put_opening(out, b);
	for (uint32_t i = 0; i < shown && !out->failed; i++)
		put_rcpt(out, b, &b->rcpt[i]);
	if (shown < b->rcpt_count)
		buf_printf(out, "\nand %u more: see the delivery status below.\n", b->rcpt_count - shown);
	if (!conf)
		return;
	buf_put_char(out, '\n');
	put_text(out, "", "The %s is attached. For help write to <%s> and enclose this report.",
		 is_whole ? "message" : "message's header", conf->postmaster);
}
