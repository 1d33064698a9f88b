/* snapshot.h - the accepted configuration and the secrets it names, as sealed memory that children read. */
#ifndef MASTER_SNAPSHOT_H
#define MASTER_SNAPSHOT_H
#include "lib/buf.h"
#include "lib/conf.h"

enum { SNAPSHOT_SECRETS_MAX = 1 << 20, SNAPSHOT_POLICIES_MAX = 32 << 20 };

/*
 * A new memfd holding `bytes`, at offset 0, sealed against every change: one for each reader, since they share nothing
 * then, not even a file offset. Returned descriptor is the caller's, closed on exec; -1 with errno.
 */
int snapshot_create(const char *name, struct slice bytes) MUST_CHECK;
/*
 * Secrets for smtpout: records "INDEX\0NAME\0VALUE\0", INDEX decimal into conf.server, NAME "password",
 * "pop-password", or behind these "token" (tokens_collect()). From `password` or the first line of `password-file`. A
 * file that cannot be read, that others may read, or that holds nothing is logged and left out: that server cannot log
 * in, the others run.
 */
void snapshot_collect_secrets(const struct conf *c, struct buf *out);
void snapshot_put_secret(struct buf *out, unsigned index, const char *name, const char *value);
void snapshot_collect_server(const struct conf *c, unsigned index, struct buf *out); /* of one server */
#endif
