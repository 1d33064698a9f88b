/* bounce_report.c - a report as a message: multipart/report with three parts.  RFC 3464, 6522, 6533 */
#include "scheduler/bounce_report.h"
#include "lib/address.h"
#include "lib/idn.h"
#include "lib/spool.h"
#include "lib/text.h"
#include "scheduler/bounce_mime.h"

enum { WORDS_BYTES_MAX = 1024 * 1024, MESSAGE_ID_MAX = 900 };

static struct wall time_of_id(uint64_t id)
{
	return (struct wall){ (int64_t)((id >> 12) / 1000) };
}

static void put_date(struct buf *out, const char *name, struct wall t)
{
	buf_printf(out, "%s: ", name);
	clock_format_rfc5322(out, t);
	buf_put_str(out, "\r\n");
}

/* --- header --- */

/* An address as the header has it; true when it needs SMTPUTF8. */
static bool put_to(struct buf *out, struct slice address)
{
	struct address_parts parts;
	struct buf domain;
	bool is_plain;

	buf_put_str(out, "To: <");
	buf_init(&domain, ADDRESS_DOMAIN_MAX);
	is_plain = text_is_ascii(address);
	if (!is_plain && address_parse(address, &parts) == ADDRESS_OK && text_is_ascii(parts.local) &&
	    idn_to_ascii(&domain, parts.domain)) {
		buf_put_slice(out, parts.local);
		buf_put_char(out, '@');
		buf_put_slice(out, buf_slice(&domain));
		is_plain = true;
	} else {
		buf_put_slice(out, address);
	}
	buf_release(&domain);
	buf_put_str(out, ">\r\n");
	return !is_plain;
}

/* A Message-ID that may be copied into another header as it is. */
static bool is_ordinary_id(struct slice id)
{
	if (id.len < 3 || id.len > MESSAGE_ID_MAX || id.ptr[0] != '<' || id.ptr[id.len - 1] != '>')
		return false;
	for (size_t i = 0; i < id.len; i++)
		if (id.ptr[i] < 0x21 || id.ptr[i] > 0x7e)
			return false;
	return true;
}

/* The original's Message-ID, empty when it has no ordinary one: mail programs thread by it. */
static struct slice find_message_id(struct slice content)
{
	static const char NAME[] = "Message-ID:";
	static const size_t NAME_LEN = sizeof(NAME) - 1;
	const char *lf;
	struct slice line;

	for (; content.len > 0; content.ptr += line.len, content.len -= line.len) {
		lf = memchr(content.ptr, '\n', content.len);
		line = (struct slice){ content.ptr, lf ? (size_t)(lf - content.ptr) + 1 : content.len };
		if (line.len <= 2)
			break; /* the body begins */
		if (line.len < NAME_LEN + 2 || strncasecmp(line.ptr, NAME, NAME_LEN) != 0)
			continue;
		line = text_trim((struct slice){ line.ptr + NAME_LEN, line.len - NAME_LEN - 2 });
		return is_ordinary_id(line) ? line : (struct slice){ "", 0 };
	}
	return (struct slice){ "", 0 };
}

static const char *subject_of(enum bounce_kind kind)
{
	return kind == BOUNCE_DELAYED  ? "Delayed mail: still being tried"
	       : kind == BOUNCE_DOUBLE ? "Undeliverable report: for the postmaster"
				       : "Undelivered mail returned to its sender";
}

