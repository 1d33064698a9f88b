/* cmd_check.c - postern check. */
#include "tools/instance.h"

int command_check(const struct command_context *c, int argc, char **argv)
{
	struct instance in;
	int status;

	if (argc > 1) {
		command_complain("check: takes no argument: %s", argv[1]);
		return EXIT_STATUS_USAGE;
	}
	status = instance_open_checked(&in, c);
	if (status == 0)
		instance_close(&in);
	return status;
}
