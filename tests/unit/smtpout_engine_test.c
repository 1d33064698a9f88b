/* The engine, by vectors: the server says, we must say, and what becomes of each recipient. No socket anywhere. */
#include "lib/address.h"
#include "lib/text.h"
#include "smtpout/engine.h"
#include "tests/unit/said.h"
#include <stdio.h>

enum { STEPS_MAX = 40, MAILS_MAX = 4 };

/*
 * A script's lines:
 *   S TEXT   the server says this; | ends a line (CRLF), so a line may stay unfinished
 *   E TEXT   likewise, and closes with it
 *   C TEXT   we must have said exactly this since the last C; | as above. "C" alone: nothing
 *   mail N [8bit] [big] [utf8] [dsn]  a mail for N recipients is given
 *   body     the engine wants the body; it is sent, with its dot, and C starts with "BODY.|"
 *   7bit     the mail in hand is to be converted
 *   begin    the engine wants the body; it is on its way, the dot not sent
 *   tls      the engine wants a handshake; it succeeds
 *   quit, lost, timeout
 *   done V.. a mail came back, with an outcome per recipient: d delivered, tCODE, pCODE, u unknown, n unsent
 *   up       mails can go; down: not so
 *   close C  the engine closes, for this cause
 *   idle     nothing is to be done, nothing owed
 *   broken, whole  at the end: replies to a part of a flight are missing, or not
 */
struct vector {
	const char *name;
	enum engine_tls tls;
	const char *step[STEPS_MAX];
};

#define GREET       "S 220 mx ESMTP|", "C EHLO me.example|"
#define GREET_PIPE  GREET, "S 250-mx|250-PIPELINING|250-ENHANCEDSTATUSCODES|250 8BITMIME|", "up"
#define GREET_PLAIN GREET, "S 250 mx|", "up"
#define MAIL1       "MAIL FROM:<a@b.example>|RCPT TO:<r0@c.example>|DATA|"
#define MAIL2       "MAIL FROM:<a@b.example>|RCPT TO:<r0@c.example>|RCPT TO:<r1@c.example>|DATA|"
#define MAIL3       "MAIL FROM:<a@b.example>|RCPT TO:<r0@c.example>|RCPT TO:<r1@c.example>|RCPT TO:<r2@c.example>|DATA|"

