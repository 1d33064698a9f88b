/* host.h - mail hosts that need no DNS: address literals, and relays named in /etc/hosts. */
#ifndef RESOLVER_HOST_H
#define RESOLVER_HOST_H
#include "lib/conf.h"
#include "lib/hosts.h"

struct host_file;

/*
 * Reads a hosts(5) file and keeps the lines that name a relay of this configuration, so its size does not matter. A
 * file that cannot be read is an empty one. Never NULL.
 */
struct host_file *host_file_read(const char *path, const struct conf *conf);
void host_file_free(struct host_file **file);
/* `name`: an A-label, lower case. False when the file does not know it. */
bool host_file_find(const struct host_file *file, const char *name, struct host *out) MUST_CHECK;

enum host_literal { HOST_NO_LITERAL, HOST_LITERAL, HOST_BAD_LITERAL };

/*
 * "[192.0.2.1]", "[IPv6:2001:db8::1]" (RFC 5321 4.1.3); with may_be_bare also "192.0.2.1", "2001:db8::1" and
 * "[2001:db8::1]", as people write relays. Fills *out with the text as written and one address. NO_LITERAL: it may be a
 * name.
 */
enum host_literal host_parse_literal(struct slice text, bool may_be_bare, struct host *out);
/* Takes away what the deny list covers; false when nothing is left. */
bool host_filter(struct host *host, const struct conf_cidr *deny, unsigned count) MUST_CHECK;
#endif
