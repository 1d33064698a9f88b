/* header.c - what a header says about who sends what to whom, and the header that goes out. */
#include "pickup/header.h"
#include "lib/field.h"
#include "lib/spool.h"
#include "lib/text.h"
#include "pickup/body.h"

enum { REASON_MAX = 2000, QUOTE_MAX = 200, MULTIPLE = 1 << 20 };

void header_init(struct header *h)
{
	*h = (struct header){ 0 };
	envelope_init(&h->envelope);
	buf_init(&h->text, 2 * (size_t)HEADER_BYTES_MAX);
	buf_init(&h->reason, REASON_MAX);
	buf_init(&h->scratch, HEADER_BYTES_MAX);
}

void header_release(struct header *h)
{
	envelope_release(&h->envelope);
	buf_release(&h->text);
	buf_release(&h->reason);
	buf_release(&h->scratch);
}

/* --- where it ends --- */

/* Of the line that mbox files put before a header, line end included; "From : a@b" is a field. */
static size_t mbox_line_length(struct slice bytes)
{
	static const char MBOX[] = "From ";
	struct slice rest = bytes, line;

	if (!field_take_line(&rest, &line) || line.len < sizeof(MBOX) - 1 ||
	    memcmp(line.ptr, MBOX, sizeof(MBOX) - 1) != 0 || field_name_length(line) > 0)
		return 0;
	return bytes.len - rest.len;
}

enum header_extent header_measure(struct slice bytes, bool is_all, struct header_range *out)
{
	struct slice rest = bytes, line;
	size_t len;

	*out = (struct header_range){ 0 };
	if (!is_all && (bytes.len == 0 || !memchr(bytes.ptr, '\n', bytes.len)))
		return HEADER_NEEDS_MORE;
	out->begin = mbox_line_length(bytes);
	rest = (struct slice){ bytes.ptr + out->begin, bytes.len - out->begin };
	if (!field_measure(rest, is_all, &len))
		return HEADER_NEEDS_MORE;
	out->end = out->body = out->begin + len;
	rest = (struct slice){ rest.ptr + len, rest.len - len };
	if (field_take_line(&rest, &line)) {
		out->has_no_blank = line.len > 0;
		out->body = line.len > 0 ? out->end : bytes.len - rest.len;
	}
	return HEADER_WHOLE;
}

/* --- rejecting --- */

static bool reject(struct header *h, const char *text)
{
	buf_clear(&h->reason);
	buf_put_str(&h->reason, text);
	return false;
}

/* "FIELD: ADDRESS is not of the form user@domain" */
static bool reject_value(struct header *h, struct slice name, struct slice value, const char *wrong)
{
	buf_clear(&h->reason);
	text_escape(&h->reason, name, QUOTE_MAX);
	buf_put_str(&h->reason, ": \"");
	text_escape(&h->reason, value, QUOTE_MAX);
	buf_printf(&h->reason, "\" %s", wrong);
	return false;
}

/* --- first pass: which fields are there --- */

struct survey {
	struct field first[FIELD_KIND_COUNT]; /* the first of each kind that has a value */
	unsigned count[FIELD_KIND_COUNT];
	const char *resent_end; /* fields behind this belong to an earlier resending */
	bool is_resent, has_sender, has_receivers;
	const char *top_end; /* the X-Sender and X-Receiver lines that are the envelope end here */
};

static bool is_resent_kind(enum field_kind kind)
{
	return kind == FIELD_RESENT_TO || kind == FIELD_RESENT_CC || kind == FIELD_RESENT_BCC ||
	       kind == FIELD_RESENT_FROM || kind == FIELD_RESENT_SENDER;
}

static bool is_option_kind(enum field_kind kind)
{
	return kind == FIELD_X_POSTERN_PRIORITY || kind == FIELD_X_POSTERN_SEND_AFTER || kind == FIELD_X_POSTERN_SERVER;
}

static bool is_top_kind(enum field_kind kind)
{
	return kind == FIELD_X_SENDER || kind == FIELD_X_RECEIVER;
}

static void unfold(struct header *h, struct slice value)
{
	buf_clear(&h->scratch);
	field_unfold(&h->scratch, value);
}

