/* https.h - one question to one server; the only user of libcurl. Linked into a program that does this and ends. */
#ifndef LIB_HTTPS_H
#define LIB_HTTPS_H
#include "lib/hosts.h"

struct https;

/* What a URL says about where to connect. */
struct https_place {
	char host[256]; /* a name, or an address without brackets */
	unsigned port;
	bool is_clear; /* http: allowed to loopback addresses only */
};

struct https_question {
	const char *url;
	const char *media_type;      /* that we ask for */
	bool is_strict;              /* a success (200) of another type is an error */
	struct slice form;           /* POST: application/x-www-form-urlencoded. ptr NULL: GET */
	const struct host *resolved; /* where to connect: nothing is looked up here */
	uint64_t deadline_ms;        /* for all of it */
	size_t answer_max;           /* bytes of the body; more is an error */
};

/*
 * Loads library and certificate authorities (SSL_CERT_FILE, else the system's): what a jail would hide. NULL with *why.
 * Static words, as everywhere here.
 */
struct https *https_new(const char **why) MUST_CHECK;
void https_free(struct https **h);
bool https_place(const char *url, struct https_place *out) MUST_CHECK;
/*
 * Sends it and appends the answer's body. True when there was an HTTP answer, whatever its *status; else *why, owned by
 * the caller. Certificate and name are verified, redirections are not followed, no proxy is asked.
 */
bool https_send(struct https *h, const struct https_question *q, unsigned *status, struct buf *answer,
		char **why) MUST_CHECK;
#endif
