/* proc_options.c - the command line of a child. */
#include "lib/proc_options.h"
#include "lib/proc.h"
#include "lib/text.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static uint32_t parse_number(const char *option, const char *text)
{
	uint64_t value;

	if (!text_parse_u64(slice_of(text), &value) || value > UINT32_MAX) {
		fprintf(stderr, "postern: --%s: \"%s\" is not a number\n", option, text);
		exit(EXIT_STATUS_USAGE);
	}
	return (uint32_t)value;
}

static void parse_groups(struct proc_options *o, const char *text)
{
	const char *at = text;

	while (*at) {
		size_t len = strcspn(at, ",");
		uint64_t value;

		if (o->group_count == PROC_GROUPS_MAX || !text_parse_u64((struct slice){ at, len }, &value) ||
		    value > UINT32_MAX) {
			fprintf(stderr, "postern: --groups: \"%s\" is not a list of numbers\n", text);
			exit(EXIT_STATUS_USAGE);
		}
		o->groups[o->group_count++] = (gid_t)value;
		at += len + (at[len] == ',');
	}
}

NORETURN static void explain(const char *name, int status)
{
	fprintf(status == 0 ? stdout : stderr,
		"%s is a part of Postern %s and is started by its master, never by hand.\n"
		"Use postern(8): `postern start` or `postern run`.\n",
		name, POSTERN_VERSION);
	exit(status);
}

void proc_options_parse(struct proc_options *o, int argc, char **argv, const char *name)
{
	enum { CHILD = 1, INDEX, GENERATION, SPOOL_ROOT, CONF, WORKERS, UID, GID, GROUPS, HELP, VERSION };
	static const struct option OPTIONS[] = {
		{ "child", no_argument, NULL, CHILD },
		{ "index", required_argument, NULL, INDEX },
		{ "generation", required_argument, NULL, GENERATION },
		{ "spool-root", required_argument, NULL, SPOOL_ROOT },
		{ "conf", required_argument, NULL, CONF },
		{ "workers", required_argument, NULL, WORKERS },
		{ "uid", required_argument, NULL, UID },
		{ "gid", required_argument, NULL, GID },
		{ "groups", required_argument, NULL, GROUPS },
		{ "help", no_argument, NULL, HELP },
		{ "version", no_argument, NULL, VERSION },
		{ NULL, 0, NULL, 0 },
	};
	int which, at = 0;

	o->uid = (uid_t)-1;
	while ((which = getopt_long(argc, argv, "", OPTIONS, &at)) != -1) {
		switch (which) {
		case CHILD:
			o->is_child = true;
			break;
		case SPOOL_ROOT:
			o->spool_root = optarg;
			break;
		case CONF:
			o->conf_path = optarg;
			break;
		case INDEX:
			o->index = parse_number("index", optarg);
			break;
		case GENERATION:
			o->generation = parse_number("generation", optarg);
			break;
		case WORKERS:
			o->workers = parse_number("workers", optarg);
			break;
		case UID:
			o->uid = parse_number("uid", optarg);
			break;
		case GID:
			o->gid = parse_number("gid", optarg);
			break;
		case GROUPS:
			parse_groups(o, optarg);
			break;
		case VERSION:
			printf("postern %s %s\n", name, POSTERN_VERSION);
			exit(0);
		default:
			explain(name, which == HELP ? 0 : EXIT_STATUS_USAGE);
		}
	}
	if (!o->is_child || !o->spool_root || !o->conf_path || o->generation == 0 || o->workers > PROC_WORKERS_MAX)
		explain(name, EXIT_STATUS_USAGE);
}
