/* sibling.h - the other programs, found relative to this one. */
#ifndef TOOLS_SIBLING_H
#define TOOLS_SIBLING_H
#include "lib/base.h"

/* The path of libexec/postern/NAME, in the build tree or installed; the caller frees. NULL when there is none. */
char *sibling_find(const char *name) MUST_CHECK;
#endif
