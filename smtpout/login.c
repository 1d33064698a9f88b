/* login.c - the login of one connection, by what the configuration says and the account knows. */
#include "smtpout/login.h"

/* RFC 4954 4 and RFC 5034 4: a command with its initial response has 512 bytes, for POP3 255; a longer one waits. */
enum { INITIAL_MAX = 220 };

struct account_login {
	struct login login; /* first: we are one */
	struct sasl_account *account;
	struct mechanism_wish wish;
	bool may_be_clear;
	enum mechanism mechanism;
	struct sasl *sasl;
	char *initial; /* made, but too long for the command; NULL: none waits */
};

static struct account_login *of(struct login *l)
{
	return (struct account_login *)(void *)l;
}

static void drop_initial(struct account_login *a)
{
	if (a->initial)
		explicit_bzero(a->initial, strlen(a->initial));
	free(a->initial);
	a->initial = NULL;
}

static bool put_initial(struct account_login *a, struct buf *out, const char **why)
{
	struct buf initial;
	bool is_made;

	buf_init(&initial, 2 * SASL_CHALLENGE_MAX);
	is_made = sasl_step(a->sasl, (struct slice){ "", 0 }, &initial);
	if (!is_made) {
		*why = sasl_error(a->sasl);
	} else if (initial.len <= INITIAL_MAX) {
		buf_put_char(out, ' ');
		buf_put_slice(out, buf_slice(&initial));
	} else {
		a->initial = xstrdup(buf_text(&initial));
	}
	if (initial.ptr)
		explicit_bzero(initial.ptr, initial.len);
	buf_release(&initial);
	return is_made;
}

static bool begin(struct login *l, unsigned offered, bool is_secure, struct buf *out, const char **why)
{
	struct account_login *a = of(l);

	sasl_free(&a->sasl);
	drop_initial(a);
	a->wish.may_show = is_secure || a->may_be_clear;
	a->mechanism = mechanism_choose(offered, &a->wish, why);
	if (a->mechanism == MECHANISM_NONE)
		return false;
	a->sasl = sasl_new(a->account, a->mechanism);
	if (!a->sasl) {
		*why = "the library for logins knows nothing of this mechanism";
		return false;
	}
	buf_put_str(out, mechanism_name(a->mechanism));
	return !sasl_is_first(a->sasl) || put_initial(a, out, why);
}

static bool step(struct login *l, struct slice challenge, struct buf *out, const char **why)
{
	struct account_login *a = of(l);

	if (a->initial) { /* the server asks for what did not fit into the command */
		buf_put_str(out, a->initial);
		drop_initial(a);
		return true;
	}
	if (sasl_step(a->sasl, challenge, out))
		return true;
	*why = sasl_error(a->sasl);
	return false;
}

static bool is_complete(struct login *l)
{
	return !of(l)->initial && sasl_is_complete(of(l)->sasl);
}

static void refused(struct login *l)
{
	of(l)->wish.spent |= 1u << of(l)->mechanism;
}

static void mask(struct login *l, char *text)
{
	sasl_account_mask(of(l)->account, text);
}

static bool is_outdated(struct login *l)
{
	return of(l)->sasl && sasl_is_outdated(of(l)->sasl);
}

struct login *login_new(struct sasl_account *account, const struct conf_list *preference, bool may_be_clear)
{
	struct account_login *a = xcalloc(1, sizeof(*a));

	a->login = (struct login){ begin, step, is_complete, refused, mask, is_outdated };
	a->account = account;
	a->wish.preference = preference;
	a->wish.has_token = sasl_account_has_token(account);
	a->wish.has_password = sasl_account_has_password(account);
	a->may_be_clear = may_be_clear;
	a->mechanism = MECHANISM_NONE;
	return &a->login;
}

void login_free(struct login **login)
{
	struct account_login *a = *login ? of(*login) : NULL;

	if (!a)
		return;
	sasl_free(&a->sasl);
	drop_initial(a);
	free(a);
	*login = NULL;
}
