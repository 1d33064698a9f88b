/* Real replies of real servers against the shipped rules; mistakes in files of rules. */
#include "lib/replies_private.h"
#include "lib/text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char ISP[] = "isp", DIRECT[] = "direct", GMAIL[] = "gmail";
static struct conf_server relay = { .name = ISP, .method = METHOD_RELAY };
static struct conf_server direct = { .name = DIRECT, .method = METHOD_DIRECT };
static struct conf_server preset = { .name = ISP, .method = METHOD_RELAY, .preset = GMAIL };

/* "server pause 1h" */
static void format_rule(struct buf *out, const struct reply_rule *rule)
{
	buf_printf(out, "%s %s", reply_scope_words[rule->scope], reply_action_words[rule->action]);
	if (rule->is_greylist) {
		buf_put_str(out, " greylist");
	} else if (rule->wait_ms) {
		buf_put_char(out, ' ');
		text_format_duration(out, rule->wait_ms);
	}
	if (rule->window_ms) {
		buf_put_char(out, ' ');
		text_format_duration(out, rule->window_ms);
	}
}

static const char *deed_of(const struct replies *r, const struct conf_server *server, const char *said, char out[64])
{
	struct reply_facts f = { .server = server };
	const struct reply_rule *rule;
	char dsn[16] = "";
	struct buf text;
	int at = 0;

	assert_true(replies_take_apart(&f, slice_of(said)));
	if (sscanf(f.text.ptr, "%u %15[245.0-9]%n", &f.code, dsn, &at) < 2 || !strchr(dsn, '.'))
		(void)snprintf(dsn, sizeof(dsn), "%u.0.0", f.code / 100);
	f.dsn = slice_of(dsn);
	rule = replies_match(r, &f);
	if (!rule)
		return "";
	buf_init(&text, 64);
	format_rule(&text, rule);
	(void)snprintf(out, 64, "%s", buf_text(&text));
	buf_release(&text);
	return out;
}

static struct replies *shipped(void)
{
	struct conf_errors errors = { 0 };
	struct replies *r = replies_new();

	if (!replies_read(r, "conf/replies.conf", NULL, &errors))
		fail_msg("%s", errors.text[0]);
	conf_errors_release(&errors);
	return r;
}

