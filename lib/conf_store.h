/* conf_store.h - "redis://[USER@]HOST[:PORT][/DB]", the store that a fleet's limits share. */
#ifndef LIB_CONF_STORE_H
#define LIB_CONF_STORE_H
#include "lib/base.h"
#include <sys/socket.h>

enum { CONF_STORE_PORT = 6379, CONF_STORE_TEXT_MAX = 256 };

struct conf_store {
	char user[CONF_STORE_TEXT_MAX]; /* "": none */
	char host[CONF_STORE_TEXT_MAX]; /* an address without brackets, or a name */
	unsigned port, database;
};

/* NULL, or what is wrong with it, in words that do not repeat it (it may hold a password); static. Pure. */
const char *conf_store_parse(struct slice url, struct conf_store *out) MUST_CHECK;
/* An address, or a name that /etc/hosts knows: nobody is asked. False: neither. */
bool conf_store_find_host(const struct conf_store *s, struct sockaddr_storage *address, socklen_t *len) MUST_CHECK;
#endif
