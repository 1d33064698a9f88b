/* status.h - run/status.json: what `postern status`, `start` and `stop` read. */
#ifndef MASTER_STATUS_H
#define MASTER_STATUS_H
#include "master/supervisor.h"

/*
 * {"version","pid","started","state","reloads","refused_reloads","processes":[{"name","index","pid","started","restarts",
 * "state"}],"tokens":[as tokens_put_status() says]}; times in seconds since 1970. state: starting, up, stopping,
 * stopped. Written beside and renamed over.
 */
void status_write(const struct master *m);
#endif
