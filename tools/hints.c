/* hints.c - the table of what to change. The first row that fits is taken, so the special ones come first. */
#include "tools/hints.h"
#include <strings.h>

enum {
	IS_DIRECT = 1,
	IS_RELAY = 2,
	IS_CLEAR = 4,  /* no TLS */
	HAS_LOGIN = 8, /* a username is configured */
	NO_LOGIN = 16,
	IS_BOUND = 32, /* by an MTA-STS policy */
};

/* 0 and NULL fit everything. */
struct hint {
	unsigned steps; /* bits by enum hint_step */
	enum failure_cause cause;
	unsigned port;
	unsigned code, code_to; /* code_to 0: the one */
	const char *dsn;        /* begins with this */
	const char *preset;
	const char *words; /* occurs in them, in any case */
	unsigned needs;
	/* %h host, %p port, %f --from's address, %d the recipient's domain, %n names of the certificate */
	const char *advice;
};

#define AT(step) (1u << HINT_##step)

static const struct hint HINTS[] = {
	/* --- DNS */
	{ AT(DNS), .words = "null mx", .advice = "%d takes no mail at all: the recipient's address must be wrong" },
	{ AT(DNS), .words = "no such domain", .needs = IS_DIRECT,
	  .advice = "%d does not exist: correct the recipient's address" },
	{ AT(DNS), .words = "no such domain",
	  .advice = "there is no host %h: correct option host (is it spelled as the provider writes it?)" },
	{ AT(DNS), .words = "not a valid", .needs = IS_RELAY,
	  .advice = "%h is neither a host's name nor an address: correct option host" },
	{ AT(DNS), .words = "deny-addresses",
	  .advice = "all its addresses are forbidden by option deny-addresses: take them out of it if they are right" },
	{ AT(DNS), .words = "has no address", .needs = IS_RELAY, .advice = "%h has no address: correct option host" },
	{ AT(DNS), .words = "neither mx nor address",
	  .advice = "%d receives no mail: correct the recipient's address" },
	{ AT(DNS), .words = "bogus",
	  .advice = "its DNSSEC signatures are wrong: its owner has to repair them; check also this machine's clock" },
	{ AT(DNS), .advice =
			   "ask again in a while; when that does not help see whether the name servers of this machine "
			   "answer (section dns of the configuration, or /etc/resolv.conf)" },
	/* --- the connection */
	{ AT(CONNECT) | AT(POP), .words = "deny-addresses",
	  .advice = "that address is forbidden by option deny-addresses: take it out of it if it is right" },
	{ AT(CONNECT), FAILURE_LOCAL, .words = "assign requested address",
	  .advice = "this machine has none of the source-addresses: correct that option" },
	{ AT(CONNECT), .port = 25, .words = "timed out", .needs = IS_DIRECT,
	  .advice = "port 25 is blocked here: use your provider's server, port 587, instead of direct delivery" },
	{ AT(CONNECT), .port = 25, .words = "timed out",
	  .advice = "port 25 is blocked here: use port = 587 (your provider's server takes logins there)" },
	{ AT(CONNECT), .port = 25, .words = "refused", .needs = IS_DIRECT,
	  .advice = "nothing accepts mail there, or a firewall forbids port 25: use your provider's server, port 587" },
	{ AT(CONNECT), .port = 25, .words = "refused",
	  .advice = "nothing listens on port 25 of %h: try port = 587, or 465, and check option host" },
	{ AT(CONNECT), .words = "refused",
	  .advice = "nothing listens on port %p of %h: check host and port, and whether the server runs" },
	{ AT(CONNECT), .words = "timed out",
	  .advice = "no answer from port %p of %h: a firewall is in between, or host or port are wrong" },
	{ AT(CONNECT), .words = "unreachable",
	  .advice = "this machine has no way to that address: check its network, and IPv6 if it is such an address" },
	{ AT(CONNECT), .advice = "check host, port, and this machine's network" },
	/* --- POP before SMTP */
	{ AT(POP), FAILURE_AUTH,
	  .advice = "the POP3 login was refused: check username and password-file in pop-before-smtp" },
	{ AT(POP), FAILURE_TLS, .advice = "see option tls in pop-before-smtp, and tls-ca-file for its certificate" },
	{ AT(POP), .advice = "check host and port in pop-before-smtp (110, or 995 for TLS from the first byte)" },
	/* --- TLS */
	{ AT(TLS), FAILURE_TLS, .words = "names none of its mx hosts", .needs = IS_BOUND,
	  .advice = "only the owner of %d can repair that; until then its mail waits, or goes without that policy by "
		    "destination \"%d\" { tls = require }" },
	{ AT(TLS), FAILURE_TLS, .needs = IS_BOUND,
	  .advice = "the MTA-STS policy of %d demands TLS with a certificate for %h by a known authority: only whoever "
		    "runs it can repair that; until then mail waits, or goes without that policy by destination "
		    "\"%d\" { tls = require }" },
	{ AT(TLS), .words = " is for ", .needs = IS_RELAY,
	  .advice = "the certificate is for %n: set host to that name, or tls-fingerprints to this one certificate" },
	{ AT(TLS), .words = " is for ",
	  .advice = "the certificate is for %n: only its owner can repair that; "
		    "tls = opportunistic would deliver without asking for a name" },
	{ AT(TLS), .words = " expired on ",
	  .advice = "the certificate has expired: whoever runs %h must renew it; check this machine's clock, too" },
	{ AT(TLS), .words = "not valid before",
	  .advice = "the certificate is not valid yet: check this machine's clock" },
	{ AT(TLS), .words = "not signed by a known authority",
	  .advice = "name the authority's certificate in tls-ca-file, or give the server's own in tls-fingerprints" },
	{ AT(TLS), .words = "tls-fingerprints",
	  .advice = "the server has another certificate now: when that is right, put the fingerprint offered into "
		    "tls-fingerprints" },
	{ AT(TLS), .words = "tlsa",
	  .advice = "the certificate is not the one that %h publishes in DNS: its owner has to repair it, or somebody "
		    "stands in between" },
	{ AT(TLS), .words = "dane",
	  .advice = "%h publishes no usable TLSA records in signed DNS: tls = dane cannot work with it, take "
		    "tls = verify" },
	{ AT(TLS), .words = "tls-min-version",
	  .advice =
		  "the server only knows old versions of TLS: it should be renewed; tls-min-version = \"1.0\" lets it "
		  "pass until then" },
	{ AT(TLS), .words = "does not speak tls here", .port = 587,
	  .advice = "port 587 wants STARTTLS: take tls-wrapper = true away" },
	{ AT(TLS), .words = "does not speak tls here",
	  .advice = "this port does not speak TLS from the first byte: take port = 587, or tls-wrapper = true away" },
	{ AT(TLS), .words = "certificate of ours", .advice = "give tls-client-cert, which this server demands" },
	{ AT(TLS), .words = "was not offered",
	  .advice = "the server offers no TLS on port %p: try port = 465 or 587; tls = opportunistic would go on in "
		    "clear, and show what is sent to everybody on the way" },
	{ AT(TLS), .code = 400, .code_to = 599,
	  .advice = "the server offers TLS and then refuses it: try again, then tell whoever runs %h" },
	{ AT(TLS), .advice = "check port (465 and tls-wrapper mean TLS from the first byte, 587 and 25 STARTTLS)" },
	/* --- the greeting */
	{ AT(GREETING), FAILURE_LOST, .port = 465, .needs = IS_CLEAR,
	  .advice = "the server is silent: port 465 may want TLS from the first byte, tls-wrapper = true" },
	{ AT(GREETING), FAILURE_LOST, .words = "timed out",
	  .advice = "the server takes connections but says nothing: is port %p SMTP without TLS from the first byte? "
		    "Else try tls-wrapper = true, or port = 587" },
	{ AT(GREETING), FAILURE_LOST,
	  .advice = "the server hangs up on this machine: its address may be on a blocklist, or too many connections "
		    "are open" },
	{ AT(GREETING), FAILURE_PROTOCOL,
	  .advice = "what listens on port %p of %h is no SMTP server: check host and port" },
	{ AT(GREETING), .code = 400, .code_to = 499, .advice = "the server takes no mail just now: try again later" },
	{ AT(GREETING), .words = "block",
	  .advice = "this machine's address is on a blocklist: ask to be taken off it, or use your provider's server, "
		    "port 587" },
	{ AT(GREETING), .needs = IS_DIRECT,
	  .advice = "the server wants nothing from this machine: use your provider's server, port 587, and check "
		    "hostname and the PTR record of this address" },
	{ AT(GREETING), .advice = "the server wants nothing from this machine: ask whoever runs %h" },
	/* --- logging in */
	{ AT(LOGIN), FAILURE_AUTH, .preset = "gmail", .code = 534,
	  .advice = "the password was refused: Gmail wants an application password (myaccount.google.com, Security, "
		    "2-Step Verification, App passwords)" },
	{ AT(LOGIN), FAILURE_AUTH, .preset = "gmail", .code = 535,
	  .advice = "the password was refused: Gmail wants an application password, not that of the account "
		    "(myaccount.google.com, Security, 2-Step Verification, App passwords)" },
	{ AT(LOGIN), FAILURE_AUTH, .preset = "yahoo", .code = 535,
	  .advice = "the password was refused: Yahoo wants an application password (Account Security)" },
	{ AT(LOGIN), FAILURE_AUTH, .preset = "icloud", .code = 535,
	  .advice = "the password was refused: iCloud wants an app-specific password (account.apple.com)" },
	{ AT(LOGIN), FAILURE_AUTH, .preset = "sendgrid", .code = 535,
	  .advice = "the login was refused: for SendGrid username is \"apikey\" and the password is the API key" },
	{ AT(LOGIN), FAILURE_AUTH, .preset = "ses", .code = 535,
	  .advice = "the login was refused: SES wants SMTP credentials of this region, not an AWS access key" },
	{ AT(LOGIN), FAILURE_AUTH, .preset = "outlook365", .code = 535,
	  .advice = "the login was refused: Microsoft 365 wants OAuth2 (oauth2 {}), and SMTP AUTH switched on for the "
		    "mailbox" },
	{ AT(LOGIN), FAILURE_AUTH, .words = "application-specific",
	  .advice = "the password was refused: the provider wants an application password" },
	{ AT(LOGIN), FAILURE_AUTH, .words = "no login without tls",
	  .advice = "the server takes logins with TLS only: set tls = verify" },
	{ AT(LOGIN), FAILURE_AUTH, .words = "in clear",
	  .advice =
		  "without TLS the password would be shown: set tls = verify (or auth-without-tls = true, in a network "
		  "where nobody else is)" },
	{ AT(LOGIN), FAILURE_AUTH, .words = "no way to log in",
	  .advice =
		  "the server offers none of the mechanisms in option auth: take auth = { \"auto\" }, or one that the "
		  "EHLO step lists" },
	{ AT(LOGIN), FAILURE_AUTH, .words = "offers no login",
	  .advice =
		  "the server knows no logins on port %p: try port = 587, or take username away when none is needed" },
	{ AT(LOGIN), FAILURE_AUTH, .words = "proved",
	  .advice = "the server does not know the password itself: check host, something may stand in between" },
	{ AT(LOGIN), FAILURE_AUTH, .code = 400, .code_to = 499,
	  .advice = "the server cannot check logins just now: try again later" },
	{ AT(LOGIN), FAILURE_AUTH, .code = 500, .code_to = 599,
	  .advice = "the login was refused: check username and the first line of password-file; some providers want an "
		    "application password" },
	/* --- the envelope and the message */
	{ AT(MAIL) | AT(RCPT) | AT(DATA), FAILURE_AUTH, .needs = NO_LOGIN,
	  .advice = "the server wants a login: give username and password-file" },
	{ AT(MAIL) | AT(RCPT) | AT(DATA), FAILURE_AUTH,
	  .advice = "the server wants another login than it was given: check username" },
	{ AT(MAIL) | AT(RCPT), .words = "relay", .code = 500, .code_to = 599, .needs = NO_LOGIN,
	  .advice = "the server carries no mail for strangers: give username and password-file, or let whoever runs %h "
		    "allow this machine" },
	{ AT(MAIL) | AT(RCPT), .words = "relay", .code = 500, .code_to = 599,
	  .advice = "the server does not carry mail for %d with this login: ask whoever runs %h" },
	{ AT(MAIL) | AT(RCPT) | AT(DATA), .words = "not owned by user",
	  .advice = "this login may not send as %f: set rewrite-sender to an address that it may use" },
	{ AT(MAIL) | AT(RCPT) | AT(DATA), .words = "send as",
	  .advice = "this login may not send as %f: set rewrite-sender to an address that it may use" },
	{ AT(MAIL) | AT(RCPT) | AT(DATA), .words = "greylist",
	  .advice =
		  "the server wants to see the message again in some minutes (greylisting): mail will pass by itself" },
	{ AT(MAIL) | AT(RCPT) | AT(DATA), .words = "blocklist",
	  .advice = "this machine's address is on a blocklist: ask to be taken off it, or use your provider's server" },
	{ AT(MAIL) | AT(RCPT) | AT(DATA), .words = "blacklist",
	  .advice = "this machine's address is on a blocklist: ask to be taken off it, or use your provider's server" },
	{ AT(MAIL) | AT(RCPT) | AT(DATA), .words = "spf",
	  .advice =
		  "the sender's domain does not allow this server: add its address to the SPF record of %f's domain" },
	{ AT(MAIL) | AT(RCPT) | AT(DATA), .words = "ptr",
	  .advice = "this address needs a PTR record that names a host with this address: ask the network's owner" },
	{ AT(MAIL) | AT(RCPT) | AT(DATA), .dsn = "5.4.5",
	  .advice = "the day's limit of this account is used up: wait, and set limits to what the provider allows" },
	{ AT(MAIL) | AT(RCPT) | AT(DATA), .dsn = "5.1.1",
	  .advice = "there is no such recipient: correct the address given with --to" },
	{ AT(MAIL) | AT(RCPT) | AT(DATA), .dsn = "5.1.8",
	  .advice = "the server does not believe in %f: give an address whose domain exists with --from" },
	{ AT(MAIL) | AT(RCPT) | AT(DATA), FAILURE_CAPABILITY,
	  .advice = "the server lacks what this message needs: use addresses without letters beyond ASCII" },
	{ AT(MAIL), .code = 500, .code_to = 599,
	  .advice = "the server does not take mail from %f: use an address of its own with --from, or set "
		    "rewrite-sender" },
	{ AT(RCPT), .code = 500, .code_to = 599,
	  .advice = "the server does not take this recipient: check the address given with --to" },
	{ AT(DATA), FAILURE_UNKNOWN,
	  .advice = "the connection broke before the server's answer: look whether the message has arrived before you "
		    "send it again" },
	{ AT(DATA), .code = 500, .code_to = 599,
	  .advice = "the server does not like the message: its words say why (filters often dislike tests)" },
	{ AT(MAIL) | AT(RCPT) | AT(DATA), .code = 400, .code_to = 499,
	  .advice = "the server asks to try again later: mail will wait in the queue and pass by itself" },
	/* --- what is left */
	{ 0, FAILURE_PROTOCOL, .advice = "the server breaks the rules of SMTP: tell whoever runs %h" },
	{ 0, FAILURE_LOST, .words = "timed out",
	  .advice = "the server is too slow: try again, or set a longer timeout" },
	{ 0, FAILURE_LOST, .advice = "the server hung up: try again, then ask whoever runs %h" },
	{ 0, .advice = "the words above say what was wrong" },
};

