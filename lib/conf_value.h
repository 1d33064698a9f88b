/* conf_value.h - shared by conf_value.c (single values) and conf_value_list.c (elements of lists). */
#ifndef LIB_CONF_VALUE_H
#define LIB_CONF_VALUE_H
#include "lib/conf_private.h"

/* One value on its way from the file into its field. */
struct conf_value {
	struct conf_reader *reader;
	const struct conf_option *option;
	void *base, *field;
	struct slice text; /* NUL-free and printable; borrowed */
	unsigned line;
};

_Static_assert(sizeof(enum conf_tls) == sizeof(int) && sizeof(enum log_format) == sizeof(int),
	       "choices are stored as int");

/* Adds a mistake: the value, and what the format says of it ("is not ..."). A secret is not shown. */
void conf_value_wrong(struct conf_value *v, const char *format, ...) PRINTF_LIKE(2, 3);
/* Position of the value among the option's choices; -1 when it is none of them: said. */
int conf_value_choose(struct conf_value *v);
/* The value as a duration within bounds (0 only where min_s is 0); false when it is none: said. */
bool conf_value_duration(struct conf_value *v, uint64_t min_s, uint64_t max_s, uint64_t *ms) MUST_CHECK;

/* Each adds one element to its list. */
void conf_value_limit(struct conf_value *v);
void conf_value_patterns(struct conf_value *v);
void conf_value_source(struct conf_value *v);
void conf_value_dns_server(struct conf_value *v);
void conf_value_fingerprint(struct conf_value *v);
void conf_value_auth(struct conf_value *v);
void conf_value_mx(struct conf_value *v);
void conf_value_cidr(struct conf_value *v);
void conf_value_wait(struct conf_value *v);
void conf_value_server_name(struct conf_value *v);
#endif
