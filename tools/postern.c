/*
 * postern.c - the operator's command: finds the command asked for and runs it.
 *
 * Purpose:    postern [-c FILE] COMMAND [ARGUMENT ...]; see postern(8).
 * Runs as:    whoever calls it; start, stop, reload need the rights of the instance's owner.
 * Reads:      the configuration, SPOOL/run/status.json; asks the scheduler through SPOOL/run/control. Never the queue.
 * Exit:       0; 1 nothing matched; 3 not running (status); 64 usage; 69 not running; 75 temporary; 77 not permitted;
 *             78 configuration.
 */
#include "lib/conf.h"
#include "tools/command.h"
#include <ctype.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>

static const struct {
	const char *name;
	command_fn run;
	const char *arguments, *purpose, *details;
} COMMANDS[] = {
	{ "check", command_check, "", "check the configuration and what it names",
	  "Says nothing and exits 0 when all is right; else prints every mistake and exits 78.\n" },
	{ "run", command_run, "", "run in the foreground (systemd, containers)",
	  "Ends on SIGTERM or SIGINT when the transactions under way are over; a second signal hurries.\n" },
	{ "start", command_start, "[--timeout DURATION]", "start in the background",
	  "Returns when mail can flow, or with 75 when that takes longer than DURATION (default 1m).\n" },
	{ "stop", command_stop, "[--timeout DURATION]", "stop, transactions under way end first",
	  "Waits for them at most DURATION (default 5m).\n" },
	{ "reload", command_reload, "", "read the configuration again",
	  "A wrong configuration is refused with 78 and nothing changes.\n" },
	{ "restart", command_restart, "[--timeout DURATION]", "stop and start", "As stop, then start.\n" },
	{ "status", command_status, "[--json]", "processes, queue and servers", "Exits 0 when running, 3 when not.\n" },
	{ "queue", command_queue, "[--json] [ID ...] [FILTER ...] | rebuild", "what is queued and why",
	  "With --json one object a line, with the field names of `postqueue -j`.\n"
	  "FILTER: --sender P, --recipient P, --domain D, --server S, --older DURATION; P is an address,\n"
	  "domain, .domain or *. Exits 1 when a FILTER matches nothing.\n"
	  "`queue rebuild` sets the queue database aside, with the service stopped: the next start makes it\n"
	  "anew from the queue files.\n" },
	{ "forecast", command_forecast, "[--json] [ID ...] [FILTER ...]", "when the queued mail will be gone",
	  "Under present limits and speed; and which limit decides. FILTER as for queue.\n" },
	{ "limits", command_limits, "[--json] | set SERVER LIMIT USED --why TEXT | reset SERVER --why TEXT",
	  "what is used of each limit; corrections",
	  "LIMIT as in the configuration, such as 200/hour. Other scopes than servers: instance, route:NAME,\n"
	  "destination:DOMAIN, sender:ADDRESS. After damage to the counters a correction begins new ones,\n"
	  "in which all other limits are taken to be used up.\n" },
	{ "retry", command_act, "ID ... | FILTER ...", "try messages again now", "FILTER as for queue, or --all.\n" },
	{ "hold", command_act, "ID ... | FILTER ...", "keep messages back", "FILTER as for queue, or --all.\n" },
	{ "release", command_act, "ID ... | FILTER ...", "let held messages go", "FILTER as for queue, or --all.\n" },
	{ "delete", command_act, "ID ... | FILTER ...", "remove messages, nobody is told",
	  "FILTER as for queue, or --all.\n" },
	{ "test", command_test, "SERVER --from ADDRESS --to ADDRESS [--dry-run] [--json]",
	  "send a test message through a server, step by step",
	  "Prints each step with the server's own words, and what to change when one fails. The service\n"
	  "need not run. --dry-run stops before DATA. Exits 0, 65 refused for good, 69 unavailable,\n"
	  "75 not now, 77 login refused, 78 configuration.\n" },
	{ "login", command_login, "SERVER", "OAuth2 login for a server with oauth2 { }",
	  "Prints an address and a code to enter there in any browser, waits for that, and keeps the refresh\n"
	  "token in refresh-token-file. The service need not run; one that runs takes it up by itself.\n"
	  "Exits 0, 69 token server unavailable, 75 not in time, 77 denied or not permitted,\n"
	  "78 configuration.\n" },
	{ "route", command_route, "SENDER RECIPIENT [--json]", "which servers would carry a message, and why",
	  "Reads the configuration only; \"\" or <> is the null sender. Exits 1 when no server may carry it.\n" },
	{ "presets", command_presets, "[NAME]", "the providers' presets, as configuration",
	  "What they print can be put into postern.conf and changed there.\n" },
};

