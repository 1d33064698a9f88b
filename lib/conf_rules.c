/*
 * conf_rules.c - defaults that depend on other options or on the host, and rules between options.
 *
 * Whether an option was given is asked by its line: a wrong value leaves the field empty and has been reported already.
 */
#include "lib/address.h"
#include "lib/conf_private.h"
#include "lib/text.h"
#include <netinet/in.h>
#include <sched.h>
#include <unistd.h>

/* The canonical name of `host` in a hosts file: the first name with a dot on the line that holds it. */
static char *fqdn_in_hosts(const char *path, const char *host)
{
	char line[1024], *rest, *word, *found = NULL;
	FILE *f = fopen(path, "re");

	while (f && !found && fgets(line, sizeof(line), f)) {
		char *dotted = NULL;
		bool is_ours = false;

		line[strcspn(line, "#\n")] = '\0';
		rest = line;
		word = strsep(&rest, " \t"); /* the address */
		while (word && (word = strsep(&rest, " \t"))) {
			if (!dotted && strchr(word, '.'))
				dotted = word;
			is_ours |= strcmp(word, host) == 0;
		}
		if (is_ours && dotted && conf_is_host_name(slice_of(dotted)))
			found = xstrdup(dotted);
	}
	if (f)
		fclose(f);
	return found;
}

/* "domain" or the first of "search" of resolv.conf. */
static char *resolver_domain(const char *path)
{
	char line[1024], *rest, *word, *found = NULL;
	FILE *f = fopen(path, "re");

	while (f && !found && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "#;\n")] = '\0';
		rest = line;
		word = strsep(&rest, " \t");
		if (!word || (strcmp(word, "domain") != 0 && strcmp(word, "search") != 0))
			continue;
		while ((word = strsep(&rest, " \t")) && !*word)
			;
		if (word && strcmp(word, ".") != 0 && conf_is_host_name(slice_of(word)))
			found = xstrdup(word);
	}
	if (f)
		fclose(f);
	return found;
}

/* No question to DNS: mail has to start, and every child has to find the same name, while the network is away. */
/* Never asks DNS. */
static char *host_fqdn(void)
{
	char host[256] = "";
	char *name, *domain;

	if (gethostname(host, sizeof(host) - 1) < 0 || !conf_is_host_name(slice_of(host)))
		return xstrdup("localhost");
	if (strchr(host, '.'))
		return xstrdup(host);
	if ((name = fqdn_in_hosts("/etc/hosts", host)))
		return name;
	if ((domain = resolver_domain("/etc/resolv.conf"))) {
		name = xasprintf("%s.%s", host, domain);
		free(domain);
		return name;
	}
	return xstrdup(host);
}

static unsigned cpu_count(void)
{
	cpu_set_t set;
	int n = 0;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	if (n <= 0)
		n = (int)sysconf(_SC_NPROCESSORS_ONLN);
	return n < 1 ? 1 : n > 64 ? 64 : (unsigned)n;
}

static void resolve_host_defaults(struct conf *c)
{
	if (!c->hostname)
		c->hostname = host_fqdn();
	size_t len = strlen(c->hostname);

	if (len > 1 && c->hostname[len - 1] == '.') /* the root's dot is for DNS only */
		c->hostname[len - 1] = '\0';
	if (!c->postmaster)
		c->postmaster = xasprintf("postmaster@%s", c->hostname);
	if (c->workers == 0)
		c->workers = cpu_count();
	if (!c->limits_store)
		c->limits_store = xstrdup("local");
}

static void resolve_primary(struct conf_reader *r)
{
	struct conf *c = r->conf;

	if (c->server_count == 0) {
		conf_mistake_add(&r->report, 1, "server",
				 "none is defined; add one, such as: server \"direct\" { method = direct }");
		return;
	}
	if (conf_line(c, &c->primary_count))
		return;
	c->primary = xcalloc(c->server_count, sizeof(unsigned));
	for (unsigned i = 0; i < c->server_count; i++)
		c->primary[c->primary_count++] = i;
}

static void check_unlimited(struct conf_reader *r, const struct conf_limits *l)
{
	for (unsigned i = 0; i < l->count && l->count > 1; i++)
		if (l->limit[i].is_unlimited) {
			conf_mistake_add(&r->report, conf_line(r->conf, l), "limits",
					 "\"unlimited\" lifts all limits; leave the others out");
			return;
		}
}

/* One in four thousand million: but then one server's outcomes would count as the other's. */
static void check_key(struct conf_reader *r, const struct conf_server *s)
{
	const struct conf *c = r->conf;
	int first = conf_find_server_key(c, conf_server_key(s));

	if (&c->server[first] != s && strcmp(c->server[first].name, s->name) != 0)
		conf_mistake_add(&r->report, s->line, "server",
				 "\"%s\" cannot be told from \"%s\" inside Postern; give it another name", s->name,
				 c->server[first].name);
}

static void check_route(struct conf_reader *r, const struct conf_route *route)
{
	if (!conf_line(r->conf, &route->server_count))
		conf_mistake_add(&r->report, conf_line(r->conf, &route->name), "servers",
				 "route \"%s\" names no servers; add servers = { \"NAME\" }", route->name);
	check_unlimited(r, &route->limits);
}

static void check_destination(struct conf_reader *r, const struct conf_destination *d)
{
	unsigned line = conf_line(r->conf, &d->name);

	if (d->mx.count == 0 && !conf_line(r->conf, &d->mx) && !conf_is_host_name(slice_of(d->name)))
		conf_mistake_add(&r->report, line, "destination",
				 "\"%s\" is not a domain; use one, or name the MX hosts with mx = { }", d->name);
	check_unlimited(r, &d->limits);
}

/* What a fleet would need, said where there is none: a mistake, most likely in the other option. */
static void check_store(struct conf_reader *r)
{
	const struct conf *c = r->conf;

	if (strcmp(c->limits_store, "local") == 0 && c->limits_store_password_file)
		conf_mistake_add(&r->report, conf_line(c, &c->limits_store_password_file), "limits-store-password-file",
				 "goes with a limits-store that is not \"local\"");
}

void conf_rules_apply(struct conf_reader *r)
{
	struct conf *c = r->conf;

	resolve_host_defaults(c);
	resolve_primary(r);
	if (strcmp(c->spool ? c->spool : "", "/") == 0)
		conf_mistake_add(&r->report, conf_line(c, &c->spool), "spool", "cannot be the root directory");
	check_store(r);
	check_unlimited(r, &c->limits);
	check_unlimited(r, &c->limit_per_sender);
	for (unsigned i = 0; i < c->server_count; i++) {
		check_key(r, &c->server[i]);
		check_unlimited(r, &c->server[i].limits);
		conf_server_rules_apply(r, &c->server[i]);
	}
	for (unsigned i = 0; i < c->route_count; i++)
		check_route(r, &c->route[i]);
	for (unsigned i = 0; i < c->destination_count; i++)
		check_destination(r, &c->destination[i]);
}
