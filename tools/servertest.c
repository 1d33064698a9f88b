/*
 * servertest - tests the way through one server, step by step: what `postern test` runs.
 *
 * Purpose    Finds the server as the resolver does, talks to it as smtpout does, prints each step, and says what to
 *            change when one fails. A program of its own, so that `postern` needs neither OpenSSL nor libunbound.
 * Runs as    whoever calls it, who must be able to read the configuration and its secrets; root becomes smtp-user.
 *            Before the first byte from outside is read it goes into the same jail as smtpout, without a chroot.
 *            Where there is oauth2 {}, the program `token` fetches an access token before that; with direct delivery
 *            the MTA-STS policy of the recipient's domain.
 * Reads      the configuration, password files, certificates, resolv.conf, hosts. Writes nothing but stdout and stderr.
 *            The service need not run, and hears nothing of it: no limit is charged, no state changes.
 * Exits      0 the message was taken (--dry-run: would be); 64 usage; 65 refused for good; 69 unavailable; 75 not now;
 *            77 login refused, or secrets that may not be read; 78 configuration.
 * Limits     PROBE_WAIT_MAX_MS for each reply.
 */
#include "lib/address.h"
#include "lib/destination.h"
#include "lib/idn.h"
#include "lib/log.h"
#include "lib/plan.h"
#include "lib/rewrite.h"
#include "tools/probe.h"
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>

struct wish {
	const char *conf_path, *server, *from, *to;
	bool is_rehearsal, is_json;
};

