/* conf.h - postern.conf, read, checked and typed. Parsed by lib/conf.c (the only user of libconfuse) from the option
 * table lib/conf_options.def: name, type, bounds, default as text, availability, one sentence of documentation. */
#ifndef LIB_CONF_H
#define LIB_CONF_H
#include "lib/buf.h"
#include "lib/log.h"
#include <netinet/in.h>

struct conf_list {
	unsigned count;
	char **item;
};

enum conf_method { METHOD_RELAY, METHOD_DIRECT }; /* presets are relay with options set */
enum conf_tls { TLS_NONE, TLS_OPPORTUNISTIC, TLS_REQUIRE, TLS_VERIFY, TLS_DANE, TLS_UNSET };
enum conf_on_limit { ON_LIMIT_WAIT, ON_LIMIT_NEXT };

/* "200/hour", "2000/day recipients", "500/day calendar 00:00 America/Los_Angeles", "unlimited" */
struct conf_limit {
	char *text; /* as written, for messages to people */
	bool is_unlimited, is_recipients, is_calendar;
	uint64_t amount; /* 0: nothing may pass */
	uint64_t window_ms;
	int calendar_hour, calendar_minute; /* when a day begins */
	char *calendar_zone;                /* NULL: local time */
};

struct conf_limits {
	unsigned count;
	struct conf_limit *limit;
};

/* An address block, for deny-addresses. */
struct conf_cidr {
	uint8_t family, prefix;
	uint8_t bytes[16];
};

struct conf_oauth2 {
	bool is_set;
	char *token_url, *client_id;
	char *client_secret_file, *refresh_token_file; /* absolute; the secret's may be NULL */
	char *device_url, *scope;                      /* NULL: there is none */
};

struct conf_pop {
	bool is_set;
	char *host, *username, *password_file;
	unsigned port;
	enum conf_tls tls;
	uint64_t valid_for_ms;
};

struct conf_server {
	char *name, *display_name; /* display_name defaults to name */
	unsigned line;             /* of its section, for messages */
	enum conf_method method;
	char *preset; /* "gmail" ... or NULL */
	char *host;
	unsigned port;
	enum conf_tls tls;   /* resolved: never TLS_UNSET */
	bool is_tls_wrapper; /* TLS from the first byte */
	char *tls_ca_file, *tls_client_cert, *tls_client_key;
	struct conf_list tls_fingerprints;
	int tls_min_version; /* 10, 11, 12, 13 */
	char *username, *password, *password_file;
	struct conf_list auth; /* "auto" or mechanisms */
	bool may_auth_without_tls;
	struct conf_oauth2 oauth2;
	struct conf_pop pop;
	uint64_t timeout_ms, connect_timeout_ms;
	unsigned max_connections, max_connections_per_destination, reconnect_every;
	struct conf_limits limits;
	enum conf_on_limit on_limit;
	bool is_refused_free; /* the provider does not count what it refused: a preset says so */
	bool is_paced;
	struct conf_list exclude_domains; /* patterns, comma lists already split */
	struct conf_list source_addresses;
	char *rewrite_sender;
	enum { REWRITE_NEVER, REWRITE_UNLESS_ALLOWED, REWRITE_ALWAYS } rewrite;
	struct conf_list allowed_senders;
	struct conf_limits initial_used, ramp;
	unsigned reserve_percent;
	unsigned deny_count;
	struct conf_cidr *deny; /* deny-addresses; see lib/deny.h */
};

struct conf_route {
	char *name;
	struct conf_list sender, recipient; /* patterns; empty matches all */
	unsigned server_count;
	unsigned *server; /* indices into conf.server */
	struct conf_limits limits;
};

struct conf_destination {
	char *name; /* the domain, or a free title when mx is given */
	struct conf_list mx;
	unsigned max_connections; /* 0: not given */
	struct conf_limits limits;
	unsigned reconnect_every; /* 0: not given */
	enum conf_tls tls;        /* TLS_UNSET: not given */
};

