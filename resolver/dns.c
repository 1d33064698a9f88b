/*
 * dns.c - questions to DNS, answered in the loop.
 *
 * Two contexts of libunbound share the loop: one caches as DNS says; the other caches nothing, and is asked when a
 * "does not exist" has to be confirmed. libunbound's habits that shape this file (1.17): its callback reports rcode 0
 * for NXDOMAIN (the packet tells), hands over forged records with sec == 1 (bogus), a packet length that means nothing
 * when rcode != 0, and calls back from inside ub_resolve_event() when the answer is cached.
 */
#include "resolver/dns.h"
#include <errno.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <unbound-event.h>
#include <unbound.h>
#include <unistd.h>

enum { CLASS_IN = 1, SEC_BOGUS = 1, SEC_SECURE = 2, CONFIG_BYTES_MAX = 16384 };

struct dns_query {
	TAILQ_ENTRY(dns_query) link; /* in open or answered */
	struct dns *dns;
	struct ub_ctx *ctx;
	struct loop_timer *timer;
	int async_id;
	uint16_t type;
	char name[WIRE_NAME_SIZE];
	dns_cb fn;
	void *arg;
	struct wire_answer *answer; /* owned; set: on the answered list */
	bool is_from_cache;
};
TAILQ_HEAD(query_list, dns_query);

struct dns {
	struct loop *loop;
	const struct conf *conf;
	struct ub_ctx *cached, *fresh;
	FILE *log; /* libunbound's complaints */
	struct query_list open, answered;
	uint64_t found_count;
	bool is_delivery_due, has_anchor, has_own_anchor;
	bool is_probe_due; /* nothing was heard of the root yet */
};

/* --- setting up --- */

/*
 * Sizes for one context. Names that the public root does not know but private networks use (RFC 6761, RFC 6762 appendix
 * G, RFC 8375, ICANN's "internal") are left to the configured servers: libunbound would answer some of them itself, and
 * validation would call the others forged. "invalid", "onion" and "localhost" stay local, as their RFCs want.
 */
static const char CONFIG_COMMON[] =
	"server:\n"
	" outgoing-range: 800\n" /* questions on the way at a time; RLIMIT_NOFILE must allow it */
	" outgoing-num-tcp: 20\n"
	" num-queries-per-thread: 2048\n"
	" aggressive-nsec: no\n"
	" val-bogus-ttl: 5\n"
	/*
	 * Forgotten before enough time-outs come together to count a server as down: else neither other names beside
	 * silent ones, nor the first minutes after an outage, would be asked for at all.
	 */
	" infra-host-ttl: 2\n"
	" infra-cache-numhosts: 1000\n"
	" trust-anchor-signaling: no\n"
	" root-key-sentinel: no\n"
	" local-zone: \"test.\" nodefault\n"
	" local-zone: \"home.arpa.\" nodefault\n"
	" domain-insecure: \"test.\"\n"
	" domain-insecure: \"home.arpa.\"\n"
	" domain-insecure: \"internal.\"\n"
	" domain-insecure: \"intranet.\"\n"
	" domain-insecure: \"private.\"\n"
	" domain-insecure: \"local.\"\n"
	" domain-insecure: \"corp.\"\n"
	" domain-insecure: \"home.\"\n"
	" domain-insecure: \"lan.\"\n";
static const char CONFIG_CACHED[] =
	" msg-cache-size: 4m\n"
	" rrset-cache-size: 8m\n"
	" key-cache-size: 1m\n"
	" neg-cache-size: 256k\n"
	" cache-max-negative-ttl: 300\n"; /* holds for both: the library keeps it in a global */
static const char CONFIG_FRESH[] = " msg-cache-size: 256k\n"
				   " rrset-cache-size: 256k\n"
				   " key-cache-size: 512k\n"
				   " neg-cache-size: 64k\n"
				   " cache-max-negative-ttl: 300\n";

