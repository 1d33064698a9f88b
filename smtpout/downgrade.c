/* downgrade.c - eight-bit content as quoted-printable. */
#include "smtpout/downgrade.h"
#include "lib/field.h"
#include "lib/text.h"
#include "smtpout/mime_header.h"

enum {
	LINE_MAX_BYTES = 2048,   /* a longer line is taken in pieces; the spool has none of more than 998 */
	HEADER_MAX_BYTES = 8192, /* of a header that we read; what is behind it is not looked at */
	QP_LINE_MAX = 76
};

/* What becomes of an entity: a message, or a part of one. */
enum action { KEEP, ENCODE, LABEL_7BIT };

enum place { IN_HEADER, IN_LEAF, IN_MULTIPART };

struct level {
	char boundary[MIME_BOUNDARY_MAX];
	size_t boundary_len;
	bool is_digest;
};

struct downgrade {
	struct buf line;    /* since the last line end, or since the last piece of a long line */
	struct buf header;  /* the field being read, folded lines and all */
	bool is_second;     /* time through */
	bool is_line_begun; /* pieces of the present line were taken already */
	bool is_lost;       /* too many parts or levels: the rest stays as it is */
	enum place place;
	unsigned depth;
	struct level level[DOWNGRADE_DEPTH_MAX];
	struct mime_header mime; /* of the entity in hand */
	bool is_top;             /* the message's own header */
	bool has_field;          /* the header in hand: a line that begins with a blank goes on with it */
	unsigned entity;         /* number of the one in hand, plus 1 */
	unsigned count;
	uint8_t *action; /* by entity */
	size_t action_room;
	struct mime_utf8 utf8; /* of the top entity's body */
	unsigned column;       /* of the quoted-printable line */
	struct buf *out;       /* NULL while looking */
};

struct downgrade *downgrade_new(void)
{
	struct downgrade *d = xcalloc(1, sizeof(*d));

	buf_init(&d->line, LINE_MAX_BYTES + 1);
	buf_init(&d->header, HEADER_MAX_BYTES + 1);
	return d;
}

void downgrade_free(struct downgrade **downgrade)
{
	struct downgrade *d = *downgrade;

	if (!d)
		return;
	buf_release(&d->line);
	buf_release(&d->header);
	free(d->action);
	free(d);
	*downgrade = NULL;
}

static void emit(struct downgrade *d, struct slice s)
{
	if (d->out)
		buf_put_slice(d->out, s);
}

static void emit_str(struct downgrade *d, const char *text)
{
	emit(d, slice_of(text));
}

/* --- entities --- */

static enum action action_of(const struct downgrade *d)
{
	return d->is_second && d->entity > 0 ? (enum action)d->action[d->entity - 1] : KEEP;
}

static void decide(struct downgrade *d, enum action action)
{
	if (!d->is_second && d->entity > 0)
		d->action[d->entity - 1] = (uint8_t)action;
}

static void begin_entity(struct downgrade *d)
{
	d->place = IN_HEADER;
	d->mime = (struct mime_header){ 0 };
	d->has_field = false;
	if (d->count == DOWNGRADE_ENTITIES_MAX) {
		d->is_lost = true;
		d->entity = 0;
		return;
	}
	d->is_top = d->count == 0;
	d->entity = ++d->count;
	if (d->is_second)
		return;
	if (d->count > d->action_room) {
		d->action_room = d->action_room ? 2 * d->action_room : 16;
		d->action = xrealloc(d->action, d->action_room, 1);
	}
	d->action[d->entity - 1] = KEEP;
}

/* --- headers --- */

/* The field is whole. Of what changes, the old label is dropped. */
static void end_field(struct downgrade *d)
{
	bool is_label = mime_header_take(&d->mime, buf_slice(&d->header));

	if (!is_label || action_of(d) == KEEP)
		emit(d, buf_slice(&d->header));
	buf_clear(&d->header);
}