static bool has_needs(unsigned needs, const struct hint_facts *f)
{
	return !((needs & IS_DIRECT && !f->is_direct) || (needs & IS_RELAY && f->is_direct) ||
		 (needs & IS_CLEAR && f->is_secure) || (needs & HAS_LOGIN && !f->has_login) ||
		 (needs & NO_LOGIN && f->has_login) || (needs & IS_BOUND && !f->is_bound));
}

static bool has_code(const struct hint *h, unsigned code)
{
	return h->code == 0 || (code >= h->code && code <= (h->code_to ? h->code_to : h->code));
}

static bool fits(const struct hint *h, const struct hint_facts *f)
{
	return (h->steps == 0 || h->steps & (1u << f->step)) && (h->cause == FAILURE_NONE || h->cause == f->cause) &&
	       (h->port == 0 || h->port == f->port) && has_code(h, f->code) &&
	       (!h->dsn || strncmp(f->dsn, h->dsn, strlen(h->dsn)) == 0) &&
	       (!h->preset || strcmp(h->preset, f->preset) == 0) && (!h->words || strcasestr(f->words, h->words)) &&
	       has_needs(h->needs, f);
}

/* "certificate of H is for NAMES; expected H" */
static void put_names(struct buf *out, const char *words)
{
	const char *at = strstr(words, " is for "), *end = at ? strstr(at, "; expected") : NULL;

	if (end)
		buf_put(out, at + 8, (size_t)(end - at - 8));
	else
		buf_put_str(out, "another name");
}

