/* conf_tree.h - libconfuse, and nothing else: clean text in, options with their raw values out. */
#ifndef LIB_CONF_TREE_H
#define LIB_CONF_TREE_H
#include "lib/conf_private.h"

struct conf_tree;
struct conf_node; /* a section */

/* `clean` comes from conf_scan(). NULL after reporting what libconfuse still did not like. */
struct conf_tree *conf_tree_parse(struct conf_report *r, const char *clean) MUST_CHECK;
void conf_tree_free(struct conf_tree **t);
struct conf_node *conf_tree_root(struct conf_tree *t);
unsigned conf_node_count(struct conf_node *in, enum conf_section_id section);
struct conf_node *conf_node_get(struct conf_node *in, enum conf_section_id section, unsigned i);
/* False when the option is not in the file; true with *count 0 for an empty list. */
bool conf_node_is_set(struct conf_node *n, const struct conf_option *o, unsigned *count);
const struct conf_raw *conf_node_value(struct conf_node *n, const struct conf_option *o, unsigned i); /* borrowed */
#endif