static void put_labels(struct downgrade *d)
{
	enum action action = action_of(d);

	if (action == KEEP)
		return;
	if (d->is_top && !d->mime.has_version)
		emit_str(d, "MIME-Version: 1.0\r\n");
	if (d->is_top && !d->mime.has_type)
		emit_str(d, mime_utf8_is_valid(&d->utf8) ? "Content-Type: text/plain; charset=utf-8\r\n"
							 : "Content-Type: text/plain; charset=unknown-8bit\r\n");
	emit_str(d, action == ENCODE ? "Content-Transfer-Encoding: quoted-printable\r\n"
				     : "Content-Transfer-Encoding: 7bit\r\n");
}

/* What the header has told about what follows. */
static void enter_body(struct downgrade *d)
{
	const struct mime_header *m = &d->mime;

	d->column = 0;
	if (m->kind == MIME_LEAF || m->is_encoded) {
		d->place = IN_LEAF;
		return;
	}
	if (m->is_eight_bit)
		decide(d, LABEL_7BIT);
	if (m->kind == MIME_MESSAGE) {
		begin_entity(d);
		d->is_top = false;
		return;
	}
	d->place = IN_MULTIPART;
	if (d->depth == DOWNGRADE_DEPTH_MAX) {
		d->is_lost = true;
		return;
	}
	memcpy(d->level[d->depth].boundary, m->boundary, m->boundary_len);
	d->level[d->depth].boundary_len = m->boundary_len;
	d->level[d->depth++].is_digest = m->is_digest;
}

static bool is_line_end(struct slice line)
{
	return (line.len == 1 && line.ptr[0] == '\n') || (line.len == 2 && line.ptr[0] == '\r' && line.ptr[1] == '\n');
}

/* What is behind HEADER_MAX_BYTES of a header is passed on, unless its beginning is dropped. */
static void add_to_header(struct downgrade *d, struct slice line)
{
	if (d->header.len + line.len > HEADER_MAX_BYTES) {
		end_field(d);
		emit(d, line);
		return;
	}
	buf_put_slice(&d->header, line);
}

static void end_header(struct downgrade *d)
{
	end_field(d);
	put_labels(d);
}

/* --- bodies --- */

/* RFC 2045 6.7: blanks at the end of a line are encoded, lines are cut with a soft break at 76. */
static void put_quoted(struct downgrade *d, struct slice line)
{
	static const char HEX[] = "0123456789ABCDEF";
	size_t len = line.len, end = 0;

	if (len > 0 && line.ptr[len - 1] == '\n')
		end = len > 1 && line.ptr[len - 2] == '\r' ? 2 : 1;
	len -= end;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)line.ptr[i];
		bool is_last = i + 1 == len;
		bool is_plain = (c > ' ' && c < 127 && c != '=') || ((c == ' ' || c == '\t') && !is_last);
		char code[3] = { '=', HEX[c >> 4], HEX[c & 15] };
		unsigned width = is_plain ? 1 : 3;

		if (d->column + width > QP_LINE_MAX - 1) {
			emit_str(d, "=\r\n");
			d->column = 0;
		}
		emit(d, is_plain ? (struct slice){ line.ptr + i, 1 } : (struct slice){ code, 3 });
		d->column += width;
	}
	if (end > 0) {
		emit_str(d, "\r\n");
		d->column = 0;
	}
}

static void take_body_line(struct downgrade *d, struct slice line)
{
	if (d->place == IN_LEAF && action_of(d) == ENCODE) {
		put_quoted(d, line);
		return;
	}
	if (!d->is_second && d->place == IN_LEAF && !d->mime.is_encoded && !text_is_ascii(line))
		decide(d, ENCODE);
	if (!d->is_second && d->is_top)
		mime_utf8_feed(&d->utf8, line);
	emit(d, line);
}

/* --- lines --- */

