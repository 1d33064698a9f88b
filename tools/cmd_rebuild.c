/* cmd_rebuild.c - postern queue rebuild: sets the queue database aside; the next start makes it from the queue files.
 */
#include "lib/store.h"
#include "tools/instance.h"
#include <errno.h>
#include <glob.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

/* The folder is the user's: root does nothing there that the user could not. */
static int become_user(const char *name)
{
	const struct passwd *user;

	if (geteuid() != 0)
		return 0;
	errno = 0;
	user = getpwnam(name);
	if (user && setgroups(0, NULL) == 0 && setgid(user->pw_gid) == 0 && setuid(user->pw_uid) == 0)
		return 0;
	command_complain("queue rebuild: cannot become %s: %s", name,
			 errno ? strerror(errno) : "there is no such user");
	return EXIT_STATUS_NOT_PERMITTED;
}

static size_t count_messages(const char *spool)
{
	char *pattern = xasprintf("%s/queue/*/*", spool);
	glob_t found = { 0 };
	size_t count = glob(pattern, GLOB_NOSORT, NULL, &found) == 0 ? found.gl_pathc : 0;

	globfree(&found);
	free(pattern);
	return count;
}

static int set_aside(const char *spool)
{
	char *dir = xasprintf("%s/db/queue", spool);
	int status = 0;

	if (store_set_aside(dir) < 0) {
		command_complain("queue rebuild: %s: %s", dir,
				 errno == EWOULDBLOCK ? "in use: stop the service first" : strerror(errno));
		status = errno == EACCES || errno == EPERM ? EXIT_STATUS_NOT_PERMITTED : EXIT_STATUS_TEMPORARY;
	} else {
		printf("%s: set aside; the next start makes it anew from the queue files (%zu)\n"
		       "Every message is then tried at once, a held one too; who was served already may get a second "
		       "copy.\n",
		       dir, count_messages(spool));
	}
	free(dir);
	return status;
}

int command_rebuild(const struct command_context *c, int argc, char **argv)
{
	struct instance in;
	int status;

	if (argc > 1) {
		command_complain("queue rebuild: unexpected argument: %s", argv[1]);
		return EXIT_STATUS_USAGE;
	}
	status = instance_open(&in, c);
	if (status == 0 && instance_master(&in) != 0) {
		command_complain("queue rebuild: the service runs: stop it first");
		status = EXIT_STATUS_TEMPORARY;
	}
	if (status == 0)
		status = become_user(in.conf->user);
	if (status == 0)
		status = set_aside(in.spool);
	instance_close(&in);
	return status;
}
