/* cmd_login.c - postern login: the device-code flow. RFC 8628 */
#include "lib/clock.h"
#include "tools/broker.h"
#include "tools/instance.h"
#include <getopt.h>

enum { SLOWER_S = 5, INTERVAL_MAX_S = 60 };

/* How a login ends without one, by the server's word. */
static const struct {
	const char *error;
	int status;
	const char *advice;
} ENDS[] = {
	{ "access_denied", EXIT_STATUS_NOT_PERMITTED, "somebody has said no in the browser" },
	{ "expired_token", EXIT_STATUS_TEMPORARY, "the code was not entered in time: run this again" },
	{ "invalid_scope", EXIT_STATUS_CONFIG,
	  "this provider grants no such scope by device code (Google grants none for mail): correct scope, use an "
	  "application password, or put a refresh token from elsewhere into refresh-token-file" },
	{ "invalid_client", EXIT_STATUS_CONFIG, "correct client-id and client-secret-file" },
	{ "unauthorized_client", EXIT_STATUS_CONFIG, "allow device codes for this client-id at the provider" },
	{ "unsupported_grant_type", EXIT_STATUS_CONFIG, "this provider knows no device codes" },
};

static int give_up(const struct oauth_answer *a)
{
	command_complain("login: %s", a->text ? a->text : "the token server has ended it");
	for (size_t i = 0; a->error && i < ARRAY_LEN(ENDS); i++) {
		if (strcmp(a->error, ENDS[i].error) != 0)
			continue;
		command_complain("login: %s", ENDS[i].advice);
		return ENDS[i].status;
	}
	return a->error ? EXIT_STATUS_NOT_PERMITTED : EXIT_STATUS_UNAVAILABLE;
}

static void tell_people(const struct broker *b, const struct oauth_answer *a)
{
	printf("To let Postern send mail as %s through server %s, open\n\n    %s\n\nin a browser, log in, and enter\n\n"
	       "    %s\n\n",
	       b->server->username, b->server->name, a->url, a->user_code);
	if (a->full_url)
		printf("or open %s\n\n", a->full_url);
	printf("This is good for %llu minutes. Waiting...\n", (unsigned long long)(a->expires_s + 59) / 60);
	(void)fflush(stdout);
}

static void pause_s(uint64_t seconds)
{
	struct timespec rest = { .tv_sec = (time_t)seconds };

	(void)nanosleep(&rest, NULL);
}

/* RFC 8628 3.5. True: *a has what we wait for; else how it ended. */
static bool poll_until_granted(const struct broker *b, const struct oauth_answer *device, struct oauth_answer *a)
{
	int64_t until_ms = clock_mono().ms + (int64_t)device->expires_s * 1000;
	uint64_t interval_s = device->interval_s;

	for (;;) {
		pause_s(interval_s);
		broker_ask(b, OAUTH_POLL, device->device_code, -1, a);
		if (a->access_token)
			return true;
		if (a->error && strcmp(a->error, "slow_down") == 0)
			interval_s += SLOWER_S;
		else if (oauth_is_final(a))
			return false;
		else if (!a->error) /* no connection, or its own trouble */
			interval_s *= 2;
		if (interval_s > INTERVAL_MAX_S)
			interval_s = INTERVAL_MAX_S;
		if (clock_mono().ms + (int64_t)interval_s * 1000 > until_ms)
			break;
		oauth_answer_release(a);
	}
	oauth_answer_release(a);
	a->error = xstrdup("expired_token");
	a->text = xstrdup("nobody has entered the code");
	return false;
}

static int keep(struct broker *b, const struct oauth_answer *a)
{
	struct refresh r;
	bool is_kept;

	if (!a->refresh_token) {
		command_complain("login: the token server sends no refresh token; perhaps scope lacks a word, such as "
				 "offline_access");
		return EXIT_STATUS_CONFIG;
	}
	if (!broker_open_refresh(b, &r, true)) {
		command_complain("login: %s", b->why);
		return EXIT_STATUS_NOT_PERMITTED;
	}
	is_kept = refresh_write(r.fd, a->refresh_token);
	is_kept = refresh_close(&r) && is_kept;
	if (!is_kept) {
		command_complain("login: %s cannot be written: %m", b->server->oauth2.refresh_token_file);
		return EXIT_STATUS_TEMPORARY;
	}
	return 0;
}

/* Before anybody is sent to a browser: whether there is any use in it. */
static int check_file(struct broker *b)
{
	struct refresh r;

	if (!broker_open_refresh(b, &r, true)) {
		command_complain("login: %s", b->why);
		return EXIT_STATUS_NOT_PERMITTED;
	}
	refresh_close(&r);
	return 0;
}

static int log_in(struct broker *b, const struct instance *in)
{
	struct oauth_answer device = { 0 }, granted = { 0 };
	int status = check_file(b);

	if (status != 0)
		return status;
	broker_ask(b, OAUTH_DEVICE, NULL, -1, &device);
	if (!device.device_code) {
		status = give_up(&device);
	} else {
		tell_people(b, &device);
		status = poll_until_granted(b, &device, &granted) ? keep(b, &granted) : give_up(&granted);
	}
	if (status == 0)
		printf("Logged in: %s holds the refresh token%s.\n", b->server->oauth2.refresh_token_file,
		       instance_master(in) ? ", and the running service takes it up" : "");
	oauth_answer_release(&device);
	oauth_answer_release(&granted);
	return status;
}

static int log_in_at(const struct instance *in, const char *name)
{
	int index = conf_find_server(in->conf, slice_of(name)), status;
	const struct conf_server *s = index >= 0 ? &in->conf->server[index] : NULL;
	struct broker b;

	if (!s) {
		command_complain("login: there is no server %s", name);
		return EXIT_STATUS_USAGE;
	}
	if (!s->oauth2.is_set || !s->oauth2.device_url) {
		command_complain("login: server %s has no %s", name,
				 s->oauth2.is_set ? "device-url in its oauth2 { }" : "oauth2 { }");
		return EXIT_STATUS_CONFIG;
	}
	if (broker_open(&b, in->conf, s)) {
		status = log_in(&b, in);
	} else {
		command_complain("login: %s", b.why);
		status = b.is_forbidden ? EXIT_STATUS_NOT_PERMITTED : EXIT_STATUS_CONFIG;
	}
	broker_close(&b);
	return status;
}

int command_login(const struct command_context *c, int argc, char **argv)
{
	static const struct option NONE[] = { { NULL, 0, NULL, 0 } };
	struct instance in;
	int status;

	if (getopt_long(argc, argv, "", NONE, NULL) != -1)
		return EXIT_STATUS_USAGE;
	if (optind + 1 != argc) {
		command_complain("login: takes one server's name");
		return EXIT_STATUS_USAGE;
	}
	if ((status = instance_open(&in, c)) != 0)
		return status;
	status = log_in_at(&in, argv[optind]);
	instance_close(&in);
	return status;
}
