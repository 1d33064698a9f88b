/* conf.c - reading postern.conf: file, scan, libconfuse, values, rules; all mistakes in one go. */
#include "lib/conf_private.h"
#include "lib/conf_tree.h"
#include "lib/fd.h"
#include "lib/text.h"
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TRIM_BYTES = 64 << 10 };

struct conf_origin {
	const void *field;
	unsigned line;
};

void conf_mistake_add(struct conf_report *r, unsigned line, const char *option, const char *format, ...)
{
	struct buf text;
	va_list args;

	if (r->count == CONF_MISTAKES_MAX) {
		r->dropped++;
		return;
	}
	buf_init(&text, 8192);
	buf_put_str(&text, r->path);
	if (line > 0)
		buf_printf(&text, ":%u", line);
	buf_put_str(&text, ": ");
	if (option)
		buf_printf(&text, "%s: ", option);
	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	if (!r->mistake)
		r->mistake = xcalloc(CONF_MISTAKES_MAX, sizeof(r->mistake[0]));
	r->mistake[r->count] = (struct conf_mistake){ line, r->count, buf_detach(&text) };
	r->count++;
}

static int compare_mistakes(const void *left, const void *right)
{
	const struct conf_mistake *a = left, *b = right;

	if (a->line != b->line)
		return a->line < b->line ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

void conf_report_finish(struct conf_report *r, struct conf_errors *errors)
{
	unsigned total = r->count + (r->dropped > 0);

	memset(errors, 0, sizeof(*errors));
	if (total > 0)
		errors->text = xcalloc(total, sizeof(errors->text[0]));
	if (r->count > 0)
		qsort(r->mistake, r->count, sizeof(r->mistake[0]), compare_mistakes);
	for (unsigned i = 0; i < r->count; i++)
		errors->text[errors->count++] = r->mistake[i].text;
	errors->logins = r->logins;
	if (r->dropped > 0)
		errors->text[errors->count++] = xasprintf("%s: and %u more mistakes", r->path, r->dropped);
	free(r->mistake);
	memset(r, 0, sizeof(*r));
}

void conf_errors_release(struct conf_errors *e)
{
	for (unsigned i = 0; i < e->count; i++)
		free(e->text[i]);
	free(e->text);
	memset(e, 0, sizeof(*e));
}

void conf_errors_move(struct conf_errors *to, struct conf_errors *from)
{
	if (from->count > 0) {
		to->text = xrealloc(to->text, (size_t)to->count + from->count, sizeof(to->text[0]));
		memcpy(to->text + to->count, from->text, from->count * sizeof(from->text[0]));
		to->count += from->count;
		to->logins += from->logins;
	}
	free(from->text);
	memset(from, 0, sizeof(*from));
}

/* Where a field was set: its line, 0 when it was not. Sorted once all are in. */
static void origin_add(struct conf *c, const void *field, unsigned line)
{
	unsigned n = c->origin_count++;

	if ((n & (n + 1)) == 0) /* 0, 1, 3, 7 ...: double */
		c->origin = xrealloc(c->origin, 2 * (size_t)n + 1, sizeof(c->origin[0]));
	c->origin[n] = (struct conf_origin){ field, line };
}

static int compare_origins(const void *left, const void *right)
{
	uintptr_t a = (uintptr_t)((const struct conf_origin *)left)->field;
	uintptr_t b = (uintptr_t)((const struct conf_origin *)right)->field;

	return a < b ? -1 : a > b;
}

static void origin_sort(struct conf *c)
{
	if (c->origin_count > 0)
		qsort(c->origin, c->origin_count, sizeof(c->origin[0]), compare_origins);
}

unsigned conf_line(const struct conf *c, const void *field)
{
	struct conf_origin key = { field, 0 }, *found = NULL;

	if (c->origin_count > 0)
		found = bsearch(&key, c->origin, c->origin_count, sizeof(key), compare_origins);
	return found ? found->line : 0;
}

/* All options of one section: from the file, or their defaults. `node` may be NULL: the section is not in the file. */
static void apply_section(struct conf_reader *r, enum conf_section_id section, struct conf_node *node, void *base,
			  unsigned line)
{
	for (unsigned i = 0; i < conf_option_count; i++) {
		const struct conf_option *o = &conf_options[i];
		unsigned count = 0;

		if (o->section != section)
			continue;
		if (!node || !conf_node_is_set(node, o, &count)) {
			conf_value_default(r, o, base);
			continue;
		}
		struct conf_raw *values = xcalloc((size_t)count + 1, sizeof(*values));

		for (unsigned k = 0; k < count; k++)
			values[k] = *conf_node_value(node, o, k);
		origin_add(r->conf, conf_value_field(o, base), count > 0 ? values[0].line : line);
		conf_value_apply(r, o, base, values, count);
		free(values);
	}
}

static void apply_plain(struct conf_reader *r, enum conf_section_id section, struct conf_node *in, void *base,
			unsigned line)
{
	struct conf_node *node = conf_node_count(in, section) > 0 ? conf_node_get(in, section, 0) : NULL;

	if (section == SECTION_POP)
		((struct conf_server *)base)->pop.is_set = node != NULL;
	apply_section(r, section, node, base, line);
}

/* How many sections there are; the scan has their titles. */
static unsigned count_titled(struct conf_node *root, const struct conf_scan *scan, enum conf_section_id section)
{
	unsigned count = conf_node_count(root, section);

	if (count != scan->titled[section].count)
		BUG("libconfuse sees other sections than the scan");
	return count;
}

static char *copy_title(const struct conf_title *t)
{
	return xstrndup(t->name.ptr, t->name.len);
}

/* Every server has its name before the first list of servers is read. */
static void make_servers(struct conf *c, struct conf_node *root, const struct conf_scan *scan)
{
	const struct conf_title *title = scan->titled[SECTION_SERVER].title;

	c->server_count = count_titled(root, scan, SECTION_SERVER);
	c->server = xcalloc((size_t)c->server_count + 1, sizeof(c->server[0]));
	for (unsigned i = 0; i < c->server_count; i++) {
		c->server[i].name = copy_title(&title[i]);
		c->server[i].line = title[i].line;
		c->server[i].tls = TLS_UNSET;
	}
	conf_index_servers(c);
}

static void apply_tree(struct conf_reader *r, struct conf_node *root, const struct conf_scan *scan)
{
	const struct conf_title *title;
	struct conf *c = r->conf;
	struct conf_node *n;

	make_servers(c, root, scan);
	apply_section(r, SECTION_TOP, root, c, 1);
	apply_plain(r, SECTION_DNS, root, c, 1);
	apply_plain(r, SECTION_RETRY, root, c, 1);
	for (unsigned i = 0; i < c->server_count; i++) {
		n = conf_node_get(root, SECTION_SERVER, i);
		apply_section(r, SECTION_SERVER, n, &c->server[i], c->server[i].line);
		apply_plain(r, SECTION_OAUTH2, n, &c->server[i], c->server[i].line);
		apply_plain(r, SECTION_POP, n, &c->server[i], c->server[i].line);
	}
	title = scan->titled[SECTION_ROUTE].title;
	c->route_count = count_titled(root, scan, SECTION_ROUTE);
	c->route = xcalloc((size_t)c->route_count + 1, sizeof(c->route[0]));
	for (unsigned i = 0; i < c->route_count; i++) {
		c->route[i].name = copy_title(&title[i]);
		origin_add(c, &c->route[i].name, title[i].line);
		apply_section(r, SECTION_ROUTE, conf_node_get(root, SECTION_ROUTE, i), &c->route[i], title[i].line);
	}
	title = scan->titled[SECTION_DESTINATION].title;
	c->destination_count = count_titled(root, scan, SECTION_DESTINATION);
	c->destination = xcalloc((size_t)c->destination_count + 1, sizeof(c->destination[0]));
	for (unsigned i = 0; i < c->destination_count; i++) {
		c->destination[i].name = copy_title(&title[i]);
		c->destination[i].tls = TLS_UNSET;
		origin_add(c, &c->destination[i].name, title[i].line);
		apply_section(r, SECTION_DESTINATION, conf_node_get(root, SECTION_DESTINATION, i), &c->destination[i],
			      title[i].line);
	}
	origin_sort(c);
}

/* The folder of the file, absolute without asking for more than the working directory. */
static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	char *cwd, *folder;

	if (path[0] == '/')
		return len == 0 ? xstrdup("/") : xstrndup(path, len);
	cwd = getcwd(NULL, 0);
	folder = xasprintf("%s%s%.*s", cwd ? cwd : "", len > 0 ? "/" : "", (int)len, path);
	free(cwd);
	return folder;
}