static void take_header_line(struct downgrade *d, struct slice line)
{
	bool is_folded = d->is_line_begun || (d->has_field && text_is_blank(line.ptr[0]));

	if (is_line_end(line) && !d->is_line_begun) {
		end_header(d);
		emit(d, line);
		enter_body(d);
		return;
	}
	if (!is_folded && field_name_length(line) == 0) {
		end_header(d); /* no empty line before the body: our labels need one */
		if (action_of(d) != KEEP)
			emit_str(d, "\r\n");
		enter_body(d);
		d->place = d->place == IN_HEADER ? IN_LEAF : d->place;
		take_body_line(d, line);
		return;
	}
	if (!is_folded)
		end_field(d);
	d->has_field = true;
	add_to_header(d, line);
}

/* Which level's boundary the line is, plus 1; 0: none. As Postfix does, what follows the boundary does not matter. */
static unsigned find_boundary(const struct downgrade *d, struct slice line, bool *is_end)
{
	if (d->is_line_begun || line.len < 3 || line.ptr[0] != '-' || line.ptr[1] != '-')
		return 0;
	for (unsigned i = d->depth; i > 0; i--) {
		const struct level *l = &d->level[i - 1];
		const char *behind = line.ptr + 2 + l->boundary_len;

		if (line.len < 2 + l->boundary_len || memcmp(line.ptr + 2, l->boundary, l->boundary_len) != 0)
			continue;
		*is_end = line.len >= 4 + l->boundary_len && behind[0] == '-' && behind[1] == '-';
		return i;
	}
	return 0;
}

static void take_boundary(struct downgrade *d, struct slice line, unsigned level, bool is_end)
{
	if (d->place == IN_HEADER)
		end_header(d);
	emit(d, line);
	d->is_top = false;
	d->depth = is_end ? level - 1 : level;
	if (is_end) {
		d->place = IN_MULTIPART; /* the epilogue */
		d->entity = 0;
	} else {
		begin_entity(d);
		if (d->level[level - 1].is_digest)
			d->mime.kind = MIME_MESSAGE; /* RFC 2046 5.1.5 */
	}
}

static void take_line(struct downgrade *d, struct slice line)
{
	bool is_end = false;
	unsigned level = d->is_lost ? 0 : find_boundary(d, line, &is_end);

	if (d->count == 0)
		begin_entity(d);
	if (level > 0)
		take_boundary(d, line, level, is_end);
	else if (d->is_lost && d->place != IN_HEADER)
		emit(d, line);
	else if (d->place == IN_HEADER)
		take_header_line(d, line);
	else
		take_body_line(d, line);
	d->is_line_begun = line.ptr[line.len - 1] != '\n';
}

static void feed(struct downgrade *d, struct slice in)
{
	while (in.len > 0) {
		const char *end = memchr(in.ptr, '\n', in.len);
		size_t len = end ? (size_t)(end + 1 - in.ptr) : in.len;

		if (d->line.len + len > LINE_MAX_BYTES)
			len = LINE_MAX_BYTES - d->line.len;
		buf_put(&d->line, in.ptr, len);
		in = (struct slice){ in.ptr + len, in.len - len };
		if (d->line.len == LINE_MAX_BYTES || d->line.ptr[d->line.len - 1] == '\n') {
			take_line(d, buf_slice(&d->line));
			buf_clear(&d->line);
		}
	}
}

static void finish(struct downgrade *d)
{
	if (d->line.len > 0)
		take_line(d, buf_slice(&d->line));
	buf_clear(&d->line);
	if (d->place == IN_HEADER && d->count > 0)
		end_header(d);
	buf_clear(&d->header);
}

void downgrade_look(struct downgrade *d, struct slice in)
{
	feed(d, in);
}

void downgrade_turn(struct downgrade *d)
{
	finish(d);
	d->is_second = true;
	d->is_line_begun = d->is_lost = d->is_top = false;
	d->place = IN_HEADER;
	d->depth = d->count = d->entity = d->column = 0;
}

void downgrade_put(struct downgrade *d, struct slice in, struct buf *out)
{
	d->out = out;
	feed(d, in);
	d->out = NULL;
}

void downgrade_end(struct downgrade *d, struct buf *out)
{
	d->out = out;
	finish(d);
	d->out = NULL;
}
