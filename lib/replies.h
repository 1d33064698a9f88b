/*
 * replies.h - what a server's words mean: rules kept as data (conf/replies.conf, postern-replies(5)), and which of them
 * a reply falls under. Matching is pure; regular expressions are compiled when a file is read.
 */
#ifndef LIB_REPLIES_H
#define LIB_REPLIES_H
#include "lib/conf.h"

/* What a rule is about ... */
enum reply_scope {
	REPLY_RECIPIENT, /* the recipients that the reply answered */
	REPLY_MESSAGE,   /* the whole delivery */
	REPLY_CONNECTION,
	REPLY_SITE,  /* the MX hosts of a domain; of a relay, the relay */
	REPLY_SERVER /* the server { } of the configuration */
};

/* ... and what is done about it. */
enum reply_action {
	REPLY_BOUNCE,    /* final, no other server is tried */
	REPLY_RETRY,     /* temporary, whatever the code says; wait_ms, or 0: as configured */
	REPLY_NEXT,      /* this server will not have it: the next one; final only at the last */
	REPLY_RECONNECT, /* go on over a new connection: not an attempt */
	REPLY_FEWER,     /* fewer connections; the delivery goes again */
	REPLY_PAUSE,     /* nothing for wait_ms, then one connection, then step by step more */
	REPLY_QUOTA      /* likewise; and of our own limits of window_ms the one nearest to its end is used up */
};

enum reply_command {
	REPLY_TO_CONNECT, /* the greeting */
	REPLY_TO_HELO,    /* HELO or EHLO */
	REPLY_TO_STARTTLS,
	REPLY_TO_AUTH,
	REPLY_TO_MAIL,
	REPLY_TO_RCPT,
	REPLY_TO_DATA,
	REPLY_TO_END, /* the final dot */
	REPLY_TO_OTHER
};

struct reply_rule {
	enum reply_scope scope;
	enum reply_action action;
	uint64_t wait_ms;
	uint64_t window_ms; /* REPLY_QUOTA; 0: whichever */
	bool is_greylist;   /* REPLY_RETRY after retry.greylist-after */
	const char *file;   /* where it stands, for people; the rules' */
	unsigned line;
};

/* A reply, taken apart. All borrowed. */
struct reply_facts {
	const struct conf_server *server;
	struct slice host; /* who said it, "mx.example.com"; empty: unknown */
	enum reply_command command;
	unsigned code;
	struct slice dsn;  /* "4.7.28", or class.0.0 where the reply had none */
	struct slice text; /* the whole reply, its code first, lines joined by blanks */
};

struct replies;

struct replies *replies_new(void); /* no rules */
void replies_free(struct replies **r);
/*
 * Adds the rules of one file behind those there are. Every mistake is appended to `errors` as "FILE:LINE: WORD: what is
 * wrong and what would be right"; rules without a mistake count even then. `conf` may be NULL: then rules may name any
 * server. False when there was a mistake, or the file cannot be read.
 */
bool replies_read(struct replies *r, const char *path, const struct conf *conf, struct conf_errors *errors) MUST_CHECK;
bool replies_read_text(struct replies *r, const char *path, struct slice text, const struct conf *conf,
		       struct conf_errors *errors) MUST_CHECK;
/* The shipped rules, found from where this program lies, then the configuration's own. Never NULL. */
struct replies *replies_load(const struct conf *conf, struct conf_errors *errors) MUST_CHECK;

/* The first rule that the reply falls under, or NULL: then the code alone decides. */
const struct reply_rule *replies_match(const struct replies *r, const struct reply_facts *f);
/*
 * From the words in which smtpout reports a reply, "host mx.example.com[192.0.2.1]:25 said: 550 5.1.1 no such user (in
 * reply to RCPT TO command)". False when it is not of that form: nobody said anything.
 */
bool replies_take_apart(struct reply_facts *f, struct slice said) MUST_CHECK;
#endif