/* Promised by the interface, built later: an honest answer instead of "unknown command". */
static const char *const LATER[] = { "show", "cat", "suspend", "resume", "trace", "stats", "top", "doctor" };

void command_complain(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fputs("postern: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static void print_help(FILE *out)
{
	fputs("usage: postern [-c FILE] COMMAND [ARGUMENT ...]\n\n", out);
	for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++)
		fprintf(out, "  %-8s  %s\n", COMMANDS[i].name, COMMANDS[i].purpose);
	fprintf(out,
		"\n-c FILE    the configuration; default %s\n"
		"`postern COMMAND --help` says more, postern(8) all.\n",
		conf_default_path());
}

static bool asks_for_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--help") == 0)
			return true;
	}
	return false;
}

static int run_command(struct command_context *context, int argc, char **argv)
{
	static char speaker[64]; /* in getopt's complaints, which look like ours then */

	context->name = argv[0];
	for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++) {
		if (strcmp(COMMANDS[i].name, argv[0]) != 0)
			continue;
		if (asks_for_help(argc, argv)) {
			printf("usage: postern [-c FILE] %s%s%s\n\n%c%s.\n%s", COMMANDS[i].name,
			       *COMMANDS[i].arguments ? " " : "", COMMANDS[i].arguments,
			       toupper((unsigned char)*COMMANDS[i].purpose), COMMANDS[i].purpose + 1,
			       COMMANDS[i].details);
			return EXIT_STATUS_DONE;
		}
		(void)snprintf(speaker, sizeof(speaker), "postern: %s", COMMANDS[i].name);
		argv[0] = speaker;
		return COMMANDS[i].run(context, argc, argv);
	}
	for (size_t i = 0; i < ARRAY_LEN(LATER); i++) {
		if (strcmp(LATER[i], argv[0]) == 0) {
			command_complain("%s: not available in this version", argv[0]);
			return EXIT_STATUS_USAGE;
		}
	}
	command_complain("%s: unknown command; `postern --help` lists them", argv[0]);
	return EXIT_STATUS_USAGE;
}

int main(int argc, char **argv)
{
	enum { HELP = 1, VERSION };
	static const struct option OPTIONS[] = {
		{ "help", no_argument, NULL, HELP },
		{ "version", no_argument, NULL, VERSION },
		{ NULL, 0, NULL, 0 },
	};
	struct command_context context = { .conf_path = conf_default_path() };
	static char speaker[] = "postern"; /* in getopt's complaints, whatever it was called as */
	int which;

	(void)signal(SIGPIPE, SIG_DFL); /* `postern queue | head` ends quietly */
	argv[0] = speaker;
	while ((which = getopt_long(argc, argv, "+c:", OPTIONS, NULL)) != -1) {
		switch (which) {
		case 'c':
			context.conf_path = optarg;
			break;
		case HELP:
			print_help(stdout);
			return EXIT_STATUS_DONE;
		case VERSION:
			printf("postern %s\n", POSTERN_VERSION);
			return EXIT_STATUS_DONE;
		default:
			return EXIT_STATUS_USAGE;
		}
	}
	if (optind == argc) {
		print_help(stderr);
		return EXIT_STATUS_USAGE;
	}
	argc -= optind;
	argv += optind;
	optind = 0; /* the command parses its own */
	which = run_command(&context, argc, argv);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		command_complain("cannot write the output");
		return EXIT_STATUS_TEMPORARY;
	}
	return which;
}
