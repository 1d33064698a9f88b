/* cmd_queue.c - postern queue, and the commands that act on messages: retry, hold, release, delete. */
#include "lib/clock.h"
#include "tools/ask.h"
#include "tools/columns.h"
#include "tools/filter.h"

/* How long the scheduler may be silent: between two messages that it shows, or over a change of very many. */
enum { LISTING_TIMEOUT_MS = 5000, ACTION_TIMEOUT_MS = 60 * 1000, CELL_BYTES = 64 };

struct listing {
	bool is_json;
	uint64_t count;
};

static const struct column COLUMNS[] = {
	{ "ID", 13, false },     { "ARRIVED", 20, false },   { "SIZE", 8, true },
	{ "SENDER", 24, false }, { "RECIPIENT", 28, false }, { "SERVER", 10, false },
	{ "TRIES", 5, true },    { "NEXT", 20, false },      { "REASON", 0, false },
};

/* A time as seconds or as text; "" for none. */
static void format_time(char cell[CELL_BYTES], const json_t *value)
{
	struct buf text;

	cell[0] = '\0';
	if (json_is_string(value))
		(void)snprintf(cell, CELL_BYTES, "%s", json_string_value(value));
	if (!json_is_integer(value) || json_integer_value(value) <= 0)
		return;
	buf_init(&text, CELL_BYTES);
	clock_format_rfc3339(&text, (struct wall){ json_integer_value(value) * 1000 });
	(void)snprintf(cell, CELL_BYTES, "%s", buf_text(&text));
	buf_release(&text);
}

/* A recipient's own field where it has one, else the message's. */
static const json_t *field_of(const json_t *rcpt, const json_t *message, const char *name)
{
	const json_t *own = json_object_get(rcpt, name);

	return own ? own : json_object_get(message, name);
}

static void print_recipient(const json_t *message, const json_t *rcpt)
{
	char arrived[CELL_BYTES], size[ASK_NUMBER_BYTES], tries[ASK_NUMBER_BYTES], next[CELL_BYTES];
	const char *sender = ask_text(message, "sender"),
		   *server = json_string_value(field_of(rcpt, message, "server"));
	const char *cells[] = {
		ask_text(message, "queue_id"), arrived, size, *sender ? sender : "<>",       ask_text(rcpt, "address"),
		server ? server : "",          tries,   next, ask_text(rcpt, "delay_reason")
	};

	format_time(arrived, json_object_get(message, "arrival_time"));
	format_time(next, field_of(rcpt, message, "next_attempt"));
	ask_format_number(size, json_object_get(message, "message_size"));
	ask_format_number(tries, field_of(rcpt, message, "attempts"));
	columns_print_row(COLUMNS, ARRAY_LEN(COLUMNS), cells);
}

static void print_message(void *arg, json_t *message)
{
	struct listing *listing = arg;
	const json_t *rcpt;

	if (listing->count++ == 0 && !listing->is_json)
		columns_print_headings(COLUMNS, ARRAY_LEN(COLUMNS));
	if (listing->is_json) {
		ask_print_json(message);
		return;
	}
	for (size_t i = 0; (rcpt = json_array_get(json_object_get(message, "recipients"), i)); i++)
		print_recipient(message, rcpt);
}

static json_t *request_of(const char *command, const struct filter *f)
{
	return json_pack("{s:s, s:o}", "command", command, "filters", f->object);
}

int command_queue(const struct command_context *c, int argc, char **argv)
{
	struct listing listing = { 0 };
	struct ask_result result;
	struct filter f;
	int status;

	if (argc > 1 && strcmp(argv[1], "rebuild") == 0)
		return command_rebuild(c, argc - 1, argv + 1);
	if ((status = filter_parse(&f, c->name, argc, argv, true)) != 0)
		return status;
	listing.is_json = f.is_json;
	result = ask_instance(c, request_of("queue", &f), LISTING_TIMEOUT_MS, print_message, &listing);
	if (result.is_answered && listing.count == 0 && !listing.is_json && columns_is_terminal())
		puts(f.is_empty ? "the queue is empty" : "nothing matches");
	else if (*result.text && (!result.is_answered || result.status > EXIT_STATUS_NO_MATCH))
		command_complain("%s", result.text);
	free(result.text);
	return result.status;
}

int command_act(const struct command_context *c, int argc, char **argv)
{
	struct ask_result result;
	struct filter f;
	int status = filter_parse(&f, c->name, argc, argv, false);

	if (status != 0)
		return status;
	if (f.is_empty) {
		command_complain("%s: which messages? Give ids, a filter or --all", c->name);
		json_decref(f.object);
		return EXIT_STATUS_USAGE;
	}
	result = ask_instance(c, request_of(c->name, &f), ACTION_TIMEOUT_MS, NULL, NULL);
	if (*result.text && result.is_answered && result.status <= EXIT_STATUS_NO_MATCH)
		puts(result.text);
	else if (*result.text)
		command_complain("%s", result.text);
	free(result.text);
	return result.status;
}
