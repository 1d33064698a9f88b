/* token.c - asks a token server one question (OAuth2), or a domain for its MTA-STS policy, and ends.
 *
 * Started by:    master, when an access token or a policy has to be fetched; `postern login` and `postern test`. The
 * only program that speaks HTTPS, so that no process that lives long has libcurl in it Runs as:       smtp-user when
 * root starts it; smtpout's jail but for the chroot; network, no writing but to the descriptors it was given Before
 * jail:   resolv.conf, hosts, certificate authorities of the system Reads:         stdin: the question, with the
 * secrets that it needs (lib/oauth.h); none in arguments or environment Writes:        stdout: the answer. Descriptor
 * 3, where there is one: a new refresh token, synced before stdout says so Logs:          nothing Exits:         0 when
 * it has answered, whatever the answer is; 64 by hand; 71 when it cannot work here Limits:        the question's
 * deadline for DNS, connection and answer together; 64 KiB of answer
 */
#include "lib/fd.h"
#include "lib/helper.h"
#include "lib/https.h"
#include "lib/idn.h"
#include "lib/jail.h"
#include "lib/log.h"
#include "lib/oauth.h"
#include "lib/refresh.h"
#include "lib/sts.h"
#include "lib/text.h"
#include "resolver/host.h"
#include "resolver/policy.h"
#include "tools/search.h"
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <unistd.h>

enum { ANSWER_MAX = 64 << 10, PIECE = 4096, SECRETS_MAX = 2, FILES_MAX = 256 };

/* Everything there is. */
struct token {
	char *url, *form;         /* form NULL: the question is an MTA-STS policy */
	struct sts_policy policy; /* then: domain and id */
	uint64_t kind, deadline_ms, began_ms;
	const char *secret[SECRETS_MAX];
	unsigned secret_count;
	struct conf conf; /* as much of one as DNS wants */
	struct conf_server server;
	struct https_place place;
	struct https *https;
	struct loop *loop;
	struct dns *dns;
	struct host_file *host_file;
	struct host host;
	struct buf answer; /* records */
	uid_t uid;
	gid_t gid;
};

static bool give_up(struct token *t, const char *why)
{
	char *text = xasprintf("%s: %s", t->place.host[0] ? t->place.host : "the token server", why);
	struct buf printable;

	buf_init(&printable, 4 * OAUTH_TEXT_MAX);
	text_escape(&printable, slice_of(text), OAUTH_TEXT_MAX);
	oauth_put_record(&t->answer, "text", buf_slice(&printable));
	buf_release(&printable);
	free(text);
	return false;
}

/* --- the question */

static bool take_record(struct token *t, struct slice name, const char *value)
{
	const struct {
		const char *name;
		uint64_t *field;
	} NUMBERS[] = { { "kind", &t->kind },
			{ "deadline", &t->deadline_ms },
			{ "dns-timeout", &t->conf.dns.timeout_ms } };
	const struct {
		const char *name;
		char **field;
	} TEXTS[] = { { "url", &t->url }, { "form", &t->form }, { "trust-anchor", &t->conf.dns.trust_anchor_file } };
	struct conf_list *servers = &t->conf.dns.servers;

	for (unsigned i = 0; i < ARRAY_LEN(NUMBERS); i++)
		if (slice_is(name, NUMBERS[i].name))
			return text_parse_u64(slice_of(value), NUMBERS[i].field);
	for (unsigned i = 0; i < ARRAY_LEN(TEXTS); i++)
		if (slice_is(name, TEXTS[i].name))
			*TEXTS[i].field = (char *)value;
	if (slice_is(name, "dns-server")) {
		servers->item = xrealloc(servers->item, servers->count + 1, sizeof(*servers->item));
		servers->item[servers->count++] = (char *)value;
	} else if (slice_is(name, "policy-domain") && sts_is_domain(slice_of(value))) {
		snprintf(t->policy.domain, sizeof(t->policy.domain), "%s", value);
	} else if (slice_is(name, "policy-id")) {
		snprintf(t->policy.id, sizeof(t->policy.id), "%s", value);
	} else if (slice_is(name, "secret") && t->secret_count < SECRETS_MAX) {
		t->secret[t->secret_count++] = value;
	}
	return true;
}