static void survey_fields(struct header *h, struct slice rest, struct survey *s)
{
	const char *end = rest.ptr + rest.len;
	struct field f;

	*s = (struct survey){ .resent_end = end };
	while (field_take(&rest, &f)) {
		bool is_new_block = rest.ptr <= s->resent_end;

		if (!s->top_end && !is_top_kind(f.kind) && !is_option_kind(f.kind))
			s->top_end = f.name.ptr;
		if (f.kind == FIELD_OTHER || (is_resent_kind(f.kind) && !is_new_block))
			continue;
		if (is_top_kind(f.kind) && s->top_end)
			continue;
		s->is_resent |= f.kind == FIELD_RESENT_TO || f.kind == FIELD_RESENT_CC || f.kind == FIELD_RESENT_BCC;
		if (f.kind == FIELD_RECEIVED && s->is_resent && is_new_block)
			s->resent_end = f.name.ptr; /* every transfer puts Received above the Resent fields it saw */
		unfold(h, f.value);
		if (h->scratch.len > 0 && s->count[f.kind]++ == 0)
			s->first[f.kind] = f;
	}
	if (!s->top_end)
		s->top_end = end;
	s->has_sender = s->count[FIELD_X_SENDER] > 0;
	s->has_receivers = s->count[FIELD_X_RECEIVER] > 0;
}

/* --- the envelope --- */

struct first_address {
	char text[ADDRESS_MAX];
	size_t len;
	unsigned count;
};

static void keep_first(void *arg, struct slice address)
{
	struct first_address *first = arg;

	if (first->count++ > 0)
		return;
	memcpy(first->text, address.ptr, address.len);
	first->len = address.len;
}

static void add_rcpt(void *arg, struct slice address)
{
	envelope_add_rcpt(arg, address);
}

/* X-Sender or X-Receiver: exactly one address. */
static bool read_top(struct header *h, const struct field *f)
{
	struct address_parts parts;
	enum address_result result;
	struct slice value;

	unfold(h, f->value);
	value = buf_slice(&h->scratch);
	result = address_parse(value, &parts);
	if (result == ADDRESS_EMPTY && f->kind == FIELD_X_SENDER)
		return true;
	if (result != ADDRESS_OK)
		return reject_value(h, f->name, value, address_error(result));
	value = (struct slice){ parts.local.ptr, (size_t)(parts.domain.ptr + parts.domain.len - parts.local.ptr) };
	if (f->kind == FIELD_X_SENDER)
		envelope_set_sender(&h->envelope, value);
	else
		envelope_add_rcpt(&h->envelope, value);
	return true;
}

static bool read_sender(struct header *h, const struct survey *s, const struct header_source *source)
{
	static const enum field_kind PLAIN[] = { FIELD_SENDER, FIELD_FROM },
				     RESENT[] = { FIELD_RESENT_SENDER, FIELD_RESENT_FROM, FIELD_SENDER, FIELD_FROM };
	const enum field_kind *kinds = s->is_resent ? RESENT : PLAIN;
	size_t kind_count = s->is_resent ? ARRAY_LEN(RESENT) : ARRAY_LEN(PLAIN);

	for (size_t i = 0; i < kind_count; i++) {
		const struct field *f = &s->first[kinds[i]];
		struct first_address first = { .count = 0 };
		struct slice where;
		enum address_result result;

		if (s->count[kinds[i]] == 0)
			continue;
		result = address_list_parse(f->value, MULTIPLE, keep_first, &first, &where);
		if (result != ADDRESS_OK)
			return reject_value(h, f->name, where, address_error(result));
		if (first.count == 0) /* "From: Nobody:;", RFC 6854 */
			continue;
		envelope_set_sender(&h->envelope, (struct slice){ first.text, first.len });
		return true;
	}
	envelope_set_sender(&h->envelope,
			    source->account.len > 0 ? source->account : slice_of(source->conf->postmaster));
	return true;
}

static bool names_rcpts(const struct survey *s, const struct field *f)
{
	if (s->is_resent)
		return (f->kind == FIELD_RESENT_TO || f->kind == FIELD_RESENT_CC || f->kind == FIELD_RESENT_BCC) &&
		       f->name.ptr < s->resent_end;
	return f->kind == FIELD_TO || f->kind == FIELD_CC || f->kind == FIELD_BCC;
}

