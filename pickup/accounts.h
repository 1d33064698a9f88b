/* accounts.h - the names of local users, learnt before the jail hides /etc/passwd. */
#ifndef PICKUP_ACCOUNTS_H
#define PICKUP_ACCOUNTS_H
#include "lib/base.h"

enum { ACCOUNTS_MAX = 65536 };

struct accounts;

struct accounts *accounts_load(void);                              /* getpwent(3): what the host's name service lists */
const char *accounts_find(const struct accounts *a, uint32_t uid); /* NULL: not known */
#endif