static const struct vector VECTORS[] = {
	{ "one mail, pipelined",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|", "S 250 2.0.0 queued|",
	    "done d", "idle", "quit", "C QUIT|", "S 221 bye|", "close none" } },
	{ "one mail, step by step",
	  ENGINE_TLS_NEVER,
	  { GREET_PLAIN, "mail 2", "C MAIL FROM:<a@b.example>|", "S 250 ok|", "C RCPT TO:<r0@c.example>|", "S 250 ok|",
	    "C RCPT TO:<r1@c.example>|", "S 250 ok|", "C DATA|", "S 354 go|", "body", "C BODY.|", "S 250 ok|",
	    "done dd", "idle" } },
	{ "the next envelope travels behind the dot",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|" MAIL1,
	    "S 250 first|250 ok|250 ok|354 go|", "done d", "body", "C BODY.|", "S 250 second|", "done d" } },
	{ "a mail given while the dot's reply is waited for goes at once",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|", "mail 1", "C " MAIL1,
	    "S 550 no|250 ok|250 ok|354 go|", "done p550", "body", "C BODY.|", "S 250 ok|", "done d" } },
	{ "without PIPELINING the next mail waits for the dot's reply",
	  ENGINE_TLS_NEVER,
	  { GREET_PLAIN, "mail 1", "mail 1", "C MAIL FROM:<a@b.example>|", "S 250 ok|", "C RCPT TO:<r0@c.example>|",
	    "S 250 ok|", "C DATA|", "S 354 go|", "body", "C BODY.|", "S 250 ok|", "done d",
	    "C MAIL FROM:<a@b.example>|" } },
	{ "HS02 HS11 nothing is believed of half a reply",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|550-no|550 5.1", "lost", "done t0", "close lost" } },
	{ "HS07 not a reply: 25",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 25|", "done t0", "close protocol" } },
	{ "HS07 not a reply: 2500 x",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|2500 x|", "done t0", "close protocol" } },
	{ "HS07 not a reply: an empty line",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S |", "done t0", "close protocol" } },
	{ "HS10 the code changes inside a reply to RCPT",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|550-no|250 yes|", "done t0", "close protocol" } },
	{ "HS10 the code changes inside the dot's reply",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|", "S 250-ok|550 no|",
	    "done u", "close protocol" } },
	{ "HS13 the connection is lost between dot and reply; the next mail goes back untouched",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|" MAIL1, "lost",
	    "done u", "done n", "close lost" } },
	{ "HS04 the dot's reply does not come in time",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|", "timeout", "done u",
	    "close lost" } },
	{ "HS14 354 after the dot is no success",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|", "S 354 go on|", "done u",
	    "close protocol" } },
	{ "HS14 220 after the dot is no success",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|", "S 220 hi|", "done u",
	    "close protocol" } },
	{ "HS14 150 after the dot is no success",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|", "S 150 wait|", "done u",
	    "close protocol" } },
	{ "HS15 250 to DATA: no body",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|250 ok|", "done t0", "C", "close protocol" } },
	{ "HS16 354 to RCPT",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 2", "C " MAIL2, "S 250 ok|550 no|354 go|", "done p550,t0", "C", "close protocol" } },
	{ "HS16 354 to MAIL",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 354 go|", "done t0", "close protocol" } },
	{ "HS18 a second line behind the banner", ENGINE_TLS_NEVER, { "S 220 mx|250 mx|", "C", "close protocol" } },
	{ "HS18 a second reply behind EHLO's: it was never up",
	  ENGINE_TLS_NEVER,
	  { GREET, "S 250 mx|250 again|", "close protocol", "down" } },
	{ "HS27 421 behind EHLO's reply", ENGINE_TLS_NEVER, { GREET, "S 250 mx|421 full|", "close greeting", "down" } },
	{ "closed with EHLO's reply: no idle connection",
	  ENGINE_TLS_NEVER,
	  { GREET, "E 250 mx|", "close lost", "down" } },
	{ "HS18 a stray 250 while idle", ENGINE_TLS_NEVER, { GREET_PIPE, "idle", "S 250 stray|", "close protocol" } },
	{ "HS18 354 with more behind it",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|250 early|", "done t0", "C", "close protocol" } },
	{ "HS20 refused inside the body",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "begin", "S 552 5.3.4 too big|", "done p552",
	    "close reply" } },
	{ "HS20 refused inside the body, in pieces",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "begin", "S 552-too", "S  big|55",
	    "S 2 really|", "done p552", "close reply" } },
	{ "HS20 accepted inside the body is nonsense",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "begin", "S 250 fine|", "done t0",
	    "close protocol" } },
	{ "HS21 a reply is missing: nothing shifts",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 2", "C " MAIL2, "S 250 ok|250 ok|354 go|", "done t0,t0", "C", "close protocol" } },
	{ "HS21 replies end: the rest defers",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 2", "C " MAIL2, "S 250 ok|550 no|", "timeout", "done p550,t0", "close lost" } },
	{ "HS22 MAIL is answered, what came with it never",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|", "timeout", "done t0", "close lost", "broken" } },
	{ "HS22 the dot is answered, the envelope behind it never",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|" MAIL1,
	    "S 250 queued|", "done d", "timeout", "done n", "close lost", "broken" } },
	{ "HS22 nothing is answered: that may be anything",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|" MAIL1, "lost",
	    "done u", "done n", "close lost", "whole" } },
	{ "HS22 a refusal, then the server hangs up: that is its way",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|550 no|", "lost", "done p550", "close lost", "whole" } },
	{ "HS22 one command at a time has no flights",
	  ENGINE_TLS_NEVER,
	  { GREET_PLAIN, "mail 1", "C MAIL FROM:<a@b.example>|", "S 250 ok|", "C RCPT TO:<r0@c.example>|", "timeout",
	    "done t0", "close lost", "whole" } },
	{ "HS24 a verdict for each recipient",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 3", "C " MAIL3, "S 250 ok|250 ok|450 later|550 never|354 go|", "body", "C BODY.|",
	    "S 250 ok|", "done d,t450,p550" } },
	{ "HS26 552 to RCPT bounces",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 2", "C " MAIL2, "S 250 ok|552 full|250 ok|354 go|", "body", "C BODY.|", "S 250 ok|",
	    "done p552,d" } },
	{ "HS27 421 as greeting", ENGINE_TLS_NEVER, { "S 421 busy|", "C", "close greeting" } },
	{ "HS27 421 to EHLO", ENGINE_TLS_NEVER, { GREET, "S 421 busy|", "C", "close greeting" } },
	{ "HS27 421 to MAIL",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 421 busy|", "done t421", "close reply" } },
	{ "HS27 421 to RCPT: finished ones stay finished",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 3", "C " MAIL3, "S 250 ok|250 ok|550 no|421 busy|", "done t421,p550,t421",
	    "close reply" } },
	{ "HS27 421 to DATA",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|421 busy|", "done t421", "close reply" } },
	{ "HS27 421 inside the body",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "begin", "S 421 busy|", "done t421",
	    "close reply" } },
	{ "HS27 421 to the dot; the next mail goes back",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|" MAIL1,
	    "S 421 busy|", "done t421", "done n", "close reply" } },
	{ "HS27 421 behind a good reply to the dot",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|", "S 250 ok|421 bye|",
	    "done d", "close reply" } },
	{ "HS27 421 to QUIT is nothing",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "quit", "C QUIT|", "S 421 bye|", "close none" } },
	{ "HS27 421 while idle", ENGINE_TLS_NEVER, { GREET_PIPE, "S 421 idle for too long|", "close reply" } },
	{ "HS29 554 as greeting", ENGINE_TLS_NEVER, { "S 554 no|", "C QUIT|", "close greeting" } },
	{ "HS30 EHLO refused, HELO taken",
	  ENGINE_TLS_MAY,
	  { GREET, "S 502 what|", "C HELO me.example|", "S 250 mx|", "up", "mail 1", "C MAIL FROM:<a@b.example>|" } },
	{ "HS30 EHLO refused where TLS is a must", ENGINE_TLS_MUST, { GREET, "S 502 what|", "C QUIT|", "close tls" } },
	{ "HS32 larger than SIZE: not sent",
	  ENGINE_TLS_NEVER,
	  { GREET, "S 250-mx|250 SIZE 1000|", "up", "mail 1 big", "done p0", "C", "idle", "mail 1",
	    "C MAIL FROM:<a@b.example> SIZE=100|" } },
	{ "HS31 a SIZE that is no number limits nothing",
	  ENGINE_TLS_NEVER,
	  { GREET, "S 250-mx|250 SIZE 99999999999999999999|", "up", "mail 1 big",
	    "C MAIL FROM:<a@b.example> SIZE=5000|" } },
	{ "HS33 no 8BITMIME: the message is converted",
	  ENGINE_TLS_NEVER,
	  { GREET_PLAIN, "mail 1 8bit", "C MAIL FROM:<a@b.example>|", "S 250 ok|", "C RCPT TO:<r0@c.example>|",
	    "S 250 ok|", "C DATA|", "S 354 go|", "7bit", "body", "C BODY.|", "S 250 ok|", "done d" } },
	{ "DSN parameters for a server that has DSN",
	  ENGINE_TLS_NEVER,
	  { GREET, "S 250-mx|250 DSN|", "up", "mail 3 dsn", "C MAIL FROM:<a@b.example> RET=FULL ENVID=e+3D1|",
	    "S 250 ok|", "C RCPT TO:<r0@c.example> NOTIFY=FAILURE,DELAY,SUCCESS ORCPT=rfc822;x+40y.example|",
	    "S 250 ok|", "C RCPT TO:<r1@c.example> NOTIFY=NEVER|", "S 250 ok|", "C RCPT TO:<r2@c.example>|" } },
	{ "DSN parameters for one that has not",
	  ENGINE_TLS_NEVER,
	  { GREET_PLAIN, "mail 1 dsn", "C MAIL FROM:<a@b.example>|", "S 250 ok|", "C RCPT TO:<r0@c.example>|" } },
	{ "HS38 an MX host with our own name",
	  ENGINE_TLS_NEVER,
	  { "S 220 ME.example ESMTP|", "C QUIT|", "close greeting" } },
	{ "HS33 no SMTPUTF8", ENGINE_TLS_NEVER, { GREET_PIPE, "mail 1 utf8", "done p0", "C", "idle" } },
	{ "8BITMIME is said",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1 8bit", "C MAIL FROM:<a@b.example> BODY=8BITMIME|RCPT TO:<r0@c.example>|DATA|" } },
	{ "HS34 a tarpit ends in the deadline; refused ones stay refused",
	  ENGINE_TLS_NEVER,
	  { GREET_PLAIN, "mail 3", "C MAIL FROM:<a@b.example>|", "S 250 ok|", "C RCPT TO:<r0@c.example>|", "S 550 no|",
	    "C RCPT TO:<r1@c.example>|", "timeout", "done p550,t0,t0", "close lost" } },
	{ "HS37 a connection lost behind QUIT is nothing",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|", "S 250 ok|", "done d",
	    "quit", "C QUIT|", "lost", "close none" } },
	{ "HS44 RSET refused: the next mail is not touched",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "mail 1", "C " MAIL1, "S 250 ok|550 no|554 none|", "done p550", "C RSET|",
	    "S 500 what|", "done n", "close protocol" } },
	{ "HS44 a kept connection hangs: the next mail is not touched",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|", "S 250 ok|", "done d",
	    "mail 1", "C " MAIL1, "timeout", "done n", "close lost" } },
	{ "all recipients refused, DATA too: RSET, then the next",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "mail 1", "C " MAIL1, "S 250 ok|450 no|554 none|", "done t450", "C RSET|",
	    "S 250 ok|", "C " MAIL1 } },
	{ "all recipients refused, DATA granted: an empty dot",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|550 no|354 go|", "C .|", "S 554 none|", "done p550", "idle" } },
	{ "MAIL refused decides, whatever RCPT and DATA say",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 2", "C " MAIL2, "S 550 spam|503 no|250 ok|503 no|", "done p550,p550", "idle", "mail 1",
	    "C " MAIL1 } },
	{ "MAIL refused but DATA granted: close",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 450 later|250 ok|354 go|", "done t450", "C", "close protocol" } },
	{ "MAIL refused, step by step: no RSET needed",
	  ENGINE_TLS_NEVER,
	  { GREET_PLAIN, "mail 1", "C MAIL FROM:<a@b.example>|", "S 451 later|", "done t451", "mail 1",
	    "C MAIL FROM:<a@b.example>|" } },
	{ "DATA refused",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 2", "C " MAIL2, "S 250 ok|250 ok|550 no|451 busy|", "done t451,p550", "idle" } },
	{ "the dot refused for good",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 2", "C " MAIL2, "S 250 ok|250 ok|450 x|354 go|", "body", "C BODY.|", "S 554 5.7.1 spam|",
	    "done p554,t450", "idle" } },
	{ "a kept connection that dies at once: handed back, no attempt",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "mail 1", "C " MAIL1, "S 250 ok|250 ok|354 go|", "body", "C BODY.|", "S 250 ok|", "done d",
	    "mail 1", "C " MAIL1, "lost", "done n", "close lost" } },
	{ "an idle connection closed by the server is in order",
	  ENGINE_TLS_NEVER,
	  { GREET_PIPE, "lost", "close none" } },
	{ "TL01 no STARTTLS where it is a must", ENGINE_TLS_MUST, { GREET, "S 250 mx|", "C QUIT|", "close tls" } },
	{ "TL02 input behind STARTTLS's reply",
	  ENGINE_TLS_MAY,
	  { GREET, "S 250-mx|250 STARTTLS|", "C STARTTLS|", "S 220 go|250 injected|", "close protocol" } },
	{ "TL02 half a line behind STARTTLS's reply",
	  ENGINE_TLS_MAY,
	  { GREET, "S 250-mx|250 STARTTLS|", "C STARTTLS|", "S 220 go|25", "close protocol" } },
	{ "TL03 what was learnt in clear is forgotten",
	  ENGINE_TLS_MAY,
	  { GREET, "S 250-mx|250-PIPELINING|250-SIZE 10|250 STARTTLS|", "C STARTTLS|", "S 220 go|", "tls",
	    "C EHLO me.example|", "S 250-mx|250 STARTTLS|", "up", "mail 1 big", "C MAIL FROM:<a@b.example>|" } },
	{ "TL04 STARTTLS refused, opportunistic: in clear",
	  ENGINE_TLS_MAY,
	  { GREET, "S 250-mx|250-PIPELINING|250 STARTTLS|", "C STARTTLS|", "S 454 no|", "up", "mail 1", "C " MAIL1 } },
	{ "TL04 STARTTLS refused, a must",
	  ENGINE_TLS_MUST,
	  { GREET, "S 250-mx|250 STARTTLS|", "C STARTTLS|", "S 454 no|", "close tls" } },
	{ "TL05 the handshake stalls",
	  ENGINE_TLS_MUST,
	  { GREET, "S 250-mx|250 STARTTLS|", "C STARTTLS|", "S 220 go|", "handshake", "timeout", "close tls" } },
};

