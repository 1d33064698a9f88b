/* probe_open.c - all that a test needs from this machine, opened before the first byte from outside is read. */
#include "lib/destination.h"
#include "lib/jail.h"
#include "lib/secret.h"
#include "lib/text.h"
#include "smtpout/pop_visit.h"
#include "tools/broker.h"
#include "tools/probe.h"
#include <errno.h>
#include <pwd.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LETTER_MAX = 8192, FILES_MAX = 1024 };

static int refuse(struct probe *p, int status, const char *advice, char *words_taken)
{
	steps_put(&p->steps, STEP_FAILED, "settings", -1, words_taken);
	steps_put(&p->steps, STEP_ADVICE, "settings", -1, advice);
	free(words_taken);
	return status;
}

/* The secret of one account; `inline_secret` or the first line of a file. */
static int open_account(struct probe *p, const char *username, const char *inline_secret, const char *path,
			const struct conf_server *at, struct sasl_account **out)
{
	char line[SECRET_MAX] = "";
	const char *why = NULL;
	int error = 0;

	if (!inline_secret && path) {
		why = secret_read(path, line);
		error = errno;
	}
	if (!why)
		*out = sasl_account_new(username, slice_of(inline_secret ? inline_secret : line), at->host, at->port);
	explicit_bzero(line, sizeof(line));
	if (!why)
		return 0;
	if (error == EACCES)
		return refuse(p, EXIT_STATUS_NOT_PERMITTED, "run this as the owner of that file, or as root",
			      xasprintf("%s: %s", path, why));
	return refuse(p, EXIT_STATUS_CONFIG,
		      "correct password-file, or that file: its first line is the password, and "
		      "nobody but its owner may read it",
		      xasprintf("%s: %s", path, why));
}

static int open_policy(struct probe *p, const struct conf_server *server, struct tls_policy **out)
{
	char *error = NULL;

	if (server->tls == TLS_NONE && !server->is_tls_wrapper)
		return 0;
	*out = tls_policy_new(server, &error);
	if (*out)
		return 0;
	return refuse(p, EXIT_STATUS_CONFIG, "correct that option, or the file that it names", error);
}

/* For telling what `tls = verify` would say. */
static void open_judge(struct probe *p)
{
	struct conf_server strict = *p->server;
	char *error = NULL;

	strict.tls = TLS_VERIFY;
	strict.tls_fingerprints.count = 0;
	strict.tls_client_cert = strict.tls_client_key = NULL;
	p->judge = tls_policy_new(&strict, &error);
	free(error);
}

static int open_pop(struct probe *p)
{
	const struct conf_pop *pop = &p->server->pop;
	int status;

	if (!pop->is_set)
		return 0;
	p->pop = pop_visit_server(p->server);
	p->pop.method = METHOD_RELAY;
	status = open_account(p, pop->username, NULL, pop->password_file, &p->pop, &p->pop_account);
	return status ? status : open_policy(p, &p->pop, &p->pop_policy);
}

/* --- an access token, where there is oauth2 {} */

static int refuse_token(struct probe *p, const struct oauth_answer *a, int64_t took_ms)
{
	bool is_final = oauth_is_final(a);

	steps_put(&p->steps, STEP_FAILED, "token", took_ms, a->text);
	if (!is_final)
		steps_put(&p->steps, STEP_ADVICE, "token", -1,
			  "see whether token-url is right, and whether this host may connect to it");
	else if (strcmp(a->error, "invalid_grant") == 0)
		steps_put(&p->steps, STEP_ADVICE, "token", -1,
			  "the refresh token is no good any more: `postern login` gets another");
	else
		steps_put(&p->steps, STEP_ADVICE, "token", -1,
			  "correct client-id, client-secret-file and scope, or what the provider allows this client");
	return is_final ? EXIT_STATUS_NOT_PERMITTED : EXIT_STATUS_UNAVAILABLE;
}

static int take_token(struct probe *p, const struct oauth_answer *a, int64_t took_ms)
{
	struct buf text;

	if (!a->access_token)
		return refuse_token(p, a, took_ms);
	buf_init(&text, PROBE_TEXT_MAX);
	buf_printf(&text, "an access token from %s, good for ", p->server->oauth2.token_url);
	text_format_duration(&text, a->expires_s * 1000);
	if (a->refresh_token)
		buf_printf(&text, "; another refresh token is in %s", p->server->oauth2.refresh_token_file);
	steps_put(&p->steps, STEP_OK, "token", took_ms, buf_text(&text));
	buf_release(&text);
	sasl_account_set_token(p->account, slice_of(a->access_token));
	return 0;
}