/* The name servers of this machine; without file or entry it is the machine itself, resolv.conf(5). */
static void put_system_servers(struct buf *text)
{
	enum { SERVERS_MAX = 3, LINE_MAX_BYTES = 1024 }; /* as in glibc: MAXNS */
	static const char GOOD[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.:%_-";
	char line[LINE_MAX_BYTES];
	unsigned count = 0;
	FILE *in = fopen("/etc/resolv.conf", "re");

	while (in && count < SERVERS_MAX && fgets(line, sizeof(line), in)) {
		size_t key = strspn(line, " \t"), at, len;

		if (strncmp(line + key, "nameserver", 10) != 0 || !strchr(" \t", line[key + 10]))
			continue;
		at = key + 10 + strspn(line + key + 10, " \t");
		len = strspn(line + at, GOOD);
		if (len == 0)
			continue;
		buf_printf(text, " forward-addr: %.*s\n", (int)len, line + at);
		count++;
	}
	if (in)
		fclose(in);
	if (count == 0)
		buf_put_str(text, " forward-addr: 127.0.0.1\n");
}

static void put_servers(struct buf *text, const struct conf *conf, bool is_cached)
{
	buf_put_str(text, "forward-zone:\n name: \".\"\n");
	if (!is_cached)
		buf_put_str(text, " forward-no-cache: yes\n");
	for (unsigned i = 0; i < conf->dns.servers.count; i++)
		buf_printf(text, " forward-addr: %s\n", conf->dns.servers.item[i]);
	if (conf->dns.servers.count == 0)
		put_system_servers(text);
}

/* The library reads configuration from files only. */
static bool load_config(const struct dns *dns, struct ub_ctx *ctx, bool is_cached, struct buf *why)
{
	char path[64];
	struct buf text;
	int fd = memfd_create("unbound-conf", MFD_CLOEXEC), rc = UB_READFILE;

	buf_init(&text, CONFIG_BYTES_MAX);
	buf_put_str(&text, CONFIG_COMMON);
	buf_put_str(&text, is_cached ? CONFIG_CACHED : CONFIG_FRESH);
	if (!dns->has_own_anchor)
		buf_put_str(&text, " harden-dnssec-stripped: no\n");
	put_servers(&text, dns->conf, is_cached);
	if (text.failed) {
		buf_put_str(why, "dns.servers: too many");
	} else if (fd >= 0 && write(fd, text.ptr, text.len) == (ssize_t)text.len) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		rc = ub_ctx_config(ctx, path);
	}
	if (rc != 0 && why->len == 0)
		buf_printf(why, "cannot configure libunbound: %s (is /proc mounted?)", ub_strerror(rc));
	if (fd >= 0)
		close(fd);
	buf_release(&text);
	return rc == 0;
}

/* The operator's anchor, else the one that the system's packages bring; NULL: there is none. */
static const char *anchor_path(const struct conf *conf)
{
	/* Debian's dns-root-data, unbound-anchor on Fedora, unbound's own, Alpine's dnssec-root */
	static const char *const PLACES[] = {
		"/usr/share/dns/root.key",
		"/var/lib/unbound/root.key",
		"/etc/unbound/root.key",
		"/usr/share/dnssec-root/trusted-key.key",
	};

	if (conf->dns.trust_anchor_file)
		return conf->dns.trust_anchor_file;
	for (unsigned i = 0; i < ARRAY_LEN(PLACES); i++)
		if (access(PLACES[i], R_OK) == 0)
			return PLACES[i];
	return NULL;
}

static void ignore_answer(void *arg UNUSED, int rcode UNUSED, void *packet UNUSED, int len UNUSED, int sec UNUSED,
			  char *why_bogus UNUSED, int was_ratelimited UNUSED)
{
}

/*
 * Settings are final, and files are read, with the first question: "localhost" is answered on the spot. The trust
 * anchor's mistakes show up only here, so its readability is checked by hand for a better word.
 */
static bool finalise(struct ub_ctx *ctx, const char *anchor, struct buf *why)
{
	int async_id, rc;

	if (anchor && access(anchor, R_OK) != 0) {
		buf_printf(why, "dns.trust-anchor-file: %s: %s", anchor, strerror(errno));
		return false;
	}
	rc = anchor ? ub_ctx_add_ta_file(ctx, anchor) : 0;
	if (rc == 0)
		rc = ub_resolve_event(ctx, "localhost.", WIRE_TYPE_A, CLASS_IN, NULL, ignore_answer, &async_id);
	if (rc != 0)
		buf_printf(why, "libunbound cannot start: %s%s%s", ub_strerror(rc), anchor ? "; trust anchor: " : "",
			   anchor ? anchor : "");
	return rc == 0;
}

