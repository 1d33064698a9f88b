/* cmd_status.c - postern status: what master wrote down and what the scheduler answers, merged. */
#include "lib/clock.h"
#include "lib/text.h"
#include "tools/ask.h"
#include "tools/columns.h"
#include <getopt.h>

enum { STATUS_TIMEOUT_MS = 5000, CELL_BYTES = 256 };

struct status_view {
	json_t *master;    /* run/status.json */
	json_t *scheduler; /* {"queue":{...},"servers":[...]} or NULL */
};

static json_int_t uptime_of(const json_t *process)
{
	json_int_t started = json_integer_value(json_object_get(process, "started"));

	return started > 0 ? clock_wall().ms / 1000 - started : 0;
}

static void keep_line(void *arg, json_t *line)
{
	struct status_view *view = arg;

	if (!view->scheduler)
		view->scheduler = json_incref(line);
}

/* What section 8 of the interface promises, from what master keeps. */
static json_t *describe_process(const json_t *process)
{
	json_int_t pid = json_integer_value(json_object_get(process, "pid"));

	return json_pack("{s:O, s:O?, s:o, s:I, s:O, s:O}", "name", json_object_get(process, "name"), "index",
			 json_object_get(process, "index"), "pid", pid ? json_integer(pid) : json_null(), "uptime",
			 pid ? uptime_of(process) : (json_int_t)0, "restarts", json_object_get(process, "restarts"),
			 "state", json_object_get(process, "state"));
}

static json_t *time_of(const json_t *object, const char *name)
{
	json_int_t seconds = json_integer_value(json_object_get(object, name));
	json_t *text;
	struct buf out;

	if (seconds <= 0)
		return json_null();
	buf_init(&out, CELL_BYTES);
	clock_format_rfc3339(&out, (struct wall){ (int64_t)seconds * 1000 });
	text = json_string(buf_text(&out));
	buf_release(&out);
	return text;
}

/* The scheduler's servers, each with what master knows of its access token. */
static json_t *describe_servers(const struct status_view *view)
{
	json_t *servers = json_object_get(view->scheduler, "servers"), *token, *server;

	for (size_t i = 0; (token = json_array_get(json_object_get(view->master, "tokens"), i)); i++) {
		const char *name = json_string_value(json_object_get(token, "server"));
		json_t *error = json_object_get(token, "error");

		for (size_t k = 0; name && (server = json_array_get(servers, k)); k++) {
			if (strcmp(json_string_value(json_object_get(server, "name")), name) == 0)
				json_object_set_new(server, "token",
						    json_pack("{s:o, s:o, s:o}", "valid_until",
							      time_of(token, "valid_until"), "next_try",
							      time_of(token, "next_try"), "error",
							      error ? json_incref(error) : json_null()));
		}
	}
	return servers ? json_incref(servers) : json_array();
}

static json_t *describe(const struct status_view *view)
{
	json_t *processes = json_array(), *queue = json_object_get(view->scheduler, "queue"), *process,
	       *store = json_object_get(view->scheduler, "limits_store");

	for (size_t i = 0; (process = json_array_get(json_object_get(view->master, "processes"), i)); i++)
		json_array_append_new(processes, describe_process(process));
	return json_pack("{s:O, s:O, s:I, s:O, s:o, s:o, s:o, s:o}", "version",
			 json_object_get(view->master, "version"), "pid", json_object_get(view->master, "pid"),
			 "uptime", uptime_of(view->master), "state", json_object_get(view->master, "state"),
			 "processes", processes, "queue", queue ? json_incref(queue) : json_null(), "limits_store",
			 store ? json_incref(store) : json_null(), "servers", describe_servers(view));
}

static void format_uptime(char cell[CELL_BYTES], json_int_t seconds)
{
	struct buf text;

	buf_init(&text, CELL_BYTES);
	text_format_duration(&text, (uint64_t)(seconds > 0 ? seconds : 0) * 1000);
	(void)snprintf(cell, CELL_BYTES, "%s", buf_text(&text));
	buf_release(&text);
}

static void print_processes(const json_t *processes)
{
	static const struct column COLUMNS[] = { { "PROCESS", 10, false },
						 { "PID", 8, true },
						 { "UPTIME", 8, true },
						 { "RESTARTS", 8, true },
						 { "STATE", 0, false } };
	const json_t *p;

	columns_print_headings(COLUMNS, ARRAY_LEN(COLUMNS));
	for (size_t i = 0; (p = json_array_get(processes, i)); i++) {
		char pid[ASK_NUMBER_BYTES], uptime[CELL_BYTES], restarts[ASK_NUMBER_BYTES];
		const char *cells[] = { ask_text(p, "name"), pid, uptime, restarts, ask_text(p, "state") };

		ask_format_number(pid, json_object_get(p, "pid"));
		ask_format_number(restarts, json_object_get(p, "restarts"));
		format_uptime(uptime, json_integer_value(json_object_get(p, "uptime")));
		columns_print_row(COLUMNS, ARRAY_LEN(COLUMNS), cells);
	}
}

static void print_queue(const json_t *queue)
{
	static const struct column COLUMNS[] = { { "QUEUE", 10, false }, { "MESSAGES", 8, true } };
	static const char *const STATES[] = { "incoming", "waiting", "active", "held" };

	columns_print_headings(COLUMNS, ARRAY_LEN(COLUMNS));
	for (size_t i = 0; i < ARRAY_LEN(STATES); i++) {
		char count[ASK_NUMBER_BYTES];
		const char *cells[] = { STATES[i], count };

		ask_format_number(count, json_object_get(queue, STATES[i]));
		columns_print_row(COLUMNS, ARRAY_LEN(COLUMNS), cells);
	}
}

