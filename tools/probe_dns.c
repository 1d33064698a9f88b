/* probe_dns.c - whom to talk to: MX hosts or one host, with addresses, by the resolver's own search. */
#include "lib/destination.h"
#include "lib/idn.h"
#include "tools/probe.h"
#include "tools/search.h"

static void run_search(struct probe *p, struct mx_search *mx, const struct conf_server *server, const char *name)
{
	bool is_direct = server->method == METHOD_DIRECT;

	mx_start(mx, is_direct ? RESOLVE_MX : RESOLVE_HOST, name, server->deny, server->deny_count,
		 destination_tlsa_port(p->conf, server), search_seed());
	if (!search_run(p->loop, p->dns, mx, 0))
		BUG("a search without deadline is late");
}

/* --- telling */

static bool fail_dns(struct probe *p, const struct conf_server *server, enum resolve_status status, int64_t since_ms,
		     const char *words)
{
	struct probe_end why = { HINT_DNS, FAILURE_DNS, status == RESOLVE_TEMPORARY ? 450 : 550, "", NULL };

	why.words = xstrdup(words);
	probe_fail(p, &why, "DNS", clock_mono().ms - since_ms, server->host ? server->host : p->domain, server->port,
		   false);
	free(why.words);
	return false;
}

static const char *dane_words(const struct host *host)
{
	static const char *const WORDS[] = { "", "; TLSA records that say nothing to us", "; TLSA records (DANE)" };

	return WORDS[host->dane];
}

/* " has A, B"; a literal is one itself. */
static void put_addresses(struct buf *text, const struct host *h)
{
	struct host literal;

	if (host_parse_literal(slice_of(h->name), true, &literal) == HOST_LITERAL) {
		buf_put_str(text, " is an address");
		return;
	}
	for (unsigned i = 0; i < h->address_count; i++) {
		buf_put_str(text, i ? ", " : " has ");
		host_address_format(text, &h->address[i]);
	}
}

static void tell_hosts(struct probe *p, const struct hosts *hosts, bool is_mx, bool is_from_dns, int64_t took_ms)
{
	struct buf text;

	buf_init(&text, PROBE_TEXT_MAX);
	for (unsigned i = 0; i < hosts->count; i++) {
		const struct host *h = &hosts->host[i];

		buf_clear(&text);
		if (is_mx && is_from_dns)
			buf_printf(&text, "mail of %s: %u ", p->domain, h->preference);
		buf_put_str(&text, h->name);
		put_addresses(&text, h);
		if (is_from_dns)
			buf_printf(&text, "; DNSSEC: %s%s", h->is_secure ? "signed" : "not signed", dane_words(h));
		steps_put(&p->steps, STEP_OK, "DNS", i ? -1 : took_ms, buf_text(&text));
	}
	buf_release(&text);
}

/* --- without DNS */

/* True: it is answered, one way or the other; *host.address_count 0: with "no", and `words` say why. */
static bool find_without_dns(struct probe *p, const struct conf_server *server, struct slice name, struct host *host,
			     struct buf *ascii, const char **words)
{
	bool is_relay = server->method == METHOD_RELAY;
	bool is_found = false;

	*words = "not a valid domain name";
	switch (host_parse_literal(name, is_relay, host)) {
	case HOST_LITERAL:
		is_found = true;
		break;
	case HOST_BAD_LITERAL:
		*words = "not a valid address literal";
		host->address_count = 0;
		return true;
	case HOST_NO_LITERAL:
		host->address_count = 0;
		if (!idn_to_ascii(ascii, name))
			return true;
		if (!is_relay)
			return false;
		is_found = host_file_find(p->host_file, buf_text(ascii), host);
		break;
	}
	*words = "its address is forbidden (deny-addresses)";
	if (is_found && !host_filter(host, server->deny, server->deny_count))
		host->address_count = 0;
	return is_found;
}

bool probe_find_hosts(struct probe *p, const struct conf_server *server, struct hosts *hosts)
{
	bool is_mx = server->method == METHOD_DIRECT, is_ok = false;
	struct slice name = slice_of(is_mx ? p->domain : server->host);
	int64_t since_ms = clock_mono().ms;
	struct mx_search *mx = xcalloc(1, sizeof(*mx));
	const char *words;
	struct buf ascii;

	buf_init(&ascii, WIRE_NAME_SIZE);
	*hosts = (struct hosts){ .count = 1 };
	if (find_without_dns(p, server, name, &hosts->host[0], &ascii, &words)) {
		is_ok = hosts->host[0].address_count > 0;
		if (is_ok)
			tell_hosts(p, hosts, is_mx, false, clock_mono().ms - since_ms);
		else
			fail_dns(p, server, RESOLVE_NO_DOMAIN, since_ms, words);
	} else {
		run_search(p, mx, server, buf_text(&ascii));
		is_ok = mx->status == RESOLVE_OK;
		if (is_ok)
			mx_hosts(mx, hosts);
		if (is_ok)
			tell_hosts(p, hosts, is_mx, true, clock_mono().ms - since_ms);
		else
			fail_dns(p, server, mx->status, since_ms, mx->text);
	}
	buf_release(&ascii);
	free(mx);
	return is_ok;
}