static struct ub_ctx *open_context(struct dns *dns, bool is_cached, const char *anchor, struct buf *why)
{
	struct ub_ctx *ctx = ub_ctx_create_event(loop_base(dns->loop));

	if (!ctx) {
		buf_put_str(why, "libunbound cannot make a context");
		return NULL;
	}
	ub_ctx_debugout(ctx, dns->log);
	if (load_config(dns, ctx, is_cached, why) && finalise(ctx, anchor, why))
		return ctx;
	ub_ctx_delete(ctx);
	return NULL;
}

/* What the library prints are mostly single packets that went astray: for debugging only. */
static ssize_t log_line(void *cookie UNUSED, const char *text, size_t len)
{
	size_t end = len;

	while (end > 0 && (text[end - 1] == '\n' || text[end - 1] == '\r'))
		end--;
	if (end > 0)
		log_debug("libunbound: %.*s", (int)(end < 500 ? end : 500), text);
	return (ssize_t)len;
}

struct dns *dns_new(struct loop *loop, const struct conf *conf, struct buf *why)
{
	struct dns *dns = xcalloc(1, sizeof(*dns));
	const char *anchor = anchor_path(conf);

	dns->loop = loop;
	dns->conf = conf;
	dns->has_anchor = anchor != NULL;
	dns->has_own_anchor = conf->dns.trust_anchor_file != NULL;
	TAILQ_INIT(&dns->open);
	TAILQ_INIT(&dns->answered);
	dns->log = fopencookie(NULL, "w", (cookie_io_functions_t){ .write = log_line });
	if (!dns->log) {
		buf_put_str(why, "out of memory");
		goto fail;
	}
	setvbuf(dns->log, NULL, _IOLBF, 0);
	dns->cached = open_context(dns, true, anchor, why);
	if (!dns->cached)
		goto fail;
	dns->fresh = open_context(dns, false, anchor, why);
	if (!dns->fresh)
		goto fail;
	return dns;
fail:
	dns_free(&dns);
	return NULL;
}

/*
 * With the system's anchor nobody has promised that the configured servers hand DNSSEC data on; many home routers do
 * not. Then answers count as unsigned (harden-dnssec-stripped: no) instead of every domain being bogus and all mail
 * waiting. An anchor that the operator names is taken at its word.
 */
static void probe_answered(void *arg, const struct wire_answer *a)
{
	struct dns *dns = arg;

	if (a->status == WIRE_FAILED)
		dns->is_probe_due = true; /* no network yet: once more with the first answer that comes */
	else if (!a->is_secure && dns->has_anchor && !dns->has_own_anchor)
		log_warn("the DNS servers hand on no DNSSEC data: answers are not authenticated, DANE is off");
}

static void probe(struct dns *dns)
{
	dns->is_probe_due = false;
	(void)dns_ask(dns, ".", WIRE_TYPE_SOA, false, probe_answered, dns);
}

void dns_start(struct dns *dns)
{
	if (!dns->has_anchor)
		log_warn("DNSSEC is off: no trust anchor found (install dns-root-data or set dns.trust-anchor-file)");
	probe(dns);
}

static void deliver_answers(void *arg);

void dns_free(struct dns **dns)
{
	struct dns *d = *dns;
	struct dns_query *q;

	if (!d)
		return;
	while ((q = TAILQ_FIRST(&d->open)) || (q = TAILQ_FIRST(&d->answered)))
		dns_cancel(&q);
	if (d->is_delivery_due)
		loop_defer_cancel(d->loop, deliver_answers, d);
	if (d->cached)
		ub_ctx_delete(d->cached);
	if (d->fresh)
		ub_ctx_delete(d->fresh);
	if (d->log)
		fclose(d->log);
	free(d);
	*dns = NULL;
}

/* --- questions --- */

/* It is on no list any more. */
static void free_query(struct dns_query *q)
{
	loop_timer_free(&q->timer);
	free(q->answer);
	free(q);
}

