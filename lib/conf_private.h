/* conf_private.h - what the files of lib/conf share with one another and with their tests; for nobody else. */
#ifndef LIB_CONF_PRIVATE_H
#define LIB_CONF_PRIVATE_H
#include "lib/conf.h"

enum { CONF_BYTES_MAX = 16 << 20, CONF_MISTAKES_MAX = 500, CONF_OPTIONS_MAX = 64 };

enum conf_section_id {
#define SECTION(id, ...) SECTION_##id,
#define OPTION(...)
#include "lib/conf_options.def"
#undef SECTION
#undef OPTION
	SECTION_COUNT
};

/* What an option takes. Those from CONF_TYPE_LIST_FIRST on take any number of values. */
enum conf_type {
	TYPE_TEXT,         /* char *: any printable text */
	TYPE_SECRET,       /* char *: never shown in a message, wiped when freed */
	TYPE_HOSTNAME,     /* char *: a DNS name or "[address]" */
	TYPE_HOST,         /* char *: a DNS name or an address */
	TYPE_ADDRESS,      /* char *: a mail address */
	TYPE_PATH,         /* char *: made absolute; "" is NULL */
	TYPE_USER,         /* char *: name of a user or group */
	TYPE_URL,          /* char *: https://..., or http:// to this very host */
	TYPE_STORE,        /* char *: "local" or redis://[USER@]HOST:PORT/DB */
	TYPE_LOG,          /* conf.log_target, conf.log_file */
	TYPE_CHOICE,       /* enum: position among the choices, plus min */
	TYPE_CHOICE_BOOL,  /* bool: true for the second choice */
	TYPE_METHOD,       /* conf_server.method, .preset */
	TYPE_BOOL,         /* bool */
	TYPE_COUNT,        /* unsigned */
	TYPE_SIZE,         /* uint64_t bytes */
	TYPE_DURATION,     /* uint64_t milliseconds */
	TYPE_RESERVE,      /* unsigned percent: "10% high" */
	TYPE_LIMITS,       /* struct conf_limits */
	TYPE_PATTERNS,     /* struct conf_list, comma lists split, lower case */
	TYPE_SOURCES,      /* struct conf_list of addresses */
	TYPE_DNS_SERVERS,  /* struct conf_list of ADDRESS or ADDRESS@PORT */
	TYPE_FINGERPRINTS, /* struct conf_list of 64 hex digits */
	TYPE_AUTH,         /* struct conf_list of choices */
	TYPE_MX,           /* struct conf_list of host names, "*." in front allowed */
	TYPE_CIDRS,        /* conf_server.deny_count, .deny */
	TYPE_DURATIONS,    /* conf.retry.after_count, .after_ms */
	TYPE_SERVER_NAMES, /* conf.primary_count, .primary or conf_route.server_count, .server */
	TYPE_COUNT_OF_TYPES
};
#define TYPE_LIST_FIRST TYPE_LIMITS

enum conf_titling { PLAIN, TITLED };

struct conf_section {
	const char *name;
	enum conf_section_id parent;
	enum conf_titling titling;
};

struct conf_option {
	enum conf_section_id section;
	const char *name;
	enum conf_type type;
	uint64_t min, max;
	const char *choices;
	const char *fallback; /* default as text */
	size_t offset;        /* of the field in its struct */
};

extern const struct conf_section conf_sections[SECTION_COUNT];
extern const struct conf_option conf_options[];
extern const unsigned conf_option_count;

/* NULL when the section has no option called so. */
const struct conf_option *conf_option_find(enum conf_section_id section, struct slice name);
/* The section called `name` inside `parent`, or SECTION_COUNT. */
enum conf_section_id conf_section_find(enum conf_section_id parent, struct slice name);
/* Writes "; did you mean "port"?" or "; it belongs in ..." or nothing. */
void conf_suggest(struct buf *out, enum conf_section_id section, struct slice name);
/* Position of `word` among the choices, or -1. */
int conf_choice_find(const char *choices, struct slice word);
/* "relay, direct or gmail" */
void conf_choices_format(struct buf *out, const char *choices);

/* One provider's settings. */
struct conf_preset {
	const char *name, *host;
	unsigned port;
	const char *limits;
	unsigned max_connections; /* 0: the usual default */
	bool counts_refused;
};
extern const struct conf_preset conf_presets[];
extern const unsigned conf_preset_count;
/* NULL when there is none called so. */
const struct conf_preset *conf_preset_find(const char *name);

