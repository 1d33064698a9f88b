/* engine.h - the client's side of SMTP, pure: events in, actions out. No descriptor, clock, DNS or log inside.
 *
 * The owner tells what happened (connected, a reply came, the body left, the connection is lost) and then takes actions
 * with engine_next() until there is none. Two mails are in the engine's hands at most: the one whose replies come in,
 * and the next, whose envelope travels behind the first one's final dot when the server does PIPELINING (RFC 2920).
 * A reply always belongs to the oldest unanswered command: what is owed stands in one FIFO, and input that nothing
 * owes ends the session. engine_set_state() and expect() are the only writers of state and FIFO.
 */
#ifndef SMTPOUT_ENGINE_H
#define SMTPOUT_ENGINE_H
#include "lib/msg.h"
#include "smtpout/ehlo.h"
#include "smtpout/login.h"
#include "smtpout/reply.h"

enum { ENGINE_RCPT_MAX = 100, ENGINE_FIFO = 256, ENGINE_TEXT_MAX = 900, ENGINE_MAILS = 2 };

enum engine_state {
	ENGINE_NEW,       /* no connection yet */
	ENGINE_GREETING,  /* banner, EHLO, HELO, STARTTLS, AUTH */
	ENGINE_HANDSHAKE, /* TLS after STARTTLS: the transport's business */
	ENGINE_READY,     /* mails can go */
	ENGINE_QUITTING,
	ENGINE_OVER, /* close the connection; failure says why */
};

/* What a reply answers; rows of the table in engine_states.c. */
enum engine_step {
	STEP_BANNER,
	STEP_EHLO,
	STEP_HELO,
	STEP_STARTTLS,
	STEP_AUTH,
	STEP_MAIL,
	STEP_RCPT,
	STEP_DATA,
	STEP_DOT,
	STEP_EMPTY_DOT, /* closes a transaction whose recipients were all refused though DATA was granted; RFC 2920 3.1
			 */
	STEP_RSET,
	STEP_QUIT,
	STEP_COUNT
};

enum engine_wait { ENGINE_WAIT_COMMAND, ENGINE_WAIT_DOT, ENGINE_WAIT_QUIT };

enum engine_action {
	ENGINE_NONE,
	ENGINE_MAIL_DONE, /* *mail is handed back, every recipient has an outcome */
	ENGINE_UP,        /* greeted and, where asked, encrypted and logged in: engine->ehlo holds */
	ENGINE_SEND,      /* write engine->out, then engine_sent() */
	ENGINE_BODY, /* send *mail's message; with its last bytes call engine_dot_sent() and write engine->out behind */
	ENGINE_START_TLS, /* shake hands, then engine_secured(); close when that fails */
	ENGINE_CLOSE,
};

/* Whether TLS must, may or must not be asked for with STARTTLS. */
enum engine_tls { ENGINE_TLS_NEVER, ENGINE_TLS_MAY, ENGINE_TLS_MUST };

/* One result, for one recipient or many. */
struct engine_outcome {
	uint8_t verdict, cause; /* enum verdict, enum failure_cause */
	uint16_t code;          /* of the reply; 0: there was none */
	char dsn[REPLY_DSN_MAX];
	char *text;        /* printable UTF-8, at most ENGINE_TEXT_MAX bytes; owned */
	bool is_after_dot; /* the server had the whole message: whatever it says, it may have kept it */
};

enum engine_stage { MAIL_WAITING, MAIL_ENVELOPE, MAIL_BODY, MAIL_AFTER_DOT, MAIL_OVER };

/* What the sender wants to hear about a recipient.  RFC 3461 */
struct engine_rcpt_dsn {
	struct slice orcpt; /* "rfc822;..."; empty: none */
	unsigned notify;    /* bits 1 never, 2 failure, 4 delay, 8 success; 0: nothing said */
};

struct engine_mail {
	/* The owner's, borrowed by the engine until ENGINE_MAIL_DONE: */
	struct slice sender; /* empty: the null sender */
	const struct slice *rcpt;
	unsigned rcpt_count; /* 1 to ENGINE_RCPT_MAX */
	uint64_t size_bytes;
	bool is_8bit, is_utf8, is_ret_full;
	struct slice envid;                     /* xtext; empty: none */
	const struct engine_rcpt_dsn *rcpt_dsn; /* beside rcpt; NULL: none has any */
	void *owner;
	/* The engine's; read after ENGINE_MAIL_DONE: */
	enum engine_stage stage;
	bool is_first;        /* of its connection */
	bool was_seen;        /* MAIL FROM was written */
	bool was_answered;    /* a reply to any of its commands came */
	bool is_downgraded;   /* the server has no 8BITMIME: send the message in seven bits */
	bool is_mail_refused; /* MAIL got 4yz or 5yz: RCPT and DATA in the same flight are refused as well */
	unsigned rcpt_sent, rcpt_answered, rcpt_accepted;
	uint8_t rcpt_outcome[ENGINE_RCPT_MAX]; /* index into outcome plus 1; 0: none yet */
	unsigned outcome_count;
	struct engine_outcome *outcome;
	struct engine_mail *next_over;
};

