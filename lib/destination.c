/* destination.c - see destination.h. */
#include "lib/destination.h"
#include <strings.h>

/* "*.google.com" covers what is below. */
static bool mx_matches(const char *pattern, const char *host)
{
	size_t len = strlen(pattern), host_len = strlen(host);

	if (pattern[0] != '*')
		return strcasecmp(pattern, host) == 0;
	return host_len > len - 1 && strcasecmp(host + host_len - (len - 1), pattern + 1) == 0;
}

static bool is_grouped_by(const struct conf_destination *d, const struct hosts *hosts)
{
	for (unsigned i = 0; i < d->mx.count; i++)
		for (unsigned k = 0; k < hosts->count; k++)
			if (mx_matches(d->mx.item[i], hosts->host[k].name))
				return true;
	return false;
}

const struct conf_destination *destination_find(const struct conf *conf, const char *domain, const struct hosts *hosts)
{
	const struct conf_destination *group = NULL;

	for (unsigned i = 0; i < conf->destination_count; i++) {
		const struct conf_destination *d = &conf->destination[i];

		if (d->mx.count == 0 && strcasecmp(d->name, domain) == 0)
			return d;
		if (!group && is_grouped_by(d, hosts))
			group = d;
	}
	return group;
}

enum conf_tls destination_highest_tls(const struct conf *conf, const struct conf_server *server)
{
	enum conf_tls level = server->tls;

	for (unsigned i = 0; i < conf->destination_count && server->method == METHOD_DIRECT; i++) {
		enum conf_tls wanted = conf->destination[i].tls;

		/* verify, because it needs the store of authorities, beats dane, which does not */
		if (wanted != TLS_UNSET && level != TLS_VERIFY && (wanted > level || wanted == TLS_VERIFY))
			level = wanted;
	}
	return level;
}

unsigned destination_tlsa_port(const struct conf *conf, const struct conf_server *server)
{
	bool is_direct = server->method == METHOD_DIRECT;
	bool has_dane = server->tls == TLS_DANE || (server->tls == TLS_OPPORTUNISTIC && is_direct);

	/* which domains a destination is about may hang on this very answer */
	for (unsigned i = 0; i < conf->destination_count && is_direct; i++)
		has_dane |= conf->destination[i].tls == TLS_DANE || conf->destination[i].tls == TLS_OPPORTUNISTIC;
	return has_dane ? server->port : 0;
}
