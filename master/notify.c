/* notify.c - sd_notify(3): one datagram to a UNIX socket. */
#include "master/notify.h"
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un listener;
static socklen_t listener_len; /* 0: nobody wants to know */

void notify_init(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	if (len > 1 && len < sizeof(listener.sun_path) && (path[0] == '/' || path[0] == '@')) {
		listener.sun_family = AF_UNIX;
		memcpy(listener.sun_path, path, len);
		if (path[0] == '@')
			listener.sun_path[0] = '\0'; /* the abstract name space */
		listener_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	}
	(void)unsetenv("NOTIFY_SOCKET");
}

void notify_send(const char *format, ...)
{
	char text[256];
	va_list args;
	int len, fd;

	if (listener_len == 0)
		return;
	va_start(args, format);
	len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (len < 0 || (size_t)len >= sizeof(text))
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, text, (size_t)len, MSG_NOSIGNAL, (const struct sockaddr *)&listener, listener_len);
	close(fd);
}

void notify_reloading(void)
{
	struct timespec now;

	/* systemd wants CLOCK_MONOTONIC here, so clock_mono() (CLOCK_BOOTTIME) will not do. */
	clock_gettime(CLOCK_MONOTONIC, &now);
	notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}
