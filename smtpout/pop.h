/* pop.h - a login at a POP3 server and nothing more, pure: lines in, actions out. RFC 1939, RFC 2449, RFC 2595, RFC
 * 5034
 *
 * For providers that let an address send mail once its owner has fetched some. The owner of a struct pop tells what
 * happened and takes actions with pop_next() until there is none; POP_CLOSE ends it, then `failure` says how it went.
 */
#ifndef SMTPOUT_POP_H
#define SMTPOUT_POP_H
#include "smtpout/engine.h"

/* A line may have more than RFC 1939's 512 bytes; CAPA more lines than anybody needs. Beyond that it is no POP3. */
enum { POP_LINE_MAX = 16384, POP_CAPA_LINES_MAX = 100 };

enum pop_state {
	POP_GREETING,
	POP_CAPABILITIES, /* the answer to CAPA has begun, or is waited for */
	POP_STARTING_TLS, /* STLS was sent */
	POP_HANDSHAKE,
	POP_APOP,
	POP_SASL,
	POP_USER,
	POP_PASS,
	POP_QUITTING, /* logged in */
	POP_OVER
};

enum pop_action { POP_NONE, POP_SEND, POP_START_TLS, POP_CLOSE };

struct pop {
	enum pop_state state;
	enum engine_tls tls;
	const char *peer; /* "HOST[ADDRESS]" for texts; borrowed */
	const struct sasl_account *account;
	struct login *login; /* borrowed, like the account */
	bool may_be_clear, is_secure, is_in_list, has_stls, has_user, wants_tls, wants_close;
	unsigned mechanisms, lines;
	char stamp[256];               /* of the greeting, for APOP; "": none */
	struct buf out;                /* commands to write: after POP_SEND the owner clears it with pop_sent() */
	struct engine_outcome failure; /* cause FAILURE_NONE: logged in. text is owned */
};

/* All borrowed until pop_release(). `peer`: for the log; may_be_clear: the password may go without TLS. */
void pop_init(struct pop *p, const char *peer, enum engine_tls tls, const struct sasl_account *account,
	      struct login *login, bool may_be_clear);
void pop_release(struct pop *p);

void pop_connected(struct pop *p, bool is_secure); /* is_secure: TLS from the first byte */
void pop_line(struct pop *p, struct slice line);   /* one line, its end removed */
/* All that was read is used up: whatever is left was not asked for where nothing is owed. */
void pop_input_left(struct pop *p, bool has_bytes);
void pop_malformed(struct pop *p, const char *why);
void pop_secured(struct pop *p);
void pop_sent(struct pop *p);
void pop_lost(struct pop *p, bool is_timeout, const char *error);

/* What the owner has to do now; call until it is POP_NONE, after every event. */
enum pop_action pop_next(struct pop *p);
#endif