void dns_cancel(struct dns_query **query)
{
	struct dns_query *q = *query;

	*query = NULL;
	if (!q)
		return;
	if (!q->answer)
		ub_cancel(q->ctx, q->async_id);
	TAILQ_REMOVE(q->answer ? &q->dns->answered : &q->dns->open, q, link);
	free_query(q);
}

static void deliver_answers(void *arg)
{
	struct dns *dns = arg;
	struct dns_query *q;

	dns->is_delivery_due = false;
	while ((q = TAILQ_FIRST(&dns->answered))) {
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it does not see that TAILQ_REMOVE below moves on */
		struct wire_answer *answer = q->answer;
		dns_cb fn = q->fn;
		void *fn_arg = q->arg;

		if (answer->status == WIRE_RECORDS && !q->is_from_cache)
			dns->found_count++;
		if (answer->status != WIRE_FAILED && dns->is_probe_due)
			probe(dns);
		TAILQ_REMOVE(&dns->answered, q, link);
		q->answer = NULL;
		free_query(q);
		fn(fn_arg, answer);
		free(answer);
	}
}

/* Answers wait for the end of the turn, so that nobody is called back while asking, nor libunbound while it works. */
static struct wire_answer *begin_answer(struct dns_query *q)
{
	struct dns *dns = q->dns;

	q->answer = xmalloc(sizeof(*q->answer));
	TAILQ_REMOVE(&dns->open, q, link);
	TAILQ_INSERT_TAIL(&dns->answered, q, link);
	if (q->timer)
		loop_timer_cancel(q->timer);
	if (!dns->is_delivery_due)
		loop_defer(dns->loop, deliver_answers, dns);
	dns->is_delivery_due = true;
	return q->answer;
}

static void on_answer(void *arg, int rcode, void *packet, int len, int sec, char *why_bogus UNUSED,
		      int was_ratelimited UNUSED)
{
	struct dns_query *q = arg;
	struct wire_answer *a = begin_answer(q);

	if (sec == SEC_BOGUS) {
		wire_fail(a, "DNSSEC validation failed (bogus)");
		return;
	}
	if (rcode != 0 || !packet || len <= 0) {
		wire_fail(a, rcode == 5 ? "refused (REFUSED)" : "no usable answer from the name servers (SERVFAIL)");
		return;
	}
	wire_parse(a, packet, (size_t)len, q->name, q->type);
	a->is_secure = sec == SEC_SECURE && a->status != WIRE_FAILED;
}

static void on_timeout(void *arg)
{
	struct dns_query *q = arg;

	ub_cancel(q->ctx, q->async_id);
	wire_fail(begin_answer(q), "no answer from the name servers (timed out)");
}

struct dns_query *dns_ask(struct dns *dns, const char *name, uint16_t type, bool is_fresh, dns_cb fn, void *arg)
{
	struct dns_query *q = xcalloc(1, sizeof(*q));
	char absolute[WIRE_NAME_SIZE + 1];
	int rc;

	if (strlen(name) >= WIRE_NAME_SIZE)
		BUG("name of %zu bytes", strlen(name));
	q->dns = dns;
	q->ctx = is_fresh ? dns->fresh : dns->cached;
	q->type = type;
	q->fn = fn;
	q->arg = arg;
	snprintf(q->name, sizeof(q->name), "%s", strcmp(name, ".") == 0 ? "" : name);
	snprintf(absolute, sizeof(absolute), "%s.", q->name);
	TAILQ_INSERT_TAIL(&dns->open, q, link);
	rc = ub_resolve_event(q->ctx, absolute, type, CLASS_IN, q, on_answer, &q->async_id);
	if (q->answer) {
		q->is_from_cache = true;
		return q;
	}
	if (rc != 0) {
		wire_fail(begin_answer(q), "libunbound refused the question");
		return q;
	}
	q->timer = loop_timer_new(dns->loop, on_timeout, q);
	loop_timer_set_ms(q->timer, dns->conf->dns.timeout_ms);
	return q;
}

uint64_t dns_found_count(const struct dns *dns)
{
	return dns->found_count;
}
