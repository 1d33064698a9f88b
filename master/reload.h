/* reload.h - another configuration, as a whole or not at all. */
#ifndef MASTER_RELOAD_H
#define MASTER_RELOAD_H
#include "master/supervisor.h"

/*
 * Reads and checks m->conf_path. Right: replaces m->conf and m->conf_text, true. Wrong: every mistake is logged,
 * everything stays as it was, false. Logs mistakes (to stderr before the log is open).
 */
bool reload_read(struct master *m) MUST_CHECK;
/* SIGHUP. Also opens the log file again, for those who rotate it. */
void reload_all(struct master *m);
/* Opens what the configuration names as log: m->log_fd and this process's own log. */
bool reload_open_log(struct master *m) MUST_CHECK;
/* After syslogd was started again: the jailed processes, who share the socket, cannot reach its path. Cheap. */
void reload_reconnect_log(const struct master *m);
#endif