struct run {
	struct engine e;
	struct reply_parser parser;
	struct buf input, said;
	struct engine_mail mail[MAILS_MAX];
	unsigned mail_count;
	struct engine_mail *done[MAILS_MAX];
	unsigned done_count, done_seen;
	bool is_up, wants_body, wants_tls, is_closed;
	const char *label, *step;
};

#define CHECK(run, condition)                                                                             \
	do {                                                                                              \
		if (!(condition))                                                                         \
			fail_msg("%s: at \"%s\": %s; said \"%s\"", (run)->label, (run)->step, #condition, \
				 buf_text(&(run)->said));                                                 \
	} while (0)

static void act(struct run *r)
{
	struct engine_mail *mail;

	for (;;) {
		switch (engine_next(&r->e, &mail)) {
		case ENGINE_NONE:
			return;
		case ENGINE_MAIL_DONE:
			CHECK(r, r->done_count < MAILS_MAX);
			r->done[r->done_count++] = mail;
			break;
		case ENGINE_UP:
			r->is_up = true;
			break;
		case ENGINE_SEND:
			buf_put_slice(&r->said, buf_slice(&r->e.out));
			engine_sent(&r->e);
			break;
		case ENGINE_BODY:
			r->wants_body = true;
			break;
		case ENGINE_START_TLS:
			r->wants_tls = true;
			break;
		case ENGINE_CLOSE:
			r->is_closed = true;
			break;
		}
	}
}

