/* conf_value.c - one value of one option: from its text in the file to its field in the struct. */
#include "lib/conf_value.h"
#include "lib/address.h"
#include "lib/conf_store.h"
#include "lib/text.h"

void *conf_value_field(const struct conf_option *o, void *base)
{
	return (char *)base + o->offset;
}

void conf_value_wrong(struct conf_value *v, const char *format, ...)
{
	struct buf shown, what;
	va_list args;

	buf_init(&shown, 200);
	buf_init(&what, 1000);
	va_start(args, format);
	buf_vprintf(&what, format, args);
	va_end(args);
	text_escape(&shown, v->text, 80);
	if (v->option->type == TYPE_SECRET)
		conf_mistake_add(&v->reader->report, v->line, v->option->name, "%s", buf_text(&what));
	else
		conf_mistake_add(&v->reader->report, v->line, v->option->name, "\"%s\" %s", buf_text(&shown),
				 buf_text(&what));
	buf_release(&shown);
	buf_release(&what);
}

static void set_string(const struct conf_value *v, char *taken)
{
	char **field = v->field;

	free(*field);
	*field = taken;
}

static void copy_string(const struct conf_value *v)
{
	set_string(v, xstrndup(v->text.ptr, v->text.len));
}

static void apply_hostname(struct conf_value *v)
{
	struct slice inner = v->text;

	if (inner.len > 2 && inner.ptr[0] == '[' && inner.ptr[inner.len - 1] == ']') {
		inner = (struct slice){ inner.ptr + 1, inner.len - 2 };
		if (conf_is_ip(inner) || (inner.len > 5 && memcmp(inner.ptr, "IPv6:", 5) == 0 &&
					  conf_is_ip((struct slice){ inner.ptr + 5, inner.len - 5 }))) {
			copy_string(v);
			return;
		}
	}
	if (conf_is_ip(v->text))
		conf_value_wrong(v, "is an address; use a name such as \"mail.example.com\", or \"[%.*s]\"",
				 (int)v->text.len, v->text.ptr);
	else if (!conf_is_host_name(v->text))
		conf_value_wrong(v, "is not a host name; use one such as \"mail.example.com\"");
	else
		copy_string(v);
}

/* 300.1.1.1 is a name by its letters, but nobody means one. */
static bool looks_like_ip(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((s.ptr[i] < '0' || s.ptr[i] > '9') && s.ptr[i] != '.')
			return false;
	return true;
}

static void apply_host(struct conf_value *v)
{
	if (conf_is_ip(v->text) || (conf_is_host_name(v->text) && !looks_like_ip(v->text)))
		copy_string(v);
	else if (memchr(v->text.ptr, ':', v->text.len) && v->text.ptr[0] != '[')
		conf_value_wrong(v, "is not a host; give the name alone, and the port with the option port");
	else
		conf_value_wrong(
			v, "is not a host; use a name such as \"smtp.example.com\" or an address without brackets");
}

static void apply_address(struct conf_value *v)
{
	struct address_parts parts;
	enum address_result result = address_parse(v->text, &parts);

	if (result == ADDRESS_OK)
		copy_string(v);
	else
		conf_value_wrong(v, "is not a mail address: %s; use one such as \"postmaster@example.com\"",
				 result == ADDRESS_EMPTY ? "it is the null sender" : address_error(result));
}

static char *absolute_path(const struct conf_reader *r, struct slice text)
{
	if (text.ptr[0] == '/')
		return xstrndup(text.ptr, text.len);
	return xasprintf("%s/%.*s", strcmp(r->folder, "/") == 0 ? "" : r->folder, (int)text.len, text.ptr);
}

static void apply_path(struct conf_value *v)
{
	if (v->text.len == 0)
		set_string(v, NULL);
	else if (v->text.len > 1000)
		conf_value_wrong(v, "is too long for a path; use at most 1000 bytes");
	else
		set_string(v, absolute_path(v->reader, v->text));
}

static void apply_user(struct conf_value *v)
{
	bool is_right = v->text.len > 0 && v->text.len <= 32 && v->text.ptr[0] != '-';

	for (size_t i = 0; is_right && i < v->text.len; i++) {
		char c = v->text.ptr[i];

		is_right = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
			   c == '-' || c == '.';
	}
	if (is_right)
		copy_string(v);
	else
		conf_value_wrong(v, "is not a name of a user or group; use one such as \"%s\"", v->option->fallback);
}

/* What goes out in clear must not leave this host. */
static void apply_url(struct conf_value *v)
{
	static const char *const STARTS[] = { "https://", "http://127.", "http://[::1]",
					      "http://localhost:", "http://localhost/" };
	bool is_right = false;

	for (unsigned i = 0; i < ARRAY_LEN(STARTS); i++)
		is_right |= v->text.len > strlen(STARTS[i]) && memcmp(v->text.ptr, STARTS[i], strlen(STARTS[i])) == 0;
	for (size_t i = 0; i < v->text.len; i++)
		is_right &= v->text.ptr[i] > ' ' && v->text.ptr[i] < 0x7f;
	if (is_right && v->text.len <= 2000)
		copy_string(v);
	else
		conf_value_wrong(v, "is not a URL; it begins with \"https://\"");
}