/* Texts as they were seen; addresses made harmless. */
static const struct {
	const struct conf_server *server;
	const char *said, *deed; /* "": the code alone decides */
} REAL[] = {
	/* Gmail, as the account's submission server */
	{ &relay,
	  "host smtp.gmail.com[192.0.2.1]:587 said: 550 5.4.5 Daily user sending limit exceeded. For more information "
	  "on Gmail sending limits go to https://support.google.com/a/answer/166852 - gsmtp (in reply to MAIL FROM "
	  "command)",
	  "server quota 1h 1d" },
	{ &relay,
	  "host smtp.gmail.com[192.0.2.1]:587 said: 550 5.4.5 Daily user sending quota exceeded. - gsmtp (in reply to "
	  "end of DATA)",
	  "server quota 1h 1d" },
	{ &preset,
	  "host 127.0.0.1[127.0.0.1]:2525 said: 550 5.4.5 Daily user sending limit exceeded. (in reply to RCPT TO "
	  "command)",
	  "server quota 1h 1d" },
	{ &relay,
	  "host smtp.gmail.com[192.0.2.1]:587 said: 454 4.7.0 Too many login attempts, please try again later. - gsmtp "
	  "(in reply to AUTH command)",
	  "server pause 15m" },
	{ &relay,
	  "host smtp-relay.gmail.com[192.0.2.1]:25 said: 550 5.7.1 Daily SMTP relay limit exceeded for customer. - "
	  "gsmtp (in reply to RCPT TO command)",
	  "server quota 1h 1d" },
	/* Gmail, as the recipients' MX */
	{ &direct,
	  "host gmail-smtp-in.l.google.com[192.0.2.1]:25 said: 421 4.7.28 Gmail has detected an unusual rate of "
	  "unsolicited mail originating from your IP address. To protect our users from spam, mail sent from your IP "
	  "address has been temporarily rate limited. - gsmtp (in reply to end of DATA)",
	  "site pause 10m" },
	{ &direct,
	  "host aspmx.l.google.com[192.0.2.1]:25 said: 421 4.7.0 This message is suspicious; mail from your IP has "
	  "been temporarily rate limited - gsmtp (in reply to end of DATA)",
	  "site pause 10m" },
	{ &direct,
	  "host aspmx.l.google.com[192.0.2.1]:25 said: 450 4.2.1 The user you are trying to contact is receiving mail "
	  "too quickly. Please resend your message at a later time. - gsmtp (in reply to RCPT TO command)",
	  "recipient retry 1h" },
	{ &direct,
	  "host aspmx.l.google.com[192.0.2.1]:25 said: 550 5.2.1 The user you are trying to contact is receiving mail "
	  "at a rate that prevents additional messages from being delivered. - gsmtp (in reply to RCPT TO command)",
	  "recipient retry 1h" },
	{ &direct,
	  "host aspmx.l.google.com[192.0.2.1]:25 said: 550 5.1.1 The email account that you tried to reach does not "
	  "exist. - gsmtp (in reply to RCPT TO command)",
	  "" },
	{ &direct,
	  "host aspmx.l.google.com[192.0.2.1]:25 said: 550 5.2.1 The email account that you tried to reach is "
	  "inactive. - gsmtp (in reply to RCPT TO command)",
	  "" },
	{ &direct,
	  "host aspmx.l.google.com[192.0.2.1]:25 said: 452 4.2.2 The recipient's inbox is out of storage space and "
	  "inactive. - gsmtp (in reply to RCPT TO command)",
	  "" },
	{ &direct,
	  "host aspmx.l.google.com[192.0.2.1]:25 said: 421 4.7.26 This mail has been rate limited because it is "
	  "unauthenticated. - gsmtp (in reply to end of DATA)",
	  "" },
	/* Microsoft 365 */
	{ &relay,
	  "host smtp.office365.com[192.0.2.1]:587 said: 432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded "
	  "[Hostname=X.EURPRD.PROD.OUTLOOK.COM] (in reply to end of DATA)",
	  "server fewer" },
	{ &relay,
	  "host smtp.office365.com[192.0.2.1]:587 said: 554 5.2.0 "
	  "STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message due to a "
	  "permanent exception with message The message can't be submitted because the sender's submission quota was "
	  "exceeded. (in reply to end of DATA)",
	  "server quota 1h 1d" },
	{ &relay,
	  "host smtp.office365.com[192.0.2.1]:587 said: 550 5.1.8 Access denied, bad outbound sender. AS(42004) (in "
	  "reply to end of DATA)",
	  "server pause 1h" },
	{ &direct,
	  "host example-com.mail.protection.outlook.com[192.0.2.1]:25 said: 451 4.7.500 Server busy. Please try again "
	  "later from [192.0.2.9]. (S77719) (in reply to RCPT TO command)",
	  "site pause 10m" },
	{ &direct,
	  "host hotmail-com.olc.protection.outlook.com[192.0.2.1]:25 said: 421 RP-001 The mail server IP connecting to "
	  "Outlook.com server has exceeded the rate limit allowed. (in the initial server greeting)",
	  "site pause 10m" },
	{ &direct,
	  "host hotmail-com.olc.protection.outlook.com[192.0.2.1]:25 said: 421 RP-002 The mail server IP connecting to "
	  "Outlook.com server has exceeded the connection limit allowed. (in the initial server greeting)",
	  "site fewer" },
	{ &direct,
	  "host hotmail-com.olc.protection.outlook.com[192.0.2.1]:25 said: 451 4.7.650 The mail server [192.0.2.9] has "
	  "been temporarily rate limited due to IP reputation. (S775) (in reply to MAIL FROM command)",
	  "site pause 10m" },
	{ &direct,
	  "host hotmail-com.olc.protection.outlook.com[192.0.2.1]:25 said: 550 5.7.1 Unfortunately, messages from "
	  "[192.0.2.9] weren't sent. Please contact your Internet service provider since part of their network is on "
	  "our block list (S3150). (in reply to MAIL FROM command)",
	  "" },
	{ &direct,
	  "host hotmail-com.olc.protection.outlook.com[192.0.2.1]:25 said: 550 5.5.0 Requested action not taken: "
	  "mailbox unavailable (S2017062302). (in reply to RCPT TO command)",
	  "" },
	/* Yahoo */
	{ &direct,
	  "host mta5.am0.yahoodns.net[192.0.2.1]:25 said: 421 4.7.0 [TSS04] Messages from 192.0.2.9 temporarily "
	  "deferred due to unexpected volume or user complaints - 4.16.55.1; see "
	  "https://postmaster.yahooinc.com/error-codes (in reply to MAIL FROM command)",
	  "site pause 30m" },
	{ &direct,
	  "host mta5.am0.yahoodns.net[192.0.2.1]:25 said: 451 Message temporarily deferred - [160] (in reply to end of "
	  "DATA)",
	  "site pause 30m" },
	{ &direct,
	  "host mta5.am0.yahoodns.net[192.0.2.1]:25 said: 553 5.7.1 [BL21] Connections will not be accepted from "
	  "192.0.2.9, because the ip is in Spamhaus's list (in the initial server greeting)",
	  "recipient next" },
	{ &direct,
	  "host mta5.am0.yahoodns.net[192.0.2.1]:25 said: 554 delivery error: dd This user doesn't have a yahoo.com "
	  "account (in reply to end of DATA)",
	  "" },
	/* Amazon SES */
	{ &relay,
	  "host email-smtp.eu-west-1.amazonaws.com[192.0.2.1]:587 said: 454 Throttling failure: Maximum sending rate "
	  "exceeded. (in reply to end of DATA)",
	  "server quota 2s 1s" },
	{ &relay,
	  "host email-smtp.eu-west-1.amazonaws.com[192.0.2.1]:587 said: 454 Throttling failure: Daily message quota "
	  "exceeded. (in reply to end of DATA)",
	  "server quota 1h 1d" },
	{ &relay,
	  "host email-smtp.eu-west-1.amazonaws.com[192.0.2.1]:587 said: 554 Message rejected: Email address is not "
	  "verified. The following identities failed the check in region EU-WEST-1: a@here.example (in reply to end of "
	  "DATA)",
	  "recipient next" },
	/* SendGrid, Mailgun */
	{ &relay,
	  "host smtp.sendgrid.net[192.0.2.1]:587 said: 451 Authentication failed: Maximum credits exceeded (in reply "
	  "to AUTH command)",
	  "server quota 1h" },
	{ &relay,
	  "host smtp.mailgun.org[192.0.2.1]:587 said: 421 Domain here.example is not allowed to send: recipient limit "
	  "exceeded, try again after Sun, 22 Nov 2026 13:00:00 UTC (in reply to end of DATA)",
	  "server quota 1h" },
	/* Exchange on site */
	{ &relay,
	  "host mail.corp.example[192.0.2.1]:25 said: 421 4.3.2 The maximum number of concurrent connections has "
	  "exceeded a limit, closing transmission channel (in the initial server greeting)",
	  "site fewer" },
	{ &relay,
	  "host mail.corp.example[192.0.2.1]:25 said: 550 5.7.54 SMTP; Unable to relay recipient in non-accepted "
	  "domain (in reply to RCPT TO command)",
	  "" },
	{ &relay,
	  "host mail.corp.example[192.0.2.1]:25 said: 421 4.4.2 Message submission rate for this client has exceeded "
	  "the configured limit (in reply to MAIL FROM command)",
	  "" },
	{ &relay,
	  "host mail.corp.example[192.0.2.1]:25 said: 452 4.3.1 Insufficient system resources (in reply to MAIL FROM "
	  "command)",
	  "" },
	/* Postfix */
	{ &direct,
	  "host mx.there.example[192.0.2.1]:25 said: 452 4.5.3 Error: too many recipients (in reply to RCPT TO "
	  "command)",
	  "recipient retry 5m" },
	/* HS26: one that has not read RFC 5321 yet; 552 for a full mailbox bounces */
	{ &direct, "host mx.there.example[192.0.2.1]:25 said: 552 Too many recipients (in reply to RCPT TO command)",
	  "recipient retry 5m" },
	{ &direct, "host mx.there.example[192.0.2.1]:25 said: 552 5.2.2 Mailbox full (in reply to RCPT TO command)",
	  "" },
	{ &relay,
	  "host mx.isp.example[192.0.2.1]:25 said: 421 4.7.0 mx.isp.example Error: too many connections from 192.0.2.9 "
	  "(in the initial server greeting)",
	  "site fewer" },
	{ &relay,
	  "host mx.isp.example[192.0.2.1]:25 said: 450 4.7.1 Error: too much mail from 192.0.2.9 (in reply to MAIL "
	  "FROM command)",
	  "site pause 1m" },
	{ &relay,
	  "host mx.isp.example[192.0.2.1]:25 said: 450 4.7.1 Error: too many recipients from 192.0.2.9 (in reply to "
	  "RCPT TO command)",
	  "site pause 1m" },
	{ &relay,
	  "host mx.isp.example[192.0.2.1]:587 said: 554 5.7.1 <b@there.example>: Relay access denied (in reply to RCPT "
	  "TO command)",
	  "server pause 15m" },
	{ &direct,
	  "host mx.there.example[192.0.2.1]:25 said: 554 5.7.1 <b@there.example>: Relay access denied (in reply to "
	  "RCPT TO command)",
	  "" },
	{ &direct,
	  "host mx.there.example[192.0.2.1]:25 said: 450 4.2.0 <b@there.example>: Recipient address rejected: "
	  "Greylisted, see http://postgrey.schweikert.ch/help/there.example.html (in reply to RCPT TO command)",
	  "recipient retry greylist" },
	{ &direct,
	  "host mx.there.example[192.0.2.1]:25 said: 550 5.1.1 <b@there.example>: Recipient address rejected: User "
	  "unknown in virtual mailbox table (in reply to RCPT TO command)",
	  "" },
	{ &direct,
	  "host mx.there.example[192.0.2.1]:25 said: 452 4.3.1 Insufficient system storage (in reply to MAIL FROM "
	  "command)",
	  "" },
	{ &direct,
	  "host mx.there.example[192.0.2.1]:25 said: 552 5.3.4 Message size exceeds fixed limit (in reply to MAIL FROM "
	  "command)",
	  "" },
	{ &relay,
	  "host mx.isp.example[192.0.2.1]:25 said: 552 5.2.2 <b@there.example>: Mailbox quota exceeded (in reply to "
	  "RCPT TO command)",
	  "" },
	/* Exim */
	{ &relay,
	  "host mx.isp.example[192.0.2.1]:25 said: 421 Too many concurrent SMTP connections; please try again later. "
	  "(in the initial server greeting)",
	  "site fewer" },
	{ &direct, "host mx.there.example[192.0.2.1]:25 said: 550 relay not permitted (in reply to RCPT TO command)",
	  "" },
	{ &relay, "host mx.isp.example[192.0.2.1]:25 said: 550 relay not permitted (in reply to RCPT TO command)",
	  "server pause 15m" },
	{ &relay,
	  "host mx.isp.example[192.0.2.1]:25 said: 550 relay not permitted, authentication required (in reply to RCPT "
	  "TO command)",
	  "server pause 15m" },
	{ &direct,
	  "host mx.there.example[192.0.2.1]:25 said: 451 Temporary local problem - please try later (in reply to RCPT "
	  "TO command)",
	  "" },
	{ &direct,
	  "host mx.there.example[192.0.2.1]:25 said: 451-192.0.2.9 is not yet authorized to deliver mail from "
	  "<a@here.example> to <b@there.example>. Please try later: greylisted (in reply to RCPT TO command)",
	  "recipient retry greylist" },
	{ &relay,
	  "host mx.isp.example[192.0.2.1]:25 said: 421 too many messages in this connection (in reply to MAIL FROM "
	  "command)",
	  "connection reconnect" },
	/* hosting providers' Exim (cPanel) and the like */
	{ &relay,
	  "host mail.host.example[192.0.2.1]:587 said: 550 Domain here.example has exceeded the max emails per hour "
	  "(500/500 (100%)) allowed. Message discarded. (in reply to RCPT TO command)",
	  "server quota 15m 1h" },
	{ &relay,
	  "host mail.host.example[192.0.2.1]:587 said: 550 5.7.1 You have exceeded your daily sending limit (in reply "
	  "to RCPT TO command)",
	  "server quota 1h 1d" },
	{ &relay,
	  "host mail.host.example[192.0.2.1]:587 said: 452 4.5.3 Your hourly message limit has been reached (in reply "
	  "to MAIL FROM command)",
	  "server quota 15m 1h" },
	{ &relay,
	  "host mail.host.example[192.0.2.1]:587 said: 550 Domain here.example has exceeded the max defers and "
	  "failures "
	  "per hour (5/5 (100%)) allowed. Message discarded. (in reply to RCPT TO command)",
	  "server pause 15m" },
	{ &relay,
	  "host smtp.strato.example[192.0.2.1]:465 said: 451 4.7.1 Sending limit exceeded, please try again later (in "
	  "reply to MAIL FROM command)",
	  "server quota 1h" },
	{ &relay,
	  "host smtp.zoho.example[192.0.2.1]:587 said: 550 5.4.6 Unusual sending activity detected. Outgoing limit "
	  "exceeded (in reply to end of DATA)",
	  "server quota 1h" },
	{ &relay,
	  "host out.fastmail.example[192.0.2.1]:465 said: 421 4.7.1 You have reached the monthly sending limit of your "
	  "plan (in reply to end of DATA)",
	  "server quota 1h 30d" },
	{ &relay,
	  "host mail.corp.example[192.0.2.1]:587 said: 550 5.4.5 Recipients of this day are used up (in reply to RCPT "
	  "TO "
	  "command)",
	  "server quota 1h" },
	/* a recipient's mailbox has quotas as well: those are not ours */
	{ &relay,
	  "host mail.host.example[192.0.2.1]:587 said: 552 5.2.2 <b@there.example>: user is over quota (in reply to "
	  "RCPT "
	  "TO command)",
	  "" },
	{ &direct,
	  "host mx.there.example[192.0.2.1]:25 said: 550 5.4.5 You have exceeded your daily sending limit (in reply to "
	  "RCPT TO command)",
	  "" },
	/* qmail and its spam filters */
	{ &direct,
	  "host mx.there.example[192.0.2.1]:25 said: 553 sorry, that domain isn't in my list of allowed rcpthosts "
	  "(#5.7.1) (in reply to RCPT TO command)",
	  "" },
	{ &relay,
	  "host mx.isp.example[192.0.2.1]:25 said: 553 sorry, that domain isn't in my list of allowed rcpthosts "
	  "(#5.7.1) (in reply to RCPT TO command)",
	  "server pause 15m" },
	{ &direct,
	  "host mx.there.example[192.0.2.1]:25 said: 421 4.7.1 Your address has been graylisted. Try again later. (in "
	  "reply to RCPT TO command)",
	  "recipient retry greylist" },
	{ &direct, "host mx.there.example[192.0.2.1]:25 said: 451 GREYLISTED (#4.7.1) (in reply to RCPT TO command)",
	  "recipient retry greylist" },
	{ &direct,
	  "host mx.there.example[192.0.2.1]:25 said: 550 sorry, no mailbox here by that name. (#5.1.1) (in reply to "
	  "RCPT TO command)",
	  "" },
	{ &direct, "host mx.there.example[192.0.2.1]:25 said: 550 greylisted for ever (in reply to RCPT TO command)",
	  "" },
	/* OpenBSD spamd */
	{ &direct,
	  "host mx.there.example[192.0.2.1]:25 said: 451 Temporary failure, please try again later. (in reply to RCPT "
	  "TO command)",
	  "recipient retry greylist" },
};

