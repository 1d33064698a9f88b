/* cmd_presets.c - postern presets. */
#include "lib/conf.h"
#include "tools/command.h"

int command_presets(const struct command_context *c, int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	struct buf out;
	int status = 0;

	(void)c;
	if (argc > 2) {
		command_complain("presets: takes one name: %s", argv[2]);
		return EXIT_STATUS_USAGE;
	}
	buf_init(&out, 64 * 1024);
	if (conf_presets_format(&out, name)) {
		fputs(buf_text(&out), stdout);
	} else {
		command_complain("presets: there is none for %s; `postern presets` shows all", name);
		status = EXIT_STATUS_NO_MATCH;
	}
	buf_release(&out);
	return status;
}