static bool put_header(struct buf *out, const struct bounce_report *r, const char *id, const char *boundary)
{
	const char *host = r->conf->hostname;
	struct slice message_id = find_message_id(r->content);
	bool is_utf8;

	buf_printf(out, "Received: by %s (Postern)\r\n\tid %s; ", host, id);
	clock_format_rfc5322(out, time_of_id(r->id));
	buf_put_str(out, "\r\n");
	put_date(out, "Date", time_of_id(r->id));
	buf_printf(out, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n", host);
	is_utf8 = put_to(out, r->to);
	buf_printf(out, "Subject: %s\r\nMessage-ID: <%s@%s>\r\n", subject_of(r->bounce->kind), id, host);
	if (message_id.len > 0) {
		buf_printf(out, "In-Reply-To: %.*s\r\n", (int)message_id.len, message_id.ptr);
		buf_printf(out, "References: %.*s\r\n", (int)message_id.len, message_id.ptr);
	}
	buf_printf(out,
		   "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
		   "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"%s\"\r\n\r\n"
		   "This is a report in several parts for a mail program that understands MIME.\r\n",
		   boundary);
	return is_utf8;
}

/* --- plain words --- */

static void put_words(struct buf *out, const struct bounce_report *r)
{
	struct buf words;

	buf_init(&words, WORDS_BYTES_MAX);
	bounce_words_format(&words, r->bounce, r->conf);
	buf_put_str(out, "Content-Description: What happened\r\nContent-Type: text/plain; charset=utf-8\r\n"
			 "Content-Transfer-Encoding: quoted-printable\r\n\r\n");
	bounce_put_quoted_printable(out, buf_slice(&words));
	out->failed = out->failed || words.failed;
	buf_release(&words);
}

/* --- delivery status, RFC 3464 2 --- */

static void put_address_field(struct buf *out, const char *name, struct slice address)
{
	struct buf text;

	buf_init(&text, address.len * 10 + 1);
	bounce_put_ascii_address(&text, address);
	bounce_put_typed_field(out, name, text_is_ascii(address) ? "rfc822; " : "utf-8; ", buf_slice(&text));
	buf_release(&text);
}

static void put_message_fields(struct buf *out, const struct bounce_report *r)
{
	const struct queuefile *q = r->bounce->original;
	char id[SPOOL_ID_TEXT];
	struct buf envid;

	bounce_put_typed_field(out, "Reporting-MTA", "dns; ", slice_of(r->conf->hostname));
	buf_init(&envid, q->envid.len + 1);
	if (bounce_put_xtext_decoded(&envid, q->envid))
		bounce_put_field(out, "Original-Envelope-Id", buf_slice(&envid));
	buf_release(&envid);
	spool_id_format(q->id, id);
	bounce_put_field(out, "X-Postern-Queue-ID", slice_of(id));
	put_address_field(out, "X-Postern-Sender", q->sender);
	put_date(out, "Arrival-Date", q->arrival);
}

/* "rfc822;user+40example.com" as it was submitted, xtext undone after the type. */
static void put_original_recipient(struct buf *out, struct slice orcpt)
{
	const char *semicolon = orcpt.len > 0 ? memchr(orcpt.ptr, ';', orcpt.len) : NULL;
	size_t type_len = semicolon ? (size_t)(semicolon - orcpt.ptr) : 0;
	struct buf text;

	if (type_len == 0)
		return;
	buf_init(&text, orcpt.len + 2);
	buf_put(&text, orcpt.ptr, type_len);
	buf_put_str(&text, "; ");
	if (bounce_put_xtext_decoded(&text, (struct slice){ semicolon + 1, orcpt.len - type_len - 1 }))
		bounce_put_field(out, "Original-Recipient", buf_slice(&text));
	buf_release(&text);
}

/* digit "." 1*3digit "." 1*3digit, and of the class that the action asks for. */
static void put_status(struct buf *out, const struct bounce *b, const struct bounce_rcpt *r)
{
	static const char DIGITS[] = "0123456789";
	struct slice dsn = r->is_expired && r->dsn.len == 0 ? slice_of("4.4.7") : r->dsn;
	bool is_delayed = b->kind == BOUNCE_DELAYED;
	char text[16];
	size_t subject, detail;

	(void)snprintf(text, sizeof(text), "%.*s", (int)(dsn.len < sizeof(text) ? dsn.len : 0), dsn.ptr);
	subject = strlen(text) > 2 && text[1] == '.' ? strspn(text + 2, DIGITS) : 0;
	detail = subject > 0 && text[2 + subject] == '.' ? strspn(text + 3 + subject, DIGITS) : 0;
	if (subject < 1 || subject > 3 || detail < 1 || detail > 3 || text[3 + subject + detail] != '\0' ||
	    (text[0] != '4' && text[0] != '5'))
		(void)snprintf(text, sizeof(text), "%s", "5.0.0");
	if (is_delayed)
		text[0] = '4';
	bounce_put_field(out, "Status", slice_of(text));
}

/* The server's own words out of "host H[A] said: WORDS (in reply to X command)". */
static struct slice reply_within(struct slice text)
{
	static const char SAID[] = " said: ", IN_REPLY[] = " (in reply to ";
	const char *at = text.len > 0 ? memmem(text.ptr, text.len, SAID, sizeof(SAID) - 1) : NULL, *end = NULL;

	if (at && text.len > 5 && memcmp(text.ptr, "host ", 5) == 0) {
		at += sizeof(SAID) - 1;
		text = (struct slice){ at, (size_t)(text.ptr + text.len - at) };
	}
	for (at = text.ptr; text.len > 0 && text.ptr[text.len - 1] == ')'; at++) { /* the last one counts */
		at = memmem(at, (size_t)(text.ptr + text.len - at), IN_REPLY, sizeof(IN_REPLY) - 1);
		if (!at)
			break;
		end = at;
	}
	if (end)
		text.len = (size_t)(end - text.ptr);
	return text;
}

static void put_diagnostic(struct buf *out, const struct bounce_rcpt *r)
{
	struct slice reply = reply_within(r->text);
	char code[8];
	struct buf text;

	if (r->code == 0) {
		bounce_put_typed_field(out, "Diagnostic-Code", "X-Postern; ", r->text);
		return;
	}
	(void)snprintf(code, sizeof(code), "%u", r->code);
	buf_init(&text, reply.len + 10);
	if (reply.len < 3 || memcmp(reply.ptr, code, 3) != 0)
		buf_printf(&text, "%s ", code);
	buf_put_slice(&text, reply);
	bounce_put_typed_field(out, "Diagnostic-Code", "smtp; ", buf_slice(&text));
	buf_release(&text);
}

static void put_rcpt_fields(struct buf *out, const struct bounce *b, const struct bounce_rcpt *r)
{
	const struct queuefile_rcpt *rcpt = &b->original->rcpt[r->index];
	const char *bracket = r->relay.len > 0 ? memchr(r->relay.ptr, '[', r->relay.len) : NULL;

	buf_put_str(out, "\r\n");
	put_original_recipient(out, rcpt->orcpt);
	put_address_field(out, "Final-Recipient", rcpt->address);
	bounce_put_field(out, "Action", slice_of(b->kind == BOUNCE_DELAYED ? "delayed" : "failed"));
	put_status(out, b, r);
	if (bracket)
		bounce_put_typed_field(out, "Remote-MTA", "dns; ",
				       (struct slice){ r->relay.ptr, (size_t)(bracket - r->relay.ptr) });
	put_diagnostic(out, r);
	if (r->when.ms > 0)
		put_date(out, "Last-Attempt-Date", r->when);
	if (b->kind == BOUNCE_DELAYED)
		put_date(out, "Will-Retry-Until", b->retry_until);
}

static void put_status_part(struct buf *out, const struct bounce_report *r)
{
	buf_put_str(out, "Content-Description: Delivery status\r\nContent-Type: message/delivery-status\r\n\r\n");
	put_message_fields(out, r);
	for (uint32_t i = 0; i < r->bounce->rcpt_count && !out->failed; i++)
		put_rcpt_fields(out, r->bounce, &r->bounce->rcpt[i]);
}

/* --- the original --- */

/*
 * A header with 8-bit text goes as quoted-printable (RFC 6522 4), a message with such a header as base64 message/global
 * (RFC 6532 3.7): so a report never needs SMTPUTF8 for what is in it. Only an 8-bit body goes as it is.
 */
static void put_content(struct buf *out, const struct bounce_report *r, unsigned *flags)
{
	unsigned original = r->bounce->original->flags;

	buf_printf(out, "Content-Description: %s\r\n", r->is_content_full ? "Original message" : "Original header");
	if (!r->is_content_full) {
		buf_put_str(out, "Content-Type: text/rfc822-headers\r\n");
		if (!text_is_ascii(r->content)) {
			buf_put_str(out, "Content-Transfer-Encoding: quoted-printable\r\n\r\n");
			bounce_put_quoted_printable(out, r->content);
			return;
		}
		buf_put_str(out, "\r\n");
	} else if (original & QUEUEFILE_UTF8) {
		buf_put_str(out, "Content-Type: message/global\r\nContent-Transfer-Encoding: base64\r\n\r\n");
		bounce_put_base64(out, r->content);
		return;
	} else if (original & QUEUEFILE_8BIT) {
		buf_put_str(out, "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
		*flags |= QUEUEFILE_8BIT;
	} else {
		buf_put_str(out, "Content-Type: message/rfc822\r\n\r\n");
	}
	buf_put_slice(out, r->content);
}

void bounce_report_format(struct buf *out, const struct bounce_report *r, unsigned *flags)
{
	size_t begin = out->len;
	char id[SPOOL_ID_TEXT], boundary[2 * SPOOL_ID_TEXT];

	*flags = 0;
	spool_id_format(r->id, id);
	/* "=_" occurs in no quoted-printable text, the id was unknown when the original was written */
	(void)snprintf(boundary, sizeof(boundary), "=_report_%s", id);
	if (put_header(out, r, id, boundary))
		*flags |= QUEUEFILE_UTF8;
	buf_printf(out, "\r\n--%s\r\n", boundary);
	put_words(out, r);
	buf_printf(out, "\r\n--%s\r\n", boundary);
	put_status_part(out, r);
	buf_printf(out, "\r\n--%s\r\n", boundary);
	put_content(out, r, flags);
	buf_printf(out, "\r\n--%s--\r\n", boundary);
	if (!out->failed && memmem(out->ptr + begin, out->len - begin, "\n.", 2))
		*flags |= QUEUEFILE_DOTS;
}