struct conf {
	char *path; /* of the file, as given; its folder is the base of relative paths */
	char *hostname, *postmaster;
	char *spool; /* absolute */
	enum log_target log_target;
	char *log_file; /* absolute; LOG_TARGET_FILE only */
	enum log_format log_format;
	unsigned workers; /* resolved: at least 1 */
	char *user, *smtp_user, *drop_group;
	uint64_t message_size_limit_bytes;
	unsigned recipient_limit;
	unsigned primary_count;
	unsigned *primary; /* `servers`: indices into server; default all in file order */
	struct conf_limits limits, limit_per_sender;
	char *limits_store; /* "local", or a URL that conf_store_parse() takes */
	char *limits_store_password_file;
	bool may_share_when_down;
	char *reply_rules;
	uint64_t history_ms;
	struct {
		struct conf_list servers; /* "ADDRESS" or "ADDRESS@PORT", validated */
		char *trust_anchor_file;  /* absolute or NULL */
		uint64_t timeout_ms;
	} dns;
	struct {
		unsigned after_count;
		uint64_t *after_ms;   /* waits between attempts; the last repeats */
		unsigned max_retries; /* 0: no limit but max_age */
		uint64_t max_age_ms, warn_after_ms, greylist_after_ms;
	} retry;
	unsigned server_count, route_count, destination_count;
	struct conf_server *server;
	unsigned *server_by_key; /* the servers' indices in order of their keys */
	struct conf_route *route;
	struct conf_destination *destination;
	/* Lines of the options that were given, for messages: use conf_line(). */
	unsigned origin_count;
	struct conf_origin *origin;
};

/* Every mistake found, as "FILE:LINE: OPTION: what is wrong and what would be right", in order of line. */
struct conf_errors {
	unsigned count;
	unsigned logins; /* so many of them say only that one server cannot log in */
	char **text;
};

void conf_errors_release(struct conf_errors *e);
/* Behind those there are; `from` is empty then. */
void conf_errors_move(struct conf_errors *to, struct conf_errors *from);

/*
 * Reads `path` (a regular file) or, when fd >= 0, that descriptor's content under the name `path`. Returns a
 * configuration or NULL with at least one error. Checks syntax, names, types, bounds and cross-rules; touches no file
 * that the configuration names (conf_check_files() does).
 */
struct conf *conf_read(const char *path, int fd, struct conf_errors *errors) MUST_CHECK;
/*
 * As conf_read(), and what it names is checked as by conf_check_files(): where there are mistakes of both kinds, all
 * are told in one go. When all that is wrong are files with passwords (errors->logins), there is a configuration all
 * the same: the caller decides whether to go on without those servers.
 */
struct conf *conf_read_all(const char *path, int fd, struct conf_errors *errors) MUST_CHECK;
/* What the configuration names: spool, password files and their modes, certificates, users and groups (as root). */
bool conf_check_files(const struct conf *c, struct conf_errors *errors) MUST_CHECK;
/* The file with the certificate authorities that this system trusts; NULL when it has none. */
const char *conf_system_certificates(void);
void conf_free(struct conf **c);
/* The file's accepted text, for the snapshot that children read. NULL with errors when unreadable. */
char *conf_slurp(const char *path, size_t *len, struct conf_errors *errors) MUST_CHECK;
/*
 * Overwrites the passwords in such a text, in place, with as many letters: all else, lines too, stays as it was. The
 * text is one that conf_read() accepts.
 */
void conf_blank_secrets(char *text, size_t len);
/* The line that set `field` (a member of c, of one of its servers ...), 0 when it has its default. */
unsigned conf_line(const struct conf *c, const void *field);
/* A server's method as it stands in the configuration: "relay", "direct" or a preset's name. Borrowed. */
const char *conf_method_word(const struct conf_server *server);
/*
 * A provider's preset as a section of the configuration, written out; name NULL: all of them. False when there is none.
 */
bool conf_presets_format(struct buf *out, const char *name) MUST_CHECK;
/*
 * What processes call a server among themselves: made of its name alone, so it means the same server in whatever
 * configuration either of them has read. Different for all servers of one configuration.
 */
uint32_t conf_server_key(const struct conf_server *s);
/* Index or -1, found in conf.server_by_key: there may be ten thousand servers. */
int conf_find_server(const struct conf *c, struct slice name);
int conf_find_server_key(const struct conf *c, uint32_t key);
/* The same for a destination; never 0. Two of one configuration may share one, which few will ever do. */
uint32_t conf_destination_key(const struct conf_destination *d);
const struct conf_destination *conf_find_destination_key(const struct conf *c, uint32_t key); /* NULL: none */
void conf_index_servers(struct conf *c); /* makes server_by_key; conf_read() has done it */
const char *conf_default_path(void);     /* "/etc/postern/postern.conf", set at build time */
#endif
