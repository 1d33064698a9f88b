/* sts.c - see sts.h. */
#include "lib/sts.h"
#include "lib/text.h"
#include <strings.h>

static const char *const MODES[] = { [STS_NONE] = "none", [STS_TESTING] = "testing", [STS_ENFORCE] = "enforce" };

const char *sts_mode_name(enum sts_mode mode)
{
	return MODES[mode];
}

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Cuts what stands before the first `c`, or all, off the front; false when nothing was left. */
static bool next_part(struct slice *rest, char c, struct slice *out)
{
	const char *end = rest->len > 0 ? memchr(rest->ptr, c, rest->len) : NULL;

	if (rest->len == 0)
		return false;
	*out = (struct slice){ rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len };
	rest->ptr += out->len + (end ? 1 : 0);
	rest->len -= out->len + (end ? 1 : 0);
	return true;
}

bool sts_is_domain(struct slice name)
{
	size_t label = 0;

	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];

		if (c == '.' && (label == 0 || name.ptr[i - 1] == '-'))
			return false;
		if (c != '.' && c != '-' && (!is_alnum(c) || (c >= 'A' && c <= 'Z')))
			return false;
		if (c == '-' && label == 0)
			return false;
		label = c == '.' ? 0 : label + 1;
		if (label > 63)
			return false;
	}
	return label > 0 && name.len <= 253 && name.ptr[name.len - 1] != '-';
}

/* --- the TXT record --- */

static bool is_id(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_alnum(s.ptr[i]))
			return false;
	return s.len > 0 && s.len <= STS_ID_MAX;
}

/* name=value of an extension, whatever it may mean */
static bool is_extension(struct slice s)
{
	struct slice name, value;

	if (!next_part(&s, '=', &name) || name.len == 0 || name.len > 32 || !is_alnum(name.ptr[0]) || s.len == 0)
		return false;
	value = s;
	for (size_t i = 0; i < name.len; i++)
		if (!is_alnum(name.ptr[i]) && !strchr("_-.", name.ptr[i]))
			return false;
	for (size_t i = 0; i < value.len; i++)
		if (value.ptr[i] <= ' ' || value.ptr[i] > '~' || value.ptr[i] == '=')
			return false;
	return true;
}

bool sts_read_record(struct slice text, char id[STS_ID_MAX + 1])
{
	struct slice field;
	bool has_id = false;

	/* the first field has no blanks in front: whatever does is another kind of record */
	if (!next_part(&text, ';', &field) || (field.len > 0 && text_is_blank(field.ptr[0])) ||
	    !slice_is(text_trim(field), "v=STSv1"))
		return false;
	while (next_part(&text, ';', &field)) {
		field = text_trim(field);
		if (field.len == 0 && text_trim(text).len == 0)
			break; /* the last one may end with a semicolon */
		if (field.len < 3 || memcmp(field.ptr, "id=", 3) != 0) {
			if (!is_extension(field))
				return false;
			continue;
		}
		field = (struct slice){ field.ptr + 3, field.len - 3 };
		if (has_id || !is_id(field))
			return false;
		memcpy(id, field.ptr, field.len);
		id[field.len] = '\0';
		has_id = true;
	}
	return has_id;
}

/* --- the policy file --- */

struct reader {
	struct sts_policy *policy;
	struct buf mx;
	bool has_version, has_mode, has_age;
};

static bool is_pattern(struct slice s)
{
	if (s.len > 2 && s.ptr[0] == '*' && s.ptr[1] == '.')
		s = (struct slice){ s.ptr + 2, s.len - 2 };
	return sts_is_domain(s);
}

static bool find_mode(struct slice value, enum sts_mode *out)
{
	for (unsigned i = 0; i < ARRAY_LEN(MODES); i++) {
		if (slice_is(value, MODES[i])) {
			*out = (enum sts_mode)i;
			return true;
		}
	}
	return false;
}

static const char *take_mx(struct reader *r, struct slice value)
{
	size_t at = r->mx.len + (r->mx.len > 0 ? 1 : 0);

	if (r->mx.len > 0)
		buf_put_char(&r->mx, ',');
	buf_put_slice(&r->mx, value);
	if (r->mx.failed)
		return "its mx lines are too long";
	text_lower(r->mx.ptr + at, value.len);
	return is_pattern((struct slice){ r->mx.ptr + at, value.len }) ? NULL : "an mx line names no host";
}

/* One field; of those that may stand there once, the first counts. */
static const char *take_field(struct reader *r, struct slice key, struct slice value)
{
	if (slice_is(key, "version") && !r->has_version) {
		r->has_version = true;
		return slice_is(value, "STSv1") ? NULL : "its version is not STSv1";
	}
	if (slice_is(key, "mode") && !r->has_mode) {
		r->has_mode = true;
		return find_mode(value, &r->policy->mode) ? NULL : "its mode is none of those known";
	}
	if (slice_is(key, "max_age") && !r->has_age) {
		r->has_age = true;
		if (value.len > 10 || !text_parse_u64(value, &r->policy->max_age_s))
			return "its max_age is no number";
		if (r->policy->max_age_s > STS_AGE_MAX_S)
			r->policy->max_age_s = STS_AGE_MAX_S;
		return NULL;
	}
	return slice_is(key, "mx") ? take_mx(r, value) : NULL;
}

