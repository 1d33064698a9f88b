/* conf_presets.c - the providers' presets, written out for people. */
#include "lib/conf_private.h"

/* "500/day, 500/day recipients" as a list. */
static void put_limits(struct buf *out, const char *limits)
{
	buf_put_str(out, "    limits   = { ");
	for (bool is_first = true; *limits; is_first = false) {
		size_t len = strcspn(limits, ",");

		buf_printf(out, "%s\"%.*s\"", is_first ? "" : ", ", (int)len, limits);
		limits += len;
		limits += strspn(limits, ", ");
	}
	buf_put_str(out, " }\n");
}

static void put_oauth2(struct buf *out, const struct conf_preset_oauth2 *o)
{
	if (!o)
		return;
	buf_printf(out, "    # oauth2 { token-url = \"%s\"", o->token_url);
	if (*o->device_url)
		buf_printf(out, "\n    #          device-url = \"%s\"", o->device_url);
	if (*o->scope)
		buf_printf(out, "\n    #          scope = \"%s\"", o->scope);
	buf_put_str(out, "\n    #          client-id = \"...\"   client-secret-file = \"...\"   refresh-token-file = "
			 "\"...\" }\n");
}

static void put_preset(struct buf *out, const struct conf_preset *p)
{
	buf_printf(out, "server \"%s\" {\n    method   = relay\n", p->name);
	if (*p->host)
		buf_printf(out, "    host     = \"%s\"\n", p->host);
	else
		buf_put_str(out, "    host     = \"HOST\"   # depends on your account\n");
	buf_printf(out, "    port     = %u\n    tls      = verify\n", p->port);
	if (*p->limits)
		put_limits(out, p->limits);
	if (p->max_connections > 0)
		buf_printf(out, "    max-connections = %u\n", p->max_connections);
	buf_printf(out, "    # username = \"...\"   password-file = \"%s.password\"\n", p->name);
	put_oauth2(out, conf_preset_find_oauth2(p->name));
	buf_put_str(out, "}\n");
}

bool conf_presets_format(struct buf *out, const char *name)
{
	bool is_found = false;

	for (unsigned i = 0; i < conf_preset_count; i++) {
		if (name && strcmp(conf_presets[i].name, name) != 0)
			continue;
		if (is_found)
			buf_put_char(out, '\n');
		put_preset(out, &conf_presets[i]);
		is_found = true;
	}
	return is_found;
}

const char *conf_method_word(const struct conf_server *server)
{
	if (server->method == METHOD_DIRECT)
		return "direct";
	return server->preset ? server->preset : "relay";
}
