/* control.h - the operator's socket: requests in, answers out in portions, nobody is waited for.
 *
 * A client connects, sends one JSON object in one line, {"command":"queue", ...}, and reads lines of JSON; the last is
 * {"end":true,"status":EXIT-STATUS,"text":"..."}. One request per connection.
 */
#ifndef SCHEDULER_CONTROL_H
#define SCHEDULER_CONTROL_H
#include "lib/json.h"
#include "lib/loop.h"
#include <sys/types.h>

enum {
	CONTROL_REQUEST_MAX = 64 * 1024,
	CONTROL_STEP_MAX = 256 * 1024, /* most that one step may append */
	CONTROL_CLIENTS_MAX = 32,
	CONTROL_REQUEST_MS = 10000, /* to send the request in */
	CONTROL_IDLE_MS = 60000     /* without taking any of the answer */
};

struct control;
struct control_client;

enum control_step {
	CONTROL_MORE, /* call again when there is room (or in the next turn, when nothing was appended) */
	CONTROL_WAIT, /* call again after control_wake() */
	CONTROL_END   /* that was all: the end line with reply->status and text follows */
};

/* What a command makes of a request; zeroed before start(). */
struct control_reply {
	struct control_client *client; /* for control_wake(); valid until release() */
	int status;                    /* enum exit_status, of the end line; may be set until CONTROL_END */
	char text[512];                /* of the end line, plain words; may stay empty */
	/* Appends whole or partial lines to out, at most CONTROL_STEP_MAX bytes a call. NULL: nothing but the end line.
	 */
	enum control_step (*step)(void *iterator, struct control_reply *reply, struct buf *out);
	void (*release)(
		void *iterator); /* always called once when step was set, also when the client went away; may be NULL */
	void *iterator;
};

struct control_request {
	const json_t *object; /* borrowed, gone after start() */
	uid_t uid;            /* who asks (SO_PEERCRED) */
	pid_t pid;
};

struct control_command {
	const char *name;
	/* Looks at the request and sets up the reply. Wrong arguments: status EXIT_STATUS_USAGE and a text, no step. */
	void (*start)(void *arg, const struct control_request *request, struct control_reply *reply);
};

/* `listener`: borrowed, listening, non-blocking. `commands` (count of them) must outlive it; arg is handed to start().
 */
struct control *control_new(struct loop *loop, int listener, const struct control_command *commands, unsigned count,
			    void *arg);
void control_free(struct control **c); /* drops the clients; their iterators are released */
/* What a waiting iterator waited for has come. May be called at any time before its release(). */
void control_wake(struct control_client *client);
unsigned control_client_count(const struct control *c);

/* An argument of a request, borrowed from it; NULL when absent or of another type. */
const char *control_get_string(const struct control_request *r, const char *key);
/* Sets status and text of a reply that ends here. */
void control_refuse(struct control_reply *reply, int status, const char *format, ...) PRINTF_LIKE(3, 4);
#endif