static struct conf *read_text(struct conf_reader *reader, struct slice text, struct conf_errors *errors)
{
	struct conf_reader r = *reader;
	const char *path = r.report.path;
	struct conf_scan scan;
	struct conf_tree *tree;
	bool is_right;

	r.conf = xcalloc(1, sizeof(*r.conf));
	r.conf->path = xstrdup(path);
	r.folder = folder_of(path);
	conf_scan(&r, text, &scan);
	bool is_sound = r.report.count == scan.harmless;

	if ((tree = conf_tree_parse(&r.report, buf_text(&scan.clean)))) {
		apply_tree(&r, conf_tree_root(tree), &scan);
		conf_tree_free(&tree);
		/* With statements left out, a rule would miss what the file does say. */
		if (is_sound)
			conf_rules_apply(&r);
	}
	conf_scan_release(&scan);
	free(r.folder);
	is_right = r.report.count == 0;
	if (!is_right && is_sound && r.wants_files)
		conf_files_check(r.conf, &r.report);
	conf_report_finish(&r.report, errors);
	if (!is_right && is_sound && r.wants_files)
		conf_replies_check(r.conf, errors);
	if (!is_right)
		conf_free(&r.conf);
	return r.conf;
}

struct conf *conf_read_text(const char *path, struct slice text, struct conf_errors *errors)
{
	struct conf_reader r = { .report.path = path };