static bool read_rcpts(struct header *h, struct slice rest, const struct survey *s)
{
	struct field f;

	while (field_take(&rest, &f) && !h->envelope.is_over_limit) {
		struct slice where;
		enum address_result result;

		if (s->has_receivers || !names_rcpts(s, &f))
			continue;
		result = address_list_parse(f.value, UINT32_MAX, add_rcpt, &h->envelope, &where);
		if (result != ADDRESS_OK)
			return reject_value(h, f.name, where, address_error(result));
	}
	return true;
}

static bool read_envelope(struct header *h, const struct header_source *source, const struct survey *s)
{
	struct slice top = { source->fields.ptr, (size_t)(s->top_end - source->fields.ptr) };
	struct field f;

	if (s->count[FIELD_X_SENDER] > 1)
		return reject(h, "there is more than one X-Sender line");
	while (field_take(&top, &f)) {
		if (is_top_kind(f.kind) && !read_top(h, &f))
			return false;
	}
	if (!s->has_sender && !read_sender(h, s, source))
		return false;
	if (!read_rcpts(h, source->fields, s))
		return false;
	if (h->envelope.is_over_limit) {
		buf_clear(&h->reason);
		buf_printf(&h->reason, "it has more than %u recipients (recipient-limit)", h->envelope.rcpt_limit);
		return false;
	}
	if (h->envelope.rcpt_count == 0)
		return reject(h, s->is_resent ? "it has no recipients: Resent-To, Resent-Cc and Resent-Bcc name nobody"
					      : "it has no recipients: To, Cc, Bcc and X-Receiver name nobody");
	return true;
}

/* --- options --- */

static bool read_priority(struct header *h, const struct field *f, struct slice value)
{
	static const char *const WORDS[] = {
		[PRIORITY_HIGH] = "high", [PRIORITY_NORMAL] = "normal", [PRIORITY_BULK] = "bulk"
	};

	for (unsigned i = 0; i < PRIORITY_COUNT; i++) {
		if (slice_equal_nocase(value, slice_of(WORDS[i]))) {
			h->priority = (enum mail_priority)i;
			return true;
		}
	}
	return reject_value(h, f->name, value, "is none of high, normal and bulk");
}

static bool read_server(struct header *h, const struct field *f, struct slice value, const struct conf *conf)
{
	int index = conf_find_server(conf, value);

	if (index < 0)
		return reject_value(h, f->name, value, "is no server of the configuration");
	h->server = slice_of(conf->server[index].name);
	return true;
}

static bool read_option(struct header *h, const struct field *f, const struct conf *conf)
{
	struct slice value;

	unfold(h, f->value);
	value = buf_slice(&h->scratch);
	if (f->kind == FIELD_X_POSTERN_PRIORITY)
		return read_priority(h, f, value);
	if (f->kind == FIELD_X_POSTERN_SERVER)
		return read_server(h, f, value, conf);
	if (!clock_parse_rfc5322(value, &h->send_after))
		return reject_value(h, f->name, value,
				    "is no date of RFC 5322, like \"Sat, 21 Nov 2026 15:04:05 +0000\"");
	return true;
}

static bool read_options(struct header *h, const struct header_source *source, const struct survey *s)
{
	static const enum field_kind KINDS[] = { FIELD_X_POSTERN_PRIORITY, FIELD_X_POSTERN_SEND_AFTER,
						 FIELD_X_POSTERN_SERVER };

	for (size_t i = 0; i < ARRAY_LEN(KINDS); i++) {
		const struct field *f = &s->first[KINDS[i]];

		if (s->count[KINDS[i]] == 0)
			continue;
		if (s->count[KINDS[i]] > 1)
			return reject_value(h, f->name, f->value, "is given twice");
		if (!read_option(h, f, source->conf))
			return false;
	}
	return true;
}

/* --- what is sent --- */