struct engine {
	enum engine_state state;
	enum engine_tls tls;
	const char *hostname; /* ours, for EHLO; borrowed */
	const char *peer;     /* "HOST[ADDRESS]" for texts; borrowed */
	struct login *login;  /* NULL: none is wanted; borrowed, set after engine_init() */
	bool is_relay;        /* a server of ours, not somebody's MX: 530 means that our login is at fault */
	/* One command at a time, whatever the server offers: somebody watches, or it loses what is sent ahead. */
	bool is_stepwise;
	bool is_rehearsal; /* with is_stepwise: a transaction ends before DATA, what RCPT said is its outcome */
	struct ehlo ehlo;
	bool is_secure, may_say_ehlo, needs_reset, is_up, wants_body, wants_tls, wants_close, is_hanging_up;
	unsigned mail_count; /* taken so far on this connection */
	struct engine_mail *mail[ENGINE_MAILS];
	struct engine_mail *first_over, *last_over;
	struct buf out;            /* commands to write */
	uint8_t fifo[ENGINE_FIFO]; /* enum engine_step: replies owed, oldest first */
	unsigned fifo_first, fifo_count, fifo_unsent;
	/* Of the flight under way, the commands written since nothing was owed: did replies come, and refusals? */
	bool is_flight_answered, is_flight_refused;
	bool is_flight_broken;         /* the end: replies to a part of a flight never came */
	struct engine_outcome failure; /* why the session is over; cause FAILURE_NONE: in order */
};

/* `hostname` and `peer` are borrowed until engine_release(). */
void engine_init(struct engine *e, const char *hostname, const char *peer, enum engine_tls tls);
void engine_release(struct engine *e); /* mails in hand stay the owner's */

/* Events. After each: take actions. */
void engine_connected(struct engine *e, bool is_secure); /* is_secure: TLS from the first byte */
void engine_reply(struct engine *e, const struct reply *r);
/* The bytes read end inside a reply, or with it: is anything there that nobody owes? Call when input is used up. */
void engine_input_left(struct engine *e, bool has_bytes);
void engine_malformed(struct engine *e, const char *why);
void engine_secured(struct engine *e);
void engine_sent(struct engine *e);     /* engine->out was taken; it is empty now */
void engine_dot_sent(struct engine *e); /* the message and its final dot go out with what engine->out holds now */
/* Closed by the server, reset, or timed out: what is unfinished gets its verdict. `error`: "" or words for the log. */
void engine_lost(struct engine *e, bool is_timeout, const char *error);
void engine_broken_here(struct engine *e, const char *why); /* our side failed inside a message: end without the dot */

/* An address in it cannot be written in ASCII: only a server with SMTPUTF8 can take it. */
bool engine_needs_utf8(const struct engine_mail *m);
/* Before any mail: this server will not do, the next host may. */
void engine_leave(struct engine *e, enum failure_cause cause, const char *dsn, const char *text);
bool engine_wants_mail(const struct engine *e);
void engine_take_mail(struct engine *e, struct engine_mail *mail); /* only when it wants one */
void engine_hang_up(struct engine *e); /* QUIT when the mails in hand are over; wants no more */

/* What the owner has to do now; call until ENGINE_NONE, after every event. *mail: for MAIL_DONE and BODY. */
enum engine_action engine_next(struct engine *e, struct engine_mail **mail);
unsigned engine_owed(const struct engine *e);         /* replies owed for commands that were sent */
enum engine_step engine_step(const struct engine *e); /* what the next reply answers; STEP_COUNT: nothing is owed */
enum engine_wait engine_wait(const struct engine *e);

/* Releases the outcomes of a mail that is over, or was never taken. */
void engine_mail_release(struct engine_mail *mail);
/* Gives every recipient without outcome this one; text is escaped and cut. For owners whose mail never got here. */
void engine_mail_settle(struct engine_mail *mail, enum verdict verdict, enum failure_cause cause, const char *dsn,
			const char *text);
#endif
