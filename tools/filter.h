/* filter.h - FILTER and ID arguments of the commands that choose messages. */
#ifndef TOOLS_FILTER_H
#define TOOLS_FILTER_H
#include "lib/json.h"
#include "tools/command.h"

struct filter {
	json_t *object; /* {"ids":[...],"all":bool,"sender","recipient","domain","server","older_s"}: only what was
			   given */
	bool is_json;   /* --json was among the arguments */
	bool is_empty;  /* neither filter nor id */
};

/* 0 or EXIT_STATUS_USAGE (said). The caller json_decref()s object. */
int filter_parse(struct filter *f, const char *command, int argc, char **argv, bool may_json) MUST_CHECK;
#endif
