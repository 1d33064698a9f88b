/* cmd_test.c - postern test: hands over to the program that does it. */
#include "tools/command.h"
#include "tools/sibling.h"
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

int command_test(const struct command_context *c, int argc, char **argv)
{
	char *path = sibling_find("servertest");
	const char **args = xcalloc((size_t)argc + 3, sizeof(*args));
	char name[] = "postern";

	if (!path) {
		command_complain("cannot find the program servertest beside this one");
		return EXIT_STATUS_OS;
	}
	args[0] = name;
	args[1] = "-c";
	args[2] = c->conf_path;
	for (int i = 1; i < argc; i++)
		args[2 + i] = argv[i];
	execv(path, (char *const *)args);
	command_complain("cannot run %s: %s", path, strerror(errno));
	return EXIT_STATUS_OS;
}