static void apply_store(struct conf_value *v)
{
	struct conf_store store;
	const char *wrong = slice_is(v->text, "local") ? NULL : conf_store_parse(v->text, &store);

	if (wrong && memchr(v->text.ptr, '@', v->text.len)) /* not shown: it may hold a password */
		conf_mistake_add(&v->reader->report, v->line, v->option->name, "this URL %s", wrong);
	else if (wrong)
		conf_value_wrong(v, "%s", wrong);
	else
		copy_string(v);
}

static void apply_log(struct conf_value *v)
{
	struct conf *c = v->base;

	if (slice_is(v->text, "syslog")) {
		c->log_target = LOG_TARGET_SYSLOG;
	} else if (slice_is(v->text, "stderr")) {
		c->log_target = LOG_TARGET_STDERR;
	} else if (v->text.len == 0 || !memchr(v->text.ptr, '/', v->text.len)) {
		conf_value_wrong(v, "is not a place for the log; use syslog, stderr or a file's path with a \"/\"");
	} else {
		c->log_target = LOG_TARGET_FILE;
		free(c->log_file);
		c->log_file = absolute_path(v->reader, v->text);
	}
}

int conf_value_choose(struct conf_value *v)
{
	int choice = conf_choice_find(v->option->choices, v->text);
	struct buf all;

	if (choice < 0) {
		buf_init(&all, 1000);
		conf_choices_format(&all, v->option->choices);
		conf_value_wrong(v, "is not one of its values; use %s", buf_text(&all));
		buf_release(&all);
	}
	return choice;
}

static void apply_choice(struct conf_value *v)
{
	int choice = conf_value_choose(v);
	bool second = choice == 1;

	if (choice < 0)
		return;
	if (v->option->type == TYPE_CHOICE_BOOL) {
		memcpy(v->field, &second, sizeof(second));
		return;
	}
	choice += (int)v->option->min;
	memcpy(v->field, &choice, sizeof(choice)); /* enums are ints here: asserted in conf_value.h */
}

static void apply_method(struct conf_value *v)
{
	struct conf_server *s = v->base;
	int choice = conf_value_choose(v);

	if (choice < 0)
		return;
	s->method = choice == 1 ? METHOD_DIRECT : METHOD_RELAY;
	if (choice > 1)
		s->preset = xstrndup(v->text.ptr, v->text.len);
}

static void apply_bool(struct conf_value *v)
{
	static const char *const YES[] = { "true", "yes", "on" }, *const NO[] = { "false", "no", "off" };
	bool is_yes = false, is_no = false;

	for (unsigned i = 0; i < ARRAY_LEN(YES); i++) {
		is_yes |= slice_equal_nocase(v->text, slice_of(YES[i]));
		is_no |= slice_equal_nocase(v->text, slice_of(NO[i]));
	}
	if (is_yes || is_no)
		memcpy(v->field, &is_yes, sizeof(is_yes));
	else
		conf_value_wrong(v, "is neither true nor false; use one of these");
}

static void apply_count(struct conf_value *v)
{
	unsigned long long min = v->option->min, max = v->option->max;
	uint64_t number;
	unsigned stored;

	/* 010 would be eight to libconfuse and ten to a reader: neither is taken. */
	if (!text_parse_u64(v->text, &number) || (v->text.len > 1 && v->text.ptr[0] == '0')) {
		conf_value_wrong(v, "is not a plain decimal number; use %llu to %llu", min, max);
	} else if (number < min || number > max) {
		conf_value_wrong(v, "is out of bounds; use %llu to %llu", min, max);
	} else {
		stored = (unsigned)number;
		memcpy(v->field, &stored, sizeof(stored));
	}
}

static void format_size(struct buf *out, uint64_t bytes)
{
	static const char UNITS[] = "gmk";

	for (unsigned i = 0; i < 3; i++) {
		uint64_t unit = 1ull << 10 * (3 - i);

		if (bytes >= unit && bytes % unit == 0) {
			buf_printf(out, "%llu%c", (unsigned long long)(bytes / unit), UNITS[i]);
			return;
		}
	}
	buf_printf(out, "%llu", (unsigned long long)bytes);
}

static void apply_size(struct conf_value *v)
{
	struct buf bounds;
	uint64_t bytes;

	buf_init(&bounds, 100);
	format_size(&bounds, v->option->min);
	buf_put_str(&bounds, " to ");
	format_size(&bounds, v->option->max);
	if (!text_parse_size(v->text, &bytes))
		conf_value_wrong(v, "is not a size; use a number with k, m or g, such as \"%s\"", v->option->fallback);
	else if (bytes < v->option->min || bytes > v->option->max)
		conf_value_wrong(v, "is out of bounds; use %s", buf_text(&bounds));
	else
		memcpy(v->field, &bytes, sizeof(bytes));
	buf_release(&bounds);
}