/* `question` is borrowed for good. */
static bool take_question(struct token *t, struct slice question)
{
	struct slice name, value;
	bool is_right = true;

	while (is_right && oauth_next_record(&question, &name, &value))
		is_right = take_record(t, name, value.ptr);
	if (!is_right || question.len > 0 || !t->url || !t->form == !t->policy.domain[0] || t->kind > OAUTH_POLL ||
	    !https_place(t->url, &t->place))
		return false;
	t->server.host = t->place.host;
	t->conf.server = &t->server;
	t->conf.server_count = 1;
	return true;
}

static bool read_question(struct buf *out)
{
	ssize_t got;

	do {
		char *room = buf_reserve(out, PIECE);

		got = room ? read(STDIN_FILENO, room, PIECE) : -1;
		out->len += got > 0 ? (size_t)got : 0;
	} while (got > 0);
	return got == 0;
}

/* --- where the server is */

static bool search(struct token *t, const char *name)
{
	static struct mx_search mx;
	static struct hosts hosts;

	mx_start(&mx, RESOLVE_HOST, name, NULL, 0, 0, search_seed());
	if (!search_run(t->loop, t->dns, &mx, t->deadline_ms))
		return give_up(t, "no answer from DNS");
	if (mx.status != RESOLVE_OK)
		return give_up(t, mx.text);
	mx_hosts(&mx, &hosts);
	t->host = hosts.host[0];
	return true;
}

static bool find_host(struct token *t)
{
	struct slice name = slice_of(t->place.host);
	struct buf ascii;
	bool is_found;

	if (host_parse_literal(name, true, &t->host) == HOST_LITERAL)
		return true;
	buf_init(&ascii, WIRE_NAME_SIZE);
	if (!idn_to_ascii(&ascii, name))
		is_found = give_up(t, "not a valid host name");
	else
		is_found = host_file_find(t->host_file, buf_text(&ascii), &t->host) || search(t, buf_text(&ascii));
	buf_release(&ascii);
	return is_found;
}

/* --- doing it */

static bool prepare(struct token *t)
{
	const char *what = NULL;
	struct buf why;

	buf_init(&why, 1024);
	t->loop = loop_new();
	t->https = https_new(&what);
	t->host_file = host_file_read("/etc/hosts", &t->conf);
	if (t->https && !(t->dns = dns_new(t->loop, &t->conf, &why)))
		what = buf_text(&why);
	if (what)
		give_up(t, what);
	buf_release(&why);
	return !what;
}

static int enter_jail(const struct token *t)
{
	static const char *const NOTHING[] = { NULL };
	int folder = -1;
	const struct jail jail = { .folder = "/",
				   .folder_fd = &folder,
				   .uid = t->uid,
				   .gid = t->gid,
				   .wants_network = true,
				   .reachable = NOTHING,
				   .max_files = FILES_MAX };
	const char *step = "";

	return jail_enter(&jail, &step);
}

/* A new refresh token first: what answers for it may be gone by now. */
static void keep_refresh_token(struct buf *answer)
{
	struct slice rest = buf_slice(answer), name, value;

	while (oauth_next_record(&rest, &name, &value)) {
		if (!slice_is(name, "refresh_token"))
			continue;
		if (fcntl(HELPER_FD, F_GETFD) >= 0 && refresh_write(HELPER_FD, value.ptr))
			oauth_put_record(answer, "kept", slice_of(""));
		return;
	}
}

/* Whoever asks need not know whether there is a policy: the id stands in DNS. False: there is none, or nobody knows. */
static bool find_policy_id(struct token *t)
{
	static struct wire_answer answer; /* some 40 KiB */
	char name[WIRE_NAME_SIZE + sizeof("_mta-sts.")];

	snprintf(name, sizeof(name), "_mta-sts.%s", t->policy.domain);
	answer.status = WIRE_NXDOMAIN; /* no such name can exist */
	if (strlen(name) <= 253)
		search_ask(t->loop, t->dns, name, WIRE_TYPE_TXT, &answer);
	if (answer.status == WIRE_FAILED)
		return give_up(t, answer.why);
	if (policy_read_id(&answer, t->policy.id))
		return true;
	oauth_put_record(&t->answer, "no-policy", slice_of(""));
	return false;
}

