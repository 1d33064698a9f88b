/* replies_private.h - what lib/replies*.c share; for nobody else. */
#ifndef LIB_REPLIES_PRIVATE_H
#define LIB_REPLIES_PRIVATE_H
#include "lib/conf_private.h"
#include "lib/replies.h"
#include <regex.h>

enum { REPLY_RULES_MAX = 10000, REPLY_LINE_BYTES_MAX = 4096 };
enum reply_method { REPLY_ANY_METHOD, REPLY_RELAY_ONLY, REPLY_DIRECT_ONLY };

/* Hosts of one provider: "smtp.gmail.com", "*.google.com". A preset of that name belongs to it too. */
struct reply_provider {
	char *name;
	struct conf_list host;
};

/* A rule with its conditions; empty lists match all. */
struct reply_entry {
	struct reply_rule rule;
	struct conf_list server, provider, code, dsn;
	enum reply_method method;
	uint32_t commands; /* bit per enum reply_command; 0: all */
	bool has_text;
	regex_t text;
};

struct replies {
	unsigned count, room, provider_count, file_count;
	struct reply_entry *entry;
	struct reply_provider *provider;
	char **file; /* names that the rules point to */
};

extern const char *const reply_command_words[];
extern const unsigned reply_command_word_count;
extern const char *const reply_scope_words[];
extern const char *const reply_action_words[];
enum { REPLY_SCOPE_COUNT = REPLY_SERVER + 1, REPLY_ACTION_COUNT = REPLY_QUOTA + 1 };

struct reply_provider *replies_find_provider(const struct replies *r, struct slice name);
/* Removes every rule; providers stay. */
void replies_clear(struct replies *r);
void reply_entry_release(struct reply_entry *e);
#endif