/* As the session does: whole replies first, then what is left. */
static void server_says(struct run *r, const char *text)
{
	struct reply reply;
	size_t used;
	enum reply_result result = REPLY_DONE;

	put_lines(&r->input, text);
	while (result == REPLY_DONE && r->e.state != ENGINE_OVER) {
		struct buf copy = r->input;

		result = reply_parse(&r->parser, buf_slice(&copy), &used, &reply);
		if (result == REPLY_DONE)
			engine_reply(&r->e, &reply);
		if (result == REPLY_MALFORMED)
			engine_malformed(&r->e, r->parser.why);
		buf_consume(&r->input, used);
	}
	engine_input_left(&r->e, r->input.len > 0 || !reply_parser_is_idle(&r->parser));
}

static void give_mail(struct run *r, const char *options)
{
	static const char *const NAMES[] = { "r0@c.example", "r1@c.example", "r2@c.example" };
	static const struct engine_rcpt_dsn DSN[3] = { { { "rfc822;x+40y.example", 20 }, 2 | 4 | 8 },
						       { { "rfc822;a b", 10 }, 1 } };
	static struct slice rcpt[3];
	struct engine_mail *m = &r->mail[r->mail_count++];

	for (unsigned i = 0; i < 3; i++)
		rcpt[i] = slice_of(NAMES[i]);
	*m = (struct engine_mail){ .sender = slice_of("a@b.example"), .rcpt = rcpt, .size_bytes = 100 };
	m->rcpt_count = (unsigned)(options[0] - '0');
	m->is_8bit = strstr(options, "8bit");
	m->size_bytes = strstr(options, "big") ? 5000 : 100;
	if (strstr(options, "dsn")) {
		m->is_ret_full = true;
		m->envid = slice_of("e+3D1");
		m->rcpt_dsn = DSN;
	}
	if (strstr(options, "utf8"))
		m->sender = slice_of("\303\244@b.example");
	CHECK(r, engine_wants_mail(&r->e));
	engine_take_mail(&r->e, m);
}

