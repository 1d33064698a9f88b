/* cmd_route.c - postern route: which servers would carry a message, and why. Needs no running service. */
#include "lib/address.h"
#include "lib/json.h"
#include "lib/plan.h"
#include "lib/rewrite.h"
#include "tools/instance.h"

struct question {
	const struct conf *conf;
	struct slice sender, rcpt;
	struct plan plan;
	const unsigned *candidate;
	unsigned candidate_count;
};

/* What is wrong with an address, or NULL; `text` loses its angle brackets. */
static const char *read_address(struct slice *text, bool may_be_empty)
{
	struct address_parts parts;
	enum address_result result;

	if (text->len >= 2 && text->ptr[0] == '<' && text->ptr[text->len - 1] == '>')
		*text = (struct slice){ text->ptr + 1, text->len - 2 };
	if (text->len == 0)
		return may_be_empty ? NULL : "is empty";
	result = address_parse(*text, &parts);
	return result == ADDRESS_OK ? NULL : address_error(result);
}

static int position_in_plan(const struct plan *p, unsigned server)
{
	for (unsigned i = 0; i < p->count; i++)
		if (p->server[i] == server)
			return (int)i;
	return -1;
}

static void put_patterns(struct buf *out, const char *what, const struct conf_list *patterns, struct slice address)
{
	if (patterns->count > 0)
		buf_printf(out, "%s matches %s", what, plan_matching_pattern(patterns, address));
}

/* "sender matches .lists.example.com, recipient matches *" */
static void put_why(struct buf *out, const struct question *q)
{
	const struct conf_route *route = q->plan.route ? &q->conf->route[q->plan.route - 1] : NULL;

	if (!route) {
		buf_put_str(out, q->conf->route_count > 0 ? "no route matches" : "there are no routes");
		return;
	}
	put_patterns(out, "sender", &route->sender, q->sender);
	if (route->sender.count > 0 && route->recipient.count > 0)
		buf_put_str(out, ", ");
	put_patterns(out, "recipient", &route->recipient, q->rcpt);
	if (out->len == 0)
		buf_put_str(out, "it matches all");
}

static void put_server_words(struct buf *out, const struct conf_server *s)
{
	if (s->method == METHOD_DIRECT)
		buf_printf(out, "direct to the MX hosts of the domain, port %u", s->port);
	else
		buf_printf(out, "relay %s, port %u", s->host, s->port);
}

static struct slice sender_there(const struct conf_server *s, struct slice sender)
{
	return rewrite_applies(s, sender) ? slice_of(s->rewrite_sender) : sender;
}

/* What a server with rewrite-sender makes of the sender, and why. */
static void put_sender_words(struct buf *out, const struct conf_server *s, struct slice sender)
{
	if (rewrite_applies(s, sender))
		buf_printf(out, "the sender becomes %s, in From as well: rewrite = %s", s->rewrite_sender,
			   s->rewrite == REWRITE_ALWAYS ? "always" : "unless-allowed");
	else if (s->rewrite == REWRITE_NEVER)
		buf_put_str(out, "the sender stays: rewrite = never");
	else if (sender.len == 0)
		buf_put_str(out, "the sender stays: the null sender is never rewritten");
	else if (slice_equal_nocase(sender, slice_of(s->rewrite_sender)))
		buf_put_str(out, "the sender stays: it is rewrite-sender itself");
	else
		buf_printf(out, "the sender stays: allowed-senders has %s",
			   plan_matching_pattern(&s->allowed_senders, sender));
}

static void print_text(const struct question *q, const char *why)
{
	struct buf words;

	buf_init(&words, 1024);
	if (q->plan.route)
		printf("route %s: %s\n", q->conf->route[q->plan.route - 1].name, why);
	else
		printf("%s: the global list of servers\n", why);
	for (unsigned i = 0; i < q->candidate_count; i++) {
		const struct conf_server *s = &q->conf->server[q->candidate[i]];
		int at = position_in_plan(&q->plan, q->candidate[i]);

		buf_clear(&words);
		put_server_words(&words, s);
		if (at >= 0)
			printf("%2d. %s: %s\n", at + 1, s->name, buf_text(&words));
		else
			printf(" -  %s: not used: exclude-domains has %s\n", s->name,
			       plan_excluding_pattern(s, q->rcpt));
		if (at < 0 || !s->rewrite_sender)
			continue;
		buf_clear(&words);
		put_sender_words(&words, s, q->sender);
		printf("    %s\n", buf_text(&words));
	}
	buf_release(&words);
}