static void test_real_replies(void **state)
{
	struct replies *r = shipped();
	unsigned wrong = 0;
	char out[64];

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(REAL); i++) {
		const char *deed = deed_of(r, REAL[i].server, REAL[i].said, out);

		if (strcmp(deed, REAL[i].deed) == 0)
			continue;
		print_error("%s\n  is \"%s\", should be \"%s\"\n", REAL[i].said, deed, REAL[i].deed);
		wrong++;
	}
	assert_int_equal(wrong, 0);
	replies_free(&r);
}

static void test_take_apart(void **state)
{
	struct reply_facts f = { 0 };

	(void)state;
	assert_true(replies_take_apart(
		&f, slice_of("host mx.a.example[2001:db8::1]:25 said: 554 5.7.1 no (in the initial server greeting)")));
	assert_true(slice_is(f.host, "mx.a.example"));
	assert_true(slice_is(f.text, "554 5.7.1 no"));
	assert_int_equal(f.command, REPLY_TO_CONNECT);
	assert_true(replies_take_apart(&f, slice_of("host a[b]:1 said: 450 x (in reply to end of DATA)")));
	assert_int_equal(f.command, REPLY_TO_END);
	/* The server cannot pretend to have answered another command: ours are the last words. */
	assert_true(replies_take_apart(
		&f, slice_of("host a[b]:1 said: 450 (in reply to DATA command) (in reply to RCPT TO command)")));
	assert_int_equal(f.command, REPLY_TO_RCPT);
	assert_false(replies_take_apart(&f, slice_of("connect to a[b]:25: Connection refused")));
	assert_false(replies_take_apart(&f, slice_of("host ")));
	assert_false(replies_take_apart(&f, slice_of("")));
}

