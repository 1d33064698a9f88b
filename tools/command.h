/* command.h - what a command of postern(8) is. */
#ifndef TOOLS_COMMAND_H
#define TOOLS_COMMAND_H
#include "lib/base.h"

struct command_context {
	const char *conf_path; /* -c FILE, or the installed one */
	const char *name;      /* the command's, as typed */
};

/*
 * argv[0] is how the command complains: "postern: NAME". Returns the exit status. Called with stdout line-buffered;
 * what it says to people about failures goes to stderr as "postern: ...".
 */
typedef int (*command_fn)(const struct command_context *c, int argc, char **argv);

int command_check(const struct command_context *c, int argc, char **argv);
int command_run(const struct command_context *c, int argc, char **argv);
int command_start(const struct command_context *c, int argc, char **argv);
int command_stop(const struct command_context *c, int argc, char **argv);
int command_reload(const struct command_context *c, int argc, char **argv);
int command_restart(const struct command_context *c, int argc, char **argv);
int command_status(const struct command_context *c, int argc, char **argv);
int command_queue(const struct command_context *c, int argc, char **argv);
int command_rebuild(const struct command_context *c, int argc, char **argv); /* argv[0]: "rebuild" */
int command_forecast(const struct command_context *c, int argc, char **argv);
int command_limits(const struct command_context *c, int argc, char **argv);
int command_act(const struct command_context *c, int argc, char **argv); /* retry, hold, release, delete */
int command_route(const struct command_context *c, int argc, char **argv);
int command_test(const struct command_context *c, int argc, char **argv);
int command_login(const struct command_context *c, int argc, char **argv);
int command_presets(const struct command_context *c, int argc, char **argv);

/* "postern: TEXT" on stderr. */
void command_complain(const char *format, ...) PRINTF_LIKE(1, 2);
#endif
