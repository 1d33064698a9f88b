/* secrets.h - passwords and tokens as master hands them over: sealed memory, records INDEX NUL NAME NUL VALUE NUL. */
#ifndef SMTPOUT_SECRETS_H
#define SMTPOUT_SECRETS_H
#include "lib/base.h"

/* What a record holds; index: of the server in conf.server. Borrowed, wiped afterwards. */
typedef void (*secrets_cb)(void *arg, unsigned index, struct slice name, struct slice value);

/*
 * Calls fn for each record of the descriptor's content, from its beginning, and wipes what was read. False with errno
 * when it cannot be read, or is no list of records (EBADMSG): then fn may have been called for the first ones.
 */
bool secrets_read(int fd, secrets_cb fn, void *arg) MUST_CHECK;
#endif
