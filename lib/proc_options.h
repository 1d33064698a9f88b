/* proc_options.h - how master starts a child: its command line, see proc_main(). */
#ifndef LIB_PROC_OPTIONS_H
#define LIB_PROC_OPTIONS_H
#include "lib/base.h"
#include <sys/types.h>

enum { PROC_GROUPS_MAX = 16 };

struct proc_options {
	bool is_child;
	unsigned index, workers;
	uint32_t generation;
	const char *spool_root, *conf_path;
	uid_t uid; /* (uid_t)-1: not started as root */
	gid_t gid, groups[PROC_GROUPS_MAX];
	unsigned group_count;
};

/* Fills a zeroed struct; strings are argv's. Ends the process when it was started by hand, or for --help, --version. */
void proc_options_parse(struct proc_options *o, int argc, char **argv, const char *name);
#endif
