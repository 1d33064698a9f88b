/* jail_parts.h - the two kernel filters of lib/jail.c; for it alone. */
#ifndef LIB_JAIL_PARTS_H
#define LIB_JAIL_PARTS_H
#include "lib/jail.h"

/* Best effort: 0 also when the kernel has no (or too old a) Landlock. Needs no_new_privs. */
int jail_landlock(const struct jail *j) MUST_CHECK;
/* Needs no_new_privs. Everything the process still wants to open by path must be open, or allowed by the filter. */
int jail_seccomp(const struct jail *j) MUST_CHECK;
#endif
