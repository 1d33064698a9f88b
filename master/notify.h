/* notify.h - telling systemd (NOTIFY_SOCKET, sd_notify(3)) without its library. */
#ifndef MASTER_NOTIFY_H
#define MASTER_NOTIFY_H
#include "lib/base.h"

/* Remembers NOTIFY_SOCKET and takes it out of the environment: children must not speak for us. */
void notify_init(void);
/* One datagram, "READY=1\nSTATUS=..."; nothing happens where nobody listens. */
void notify_send(const char *format, ...) PRINTF_LIKE(1, 2);
void notify_reloading(void);
#endif
