/* conf_fuzz.c - any bytes as postern.conf: an answer, never a crash. */
#include "lib/conf_tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_once(struct slice text)
{
	struct conf_errors errors;
	struct conf *c = conf_read_text("/etc/fuzz.conf", text, &errors);

	if ((c == NULL) != (errors.count > 0))
		BUG("a configuration and mistakes, or neither");
	for (unsigned i = 0; i < errors.count; i++)
		if (strncmp(errors.text[i], "/etc/fuzz.conf:", 15) != 0)
			BUG("a mistake without a place: %s", errors.text[i]);
	if (c && (c->server_count == 0 || c->primary_count == 0 || c->workers == 0 || !c->hostname || !c->postmaster))
		BUG("an incomplete configuration was accepted");
	for (unsigned i = 0; c && i < c->server_count; i++)
		if (c->server[i].tls == TLS_UNSET || (c->server[i].method == METHOD_RELAY && !c->server[i].host))
			BUG("an incomplete server was accepted");
	conf_errors_release(&errors);
	conf_free(&c);
}

/* What the scan lets pass, libconfuse must not find fault with. */
static void check_scan(struct slice text)
{
	struct conf_reader r = { .report.path = "/etc/fuzz.conf" };
	struct conf_errors errors;
	struct conf_scan scan;
	struct conf_tree *tree;

	conf_scan(&r, text, &scan);
	if (memchr(buf_text(&scan.clean), '\0', scan.clean.len))
		BUG("a NUL in the clean text");
	if (!(tree = conf_tree_parse(&r.report, buf_text(&scan.clean))))
		BUG("libconfuse refuses: %s", buf_text(&scan.clean));
	conf_tree_free(&tree);
	conf_scan_release(&scan);
	conf_report_finish(&r.report, &errors);
	conf_errors_release(&errors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = { (const char *)data, size };

	if (size > 65536)
		return 0;
	check_scan(text);
	read_once(text);
	return 0;
}