/* "isp 200/hour: 12 used" per window, in as many words as there is to say. */
static void print_limits(const json_t *server)
{
	const json_t *limit;

	for (size_t i = 0; (limit = json_array_get(json_object_get(server, "limits"), i)); i++) {
		const char *text = json_is_string(limit) ? json_string_value(limit) : ask_text(limit, "limit");
		long long used = (long long)json_integer_value(json_object_get(limit, "used"));

		if (columns_is_terminal())
			printf("  limit %s: %lld used\n", text, used);
		else
			printf("limit\t%s\t%s\t%lld\n", ask_text(server, "name"), text, used);
	}
}

/* "token valid until 2026-11-22T10:00:00Z", and what is wrong when something is. */
static void print_token(const json_t *server)
{
	const json_t *token = json_object_get(server, "token");
	const char *until = ask_text(token, "valid_until"), *error = ask_text(token, "error");

	if (!token)
		return;
	if (!columns_is_terminal()) {
		printf("token\t%s\t%s\t%s\t%s\n", ask_text(server, "name"), until, ask_text(token, "next_try"), error);
		return;
	}
	printf("  token valid until %s\n", *until ? until : "-: none yet");
	if (*error)
		printf("  token: %s; next try %s\n", error, ask_text(token, "next_try"));
}

static void print_servers(const json_t *servers)
{
	static const struct column COLUMNS[] = { { "SERVER", 16, false }, { "METHOD", 7, false },
						 { "STATE", 9, false },   { "CONNECTIONS", 11, true },
						 { "SENT", 9, true },     { "DEFERRED", 9, true },
						 { "BOUNCED", 9, true },  { "REASON", 0, false } };
	const json_t *s;

	columns_print_headings(COLUMNS, ARRAY_LEN(COLUMNS));
	for (size_t i = 0; (s = json_array_get(servers, i)); i++) {
		char connections[ASK_NUMBER_BYTES], sent[ASK_NUMBER_BYTES], deferred[ASK_NUMBER_BYTES],
			bounced[ASK_NUMBER_BYTES];
		const char *cells[] = { ask_text(s, "display_name"),
					ask_text(s, "method"),
					ask_text(s, "state"),
					connections,
					sent,
					deferred,
					bounced,
					ask_text(s, "reason") };

		ask_format_number(connections, json_object_get(s, "connections"));
		ask_format_number(sent, json_object_get(s, "sent"));
		ask_format_number(deferred, json_object_get(s, "deferred"));
		ask_format_number(bounced, json_object_get(s, "bounced"));
		columns_print_row(COLUMNS, ARRAY_LEN(COLUMNS), cells);
		print_limits(s);
		print_token(s);
	}
}

static void print_for_people(const json_t *all)
{
	bool is_terminal = columns_is_terminal();
	char uptime[CELL_BYTES];

	format_uptime(uptime, json_integer_value(json_object_get(all, "uptime")));
	if (is_terminal)
		printf("postern %s, pid %lld, %s for %s\n\n", ask_text(all, "version"),
		       (long long)json_integer_value(json_object_get(all, "pid")), ask_text(all, "state"), uptime);
	print_processes(json_object_get(all, "processes"));
	if (is_terminal)
		putchar('\n');
	if (json_is_object(json_object_get(all, "queue")))
		print_queue(json_object_get(all, "queue"));
	if (is_terminal)
		putchar('\n');
	if (json_is_string(json_object_get(all, "limits_store")))
		printf("%s%s\n", is_terminal ? "" : "limits-store\t", ask_text(all, "limits_store"));
	print_servers(json_object_get(all, "servers"));
}

static int not_running(bool is_json)
{
	if (is_json)
		printf("{\"version\":\"%s\",\"pid\":null,\"uptime\":null,\"state\":\"stopped\",\"processes\":[],"
		       "\"queue\":null,\"limits_store\":null,\"servers\":[]}\n",
		       POSTERN_VERSION);
	else
		puts("postern is not running");
	return EXIT_STATUS_NOT_RUNNING;
}

static int show(const struct instance *in, bool is_json)
{
	struct status_view view = { .master = instance_master(in) ? instance_status(in) : NULL };
	struct ask_result answer;
	json_t *all;

	if (!view.master)
		return not_running(is_json);
	answer = ask_scheduler(in, json_pack("{s:s}", "command", "status"), STATUS_TIMEOUT_MS, keep_line, &view);
	if (!answer.is_answered)
		command_complain("the scheduler was not asked: %s", answer.text);
	all = describe(&view);
	if (is_json)
		ask_print_json(all);
	else
		print_for_people(all);
	free(answer.text);
	json_decref(all);
	json_decref(view.master);
	json_decref(view.scheduler);
	return EXIT_STATUS_DONE;
}

int command_status(const struct command_context *c, int argc, char **argv)
{
	static const struct option OPTIONS[] = { { "json", no_argument, NULL, 'j' }, { NULL, 0, NULL, 0 } };
	bool is_json = false;
	struct instance in;
	int which, status;

	while ((which = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
		if (which != 'j')
			return EXIT_STATUS_USAGE;
		is_json = true;
	}
	if (optind < argc) {
		command_complain("status: unexpected argument: %s", argv[optind]);
		return EXIT_STATUS_USAGE;
	}
	if ((status = instance_open_anyway(&in, c)) != 0)
		return status;
	status = show(&in, is_json);
	instance_close(&in);
	return status;
}