	return read_text(&r, text, errors);
}

static char *slurp_fd(int fd, size_t *len, struct conf_report *r)
{
	struct stat st;
	struct buf text;

	if (fstat(fd, &st) < 0) {
		conf_mistake_add(r, 0, NULL, "cannot be read: %s", strerror(errno));
		return NULL;
	}
	if (!S_ISREG(st.st_mode)) {
		conf_mistake_add(r, 0, NULL, "is not a regular file");
		return NULL;
	}
	if (st.st_size > CONF_BYTES_MAX) {
		conf_mistake_add(r, 0, NULL, "is too large; at most %d MiB", CONF_BYTES_MAX >> 20);
		return NULL;
	}
	buf_init(&text, CONF_BYTES_MAX + 1);
	if (!fd_read_all(fd, &text)) {
		conf_mistake_add(r, 0, NULL, "cannot be read: %s", strerror(errno));
		buf_release(&text);
		return NULL;
	}
	*len = text.len;
	return buf_detach(&text);
}

/* O_NONBLOCK: opening a named pipe must not hang. */
static char *slurp(const char *path, int fd, size_t *len, struct conf_report *r)
{
	int own = fd >= 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char *text;

	if (fd < 0 && own < 0) {
		conf_mistake_add(r, 0, NULL, "cannot be opened: %s", strerror(errno));
		return NULL;
	}
	text = slurp_fd(fd >= 0 ? fd : own, len, r);
	if (own >= 0)
		close(own);
	return text;
}

char *conf_slurp(const char *path, size_t *len, struct conf_errors *errors)
{
	struct conf_report r = { .path = path };
	char *text = slurp(path, -1, len, &r);

	conf_report_finish(&r, errors);
	return text;
}

static struct conf *read_file(const char *path, int fd, bool wants_files, struct conf_errors *errors)
{
	struct conf_reader reader = { .report.path = path, .wants_files = wants_files };
	struct conf_report r = { .path = path };
	size_t len = 0;
	char *text = slurp(path, fd, &len, &r);
	struct conf *c;

	if (!text) {
		conf_report_finish(&r, errors);
		return NULL;
	}
	c = read_text(&reader, (struct slice){ text, len }, errors);
	explicit_bzero(text, len); /* passwords */
	free(text);
	if (len > TRIM_BYTES)
		malloc_trim(0); /* reading took several times what is kept; of a small file it is soon used again */
	return c;
}

struct conf *conf_read(const char *path, int fd, struct conf_errors *errors)
{
	return read_file(path, fd, false, errors);
}

struct conf *conf_read_all(const char *path, int fd, struct conf_errors *errors)
{
	struct conf *c = read_file(path, fd, true, errors);

	if (c && !conf_check_files(c, errors) && errors->count > errors->logins)
		conf_free(&c);
	return c;
}

static void release_section(enum conf_section_id section, void *base)
{
	for (unsigned i = 0; i < conf_option_count; i++)
		if (conf_options[i].section == section)
			conf_value_release(&conf_options[i], base);
}

void conf_free(struct conf **c)
{
	struct conf *f = *c;

	if (!f)
		return;
	for (unsigned i = 0; i < f->server_count; i++) {
		release_section(SECTION_SERVER, &f->server[i]);
		release_section(SECTION_OAUTH2, &f->server[i]);
		release_section(SECTION_POP, &f->server[i]);
		free(f->server[i].name);
	}
	for (unsigned i = 0; i < f->route_count; i++) {
		release_section(SECTION_ROUTE, &f->route[i]);
		free(f->route[i].name);
	}
	for (unsigned i = 0; i < f->destination_count; i++) {
		release_section(SECTION_DESTINATION, &f->destination[i]);
		free(f->destination[i].name);
	}
	release_section(SECTION_TOP, f);
	release_section(SECTION_DNS, f);
	release_section(SECTION_RETRY, f);
	free(f->server);
	free(f->server_by_key);
	free(f->route);
	free(f->destination);
	free(f->origin);
	free(f->path);
	free(f);
	*c = NULL;
}

const char *conf_default_path(void)
{
	return POSTERN_SYSCONFDIR "/postern/postern.conf";
}
