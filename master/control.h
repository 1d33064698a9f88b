/* control.h - SPOOL/run/control: master makes the socket, the scheduler answers there. */
#ifndef MASTER_CONTROL_H
#define MASTER_CONTROL_H
#include "master/identity.h"

/* Listening UNIX stream socket, mode 0660, group that of `user`; non-blocking. -1 with errno. `run` is borrowed. */
int control_listen(int run, const struct identities *ids) MUST_CHECK;
#endif