static void must_be_done(struct run *r, const char *wanted)
{
	static const char LETTERS[] = "?dtpun";
	const struct engine_mail *m;
	struct buf got, want;

	CHECK(r, r->done_seen < r->done_count);
	m = r->done[r->done_seen++];
	buf_init(&got, 1000);
	buf_init(&want, 1000);
	for (unsigned i = 0; i < m->rcpt_count; i++) {
		const struct engine_outcome *o = &m->outcome[m->rcpt_outcome[i] - 1];

		buf_printf(&got, "%s%c", i ? "," : "", LETTERS[o->verdict]);
		if (o->verdict == VERDICT_TEMPORARY || o->verdict == VERDICT_PERMANENT)
			buf_printf(&got, "%u", o->code);
		CHECK(r, text_is_utf8(slice_of(o->text)) && strlen(o->text) <= ENGINE_TEXT_MAX);
		CHECK(r, o->verdict != VERDICT_PERMANENT || o->dsn[0] == '5');
	}
	buf_put_str(&want, strcmp(wanted, "dd") == 0 ? "d,d" : wanted);
	assert_string_equal(buf_text(&got), buf_text(&want));
	buf_release(&got);
	buf_release(&want);
}

static void must_close(struct run *r, const char *cause)
{

	CHECK(r, r->is_closed);
	CHECK(r, r->e.state == ENGINE_OVER);
	if (strcmp(CAUSES[r->e.failure.cause], cause) != 0)
		fail_msg("%s: closed for %s (%s), not %s", r->label, CAUSES[r->e.failure.cause], r->e.failure.text,
			 cause);
	CHECK(r, r->done_seen == r->done_count);
}

