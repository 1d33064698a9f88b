/* ask.c - the client's side of the control socket. */
#include "tools/ask.h"
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_LINE_MAX = 16 << 20, ANSWER_READ_BYTES = 64 << 10 };

static int connect_control(const struct instance *in)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd, saved;

	if (in->run_fd < 0) {
		errno = ENOENT;
		return -1;
	}
	/* A spool may lie deeper than the 107 bytes that an address holds. */
	(void)snprintf(to.sun_path, sizeof(to.sun_path), "/proc/self/fd/%d/control", in->run_fd);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static int send_request(int fd, const json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	char *line = xasprintf("%s\n", text ? text : "{}");
	size_t len = strlen(line), sent = 0;

	free(text);
	while (sent < len) {
		ssize_t put = send(fd, line + sent, len - sent, MSG_NOSIGNAL);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			break;
		sent += (size_t)put;
	}
	free(line);
	return sent == len ? 0 : -1;
}

/* One complete line. True when it was the last. */
static bool take_line(const char *ptr, size_t len, struct ask_result *result, ask_fn on_line, void *arg)
{
	json_t *line = json_loadb(ptr, len, 0, NULL);
	bool is_last = line && json_is_true(json_object_get(line, "end"));

	if (is_last) {
		const char *text = json_string_value(json_object_get(line, "text"));

		result->status = (int)json_integer_value(json_object_get(line, "status"));
		free(result->text);
		result->text = xstrdup(text ? text : "");
		result->is_answered = true;
	} else if (line && on_line) {
		on_line(arg, line);
	}
	json_decref(line);
	return is_last;
}

/* Complete lines at the beginning of `in`. True when the last one was among them. */
static bool take_lines(struct buf *in, struct ask_result *result, ask_fn on_line, void *arg)
{
	const char *end;
	size_t taken = 0;
	bool is_last = false;

	while (!is_last && in->len > taken && (end = memchr(in->ptr + taken, '\n', in->len - taken))) {
		size_t len = (size_t)(end - (in->ptr + taken));

		is_last = take_line(in->ptr + taken, len, result, on_line, arg);
		taken += len + 1;
	}
	buf_consume(in, taken);
	return is_last;
}

static void read_answer(int fd, int timeout_ms, struct ask_result *result, ask_fn on_line, void *arg)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct buf in;

	buf_init(&in, ANSWER_LINE_MAX);
	for (;;) {
		char *room = buf_reserve(&in, ANSWER_READ_BYTES);
		ssize_t got;

		if (!room || poll(&pfd, 1, timeout_ms) <= 0)
			break;
		got = read(fd, room, ANSWER_READ_BYTES);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		in.len += (size_t)got;
		if (take_lines(&in, result, on_line, arg))
			break;
	}
	buf_release(&in);
}

static struct ask_result ask(const struct instance *in, const json_t *request, int timeout_ms, ask_fn on_line,
			     void *arg)
{
	struct ask_result result = { .status = EXIT_STATUS_TEMPORARY,
				     .text = xstrdup("the scheduler does not answer") };
	int fd = connect_control(in);

	if (fd < 0) {
		result.status = errno == EACCES || errno == EPERM ? EXIT_STATUS_NOT_PERMITTED : EXIT_STATUS_UNAVAILABLE;
		free(result.text);
		result.text = result.status == EXIT_STATUS_NOT_PERMITTED
				      ? xasprintf("%s/run/control: %s", in->spool, strerror(EACCES))
				      : xstrdup("postern is not running");
		return result;
	}
	if (send_request(fd, request) == 0)
		read_answer(fd, timeout_ms, &result, on_line, arg);
	close(fd);
	return result;
}

struct ask_result ask_scheduler(const struct instance *in, json_t *request, int timeout_ms, ask_fn on_line, void *arg)
{
	struct ask_result result = ask(in, request, timeout_ms, on_line, arg);

	json_decref(request);
	return result;
}

struct ask_result ask_instance(const struct command_context *c, json_t *request, int timeout_ms, ask_fn on_line,
			       void *arg)
{
	struct ask_result result;
	struct instance in;
	int status = instance_open(&in, c);

	if (status != 0) {
		json_decref(request);
		return (struct ask_result){ .status = status, .text = xstrdup("") };
	}
	result = ask_scheduler(&in, request, timeout_ms, on_line, arg);
	instance_close(&in);
	return result;
}

const char *ask_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

void ask_format_number(char cell[ASK_NUMBER_BYTES], const json_t *value)
{
	(void)snprintf(cell, ASK_NUMBER_BYTES, "%lld", (long long)json_integer_value(value));
}

void ask_print_json(const json_t *line)
{
	json_dumpf(line, stdout, JSON_COMPACT);
	putchar('\n');
}
