/* mechanism.c - ways to log in, and which one to take. */
#include "smtpout/mechanism.h"
#include "lib/text.h"

static const struct {
	const char *name;
	bool shows_secret, is_token;
} MECHANISMS[] = {
	[MECHANISM_OAUTHBEARER] = { "OAUTHBEARER", true, true },
	[MECHANISM_XOAUTH2] = { "XOAUTH2", true, true },
	[MECHANISM_SCRAM_SHA_256] = { "SCRAM-SHA-256", false, false },
	[MECHANISM_SCRAM_SHA_1] = { "SCRAM-SHA-1", false, false },
	[MECHANISM_CRAM_MD5] = { "CRAM-MD5", false, false },
	[MECHANISM_PLAIN] = { "PLAIN", true, false },
	[MECHANISM_LOGIN] = { "LOGIN", true, false },
};
_Static_assert(ARRAY_LEN(MECHANISMS) == MECHANISM_COUNT, "mechanism table out of step");

const char *mechanism_name(enum mechanism m)
{
	return m < MECHANISM_COUNT ? MECHANISMS[m].name : "none";
}

static enum mechanism find(struct slice name)
{
	for (unsigned i = 0; i < MECHANISM_COUNT; i++) {
		if (slice_equal_nocase(name, slice_of(MECHANISMS[i].name)))
			return (enum mechanism)i;
	}
	return MECHANISM_NONE;
}

unsigned mechanism_parse(struct slice words)
{
	unsigned found = 0;

	while ((words = text_trim(words)).len > 0) {
		struct slice word = { words.ptr, 0 };
		enum mechanism m;

		while (word.len < words.len && word.ptr[word.len] != ' ' && word.ptr[word.len] != '\t')
			word.len++;
		m = find(word);
		if (m != MECHANISM_NONE)
			found |= 1u << m;
		words = (struct slice){ words.ptr + word.len, words.len - word.len };
	}
	return found;
}

bool mechanism_shows_secret(enum mechanism m)
{
	return m < MECHANISM_COUNT && MECHANISMS[m].shows_secret;
}

bool mechanism_is_token(enum mechanism m)
{
	return m < MECHANISM_COUNT && MECHANISMS[m].is_token;
}

/* What goes wrong, from the most to the least telling. */
enum obstacle { OBSTACLE_NOT_OFFERED, OBSTACLE_SPENT, OBSTACLE_SHOWS };

static bool is_fit(enum mechanism m, unsigned offered, const struct mechanism_wish *wish, enum obstacle *worst)
{
	enum obstacle found;

	if (!(offered & (1u << m)))
		return false;
	if (wish->spent & (1u << m))
		found = OBSTACLE_SPENT;
	else if (mechanism_shows_secret(m) && !wish->may_show)
		found = OBSTACLE_SHOWS;
	else
		return true;
	if (found > *worst)
		*worst = found;
	return false;
}

static bool may_use(enum mechanism m, const struct mechanism_wish *wish)
{
	return MECHANISMS[m].is_token ? wish->has_token : wish->has_password || !wish->has_token;
}

/* Tokens come first among them. */
static enum mechanism choose_strongest(unsigned offered, const struct mechanism_wish *wish, enum obstacle *worst)
{
	for (unsigned i = 0; i < MECHANISM_COUNT; i++) {
		if (may_use((enum mechanism)i, wish) && is_fit((enum mechanism)i, offered, wish, worst))
			return (enum mechanism)i;
	}
	return MECHANISM_NONE;
}

enum mechanism mechanism_choose(unsigned offered, const struct mechanism_wish *wish, const char **why)
{
	static const char *const WHY[] = {
		[OBSTACLE_NOT_OFFERED] = "it offers no way to log in that option auth allows",
		[OBSTACLE_SPENT] = "it takes none of the ways to log in that it offers",
		[OBSTACLE_SHOWS] = "the password would go over the line in clear (no TLS, and no auth-without-tls)",
	};
	enum obstacle worst = OBSTACLE_NOT_OFFERED;
	enum mechanism found = MECHANISM_NONE;

	for (unsigned i = 0; i < wish->preference->count && found == MECHANISM_NONE; i++) {
		struct slice word = slice_of(wish->preference->item[i]);
		enum mechanism m = find(word);

		if (slice_is(word, "auto"))
			found = choose_strongest(offered, wish, &worst);
		else if (m != MECHANISM_NONE && is_fit(m, offered, wish, &worst))
			found = m;
	}
	if (found == MECHANISM_NONE)
		*why = WHY[worst];
	return found;
}
