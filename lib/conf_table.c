/* conf_table.c - the option table of conf_options.def and what can be asked of it. */
#include "lib/conf_private.h"

#define STRUCT_OF_TOP         struct conf
#define STRUCT_OF_DNS         struct conf
#define STRUCT_OF_RETRY       struct conf
#define STRUCT_OF_SERVER      struct conf_server
#define STRUCT_OF_OAUTH2      struct conf_server
#define STRUCT_OF_POP         struct conf_server
#define STRUCT_OF_ROUTE       struct conf_route
#define STRUCT_OF_DESTINATION struct conf_destination

const struct conf_section conf_sections[SECTION_COUNT] = {
#define SECTION(id, name, parent, titling, doc) [SECTION_##id] = { name, SECTION_##parent, titling },
#define OPTION(...)
#include "lib/conf_options.def"
#undef SECTION
#undef OPTION
};

const struct conf_option conf_options[] = {
#define SECTION(...)
#define OPTION(section, name, type, min, max, choices, fallback, field, doc) \
	{ SECTION_##section, name, TYPE_##type, min, max, choices, fallback, offsetof(STRUCT_OF_##section, field) },
#include "lib/conf_options.def"
#undef SECTION
#undef OPTION
};
const unsigned conf_option_count = ARRAY_LEN(conf_options);
_Static_assert(ARRAY_LEN(conf_options) <= 256, "conf_scan's table of what was seen is too small");

const struct conf_preset conf_presets[] = {
#define COUNTED                                                true
#define FREE                                                   false
#define PRESET(name, host, port, limits, connections, refused) { name, host, port, limits, connections, refused },
#define PRESET_OAUTH2(...)
#include "lib/conf_presets.def"
#undef PRESET
#undef PRESET_OAUTH2
#undef COUNTED
#undef FREE
};
const unsigned conf_preset_count = ARRAY_LEN(conf_presets);

static const struct conf_preset_oauth2 PRESETS_OAUTH2[] = {
#define PRESET(...)
#define PRESET_OAUTH2(name, token_url, device_url, scope) { name, token_url, device_url, scope },
#include "lib/conf_presets.def"
#undef PRESET
#undef PRESET_OAUTH2
};

const struct conf_preset_oauth2 *conf_preset_find_oauth2(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(PRESETS_OAUTH2); i++)
		if (strcmp(PRESETS_OAUTH2[i].name, name) == 0)
			return &PRESETS_OAUTH2[i];
	return NULL;
}

const struct conf_preset *conf_preset_find(const char *name)
{
	for (unsigned i = 0; i < conf_preset_count; i++)
		if (strcmp(conf_presets[i].name, name) == 0)
			return &conf_presets[i];
	return NULL;
}

const struct conf_option *conf_option_find(enum conf_section_id section, struct slice name)
{
	for (unsigned i = 0; i < conf_option_count; i++)
		if (conf_options[i].section == section && slice_is(name, conf_options[i].name))
			return &conf_options[i];
	return NULL;
}

enum conf_section_id conf_section_find(enum conf_section_id parent, struct slice name)
{
	for (unsigned i = SECTION_TOP + 1; i < SECTION_COUNT; i++)
		if (conf_sections[i].parent == parent && slice_is(name, conf_sections[i].name))
			return (enum conf_section_id)i;
	return SECTION_COUNT;
}

/* Levenshtein distance, up to a limit that is all a suggestion needs; long names are never close. */
static unsigned edit_distance(struct slice a, struct slice b)
{
	enum { LONGEST = 40 };
	unsigned row[LONGEST + 1];

	if (a.len > LONGEST || b.len > LONGEST)
		return LONGEST;
	for (unsigned j = 0; j <= b.len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b.len; j++) {
			unsigned change = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
			unsigned best = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;

			diagonal = row[j];
			row[j] = change < best ? change : best;
		}
	}
	return row[b.len];
}

static void consider(struct slice name, const char *candidate, const char **best, unsigned *best_distance)
{
	unsigned d = edit_distance(name, slice_of(candidate));

	if (d < *best_distance) {
		*best = candidate;
		*best_distance = d;
	}
}

/* `name` with every "_" as "-": "max_connections" is a likely slip that counts as no distance at all. */
static struct slice dashed(struct slice name, char *into, size_t size)
{
	if (name.len >= size)
		return name;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];

		into[i] = c == '_' ? '-' : (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
	}
	return (struct slice){ into, name.len };
}

void conf_suggest(struct buf *out, enum conf_section_id section, struct slice name)
{
	char like[64];
	struct slice wanted = dashed(name, like, sizeof(like));
	const char *best = NULL;
	unsigned distance = wanted.len < 4 ? 2 : 3;

	for (unsigned i = 0; i < conf_option_count && !conf_option_find(section, wanted);
	     i++) /* right, but elsewhere */
		if (conf_options[i].section != section && slice_is(wanted, conf_options[i].name)) {
			const struct conf_section *s = &conf_sections[conf_options[i].section];

			if (conf_options[i].section == SECTION_TOP)
				buf_put_str(out, "; it belongs outside of all sections");
			else
				buf_printf(out, "; it belongs inside a section %s%s { }", s->name,
					   s->titling == TITLED ? " \"NAME\"" : "");
			return;
		}
	for (unsigned i = 0; i < conf_option_count; i++)
		if (conf_options[i].section == section)
			consider(wanted, conf_options[i].name, &best, &distance);
	for (unsigned i = SECTION_TOP + 1; i < SECTION_COUNT; i++)
		if (conf_sections[i].parent == section)
			consider(wanted, conf_sections[i].name, &best, &distance);
	if (best)
		buf_printf(out, "; did you mean \"%s\"?", best);
}

/* The next word of `choices`, or false at the end. */
static bool next_choice(const char **at, struct slice *word)
{
	while (**at == ' ')
		(*at)++;
	word->ptr = *at;
	word->len = strcspn(*at, " ");
	*at += word->len;
	return word->len > 0;
}

int conf_choice_find(const char *choices, struct slice word)
{
	struct slice choice;

	for (int i = 0; next_choice(&choices, &choice); i++)
		if (slice_equal(choice, word))
			return i;
	return -1;
}

void conf_choices_format(struct buf *out, const char *choices)
{
	struct slice choice, after;

	if (!next_choice(&choices, &choice))
		return;
	buf_put_slice(out, choice);
	for (bool more = next_choice(&choices, &choice); more; choice = after) {
		more = next_choice(&choices, &after);
		buf_put_str(out, more ? ", " : " or ");
		buf_put_slice(out, choice);
	}
}