static void put_advice(struct buf *out, const char *advice, const struct hint_facts *f)
{
	for (const char *at = advice; *at; at++) {
		if (*at != '%') {
			buf_put_char(out, *at);
			continue;
		}
		switch (*++at) {
		case 'h':
			buf_put_str(out, f->host);
			break;
		case 'p':
			buf_printf(out, "%u", f->port);
			break;
		case 'f':
			buf_put_str(out, f->sender);
			break;
		case 'd':
			buf_put_str(out, f->domain);
			break;
		case 'n':
			put_names(out, f->words);
			break;
		default:
			BUG("a hint with %%%c", *at);
		}
	}
}

void hint_put(struct buf *out, const struct hint_facts *f)
{
	for (unsigned i = 0; i < ARRAY_LEN(HINTS); i++) {
		if (!fits(&HINTS[i], f))
			continue;
		put_advice(out, HINTS[i].advice, f);
		return;
	}
	BUG("a failure without a hint");
}

int hint_exit_status(const struct hint_facts *f)
{
	bool is_temporary = f->code >= 400 && f->code < 500;

	switch (f->cause) {
	case FAILURE_NONE:
		return EXIT_STATUS_DONE;
	case FAILURE_AUTH:
		return is_temporary ? EXIT_STATUS_TEMPORARY : EXIT_STATUS_NOT_PERMITTED;
	case FAILURE_REPLY:
		return is_temporary ? EXIT_STATUS_TEMPORARY : EXIT_STATUS_DATA;
	case FAILURE_CAPABILITY:
		return f->dsn[0] == '4' ? EXIT_STATUS_TEMPORARY : EXIT_STATUS_DATA;
	case FAILURE_GREETING:
		return is_temporary ? EXIT_STATUS_TEMPORARY : EXIT_STATUS_UNAVAILABLE;
	case FAILURE_UNKNOWN:
		return EXIT_STATUS_TEMPORARY;
	case FAILURE_DNS: /* the code is ours: 450 no answer, 550 there is no such thing */
		if (is_temporary)
			return EXIT_STATUS_TEMPORARY;
		return f->is_direct ? EXIT_STATUS_DATA : EXIT_STATUS_UNAVAILABLE;
	case FAILURE_CONNECT:
	case FAILURE_TLS:
	case FAILURE_PROTOCOL:
	case FAILURE_LOST:
	case FAILURE_LOCAL:
		break;
	}
	return EXIT_STATUS_UNAVAILABLE;
}
