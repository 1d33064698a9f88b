/* rewrite.c - From, Sender and Reply-To for a server that insists on a sender. */
#include "lib/rewrite.h"
#include "lib/address.h"
#include "lib/field.h"
#include "lib/text.h"

enum { ADDRESSES_MAX = 1000000 }; /* of one field: as many as a header can hold */

bool rewrite_applies(const struct conf_server *server, struct slice address)
{
	if (!server->rewrite_sender || server->rewrite == REWRITE_NEVER || address.len == 0)
		return false;
	if (slice_equal_nocase(address, slice_of(server->rewrite_sender)))
		return false;
	if (server->rewrite == REWRITE_ALWAYS)
		return true;
	for (unsigned i = 0; i < server->allowed_senders.count; i++)
		if (address_matches(slice_of(server->allowed_senders.item[i]), address))
			return false;
	return true;
}

static bool is_space(char c)
{
	return text_is_blank(c) || c == '\r' || c == '\n';
}

/* Blanks and folds off both ends. */
static struct slice trim(struct slice s)
{
	while (s.len > 0 && is_space(s.ptr[0]))
		s = (struct slice){ s.ptr + 1, s.len - 1 };
	while (s.len > 0 && is_space(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

/* --- what a field of addresses says --- */

struct judged {
	const struct rewrite *r;
	unsigned count, same, foreign; /* addresses; the new one among them; those that the server does not take */
	bool is_broken;                /* no list of addresses as RFC 5322 has it */
	struct slice saved;            /* broken, but this address stands in angle brackets; borrowed */
	struct slice name;             /* what stands before it */
};

static void judge_address(void *arg, struct slice address)
{
	struct judged *j = arg;

	j->count++;
	if (slice_equal_nocase(address, j->r->address) ||
	    slice_equal_nocase(address, slice_of(j->r->server->rewrite_sender)))
		j->same++;
	if (rewrite_applies(j->r->server, address))
		j->foreign++;
}

/* "Smith, John <john@there.example>" and the like are no RFC 5322, but everywhere. */
static void save_address(struct judged *j, struct slice value)
{
	const char *end = value.ptr + value.len, *open = value.len > 0 ? memrchr(value.ptr, '<', value.len) : NULL;
	const char *close = open ? memchr(open, '>', (size_t)(end - open)) : NULL;
	struct address_parts parts;
	struct slice address;

	if (!close)
		return;
	address = trim((struct slice){ open + 1, (size_t)(close - open) - 1 });
	if (address_parse(address, &parts) != ADDRESS_OK)
		return;
	j->saved = address;
	j->name = trim((struct slice){ value.ptr, (size_t)(open - value.ptr) });
	judge_address(j, address);
}

static void judge(struct judged *j, const struct rewrite *r, struct slice value)
{
	struct slice where;

	*j = (struct judged){ .r = r };
	if (address_list_parse(value, ADDRESSES_MAX, judge_address, j, &where) == ADDRESS_OK)
		return;
	*j = (struct judged){ .r = r, .is_broken = true };
	save_address(j, value);
}

/* --- one mailbox of a well-formed list --- */

struct mailbox {
	struct slice before, after; /* the address: display name; comments */
	bool is_angle;
};

/* Behind the quoted string or domain literal that begins at `at`. */
static const char *skip_enclosed(const char *at, const char *end, char close)
{
	for (at++; at < end && *at != close; at++)
		if (*at == '\\' && at + 1 < end)
			at++;
	return at < end ? at + 1 : end;
}

static const char *skip_comment(const char *at, const char *end)
{
	unsigned depth = 0;

	for (; at < end; at++) {
		if (*at == '\\' && at + 1 < end)
			at++;
		else if (*at == '(')
			depth++;
		else if (*at == ')' && --depth == 0)
			return at + 1;
	}
	return end;
}

struct mailbox_scan {
	const char *begin, *address, *address_end; /* address NULL: not come yet */
	bool is_angle, is_inside;
};

static const char *scan_address(struct mailbox_scan *m, const char *at, const char *end)
{
	const char *next = at + 1;

	if (*at == '"')
		next = skip_enclosed(at, end, '"');
	else if (*at == '[')
		next = skip_enclosed(at, end, ']');
	if (*at == '<') {
		m->is_angle = m->is_inside = true;
		m->address = at;
	} else if (!m->address) {
		m->address = at;
	}
	if (*at == '>')
		m->is_inside = false;
	if (!m->is_angle || *at == '<' || m->is_inside || *at == '>')
		m->address_end = next;
	return next;
}

/* The first that has an address. `value` was found well-formed; false: there is none. */
static bool find_mailbox(struct slice value, struct mailbox *out)
{
	const char *at = value.ptr, *end = value.ptr + value.len;
	struct mailbox_scan m = { .begin = at };

	while (at < end) {
		bool is_separator = !m.is_inside && (*at == ',' || *at == ';' || *at == ':');

		if (is_separator && m.address && *at != ':')
			break;
		if (is_separator)
			m = (struct mailbox_scan){ .begin = at + 1 };
		if (*at == '(')
			at = skip_comment(at, end);
		else if (is_separator || is_space(*at))
			at++;
		else
			at = scan_address(&m, at, end);
	}
	if (!m.address)
		return false;
	out->is_angle = m.is_angle;
	out->before = (struct slice){ m.begin, (size_t)(m.address - m.begin) };
	while (out->before.len > 0 && is_space(out->before.ptr[0]))
		out->before = (struct slice){ out->before.ptr + 1, out->before.len - 1 };
	out->after = (struct slice){ m.address_end, (size_t)(at - m.address_end) };
	while (out->after.len > 0 && is_space(out->after.ptr[out->after.len - 1]))
		out->after.len--;
	return true;
}

/* --- writing --- */

/* Appends to the present line, or to a new one when it would pass `max` and there is something to leave behind. */
static void put_folding(struct buf *out, struct slice text, size_t max)
{
	const char *newline = out->len > 0 ? memrchr(out->ptr, '\n', out->len) : NULL;
	size_t begin = newline ? (size_t)(newline - out->ptr) + 1 : 0;
	struct slice rest = text, first;
	struct slice line = trim((struct slice){ out->ptr + begin, out->len - begin });
	size_t full = out->len - begin + (field_take_line(&rest, &first) ? first.len : 0);
	bool is_name = line.len > 0 && line.ptr[line.len - 1] == ':'; /* of the field, and no more */

	if (line.len > 0 && full > (is_name ? FIELD_LINE_MAX : max)) {
		while (text_is_blank(out->ptr[out->len - 1]))
			out->len--;
		buf_put_str(out, text.len > 0 && text_is_blank(text.ptr[0]) ? "\r\n" : "\r\n ");
	}
	buf_put_slice(out, text);
}

static void put_address(struct buf *out, struct slice address, bool is_angle)
{
	struct buf text;

	buf_init(&text, 2 * ADDRESS_MAX);
	if (is_angle)
		buf_put_char(&text, '<');
	buf_put_slice(&text, address);
	if (is_angle)
		buf_put_char(&text, '>');
	put_folding(out, buf_slice(&text), REWRITE_FOLD_AT);
	buf_release(&text);
}

/* A display name that was not fit to be one, in quotes. Encoded words mean nothing in there: better none. */
static bool put_quoted(struct buf *out, struct slice name)
{
	struct buf text;
	bool is_fit = name.len > 0 && name.len <= REWRITE_NAME_MAX && !memmem(name.ptr, name.len, "=?", 2);

	if (!is_fit)
		return false;
	buf_init(&text, REWRITE_NAME_MAX + 3);
	buf_put_char(&text, '"');
	for (size_t i = 0; i < name.len; i++) {
		uint8_t c = (uint8_t)name.ptr[i];

		if (c != '"' && c != '\\' && c != 127 && (c >= ' ' || c == '\t'))
			buf_put_char(&text, (char)c);
	}
	buf_put_str(&text, "\" ");
	put_folding(out, buf_slice(&text), FIELD_LINE_MAX);
	buf_release(&text);
	return true;
}

/* The field with its first mailbox's name and comments, and the new address. */
static void put_changed(struct buf *out, const struct rewrite *r, const char *name, struct slice value)
{
	struct judged j;
	struct mailbox m;

	judge(&j, r, value);
	buf_put_str(out, name);
	buf_put_str(out, ": ");
	if (j.is_broken) {
		put_address(out, r->address, put_quoted(out, j.name));
	} else if (!find_mailbox(value, &m)) {
		put_address(out, r->address, false);
	} else {
		put_folding(out, m.before, FIELD_LINE_MAX);
		put_address(out, r->address, m.is_angle);
		put_folding(out, m.after, FIELD_LINE_MAX);
	}
	buf_put_str(out, "\r\n");
}

/* One old From behind "Reply-To: " and those before it. false: nobody can be answered by it. */
static bool put_reply_part(struct buf *out, const struct rewrite *r, struct slice value, bool is_first)
{
	struct judged j;

	judge(&j, r, value);
	if (j.count == 0)
		return false;
	if (!is_first)
		buf_put_str(out, ",\r\n ");
	if (j.is_broken)
		put_address(out, j.saved, put_quoted(out, j.name));
	else
		put_folding(out, trim(value), FIELD_LINE_MAX);
	return true;
}

static void put_reply_to(struct buf *out, const struct rewrite *r, struct slice header)
{
	struct field f;
	bool is_first = true;

	buf_put_str(out, "Reply-To: ");
	while (field_take(&header, &f))
		if (f.kind == FIELD_FROM && put_reply_part(out, r, f.value, is_first))
			is_first = false;
	if (is_first)
		put_address(out, r->sender, false);
	buf_put_str(out, "\r\n");
}

/* --- the header as a whole --- */

struct survey {
	unsigned authors, same, foreign; /* addresses in all From fields; the new one among them; those not taken */
	bool has_from, is_from_changed;
	bool is_from_new;          /* From has one author, and that is the new address, before or after */
	bool has_reply_to;         /* one that says something */
	bool is_sender_changed;    /* some Sender field changes or goes */
	struct slice from;         /* what the new From is made of: the first with an address, else the first */
	bool has_from_any_address; /* that one has one */
};

enum sender_fate { SENDER_STAYS, SENDER_GOES, SENDER_CHANGES };

static enum sender_fate sender_fate(const struct survey *s, const struct rewrite *r, struct slice value)
{
	struct judged j;

	judge(&j, r, value);
	if (j.foreign > 0 || (j.count == 0 && s->is_from_changed))
		return s->is_from_new ? SENDER_GOES : SENDER_CHANGES;
	return s->is_from_changed && j.same == j.count ? SENDER_GOES : SENDER_STAYS;
}

static void survey_from(struct survey *s, const struct rewrite *r, struct slice value)
{
	struct judged j;

	judge(&j, r, value);
	s->authors += j.count;
	s->same += j.same;
	s->foreign += j.foreign;
	if (!s->has_from || (!s->has_from_any_address && j.count > 0)) {
		s->from = value;
		s->has_from_any_address = j.count > 0;
	}
	s->has_from = true;
}

static void survey_header(struct survey *s, const struct rewrite *r, struct slice header)
{
	struct slice rest = header;
	struct field f;

	*s = (struct survey){ .from = { "", 0 } };
	while (field_take(&rest, &f)) {
		if (f.kind == FIELD_FROM)
			survey_from(s, r, f.value);
		else if (f.kind == FIELD_REPLY_TO)
			s->has_reply_to |= trim(f.value).len > 0;
	}
	s->is_from_changed = s->foreign > 0 || s->authors == 0;
	s->is_from_new = s->is_from_changed || (s->authors == 1 && s->same == 1);
	for (rest = header; field_take(&rest, &f);)
		if (f.kind == FIELD_SENDER)
			s->is_sender_changed |= sender_fate(s, r, f.value) != SENDER_STAYS;
}

static void put_from(struct buf *out, const struct rewrite *r, const struct survey *s, struct slice header)
{
	put_changed(out, r, "From", s->from);
	if (!s->has_reply_to)
		put_reply_to(out, r, header);
}

/* One field, changed as the survey says. */
static void put_field(struct buf *out, const struct rewrite *r, const struct survey *s, const struct field *f)
{
	enum sender_fate fate = f->kind == FIELD_SENDER ? sender_fate(s, r, f->value) : SENDER_STAYS;

	if (fate == SENDER_GOES)
		return;
	if (fate == SENDER_CHANGES)
		put_changed(out, r, "Sender", f->value);
	else
		buf_put_slice(out, f->raw);
}

bool rewrite_header(struct buf *out, const struct rewrite *r, struct slice header)
{
	struct slice rest = header;
	struct field f;
	struct survey s;
	bool is_from_put;

	survey_header(&s, r, header);
	if (!s.is_from_changed && !s.is_sender_changed)
		return false;
	is_from_put = !s.is_from_changed;
	while (field_take(&rest, &f)) {
		if (s.is_from_changed && f.kind == FIELD_FROM) {
			if (!is_from_put)
				put_from(out, r, &s, header);
			is_from_put = true;
		} else if (!s.is_from_changed || s.has_reply_to || f.kind != FIELD_REPLY_TO) {
			put_field(out, r, &s, &f);
		}
	}
	if (!is_from_put) {
		if (out->len > 0 && out->ptr[out->len - 1] != '\n')
			buf_put_str(out, "\r\n");
		put_from(out, r, &s, header);
	}
	return true;
}
