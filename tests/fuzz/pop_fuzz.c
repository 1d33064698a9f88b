/* A POP3 server that says anything: the engine ends, never says the password in clear, never hangs. */
#include "smtpout/pop.h"
#include <stdlib.h>

static const char SECRET[] = "bob+pass/2=";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void act(struct pop *p)
{
	enum pop_action action;

	while ((action = pop_next(p)) != POP_NONE) {
		if (action == POP_SEND) {
			if (!p->is_secure && memmem(p->out.ptr, p->out.len, SECRET, strlen(SECRET)))
				abort();
			pop_sent(p);
		} else if (action == POP_START_TLS) {
			pop_secured(p);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char automatic[] = "auto", *item[] = { automatic };
	static struct sasl_account *account;
	struct conf_list preference = { 1, item };
	const char *text = (const char *)data;
	struct login *login;
	struct pop p;

	if (size == 0 || !sasl_init())
		return 0;
	if (!account)
		account = sasl_account_new("bob", slice_of(SECRET), "pop.example", 110);
	login = login_new(account, &preference, false);
	pop_init(&p, "pop.example[192.0.2.1]:110", (enum engine_tls)(data[0] % 3), account, login, false);
	pop_connected(&p, data[0] & 4);
	for (size_t at = 1; at < size && p.state != POP_OVER;) {
		const char *end = memchr(text + at, '\n', size - at);
		size_t len = end ? (size_t)(end - text) - at : size - at;

		if (end)
			pop_line(&p, (struct slice){ text + at, len });
		pop_input_left(&p, !end);
		act(&p);
		at += len + 1;
	}
	pop_lost(&p, size % 2, "");
	act(&p);
	if (p.state != POP_OVER)
		abort();
	pop_release(&p);
	login_free(&login);
	return 0;
}