static const struct {
	const char *label, *text, *errors; /* joined by newlines */
} FILES[] = {
	{ "empty", "", "" },
	{ "comments", "# nothing\n\n   # at all\n", "" },
	{ "one rule", "code 45x enhanced 4.7.* text \"a \\\"b\\\" #c\" -> recipient retry 5m # why\n", "" },
	{ "several lines", "server isp,other method relay\r\n  command mail,rcpt\r\n  -> server pause 1h30m\r\n", "" },
	{ "provider", "provider x = *.x.example x.example\nprovider x code 5xx -> message next\n", "" },
	{ "no condition at all is fine", "-> recipient next\n", "" },
	{ "unknown condition", "kode 450 -> recipient retry\n",
	  "f:1: rule: \"kode\" is no condition; use server, method, provider, command, code, enhanced or text, then -> "
	  "and "
	  "what to do\nf:1: rule: \"450\" is no condition; use server, method, provider, command, code, enhanced or "
	  "text, "
	  "then -> and what to do" },
	{ "no deed", "code 450\n", "f:1: rule: lacks \"->\" and what to do" },
	{ "strange deed", "code 450 -> site bounce\n",
	  "f:1: ->: \"site bounce\" cannot be done; use recipient or message with bounce, retry [TIME|greylist] or "
	  "next, "
	  "connection reconnect, site or server with fewer or pause TIME, server quota TIME [WINDOW]" },
	{ "pause without time", "\ncode 450 -> site pause\n", "f:2: pause: needs a duration behind it, such as 10m" },
	{ "quota without time", "-> server quota\n", "f:1: quota: needs a duration behind it, such as 10m" },
	{ "windows", "-> server quota 1h\n-> server quota 1h month\n-> server quota 1h 15m\n", "" },
	{ "no window", "-> server quota 1h daily\n",
	  "f:1: quota: \"daily\" is no window; use second, minute, hour, day, week, month or a duration" },
	{ "quota of a site", "-> site quota 1h\n",
	  "f:1: ->: \"site quota\" cannot be done; use recipient or message with bounce, retry [TIME|greylist] or "
	  "next, connection reconnect, site or server with fewer or pause TIME, server quota TIME [WINDOW]" },
	{ "behind the window", "-> server quota 1h day month\n",
	  "f:1: ->: \"month\" is too much: a rule does one thing" },
	{ "bad time", "code 450 -> site pause 10\n", "f:1: pause: \"10\" is no duration from 1s to 30d, such as 10m" },
	{ "time where none goes", "code 450 -> site fewer 10m\n", "f:1: fewer: takes nothing behind it, not \"10m\"" },
	{ "too many deeds", "code 450 -> site pause 10m fewer\n",
	  "f:1: ->: \"fewer\" is too much: a rule does one thing" },
	{ "bad code", "code 250,45,4xx -> recipient retry\n",
	  "f:1: code: \"250\" is not right; use 421, 45x or 5xx\nf:1: code: \"45\" is not right; use 421, 45x or 5xx" },
	{ "bad enhanced", "enhanced 4.7,4..1 -> recipient retry\n",
	  "f:1: enhanced: \"4.7\" is not right; use 4.7.28 or 5.7.*\nf:1: enhanced: \"4..1\" is not right; use 4.7.28 "
	  "or "
	  "5.7.*" },
	{ "bad expression", "text \"(\" -> recipient retry\n",
	  "f:1: text: \"(\" is no regular expression: Unmatched ( or \\(" },
	{ "back reference", "text \"(a)\\1\" -> recipient retry\n",
	  "f:1: text: \"(a)\\1\": back references are not allowed" },
	{ "no closing quote", "text \"abc -> recipient retry\n",
	  "f:1: text: has no closing quote\nf:1: rule: lacks \"->\" and what to do" },
	{ "unknown provider", "provider nobody -> recipient retry\n",
	  "f:1: provider: \"nobody\" is not right; use the name of a provider defined above" },
	{ "bad command", "command data,dot -> recipient retry\n",
	  "f:1: command: \"dot\" is none; use connect, helo, starttls, auth, mail, rcpt, data or end" },
	{ "all in one go", "code 1 -> recipient retry\ncode 450 -> recipient retry\nmethod smtp -> recipient retry\n",
	  "f:1: code: \"1\" is not right; use 421, 45x or 5xx\nf:3: method: \"smtp\" is not right; use relay or "
	  "direct" },
	{ "condition without value", "code -> recipient retry\n",
	  "f:1: code: needs a value behind it\nf:1: rule: \"recipient\" is no condition; use server, method, provider, "
	  "command, code, enhanced or text, then -> and what to do\nf:1: rule: \"retry\" is no condition; use server, "
	  "method, provider, command, code, enhanced or text, then -> and what to do\nf:1: rule: lacks \"->\" and what "
	  "to do" },
};