static void take_policy(struct token *t, unsigned status, struct slice file)
{
	struct buf line;
	const char *why;
	char text[40];

	if (status != 200) { /* RFC 8461 3.3: redirections are not followed either */
		snprintf(text, sizeof(text), "its answer has the HTTP status %u", status);
		give_up(t, text);
		return;
	}
	if (!sts_read_file(file, &t->policy, &why)) {
		give_up(t, why);
		return;
	}
	t->policy.fetched_s = (uint64_t)clock_wall().ms / 1000;
	buf_init(&line, STS_LINE_MAX);
	sts_put_line(&line, &t->policy);
	oauth_put_record(&t->answer, "policy", buf_slice(&line));
	buf_release(&line);
}

static void take_tokens(struct token *t, unsigned status, struct slice body)
{
	oauth_put_reply(&t->answer, (enum oauth_kind)t->kind, status, body, t->secret, t->secret_count);
	keep_refresh_token(&t->answer);
}

static void ask(struct token *t)
{
	uint64_t spent;
	struct buf body;
	struct https_question question = { .url = t->url,
					   .media_type = t->form ? "application/json" : "text/plain",
					   .is_strict = !t->form,
					   .resolved = &t->host,
					   .answer_max = ANSWER_MAX };
	unsigned status;
	char *why = NULL;

	buf_init(&body, ANSWER_MAX);
	if ((!t->form && !t->policy.id[0] && !find_policy_id(t)) || !find_host(t))
		return;
	spent = (uint64_t)clock_mono().ms - t->began_ms;
	if (t->form)
		question.form = slice_of(t->form);
	question.deadline_ms = t->deadline_ms > spent + 1 ? t->deadline_ms - spent : 1;
	if (!https_send(t->https, &question, &status, &body, &why))
		give_up(t, why);
	else if (t->form)
		take_tokens(t, status, buf_slice(&body));
	else
		take_policy(t, status, buf_slice(&body));
	free(why);
	buf_release(&body);
}

NORETURN static void explain(int status)
{
	fprintf(status == 0 ? stdout : stderr, "token is a part of Postern %s and is started by it, never by hand.\n",
		POSTERN_VERSION);
	exit(status);
}

static void read_arguments(struct token *t, int argc, char **argv)
{
	static const struct option OPTIONS[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "uid", required_argument, NULL, 'u' },
		{ "gid", required_argument, NULL, 'g' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t number;
	int which;

	t->uid = (uid_t)-1;
	t->gid = (gid_t)-1;
	while ((which = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
		if (which == 'h')
			explain(EXIT_STATUS_DONE);
		if (which == '?' || !text_parse_u64(slice_of(optarg), &number) || number > UINT32_MAX)
			explain(EXIT_STATUS_USAGE);
		if (which == 'u')
			t->uid = (uid_t)number;
		else
			t->gid = (gid_t)number;
	}
}

int main(int argc, char **argv)
{
	static struct token t;
	static struct buf question;
	int status = 0;

	(void)signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LEVEL_ERROR);
	read_arguments(&t, argc, argv);
	buf_init(&question, OAUTH_RECORDS_MAX);
	buf_init(&t.answer, OAUTH_RECORDS_MAX);
	t.began_ms = (uint64_t)clock_mono().ms;
	if (isatty(STDIN_FILENO) || !read_question(&question) || !take_question(&t, buf_slice(&question)))
		explain(EXIT_STATUS_USAGE);
	if (prepare(&t)) {
		if (enter_jail(&t) < 0)
			give_up(&t, "its asker cannot give up its privileges");
		else
			ask(&t);
	}
	status = fd_write_all(STDOUT_FILENO, buf_slice(&t.answer)) ? 0 : EXIT_STATUS_OS;
	dns_free(&t.dns);
	https_free(&t.https);
	host_file_free(&t.host_file);
	loop_free(&t.loop);
	free(t.conf.dns.servers.item);
	buf_release(&t.answer);
	buf_release(&question);
	return status;
}
