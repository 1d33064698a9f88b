/*
 * resolver - where does a domain take its mail?
 *
 * Purpose   Answers the scheduler's RESOLVE with mail hosts and their addresses, validated by DNSSEC where zones are
 *           signed. One cache for all workers, and the one place that parses what strangers put into DNS.
 * Runs as   smtp-user, chrooted into an empty directory.
 * Keeps     UDP and TCP to the DNS servers. No file, no secret, no mail.
 * Reads     before the jail: the trust anchor, /etc/resolv.conf (without dns.servers), /etc/hosts (relays only).
 *           The MTA-STS policies that are kept: a sealed memory file from master.
 * Messages  in: RESOLVE from scheduler. Out: RESOLVED. Master: see lib/proc.h; POLICY_ASK to it, POLICY from it.
 * Signals   SIGTERM, SIGHUP: ends at once; the scheduler asks the successor again.
 * Exits     0 asked to stop; 78 dns.servers or dns.trust-anchor-file unusable: stays down until they are changed.
 * Limits    LOOKUP_ACTIVE_MAX lookups in DNS, LOOKUP_REQUESTS_MAX known; per lookup at most WIRE_RECORDS_MAX records,
 *           HOSTS_MAX hosts, WIRE_CNAMES_MAX aliases; dns.timeout for each step; caches of some 15 MB; CPU_MAX_S of
 *           CPU between two heartbeats, 20 s apart: signatures made to be expensive end it sooner than these would.
 */
#include "lib/log.h"
#include "lib/proc.h"
#include "resolver/dns.h"
#include "resolver/host.h"
#include "resolver/lookup.h"
#include "resolver/policy_cache.h"
#include <errno.h>
#include <unistd.h>

enum { CPU_MAX_S = 30, KEPT_BYTES_MAX = 32 << 20, PIECE = 65536 };

struct resolver {
	struct dns *dns;
	struct host_file *file;
	struct buf kept; /* policies, until they are in the cache */
	struct policy_cache *policies;
	struct lookups *lookups;
};

static bool resolver_on_packet(void *arg, const struct msg_head *head, const struct packet *p)
{
	struct resolver *r = arg;
	struct msg_resolve request;

	if (head->type != MSG_RESOLVE || !msg_decode_resolve(p, &request))
		return false;
	lookups_add(r->lookups, &request, head->from_generation);
	return true;
}

static void fetch_policy(void *arg, const char *domain, const char *id)
{
	struct msg_head head = proc_master_head(arg);
	struct packet p;

	msg_encode_policy_ask(&p, &head, &(struct msg_policy_ask){ .domain = slice_of(domain), .id = slice_of(id) });
	proc_tell_master(&p);
}

static bool resolver_on_master(struct proc *p, const struct msg_head *head, const struct packet *packet)
{
	struct resolver *r = proc_context(p);
	struct msg_policy m;

	return r && r->policies && head->type == MSG_POLICY && msg_decode_policy(packet, &m) &&
	       policy_cache_take(r->policies, m.domain, m.line);
}

/* Without them they are fetched anew. */
static void read_kept_policies(struct buf *out)
{
	ssize_t got;

	do {
		char *room = buf_reserve(out, PIECE);

		got = room ? pread(PROC_FD_EXTRA, room, PIECE, (off_t)out->len) : 0;
		out->len += got > 0 ? (size_t)got : 0;
	} while (got > 0 || (got < 0 && errno == EINTR));
	if (got == 0) /* else there is none, and the number may be somebody else's by now */
		close(PROC_FD_EXTRA);
}

static int resolver_before_jail(struct proc *p)
{
	struct resolver *r = xcalloc(1, sizeof(*r));
	struct buf why;

	proc_set_context(p, r);
	buf_init(&why, 1024);
	r->file = host_file_read("/etc/hosts", proc_conf(p));
	r->dns = dns_new(proc_loop(p), proc_conf(p), &why);
	if (!r->dns)
		log_error("%s", buf_text(&why));
	buf_release(&why);
	buf_init(&r->kept, KEPT_BYTES_MAX);
	read_kept_policies(&r->kept);
	return r->dns ? 0 : EXIT_STATUS_CONFIG;
}

static int resolver_after_jail(struct proc *p)
{
	struct resolver *r = proc_context(p);
	struct channel *scheduler = proc_channel(p, 0, "scheduler", resolver_on_packet, r);

	r->policies = policy_cache_new(proc_loop(p), r->dns, buf_slice(&r->kept), fetch_policy, p);
	buf_release(&r->kept);
	r->lookups = lookups_new(proc_loop(p), proc_conf(p), r->dns, r->file, r->policies, scheduler);
	dns_start(r->dns);
	proc_ready(p);
	return 0;
}

static void resolver_on_drain(struct proc *p)
{
	proc_exit(p, EXIT_STATUS_DONE);
}

static void resolver_on_peer(struct proc *p, enum proc_role role, unsigned index UNUSED, uint32_t generation,
			     bool is_alive)
{
	struct resolver *r = proc_context(p);

	if (role == ROLE_SCHEDULER)
		lookups_forget(r->lookups, is_alive ? generation - 1 : generation);
}

static const struct proc_spec RESOLVER = {
	.role = ROLE_RESOLVER,
	.chroot = PROC_CHROOT_EMPTY,
	.identity = PROC_AS_SMTP_USER,
	.wants_network = true,
	.cpu_max_s = CPU_MAX_S,
	.before_jail = resolver_before_jail,
	.after_jail = resolver_after_jail,
	.on_drain = resolver_on_drain,
	.on_master = resolver_on_master,
	.on_peer = resolver_on_peer,
};

int main(int argc, char **argv)
{
	return proc_main(argc, argv, &RESOLVER);
}