static void put_server_json(struct buf *out, const struct question *q, unsigned i)
{
	const struct conf_server *s = &q->conf->server[q->candidate[i]];
	int at = position_in_plan(&q->plan, q->candidate[i]);

	buf_put_str(out, i > 0 ? ",{" : "{");
	json_put_member(out, "name", slice_of(s->name));
	json_put_member(out, "method", slice_of(conf_method_word(s)));
	if (s->host)
		json_put_member(out, "host", slice_of(s->host));
	json_put_member_u64(out, "port", s->port);
	json_put_member(out, "sender", sender_there(s, q->sender));
	if (at >= 0)
		json_put_member_u64(out, "order", (uint64_t)at + 1);
	else
		json_put_member(out, "excluded_by", slice_of(plan_excluding_pattern(s, q->rcpt)));
	buf_put_char(out, '}');
}

static void print_json(const struct question *q, const char *why)
{
	struct buf out;

	buf_init(&out, 1 << 20);
	buf_put_char(&out, '{');
	json_put_member(&out, "sender", q->sender);
	json_put_member(&out, "recipient", q->rcpt);
	json_put_key(&out, "route");
	if (q->plan.route)
		json_put_string(&out, slice_of(q->conf->route[q->plan.route - 1].name));
	else
		buf_put_str(&out, "null");
	json_put_member(&out, "why", slice_of(why));
	json_put_key(&out, "servers");
	buf_put_char(&out, '[');
	for (unsigned i = 0; i < q->candidate_count; i++)
		put_server_json(&out, q, i);
	buf_put_str(&out, "]}\n");
	fputs(buf_text(&out), stdout);
	buf_release(&out);
}

static int answer(struct question *q, bool is_json)
{
	struct slice domain = q->rcpt;
	struct buf why;

	plan_make(&q->plan, q->conf, q->sender, q->rcpt, (struct slice){ "", 0 });
	q->candidate = plan_candidates(&q->plan, q->conf, &q->candidate_count);
	buf_init(&why, 2048);
	put_why(&why, q);
	if (is_json)
		print_json(q, buf_text(&why));
	else
		print_text(q, buf_text(&why));
	buf_release(&why);
	if (q->plan.count > 0)
		return 0;
	for (size_t i = 0; i < q->rcpt.len; i++)
		if (q->rcpt.ptr[i] == '@')
			domain = (struct slice){ q->rcpt.ptr + i + 1, q->rcpt.len - i - 1 };
	if (!is_json)
		printf("no server may carry mail for %.*s: it would bounce\n", (int)domain.len, domain.ptr);
	return EXIT_STATUS_NO_MATCH;
}

/* Addresses may begin with a dash, so options are only looked for by their full name. */
static int read_arguments(struct question *q, bool *is_json, int argc, char **argv)
{
	const char *address[2];
	unsigned count = 0;
	const char *wrong;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0)
			*is_json = true;
		else if (count < 2)
			address[count++] = argv[i];
		else
			count = 3;
	}
	if (count != 2) {
		command_complain("route: takes two addresses: SENDER RECIPIENT");
		return EXIT_STATUS_USAGE;
	}
	q->sender = slice_of(address[0]);
	q->rcpt = slice_of(address[1]);
	if ((wrong = read_address(&q->sender, true))) {
		command_complain("route: %s: %s", address[0], wrong);
		return EXIT_STATUS_USAGE;
	}
	if ((wrong = read_address(&q->rcpt, false))) {
		command_complain("route: %s: %s", address[1], wrong);
		return EXIT_STATUS_USAGE;
	}
	return 0;
}

int command_route(const struct command_context *c, int argc, char **argv)
{
	struct question q = { 0 };
	struct instance in;
	bool is_json = false;
	int status = read_arguments(&q, &is_json, argc, argv);

	if (status == 0 && (status = instance_open(&in, c)) == 0) {
		q.conf = in.conf;
		status = answer(&q, is_json);
		instance_close(&in);
	}
	return status;
}