/* What oauth2 {} has in a preset; "": nothing. NULL when the provider is not known to have any. */
struct conf_preset_oauth2 {
	const char *name, *token_url, *device_url, *scope;
};
const struct conf_preset_oauth2 *conf_preset_find_oauth2(const char *name);

/* Mistakes while they are gathered; sorted by line when they are handed over. */
struct conf_mistake {
	unsigned line;
	unsigned order;
	char *text;
};
struct conf_report {
	const char *path;
	unsigned count, dropped;
	unsigned logins; /* of count: files with passwords, without which one server cannot log in */
	struct conf_mistake *mistake;
};
/* option may be NULL. line 0: about the file as a whole. */
void conf_mistake_add(struct conf_report *r, unsigned line, const char *option, const char *format, ...)
	PRINTF_LIKE(4, 5);
void conf_report_finish(struct conf_report *r, struct conf_errors *errors); /* sorts, moves the texts, releases r */

/* What the configuration names on this host, see conf_check_files(); with mistakes before it, only what was given. */
void conf_files_check(const struct conf *c, struct conf_report *report);
/* Rules about replies are part of the configuration: it is right as a whole, or not. */
void conf_replies_check(const struct conf *c, struct conf_errors *errors);

/* One value as it stands in the file, quotes and escapes resolved. */
struct conf_raw {
	unsigned line;
	char *text;
};

struct conf_reader {
	struct conf *conf;
	struct conf_report report;
	bool wants_files; /* where there are mistakes, tell those about files too: the caller will not come to it */
	char *folder;     /* absolute, of the file: base of relative paths */
};

struct conf_title {
	struct slice name; /* borrowed from the file's text */
	unsigned line;
};

/*
 * The file's structure, checked before libconfuse sees it: libconfuse stops at its first mistake, we go on. `clean` is
 * the text without comments and titles, with every mistake's statement left out, at the same lines. The titles are
 * beside it: libconfuse would compare each with all before it.
 */
struct conf_scan {
	struct buf clean;
	struct {
		unsigned count;
		struct conf_title *title;
	} titled[SECTION_COUNT]; /* sections with a title, in order of the file */
	unsigned harmless;       /* mistakes that left out nothing that means something */
};
void conf_scan(struct conf_reader *r, struct slice text, struct conf_scan *out);
void conf_scan_release(struct conf_scan *s);

/* Values: reports what is wrong with them and stores them in the field. */
void conf_value_apply(struct conf_reader *r, const struct conf_option *o, void *base, const struct conf_raw *values,
		      unsigned count);
void conf_value_default(struct conf_reader *r, const struct conf_option *o, void *base);
void conf_value_release(const struct conf_option *o, void *base);
void *conf_value_field(const struct conf_option *o, void *base);

/* "200/hour recipients": fills *out (zeroed) or writes what is wrong and what would be right. */
bool conf_limit_parse(struct slice text, struct conf_limit *out, struct buf *wrong) MUST_CHECK;
/* "day" or "15m", as in a limit; false: neither, or out of bounds. */
bool conf_window_parse(struct slice text, uint64_t *ms) MUST_CHECK;
void conf_limits_release(struct conf_limits *l);
void conf_limits_add(struct conf_limits *l, const struct conf_limit *taken);

/* Small checks of names and addresses; pure. */
bool conf_is_host_name(struct slice s); /* RFC 1123, or U-labels in UTF-8 */
bool conf_is_ip(struct slice s);        /* v4 or v6, no brackets */
bool conf_cidr_parse(struct slice s, struct conf_cidr *out) MUST_CHECK;
bool conf_is_mx_pattern(struct slice s);
void conf_deny_add(struct conf_server *s, const struct conf_cidr *block);
void conf_deny_default(struct conf_server *s);
void conf_list_add(struct conf_list *l, struct slice item);
void conf_list_release(struct conf_list *l);

/* Defaults that depend on other options or the host, and rules between options. */
void conf_rules_apply(struct conf_reader *r);
void conf_server_rules_apply(struct conf_reader *r, struct conf_server *s);

/* The whole of conf_read() on text in memory. */
struct conf *conf_read_text(const char *path, struct slice text, struct conf_errors *errors) MUST_CHECK;
#endif