static void test_files(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(FILES); i++) {
		struct conf_errors errors = { 0 };
		struct replies *r = replies_new();
		struct buf all;
		bool is_right = replies_read_text(r, "f", slice_of(FILES[i].text), NULL, &errors);

		buf_init(&all, 4096);
		for (unsigned k = 0; k < errors.count; k++)
			buf_printf(&all, "%s%s", k ? "\n" : "", errors.text[k]);
		if (strcmp(buf_text(&all), FILES[i].errors) != 0 || is_right != (errors.count == 0))
			fail_msg("%s: got\n%s", FILES[i].label, buf_text(&all));
		buf_release(&all);
		conf_errors_release(&errors);
		replies_free(&r);
	}
}

static void test_order_and_override(void **state)
{
	static const char SAID[] =
		"host mx.x.example[192.0.2.1]:25 said: 450 4.7.1 later (in reply to RCPT TO command)";
	struct conf_errors errors = { 0 };
	struct replies *r = replies_new();
	char out[64];

	(void)state;
	assert_true(
		replies_read_text(r, "a", slice_of("code 450 command rcpt -> recipient retry 5m\n"), NULL, &errors));
	assert_true(replies_read_text(r, "b", slice_of("code 450 -> recipient retry 7m\nserver isp -> site fewer\n"),
				      NULL, &errors));
	assert_string_equal(deed_of(r, &relay, SAID, out), "recipient retry 5m");
	assert_true(
		replies_read_text(r, "c", slice_of("ignore-shipped-rules\nserver isp -> site fewer\n"), NULL, &errors));
	assert_string_equal(deed_of(r, &relay, SAID, out), "site fewer");
	assert_string_equal(deed_of(r, &direct, SAID, out), "");
	replies_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real_replies),
		cmocka_unit_test(test_take_apart),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_order_and_override),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
