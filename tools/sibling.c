/* sibling.c - the other programs, found relative to this one. */
#include "tools/sibling.h"
#include <limits.h>
#include <unistd.h>

static char *beside(const char *folder, const char *relative, const char *name)
{
	char *path = xasprintf("%s/%s%s", folder, relative, name);

	if (access(path, X_OK) == 0)
		return path;
	free(path);
	return NULL;
}

/* sbin/postern and libexec/postern/NAME lie the same way to one another in the build tree and installed. */
char *sibling_find(const char *name)
{
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash, *path;

	if (len < 0)
		return NULL;
	self[len] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return NULL;
	*slash = '\0';
	path = beside(self, "../libexec/postern/", name);
	return path ? path : beside(self, "", name);
}