bool conf_value_duration(struct conf_value *v, uint64_t min_s, uint64_t max_s, uint64_t *ms)
{
	struct buf bounds;
	uint64_t number;

	if (text_parse_duration(v->text, ms) && *ms >= min_s * 1000 && *ms <= max_s * 1000)
		return true;
	buf_init(&bounds, 100);
	text_format_duration(&bounds, min_s * 1000);
	buf_put_str(&bounds, " to ");
	text_format_duration(&bounds, max_s * 1000);
	if (text_parse_u64(v->text, &number) && number > 0)
		conf_value_wrong(v, "has no unit; write \"%.*ss\" for seconds, or use m, h, d or w", (int)v->text.len,
				 v->text.ptr);
	else if (!text_parse_duration(v->text, ms))
		conf_value_wrong(v,
				 "is not a duration; use numbers with s, m, h, d or w, such as \"90s\" or \"1h30m\"");
	else
		conf_value_wrong(v, "is out of bounds; use %s", buf_text(&bounds));
	buf_release(&bounds);
	return false;
}

static void apply_duration(struct conf_value *v)
{
	uint64_t ms;

	if (conf_value_duration(v, v->option->min, v->option->max, &ms))
		memcpy(v->field, &ms, sizeof(ms));
}

/* "10% high" */
static void apply_reserve(struct conf_value *v)
{
	static const char TAIL[] = "% high";
	size_t tail = strlen(TAIL);
	uint64_t percent;
	unsigned stored;

	if (v->text.len <= tail || memcmp(v->text.ptr + v->text.len - tail, TAIL, tail) != 0 ||
	    !text_parse_u64((struct slice){ v->text.ptr, v->text.len - tail }, &percent) || percent < 1 ||
	    percent > 99) {
		conf_value_wrong(v, "is not a reserve; use 1 to 99 percent, such as \"10%% high\"");
		return;
	}
	stored = (unsigned)percent;
	memcpy(v->field, &stored, sizeof(stored));
}

static void apply_text(struct conf_value *v)
{
	if (v->text.len == 0)
		conf_value_wrong(v, "is empty; leave the option out, or give a value");
	else if (v->text.len > 500)
		conf_value_wrong(v, "is too long; use at most 500 bytes");
	else
		copy_string(v);
}

static void (*const APPLY[])(struct conf_value *) = {
	[TYPE_TEXT] = apply_text,
	[TYPE_SECRET] = apply_text,
	[TYPE_HOSTNAME] = apply_hostname,
	[TYPE_HOST] = apply_host,
	[TYPE_ADDRESS] = apply_address,
	[TYPE_PATH] = apply_path,
	[TYPE_USER] = apply_user,
	[TYPE_URL] = apply_url,
	[TYPE_STORE] = apply_store,
	[TYPE_LOG] = apply_log,
	[TYPE_CHOICE] = apply_choice,
	[TYPE_CHOICE_BOOL] = apply_choice,
	[TYPE_METHOD] = apply_method,
	[TYPE_BOOL] = apply_bool,
	[TYPE_COUNT] = apply_count,
	[TYPE_SIZE] = apply_size,
	[TYPE_DURATION] = apply_duration,
	[TYPE_RESERVE] = apply_reserve,
	[TYPE_LIMITS] = conf_value_limit,
	[TYPE_PATTERNS] = conf_value_patterns,
	[TYPE_SOURCES] = conf_value_source,
	[TYPE_DNS_SERVERS] = conf_value_dns_server,
	[TYPE_FINGERPRINTS] = conf_value_fingerprint,
	[TYPE_AUTH] = conf_value_auth,
	[TYPE_MX] = conf_value_mx,
	[TYPE_CIDRS] = conf_value_cidr,
	[TYPE_DURATIONS] = conf_value_wait,
	[TYPE_SERVER_NAMES] = conf_value_server_name,
};
_Static_assert(ARRAY_LEN(APPLY) == TYPE_COUNT_OF_TYPES, "a type has no function");

/* Escapes may have brought in what the file itself may not hold. */
static bool is_printable(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] < ' ' || s.ptr[i] == 0x7f)
			return false;
	return text_is_utf8(s);
}

static void apply_one(struct conf_reader *r, const struct conf_option *o, void *base, struct slice text, unsigned line)
{
	struct conf_value v = { r, o, base, conf_value_field(o, base), text, line };

	if (is_printable(text))
		APPLY[o->type](&v);
	else
		conf_value_wrong(&v, "holds a control character; only text may stand here");
}

void conf_value_apply(struct conf_reader *r, const struct conf_option *o, void *base, const struct conf_raw *values,
		      unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		apply_one(r, o, base, slice_of(values[i].text), values[i].line);
}

void conf_value_default(struct conf_reader *r, const struct conf_option *o, void *base)
{
	const char *at = o->fallback;

	if (o->type < TYPE_LIST_FIRST) {
		if (*at)
			apply_one(r, o, base, slice_of(at), 0);
		return;
	}
	while (*at) {
		size_t len = strcspn(at, " ");

		apply_one(r, o, base, (struct slice){ at, len }, 0);
		at += len + strspn(at + len, " ");
	}
}
