/* session_impl.h - what session.c, session_io.c and session_mail.c share; nobody else includes it. */
#ifndef SMTPOUT_SESSION_IMPL_H
#define SMTPOUT_SESSION_IMPL_H
#include "smtpout/delivery.h"
#include "smtpout/dial.h"
#include "smtpout/session.h"
#include "smtpout/transport.h"

enum { SESSION_DOMAINS_MAX = 16 };

struct session {
	struct table_node node; /* in worker->sessions by id */
	struct worker *w;
	const struct conf_server *server;
	uint32_t id, destination; /* the scheduler's names for where it goes, */
	uint64_t site;            /* to be told to its successor */
	uint16_t server_index;
	uint8_t host_index, host_count;
	char *hosts; /* as they came, decoded again when needed: a struct hosts is 14 KiB */
	size_t hosts_len;
	char *host;          /* the name of the one in hand */
	enum conf_tls level; /* the server's, or that of the destination */
	enum tls_need need;  /* of that host */
	char *peer, *relay;  /* "HOST[ADDR]", "HOST[ADDR]:PORT" or "none" */
	struct dial *dial;
	struct transport io;
	struct engine engine;
	struct login *login; /* of this connection; NULL: none is wanted */
	struct reply_parser parser;
	struct buf input;  /* a line that has not ended */
	struct buf output; /* what the socket did not take */
	struct body body;
	struct delivery *sending;                /* whose body is on its way */
	struct delivery *first, *last, *next_up; /* all; next_up: the first that the engine has not got */
	unsigned delivery_count;
	struct loop_timer *timer;
	int64_t armed_ms; /* when the timer fires; 0: not set. Early is fine: it looks again */
	int64_t since_ms; /* the oldest owed reply is waited for since */
	int64_t connected_ms;
	const struct engine_mail *envelope_of;      /* whose envelope is under way; compared, never followed */
	int64_t output_since_ms, envelope_since_ms; /* 0: no output waits; no envelope is under way */
	uint64_t output_bytes;                      /* taken by the socket since then */
	struct engine_outcome failure;              /* the best known reason while hosts are tried; cause 0: none */
	uint64_t domain[SESSION_DOMAINS_MAX];       /* hashes: those it has had, where RCPTDOMAINMAX counts them */
	unsigned domain_count;
	bool is_stepwise; /* this site loses what is sent ahead */
	bool has_engine, is_shaking_hands, is_clear_only, was_up, had_other_hosts, is_hanging_up, is_dead;
};

/* session_io.c */
void session_read(struct session *s);
void session_write(struct session *s, const char *bytes, size_t len);
void session_push_output(struct session *s); /* what waits, then the body as far as the socket takes it */
void session_begin_body(struct session *s, struct delivery *d);
bool session_has_output(const struct session *s);
int64_t session_deadline(const struct session *s); /* milliseconds of clock_mono(); 0: none */

/* session_mail.c */
/* The first mail needs SMTPUTF8, this host lacks it, another may have it: ends the connection. */
bool session_leave_for_another(struct session *s);
void session_feed(struct session *s);                       /* gives the engine what it wants */
void session_finish(struct session *s, struct delivery *d); /* reports its outcomes and forgets it */
void session_hand_back(struct session *s);                  /* what the engine has not got is reported as unsent */
#endif