static int fetch_token(struct probe *p)
{
	int64_t since_ms = clock_mono().ms;
	struct oauth_answer answer;
	struct refresh refresh;
	struct broker b;
	int status;

	if (!broker_open(&b, p->conf, p->server) || !broker_open_refresh(&b, &refresh, false)) {
		broker_close(&b);
		return refuse(p, b.is_forbidden ? EXIT_STATUS_NOT_PERMITTED : EXIT_STATUS_CONFIG,
			      b.is_forbidden ? "run this as the owner of the files that oauth2 { } names, or as root"
					     : "`postern login` makes refresh-token-file; nobody but its owner may "
					       "read the files that oauth2 { } names",
			      xstrdup(b.why));
	}
	broker_ask(&b, OAUTH_REFRESH, refresh.token, refresh.fd, &answer);
	if (!refresh_close(&refresh))
		steps_put(&p->steps, STEP_ADVICE, "token", -1, "refresh-token-file cannot be written: see its folder");
	broker_close(&b);
	status = take_token(p, &answer, clock_mono().ms - since_ms);
	oauth_answer_release(&answer);
	return status;
}

static int open_login(struct probe *p)
{
	const struct conf_server *s = p->server;
	int status;

	if (!sasl_init())
		return refuse(p, EXIT_STATUS_SOFTWARE, "install libgsasl again", xstrdup("libgsasl does not work"));
	if (!s->username)
		return 0;
	status = open_account(p, s->username, s->password, s->password_file, s, &p->account);
	return status == 0 && s->oauth2.is_set ? fetch_token(p) : status;
}

static int open_dns(struct probe *p)
{
	struct buf why;
	int status = 0;

	buf_init(&why, 1024);
	p->host_file = host_file_read("/etc/hosts", p->conf);
	p->dns = dns_new(p->loop, p->conf, &why);
	if (!p->dns)
		status = refuse(p, EXIT_STATUS_CONFIG, "correct section dns", xstrdup(buf_text(&why)));
	buf_release(&why);
	return status;
}

/* In memory: the engine sends from a descriptor. */
static int open_letter(struct probe *p)
{
	bool is_plain = text_is_ascii(slice_of(p->server->name));
	struct buf text;
	bool is_ok;

	p->letter_fd = memfd_create("postern-test", MFD_CLOEXEC);
	buf_init(&text, LETTER_MAX);
	buf_printf(&text, "From: <%s>\r\nTo: <%s>\r\nSubject: Test of server %s\r\nDate: ", p->sender, p->rcpt,
		   is_plain ? p->server->name : "settings");
	clock_format_rfc5322(&text, clock_wall());
	buf_printf(&text, "\r\nMessage-ID: <test.%llu.%d@%s>\r\nAuto-Submitted: auto-generated\r\n",
		   (unsigned long long)clock_wall_us(), (int)getpid(), p->conf->hostname);
	buf_put_str(&text, "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n");
	buf_printf(&text, "Sent by `postern test` on %s.\r\nThat it has arrived means that this way out works.\r\n",
		   p->conf->hostname);
	p->letter_bytes = text.len;
	is_ok = p->letter_fd >= 0 && !text.failed && write(p->letter_fd, text.ptr, text.len) == (ssize_t)text.len;
	buf_release(&text);
	if (is_ok)
		return 0;
	return refuse(p, EXIT_STATUS_OS, "free some memory",
		      xasprintf("the test message cannot be made: %s", strerror(errno)));
}

int probe_open(struct probe *p)
{
	struct conf_server server = *p->server;
	int status = open_login(p);

	server.tls = destination_highest_tls(p->conf, p->server);
	if (status == 0)
		status = open_pop(p);
	if (status == 0)
		status = open_policy(p, &server, &p->policy);
	if (status == 0)
		status = open_dns(p);
	if (status == 0)
		status = open_letter(p);
	if (status == 0) {
		open_judge(p);
		probe_fetch_policy(p);
	}
	return status;
}

int probe_enter_jail(struct probe *p)
{
	static const char *const NOTHING[] = { NULL };
	int folder = -1;
	struct jail jail = { .folder = "/",
			     .folder_fd = &folder,
			     .uid = (uid_t)-1,
			     .gid = (gid_t)-1,
			     .wants_network = true,
			     .reachable = NOTHING,
			     .max_files = FILES_MAX };
	const struct passwd *user;
	const char *step = "";

	if (geteuid() == 0) {
		user = getpwnam(p->conf->smtp_user);
		if (!user)
			return refuse(p, EXIT_STATUS_CONFIG, "create that user, or correct option smtp-user",
				      xasprintf("there is no user %s", p->conf->smtp_user));
		jail.uid = user->pw_uid;
		jail.gid = user->pw_gid;
	}
	if (jail_enter(&jail, &step) == 0)
		return 0;
	return refuse(p, EXIT_STATUS_OS, "see whether this system forbids it",
		      xasprintf("cannot give up privileges: %s: %s", step, strerror(errno)));
}