PRINTF_LIKE(1, 2) static int complain(const char *format, ...)
{
	va_list args;

	fputs("postern: test: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_STATUS_USAGE;
}

/* --- what is asked */

static int read_arguments(struct wish *w, int argc, char **argv)
{
	static const struct option OPTIONS[] = {
		{ "from", required_argument, NULL, 'f' }, { "to", required_argument, NULL, 't' },
		{ "dry-run", no_argument, NULL, 'd' },    { "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },       { NULL, 0, NULL, 0 },
	};
	static char speaker[] = "postern: test"; /* in getopt's complaints, which look like ours then */
	int which;

	argv[0] = speaker;
	while ((which = getopt_long(argc, argv, "c:", OPTIONS, NULL)) != -1) {
		switch (which) {
		case 'c':
			w->conf_path = optarg;
			break;
		case 'f':
			w->from = optarg;
			break;
		case 't':
			w->to = optarg;
			break;
		case 'd':
			w->is_rehearsal = true;
			break;
		case 'j':
			w->is_json = true;
			break;
		case 'h':
			printf("servertest is a part of Postern %s: see `postern test --help`.\n", POSTERN_VERSION);
			exit(EXIT_STATUS_DONE);
		default:
			return EXIT_STATUS_USAGE;
		}
	}
	if (optind + 1 != argc) {
		complain("takes one server's name: SERVER --from ADDRESS --to ADDRESS");
		return EXIT_STATUS_USAGE; /* in words that the analyzer can follow */
	}
	w->server = argv[optind];
	if (!w->from || !w->to) {
		complain("--from ADDRESS and --to ADDRESS are needed");
		return EXIT_STATUS_USAGE;
	}
	return 0;
}

/* As it goes on the wire: a domain beyond ASCII as A-labels, unless the local part needs SMTPUTF8 anyhow. */
static int read_address(const char *option, const char *written, bool may_be_empty, char **out)
{
	struct address_parts parts;
	struct slice text = slice_of(written);
	enum address_result result = address_parse(text, &parts);
	struct buf wire;

	if (may_be_empty && (text.len == 0 || result == ADDRESS_EMPTY)) {
		*out = xstrdup("");
		return 0;
	}
	if (result != ADDRESS_OK)
		return complain("%s %s: %s", option, written, address_error(result));
	buf_init(&wire, 2 * ADDRESS_MAX);
	buf_put_slice(&wire, parts.local);
	buf_put_char(&wire, '@');
	if (parts.is_utf8 || parts.is_literal || !idn_to_ascii(&wire, parts.domain))
		buf_put_slice(&wire, parts.domain);
	*out = buf_detach(&wire);
	return 0;
}

static int find_server(struct probe *p, const char *name)
{
	int index = conf_find_server(p->conf, slice_of(name));

	if (index >= 0) {
		p->server = &p->conf->server[index];
		return 0;
	}
	complain("there is no server %s; the configuration has:", name);
	for (unsigned i = 0; i < p->conf->server_count; i++)
		fprintf(stderr, "\t%s\n", p->conf->server[i].name);
	return EXIT_STATUS_USAGE;
}

static struct conf *read_conf(const char *path)
{
	struct conf_errors errors = { 0 };
	struct conf *conf = conf_read(path, -1, &errors);

	for (unsigned i = 0; i < errors.count; i++)
		fprintf(stderr, "postern: %s\n", errors.text[i]);
	conf_errors_release(&errors);
	return conf;
}

/* As mail would go: what the server insists on stands in envelope and From. */
static int rewrite_sender(struct probe *p)
{
	if (!rewrite_applies(p->server, slice_of(p->sender)))
		return 0;
	free(p->sender);
	p->sender = NULL;
	p->is_rewritten = true;
	return read_address("rewrite-sender", p->server->rewrite_sender, false, &p->sender);
}

static int prepare(struct probe *p, const struct wish *w)
{
	int status = find_server(p, w->server);

	if (status == 0)
		status = read_address("--from", w->from, true, &p->sender);
	if (status == 0)
		status = rewrite_sender(p);
	if (status == 0)
		status = read_address("--to", w->to, false, &p->rcpt);
	if (status == 0)
		p->domain = strrchr(p->rcpt, '@') + 1;
	return status;
}

/* --- doing it */

static void warn_of_exclusion(struct probe *p)
{
	const char *pattern = plan_excluding_pattern(p->server, slice_of(p->rcpt));
	char *text;

	if (!pattern)
		return;
	text = xasprintf("exclude-domains has %s: mail for %s does not go through this server but in this test",
			 pattern, p->domain);
	steps_put(&p->steps, STEP_ADVICE, "settings", -1, text);
	free(text);
}

static void tell_of_rewriting(struct probe *p)
{
	char *text;

	if (!p->is_rewritten)
		return;
	text = xasprintf("the sender becomes %s: rewrite-sender", p->sender);
	steps_put(&p->steps, STEP_ADVICE, "settings", -1, text);
	free(text);
}

/* One domain's own terms; which are the domain's may hang on its mail hosts. */
static void apply_destination(struct probe *p)
{
	static const char *const WORDS[] = {
		[TLS_NONE] = "none",       [TLS_OPPORTUNISTIC] = "opportunistic",
		[TLS_REQUIRE] = "require", [TLS_VERIFY] = "verify",
		[TLS_DANE] = "dane",
	};
	bool is_direct = p->server->method == METHOD_DIRECT;
	const struct conf_destination *d = is_direct ? destination_find(p->conf, p->domain, &p->hosts) : NULL;
	char *text;

	p->tls = p->server->tls;
	if (!d || d->tls == TLS_UNSET)
		return;
	p->tls = d->tls;
	text = xasprintf("destination \"%s\" is about %s: tls = %s", d->name, p->domain, WORDS[d->tls]);
	steps_put(&p->steps, STEP_OK, "settings", -1, text);
	free(text);
}

static bool try_hosts(struct probe *p)
{
	bool may_go_on = true, is_done = false;

	if (p->server->pop.is_set && !probe_pop(p))
		return false;
	if (!probe_find_hosts(p, p->server, &p->hosts))
		return false;
	apply_destination(p);
	if (!probe_heed_policy(p))
		return false;
	for (unsigned i = 0; i < p->hosts.count && may_go_on && !is_done; i++)
		is_done = probe_smtp(p, &p->hosts.host[i], &may_go_on);
	return is_done;
}

static int finish(struct probe *p, bool is_done)
{
	const struct hint_facts facts = { .step = p->end.step,
					  .cause = p->end.cause,
					  .code = p->end.code,
					  .dsn = p->end.dsn,
					  .is_direct = p->server->method == METHOD_DIRECT };
	int status = is_done ? 0 : hint_exit_status(&facts);

	if (!is_done && status == 0)
		status = EXIT_STATUS_UNAVAILABLE;
	if (!is_done)
		steps_end(&p->steps, status, "The test has failed.");
	else if (p->is_rehearsal)
		steps_end(&p->steps, 0, "The server would take a message; none was sent.");
	else
		steps_end(&p->steps, 0, "The server has taken the message.");
	return status;
}

static int run(struct probe *p)
{
	int status;

	p->loop = loop_new();
	steps_begin(&p->steps);
	status = probe_open(p);
	if (status == 0)
		status = probe_enter_jail(p);
	if (status != 0) {
		steps_end(&p->steps, status, "The test could not begin.");
		return status;
	}
	warn_of_exclusion(p);
	tell_of_rewriting(p);
	return finish(p, try_hosts(p));
}

int main(int argc, char **argv)
{
	struct wish w = { .conf_path = conf_default_path() };
	struct probe *p = xcalloc(1, sizeof(*p));
	struct conf *conf = NULL;
	int status = read_arguments(&w, argc, argv);

	(void)signal(SIGPIPE, SIG_IGN);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	log_set_level(LOG_LEVEL_ERROR); /* the steps say it all */
	p->letter_fd = -1;
	p->is_rehearsal = w.is_rehearsal;
	p->steps.is_json = w.is_json;
	if (status == 0) {
		p->conf = conf = read_conf(w.conf_path);
		status = conf ? prepare(p, &w) : EXIT_STATUS_CONFIG;
	}
	if (status == 0)
		status = run(p);
	probe_release(p);
	conf_free(&conf);
	free(p);
	if (fflush(stdout) != 0 || ferror(stdout))
		return EXIT_STATUS_TEMPORARY;
	return status;
}