static const char *read_fields(struct reader *r, struct slice file)
{
	struct slice line, key;
	const char *why = NULL;

	while (!why && next_part(&file, '\n', &line)) {
		if (line.len > 0 && line.ptr[line.len - 1] == '\r')
			line.len--;
		line = text_trim(line);
		if (line.len == 0)
			continue;
		if (!memchr(line.ptr, ':', line.len))
			return "a line has no colon";
		why = next_part(&line, ':', &key) ? take_field(r, text_trim(key), text_trim(line)) : NULL;
	}
	if (why)
		return why;
	if (!r->has_version || !r->has_mode || !r->has_age)
		return "it lacks version, mode or max_age";
	return r->policy->mode != STS_NONE && r->mx.len == 0 ? "it has no mx line" : NULL;
}

bool sts_read_file(struct slice file, struct sts_policy *out, const char **why)
{
	struct reader r = { .policy = out };

	buf_init(&r.mx, STS_MX_BYTES_MAX + 1);
	*why = file.len > STS_FILE_MAX ? "it is too large" : read_fields(&r, file);
	if (!*why && r.mx.len > STS_MX_BYTES_MAX)
		*why = "its mx lines are too long";
	if (!*why)
		snprintf(out->mx, sizeof(out->mx), "%s", buf_text(&r.mx));
	buf_release(&r.mx);
	return !*why;
}

/* --- the line that keeps one: DOMAIN ID FETCHED MAX-AGE MODE MX,MX,... --- */

void sts_put_line(struct buf *out, const struct sts_policy *p)
{
	buf_printf(out, "%s %s %llu %llu %s %s", p->domain, p->id, (unsigned long long)p->fetched_s,
		   (unsigned long long)p->max_age_s, MODES[p->mode], p->mx[0] ? p->mx : "-");
}

static bool read_patterns(struct slice list, struct sts_policy *out)
{
	struct slice rest = list, pattern;

	if (slice_is(list, "-")) {
		out->mx[0] = '\0';
		return out->mode == STS_NONE;
	}
	if (list.len == 0 || list.len > STS_MX_BYTES_MAX || list.ptr[list.len - 1] == ',')
		return false;
	while (next_part(&rest, ',', &pattern))
		if (!is_pattern(pattern))
			return false;
	memcpy(out->mx, list.ptr, list.len);
	out->mx[list.len] = '\0';
	return true;
}

bool sts_read_line(struct slice line, struct sts_policy *out)
{
	enum { DOMAIN, ID, FETCHED, AGE, MODE, COUNT };
	struct slice part[COUNT];

	for (unsigned i = 0; i < COUNT; i++)
		if (!next_part(&line, ' ', &part[i]))
			return false;
	if (!sts_is_domain(part[DOMAIN]) || !is_id(part[ID]) || !text_parse_u64(part[FETCHED], &out->fetched_s) ||
	    !text_parse_u64(part[AGE], &out->max_age_s) || out->max_age_s > STS_AGE_MAX_S ||
	    out->fetched_s > UINT32_MAX * 64ULL || !find_mode(part[MODE], &out->mode))
		return false;
	memcpy(out->domain, part[DOMAIN].ptr, part[DOMAIN].len);
	out->domain[part[DOMAIN].len] = '\0';
	memcpy(out->id, part[ID].ptr, part[ID].len);
	out->id[part[ID].len] = '\0';
	return read_patterns(line, out);
}

/* --- using one --- */

static bool matches(struct slice pattern, const char *host)
{
	const char *dot = strchr(host, '.');

	if (pattern.ptr[0] == '*') {
		if (!dot || dot == host)
			return false;
		host = dot;
		pattern = (struct slice){ pattern.ptr + 1, pattern.len - 1 };
	}
	return strlen(host) == pattern.len && strncasecmp(host, pattern.ptr, pattern.len) == 0;
}

bool sts_allows(const struct sts_policy *p, const char *host)
{
	struct slice rest = slice_of(p->mx), pattern;

	while (next_part(&rest, ',', &pattern))
		if (matches(pattern, host))
			return true;
	return false;
}

uint64_t sts_left_s(const struct sts_policy *p, uint64_t now_s)
{
	uint64_t end_s = p->fetched_s + p->max_age_s;

	/* fetched in the future: the clock was set back since, and nobody knows by how much */
	if (now_s < p->fetched_s)
		return p->max_age_s;
	return end_s > now_s ? end_s - now_s : 0;
}