static void put_received(struct header *h, const struct header_source *source, const char *id)
{
	buf_printf(&h->text, "Received: by %s (Postern, from userid %u)\r\n\tid %s; ", source->conf->hostname,
		   source->uid, id);
	clock_format_rfc5322(&h->text, source->arrival);
	buf_put_str(&h->text, "\r\n");
}

static bool is_dropped(const struct survey *s, const struct field *f)
{
	switch (f->kind) {
	case FIELD_BCC:
	case FIELD_RESENT_BCC:
	case FIELD_RETURN_PATH:    /* RFC 5321 4.4: the final system's to add */
	case FIELD_CONTENT_LENGTH: /* no longer true */
	case FIELD_X_POSTERN_PRIORITY:
	case FIELD_X_POSTERN_SEND_AFTER:
	case FIELD_X_POSTERN_SERVER:
		return true;
	case FIELD_X_SENDER:
	case FIELD_X_RECEIVER:
		return f->name.ptr < s->top_end;
	case FIELD_DATE:
	case FIELD_FROM:
	case FIELD_MESSAGE_ID:
		return s->count[f->kind] == 0; /* empty: as good as missing */
	default:
		return false;
	}
}

static void put_missing(struct header *h, const struct header_source *source, const struct survey *s, const char *id)
{
	struct slice sender = envelope_sender(&h->envelope);

	if (s->count[FIELD_DATE] == 0) {
		buf_put_str(&h->text, "Date: ");
		clock_format_rfc5322(&h->text, source->arrival);
		buf_put_str(&h->text, "\r\n");
	}
	if (s->count[FIELD_FROM] == 0 && sender.len == 0) {
		buf_printf(&h->text, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n", source->conf->hostname);
	} else if (s->count[FIELD_FROM] == 0) {
		buf_put_str(&h->text, "From: ");
		buf_put_slice(&h->text, sender);
		buf_put_str(&h->text, "\r\n");
	}
	if (s->count[FIELD_MESSAGE_ID] == 0)
		buf_printf(&h->text, "Message-ID: <%s@%s>\r\n", id, source->conf->hostname);
}

static void put_text(struct header *h, const struct header_source *source, const struct survey *s)
{
	struct slice rest = source->fields;
	char id[SPOOL_ID_TEXT];
	struct field f;

	spool_id_format(source->id, id);
	put_received(h, source, id);
	while (field_take(&rest, &f)) {
		if (is_dropped(s, &f))
			continue;
		if (f.name.ptr[0] == '.')
			h->flags |= QUEUEFILE_DOTS;
		field_put(&h->text, &f);
	}
	put_missing(h, source, s, id);
	if (body_is_8bit(h->text.ptr, h->text.len))
		h->flags |= QUEUEFILE_8BIT;
	if (h->envelope.is_utf8)
		h->flags |= QUEUEFILE_UTF8;
}

/* A Bcc that a malformed line pushed into the body would be shown to everybody. */
static bool has_stray_bcc(struct slice behind)
{
	struct slice line;

	while (field_take_line(&behind, &line) && line.len > 0) {
		enum field_kind kind = field_kind_of((struct slice){ line.ptr, field_name_length(line) });

		if (kind == FIELD_BCC || kind == FIELD_RESENT_BCC)
			return true;
	}
	return false;
}

bool header_convert(struct header *h, const struct header_source *source)
{
	struct survey s;

	envelope_clear(&h->envelope, source->conf->recipient_limit);
	buf_clear(&h->text);
	buf_clear(&h->reason);
	h->priority = PRIORITY_NORMAL;
	h->send_after = (struct wall){ 0 };
	h->server = (struct slice){ "", 0 };
	h->flags = 0;
	if (memchr(source->fields.ptr, '\0', source->fields.len))
		return reject(h, "there is a NUL byte in its header");
	if (has_stray_bcc(source->behind))
		return reject(h, "a line of its header is no header field, and a Bcc stands behind it");
	survey_fields(h, source->fields, &s);
	if (s.count[FIELD_RECEIVED] > HEADER_HOPS_MAX)
		return reject(h, "it has too many Received lines: a mail loop");
	if (!read_options(h, source, &s) || !read_envelope(h, source, &s))
		return false;
	put_text(h, source, &s);
	if (h->text.failed)
		return reject(h, "its header is too long");
	return true;
}