static bool take_flag(bool *flag)
{
	bool was = *flag;

	*flag = false;
	return was;
}

static void run_event(struct run *r, const char *step)
{
	if (strncmp(step, "S ", 2) == 0)
		server_says(r, step + 2);
	else if (strncmp(step, "E ", 2) == 0) {
		server_says(r, step + 2);
		engine_lost(&r->e, false, "");
	} else if (strncmp(step, "mail ", 5) == 0)
		give_mail(r, step + 5);
	else if (strcmp(step, "quit") == 0)
		engine_hang_up(&r->e);
	else if (strcmp(step, "lost") == 0 || strcmp(step, "timeout") == 0)
		engine_lost(&r->e, step[0] == 't', "");
	else if (strcmp(step, "tls") == 0) {
		CHECK(r, take_flag(&r->wants_tls));
		engine_secured(&r->e);
	} else if (strcmp(step, "body") == 0) {
		CHECK(r, take_flag(&r->wants_body));
		buf_put_str(&r->said, "BODY.\r\n");
		engine_dot_sent(&r->e);
		buf_put_slice(&r->said, buf_slice(&r->e.out));
		engine_sent(&r->e);
	} else
		fail_msg("%s: what is \"%s\"?", r->label, step);
	act(r);
}

static void run_step(struct run *r, const char *step)
{
	r->step = step;
	if (step[0] == 'C')
		must_have_said(&r->said, step[1] ? step + 2 : "", r->label);
	else if (strncmp(step, "done ", 5) == 0)
		must_be_done(r, step + 5);
	else if (strncmp(step, "close ", 6) == 0)
		must_close(r, step + 6);
	else if (strcmp(step, "up") == 0)
		CHECK(r, take_flag(&r->is_up));
	else if (strcmp(step, "down") == 0)
		CHECK(r, !r->is_up);
	else if (strcmp(step, "7bit") == 0)
		CHECK(r, r->e.mail[0]->is_downgraded);
	else if (strcmp(step, "begin") == 0)
		CHECK(r, take_flag(&r->wants_body));
	else if (strcmp(step, "handshake") == 0)
		CHECK(r, take_flag(&r->wants_tls));
	else if (strcmp(step, "broken") == 0 || strcmp(step, "whole") == 0)
		CHECK(r, r->e.is_flight_broken == (step[0] == 'b'));
	else if (strcmp(step, "idle") == 0)
		CHECK(r, engine_owed(&r->e) == 0 && !r->is_closed && r->e.state == ENGINE_READY);
	else
		run_event(r, step);
}

