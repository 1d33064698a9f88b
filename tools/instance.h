/* instance.h - the instance that a configuration describes: is it running, what does its master say. */
#ifndef TOOLS_INSTANCE_H
#define TOOLS_INSTANCE_H
#include "lib/conf.h"
#include "lib/json.h"
#include "tools/command.h"
#include <sys/types.h>

struct instance {
	struct conf *conf; /* NULL with instance_open_anyway() and a wrong configuration */
	char *spool;
	int run_fd; /* SPOOL/run; -1 when there is none yet */
};

/* Reads the configuration (mistakes are printed). 0, or the exit status to end with. */
int instance_open(struct instance *in, const struct command_context *c) MUST_CHECK;
/*
 * For stop and status: a mistake made in the file since the start must not keep anybody from stopping what runs.
 * Mistakes are printed; where the spool is, is guessed from the file's text.
 */
int instance_open_anyway(struct instance *in, const struct command_context *c) MUST_CHECK;
/* Also what the configuration names, as `check` does. */
int instance_open_checked(struct instance *in, const struct command_context *c) MUST_CHECK;
/* Likewise; but what only keeps one server from logging in is left to the master to tell, which starts all the same. */
int instance_open_to_start(struct instance *in, const struct command_context *c) MUST_CHECK;
void instance_close(struct instance *in);
/* The master's pid; 0 when none runs. Asks the lock, not the file's word. */
pid_t instance_master(const struct instance *in);
/* run/status.json parsed; NULL when there is none. The caller json_decref()s it. */
json_t *instance_status(const struct instance *in) MUST_CHECK;
#endif
