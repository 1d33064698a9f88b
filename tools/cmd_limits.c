/* cmd_limits.c - postern limits: what is used of each limit; limits set, limits reset. */
#include "lib/text.h"
#include "tools/ask.h"
#include "tools/columns.h"
#include "tools/filter.h"
#include <getopt.h>
#include <pwd.h>
#include <unistd.h>

enum { LIMITS_TIMEOUT_MS = 60 * 1000 };

static const struct column COLUMNS[] = {
	{ "SCOPE", 11, false },  { "NAME", 28, false }, { "LIMIT", 28, false },  { "USED", 12, true },
	{ "ALLOWED", 12, true }, { "LEASED", 8, true }, { "FREE AT", 0, false },
};

struct listing {
	bool is_json;
	unsigned count;
};

static void print_limit(void *arg, json_t *line)
{
	struct listing *listing = arg;
	char used[ASK_NUMBER_BYTES], allowed[ASK_NUMBER_BYTES], leased[ASK_NUMBER_BYTES] = "-";
	const json_t *lease = json_object_get(line, "leased");
	const char *cells[] = {
		ask_text(line, "scope"),  ask_text(line, "name"), ask_text(line, "limit"), used, allowed, leased,
		ask_text(line, "free_at")
	};

	if (listing->is_json) {
		ask_print_json(line);
		return;
	}
	if (listing->count++ == 0)
		columns_print_headings(COLUMNS, ARRAY_LEN(COLUMNS));
	ask_format_number(used, json_object_get(line, "used"));
	ask_format_number(allowed, json_object_get(line, "allowed"));
	if (lease)
		ask_format_number(leased, lease);
	columns_print_row(COLUMNS, ARRAY_LEN(COLUMNS), cells);
}

/* Takes the request. */
static int ask(const struct command_context *c, json_t *request, ask_fn on_line, void *arg)
{
	struct ask_result result = ask_instance(c, request, LIMITS_TIMEOUT_MS, on_line, arg);

	if (*result.text && result.status == 0)
		puts(result.text);
	else if (*result.text)
		command_complain("%s", result.text);
	free(result.text);
	return result.status;
}

static int complain_usage(const char *what)
{
	command_complain("limits: %s; see `postern limits --help`", what);
	return EXIT_STATUS_USAGE;
}

/* argv: "postern: limits", then what follows set or reset. */
static int correct(const struct command_context *c, int argc, char **argv, bool is_set)
{
	static const struct option OPTIONS[] = { { "why", required_argument, NULL, 'w' }, { NULL, 0, NULL, 0 } };
	const char *why = NULL;
	uint64_t used = 0;
	json_t *request;
	int which;

	while ((which = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
		if (which != 'w')
			return EXIT_STATUS_USAGE;
		why = optarg;
	}
	argc -= optind;
	argv += optind;
	if (argc != (is_set ? 3 : 1))
		return complain_usage(is_set ? "set needs SERVER LIMIT USED" : "reset needs SERVER");
	if (!why || !*why)
		return complain_usage("say --why: it stands in the log");
	if (is_set && (!text_parse_u64(slice_of(argv[2]), &used) || used > INT64_MAX))
		return complain_usage("USED is not a number");
	request = is_set ? json_pack("{s:s, s:s, s:s, s:I, s:s}", "command", "limits-set", "scope", argv[0], "limit",
				     argv[1], "used", (json_int_t)used, "why", why)
			 : json_pack("{s:s, s:s, s:s}", "command", "limits-reset", "scope", argv[0], "why", why);
	if (!request)
		return complain_usage("not text");
	return ask(c, request, NULL, NULL);
}

int command_limits(const struct command_context *c, int argc, char **argv)
{
	static const struct option OPTIONS[] = { { "json", no_argument, NULL, 'j' }, { NULL, 0, NULL, 0 } };
	struct listing listing = { 0 };
	int which;

	if (argc > 1 && (strcmp(argv[1], "set") == 0 || strcmp(argv[1], "reset") == 0)) {
		bool is_set = strcmp(argv[1], "set") == 0;

		argv[1] = argv[0];
		return correct(c, argc - 1, argv + 1, is_set);
	}
	while ((which = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
		if (which != 'j')
			return EXIT_STATUS_USAGE;
		listing.is_json = true;
	}
	if (optind < argc)
		return complain_usage("only set and reset may follow");
	return ask(c, json_pack("{s:s}", "command", "limits"), print_limit, &listing);
}

static void print_forecast(void *arg, json_t *line)
{
	const json_t *by = json_object_get(line, "decided_by");
	const char *done = ask_text(line, "done_at"), *name = ask_text(by, "name");
	long long messages = json_integer_value(json_object_get(line, "messages"));
	long long held = json_integer_value(json_object_get(line, "held"));

	if (((const struct listing *)arg)->is_json) {
		ask_print_json(line);
		return;
	}
	printf("%lld message%s", messages, messages == 1 ? "" : "s");
	if (held > 0)
		printf(", %lld of them held", held);
	if (json_is_true(json_object_get(line, "never")))
		fputs(": never gone", stdout);
	else if (*done)
		printf(": gone at %s", done);
	else
		fputs(": nobody can tell when gone", stdout);
	if (json_is_object(by) && strcmp(ask_text(by, "scope"), "speed") == 0)
		fputs(", as fast as the servers take it", stdout);
	else if (json_is_object(by))
		printf(", because of limit %s of %s%s%s", ask_text(by, "limit"), ask_text(by, "scope"),
		       *name ? " " : "", name);
	putchar('\n');
}

int command_forecast(const struct command_context *c, int argc, char **argv)
{
	struct listing listing = { 0 };
	struct filter f;
	json_t *request;
	int status = filter_parse(&f, c->name, argc, argv, true);

	if (status != 0)
		return status;
	listing.is_json = f.is_json;
	request = json_pack("{s:s, s:o}", "command", "forecast", "filters", f.object);
	return ask(c, request, print_forecast, &listing);
}
