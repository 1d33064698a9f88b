/* probe.h - one test of a server: what is asked, what is at hand, and how it went. */
#ifndef TOOLS_PROBE_H
#define TOOLS_PROBE_H
#include "lib/hosts.h"
#include "lib/sts.h"
#include "resolver/dns.h"
#include "resolver/host.h"
#include "smtpout/sasl.h"
#include "tools/hints.h"
#include "tools/probe_stream.h"
#include "tools/steps.h"

/* A command's reply is waited for this long at most: somebody sits and watches. The final dot's twice as long. */
enum { PROBE_WAIT_MAX_MS = 60 * 1000, PROBE_TEXT_MAX = 4000 };

/* How a step failed. */
struct probe_end {
	enum hint_step step;
	enum failure_cause cause; /* FAILURE_NONE: it did not */
	unsigned code;
	char dsn[16];
	char *words; /* owned */
};

struct probe {
	struct loop *loop;
	const struct conf *conf;
	const struct conf_server *server;
	enum conf_tls tls; /* the server's level, or that of the recipient's destination */
	struct conf_server
		pop; /* POP3 before SMTP as a server to connect to; its pop.is_set says whether there is any */
	struct steps steps;
	char *sender, *rcpt; /* as they go on the wire */
	bool is_rewritten;   /* sender is the server's rewrite-sender */
	const char *domain;  /* of rcpt */
	bool is_rehearsal;
	struct tls_policy *policy, *pop_policy;     /* NULL: no TLS */
	struct tls_policy *judge;                   /* what `tls = verify` would demand; NULL: cannot be said */
	struct sasl_account *account, *pop_account; /* NULL: no login */
	struct dns *dns;
	struct host_file *host_file;
	int letter_fd; /* the message to send; -1: there is none */
	uint64_t letter_bytes;
	struct hosts hosts;
	struct sts_policy sts;  /* of the recipient's domain; has_sts */
	bool has_sts, is_bound; /* bound: the host in hand has to prove itself because of it */
	char *sts_trouble;      /* why it cannot be had; NULL: it can, or there is none. Owned */
	int64_t sts_took_ms;
	struct probe_end end; /* of the last failure that decides; of several hosts one that may pass counts more */
};

/*
 * Notes a failure (words are copied), prints its row and what to change. Of a row's words the server's own are best.
 * is_secure: behind a TLS handshake; port, host: whom we talked to.
 */
void probe_fail(struct probe *p, const struct probe_end *why, const char *row, int64_t took_ms, const char *host,
		unsigned port, bool is_secure);
void probe_release(struct probe *p);

/* probe_dns.c: whom to talk to, into `hosts`. `server` is the probe's or its POP3 server. False: noted. */
bool probe_find_hosts(struct probe *p, const struct conf_server *server, struct hosts *hosts) MUST_CHECK;

/*
 * probe_connect.c: tries every address of a host at the same time, prints each, and keeps the first that answered, in
 * the order of Postern itself: IPv6 first. Returns a connected descriptor, -1: noted. *address: the one in use.
 */
int probe_connect(struct probe *p, const struct conf_server *server, enum hint_step step, const struct host *host,
		  struct host_address *address) MUST_CHECK;
/* "HOST[ADDRESS]"; the caller frees */
char *probe_peer(const struct host *host, const struct host_address *address);
int64_t probe_wait_ms(const struct conf_server *server);

/* probe_tls.c: shakes hands and prints what the server showed. False: noted, unless may_fail. */
bool probe_start_tls(struct probe *p, struct probe_stream *s, const struct conf_server *server,
		     struct tls_policy *policy, const struct tls_target *target, enum hint_step step,
		     bool may_fail) MUST_CHECK;

/*
 * probe_open.c: opens what is needed, secrets and certificates included: before the jail. 0, or the status to exit
 * with; then it was told why.
 */
int probe_open(struct probe *p) MUST_CHECK;
/* Gives up all rights but those to talk: as smtp-user when started by root. 0, or the status to exit with. */
int probe_enter_jail(struct probe *p) MUST_CHECK;

/* probe_smtp.c: SMTP with one host, by smtpout's engine. False: noted; another host may do better where `may_go_on`. */
bool probe_smtp(struct probe *p, const struct host *host, bool *may_go_on) MUST_CHECK;

/* probe_policy.c: the MTA-STS policy of the recipient's domain; before the jail. */
void probe_fetch_policy(struct probe *p);
/* Tells of it and takes out of p->hosts what it takes from mail. False: nothing is left; noted. */
bool probe_heed_policy(struct probe *p) MUST_CHECK;

/* probe_pop.c: POP before SMTP. False: noted. */
bool probe_pop(struct probe *p) MUST_CHECK;
#endif
