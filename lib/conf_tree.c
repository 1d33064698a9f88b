/*
 * conf_tree.c - the only user of libconfuse. It parses text that conf_scan() has found to be sound, resolves quotes and
 * escapes, and keeps every value as text with its line: numbers and the like are ours (it takes 010 for eight and 0x19
 * for twenty-five, and stops at the first bad value). CFGF_COMMENTS stays off: it crashes on an empty "#".
 */
#include "lib/conf_tree.h"
#include <confuse.h>

struct conf_tree {
	cfg_t *root;
};

/* libconfuse's error function gets no argument of ours. */
static struct conf_report *current_report;

static void on_error(cfg_t *cfg, const char *format, va_list args)
{
	struct buf text;

	buf_init(&text, 500);
	buf_vprintf(&text, format, args);
	conf_mistake_add(current_report, cfg && cfg->line > 0 ? (unsigned)cfg->line : 0, "syntax", "%s",
			 buf_text(&text));
	buf_release(&text);
}

static int on_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
	struct conf_raw *raw = xmalloc(sizeof(*raw));

	raw->line = (unsigned)cfg->line;
	raw->text = xstrdup(value);
	memcpy(result, &raw, sizeof(raw));
	return 0;
}

static void raw_free(void *ptr)
{
	struct conf_raw *raw = ptr;

	if (!raw)
		return;
	explicit_bzero(raw->text, strlen(raw->text)); /* may be a password */
	free(raw->text);
	free(raw);
}

/* The options of a section as libconfuse wants them, sections inside included. */
static cfg_opt_t *opts_new(enum conf_section_id section)
{
	cfg_opt_t *opts = xcalloc(CONF_OPTIONS_MAX, sizeof(*opts));
	unsigned n = 0;

	for (unsigned i = 0; i < conf_option_count; i++) {
		const struct conf_option *o = &conf_options[i];

		if (o->section != section)
			continue;
		opts[n++] = (cfg_opt_t){ .name = o->name,
					 .type = CFGT_PTR,
					 .flags = CFGF_NODEFAULT | (o->type >= TYPE_LIST_FIRST ? CFGF_LIST : CFGF_NONE),
					 .parsecb = on_value,
					 .freecb = raw_free };
	}
	for (unsigned i = SECTION_TOP + 1; i < SECTION_COUNT; i++) {
		const struct conf_section *s = &conf_sections[i];

		if (s->parent != section)
			continue;
		opts[n++] = (cfg_opt_t){ .name = s->name,
					 .type = CFGT_SEC,
					 .flags = s->titling == TITLED ? CFGF_MULTI : CFGF_NODEFAULT,
					 .subopts = opts_new((enum conf_section_id)i) };
	}
	if (n >= CONF_OPTIONS_MAX)
		BUG("section %u has too many options", section);
	opts[n] = (cfg_opt_t)CFG_END();
	return opts;
}

static void opts_free(cfg_opt_t *opts)
{
	for (cfg_opt_t *o = opts; o->name; o++)
		if (o->subopts)
			opts_free(o->subopts);
	free(opts);
}

struct conf_tree *conf_tree_parse(struct conf_report *r, const char *clean)
{
	cfg_opt_t *opts = opts_new(SECTION_TOP);
	struct conf_tree *t = xcalloc(1, sizeof(*t));
	unsigned mistakes = r->count + r->dropped;

	t->root = cfg_init(opts, CFGF_NONE);
	opts_free(opts); /* cfg_init() made its own copy */
	if (!t->root)
		BUG("cfg_init");
	current_report = r;
	cfg_set_error_function(t->root, on_error);
	if (cfg_parse_buf(t->root, clean) != CFG_SUCCESS) {
		if (r->count + r->dropped == mistakes)
			conf_mistake_add(r, 0, NULL, "cannot be parsed");
		conf_tree_free(&t);
	}
	current_report = NULL;
	return t;
}

void conf_tree_free(struct conf_tree **t)
{
	if (!*t)
		return;
	cfg_free((*t)->root);
	free(*t);
	*t = NULL;
}

/* struct conf_node is libconfuse's cfg_t under a name that others may know. */
struct conf_node *conf_tree_root(struct conf_tree *t)
{
	return (struct conf_node *)t->root;
}

unsigned conf_node_count(struct conf_node *in, enum conf_section_id section)
{
	return cfg_size((cfg_t *)in, conf_sections[section].name);
}

struct conf_node *conf_node_get(struct conf_node *in, enum conf_section_id section, unsigned i)
{
	return (struct conf_node *)cfg_getnsec((cfg_t *)in, conf_sections[section].name, i);
}

/* By its place, not its name: libconfuse would compare the names of all. A section's options stand together. */
static cfg_opt_t *opt_of(struct conf_node *n, const struct conf_option *o)
{
	const struct conf_option *first = o;
	cfg_opt_t *opt;

	while (first > conf_options && first[-1].section == o->section)
		first--;
	opt = cfg_getnopt((cfg_t *)n, (unsigned)(o - first));
	if (!opt || strcmp(opt->name, o->name) != 0)
		BUG("option %s is not at its place in libconfuse's table", o->name);
	return opt;
}

bool conf_node_is_set(struct conf_node *n, const struct conf_option *o, unsigned *count)
{
	const cfg_opt_t *opt = opt_of(n, o);

	*count = opt->nvalues;
	return (opt->flags & CFGF_MODIFIED) != 0;
}

const struct conf_raw *conf_node_value(struct conf_node *n, const struct conf_option *o, unsigned i)
{
	return cfg_opt_getnptr(opt_of(n, o), i);
}