static void run_vector(const struct vector *v)
{
	struct run r = { .label = v->name };

	engine_init(&r.e, "me.example", "mx.example[192.0.2.1]", v->tls);
	reply_parser_init(&r.parser);
	buf_init(&r.input, 100000);
	buf_init(&r.said, 100000);
	engine_connected(&r.e, false);
	for (unsigned i = 0; i < STEPS_MAX && v->step[i]; i++)
		run_step(&r, v->step[i]);
	for (unsigned i = 0; i < r.mail_count; i++)
		engine_mail_release(&r.mail[i]);
	engine_release(&r.e);
	reply_parser_release(&r.parser);
	buf_release(&r.input);
	buf_release(&r.said);
}

static void test_vectors(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(VECTORS); i++)
		run_vector(&VECTORS[i]);
}

/* The words an administrator will grep for. */
static void test_texts(void **state)
{
	static const struct {
		const char *says;
		bool is_lost, is_timeout;
		const char *text, *dsn;
	} CASES[] = {
		{ "250 ok|550 5.1.1 who?|554 none|", false, false,
		  "host mx.example[192.0.2.1] said: 550 5.1.1 who? (in reply to RCPT TO command)", "5.1.1" },
		{ "450-4.7.1 slow|450 4.7.1 down|503 x|503 x|", false, false,
		  "host mx.example[192.0.2.1] said: 450 4.7.1 slow 4.7.1 down (in reply to MAIL FROM command)",
		  "4.7.1" },
		{ "550 \x1b[31m\\|503 x|503 x|", false, false,
		  "host mx.example[192.0.2.1] said: 550 \\033[31m\\\\ (in reply to MAIL FROM command)", "5.0.0" },
		{ "250 ok|", true, false, "lost connection with mx.example[192.0.2.1] while sending RCPT TO", "4.4.2" },
		{ "", true, true, "conversation with mx.example[192.0.2.1] timed out while sending MAIL FROM",
		  "4.4.2" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(CASES); i++) {
		struct run r = { .label = CASES[i].text };

		engine_init(&r.e, "me.example", "mx.example[192.0.2.1]", ENGINE_TLS_NEVER);
		reply_parser_init(&r.parser);
		buf_init(&r.input, 100000);
		buf_init(&r.said, 100000);
		engine_connected(&r.e, false);
		run_step(&r, "S 220 hi|");
		run_step(&r, "S 250-mx|250 PIPELINING|");
		run_step(&r, "mail 1");
		server_says(&r, CASES[i].says);
		if (CASES[i].is_lost)
			engine_lost(&r.e, CASES[i].is_timeout, "");
		act(&r);
		assert_int_equal(r.done_count, 1);
		assert_string_equal(r.done[0]->outcome[0].text, CASES[i].text);
		assert_string_equal(r.done[0]->outcome[0].dsn, CASES[i].dsn);
		engine_mail_release(&r.mail[0]);
		engine_release(&r.e);
		reply_parser_release(&r.parser);
		buf_release(&r.input);
		buf_release(&r.said);
	}
}

/* HS03, HS05: what a server may pile up is bounded before the engine sees it; here: 100 different refusals. */
static void test_hundred_outcomes(void **state)
{
	struct engine e;
	struct engine_mail m = { .sender = slice_of(""), .size_bytes = 1 }, *done;
	static struct slice rcpt[ENGINE_RCPT_MAX];
	static char texts[ENGINE_RCPT_MAX][16];
	struct reply r = { .code = 220, .text = slice_of("hi") };

	for (unsigned i = 0; i < ENGINE_RCPT_MAX; i++) {
		rcpt[i] = slice_of("x@y.example");
		snprintf(texts[i], sizeof(texts[i]), "no %u", i);
	}
	m.rcpt = rcpt;
	m.rcpt_count = ENGINE_RCPT_MAX;
	engine_init(&e, "me", "mx[::1]", ENGINE_TLS_NEVER);
	engine_connected(&e, false);
	engine_reply(&e, &r);
	engine_sent(&e);
	engine_reply(&e, &(struct reply){ .code = 250, .text = slice_of("mx\nPIPELINING") });
	engine_take_mail(&e, &m);
	engine_sent(&e);
	engine_reply(&e, &(struct reply){ .code = 250, .text = slice_of("ok") });
	for (unsigned i = 0; i < ENGINE_RCPT_MAX; i++)
		engine_reply(&e, &(struct reply){ .code = 550, .text = slice_of(texts[i]) });
	engine_reply(&e, &(struct reply){ .code = 554, .text = slice_of("none") });
	assert_int_equal(engine_next(&e, &done), ENGINE_MAIL_DONE);
	assert_ptr_equal(done, &m);
	assert_int_equal(m.outcome_count, ENGINE_RCPT_MAX);
	engine_mail_release(&m);
	engine_release(&e);
}

/* IP05: as much as a queue file may hold for one transaction goes out in one flight. */
static void test_largest_flight(void **state)
{
	static char address[ADDRESS_MAX + 1], xtext[1001];
	static struct slice rcpt[ENGINE_RCPT_MAX];
	static struct engine_rcpt_dsn dsn[ENGINE_RCPT_MAX];
	struct engine e;
	struct engine_mail m = { .rcpt = rcpt, .rcpt_count = ENGINE_RCPT_MAX, .rcpt_dsn = dsn, .size_bytes = 1 };

	memset(address, 'a', sizeof(address) - 1);
	memset(xtext, 'x', sizeof(xtext) - 1);
	m.sender = slice_of(address);
	m.envid = slice_of(xtext);
	for (unsigned i = 0; i < ENGINE_RCPT_MAX; i++) {
		rcpt[i] = slice_of(address);
		dsn[i] = (struct engine_rcpt_dsn){ slice_of(xtext), 2 | 4 | 8 };
	}
	engine_init(&e, "me", "mx[::1]", ENGINE_TLS_NEVER);
	engine_connected(&e, false);
	engine_reply(&e, &(struct reply){ .code = 220, .text = slice_of("hi") });
	engine_sent(&e);
	engine_reply(&e, &(struct reply){ .code = 250, .text = slice_of("mx\nPIPELINING\nDSN\nSIZE") });
	engine_take_mail(&e, &m);
	assert_true(e.out.len > 100 * (sizeof(address) + sizeof(xtext)));
	engine_release(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_largest_flight),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_hundred_outcomes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
