/* ehlo.c - what a server says it can do. */
#include "smtpout/ehlo.h"
#include "lib/text.h"

/* Cuts the next word off the front of *rest; words are separated by blanks. Empty when there is none. */
static struct slice next_word(struct slice *rest)
{
	struct slice word;

	*rest = text_trim(*rest);
	word = (struct slice){ rest->ptr, 0 };
	while (word.len < rest->len && word.ptr[word.len] != ' ' && word.ptr[word.len] != '\t')
		word.len++;
	*rest = (struct slice){ rest->ptr + word.len, rest->len - word.len };
	return word;
}

static void take_size(struct slice rest, struct ehlo *out)
{
	uint64_t value;

	/* RFC 1870 3: 0 and no number both mean that no limit is declared; so does what cannot be read. */
	if (text_parse_u64(next_word(&rest), &value) && value <= INT64_MAX)
		out->size_limit_bytes = value;
}

static void take_limits(struct slice rest, struct ehlo *out)
{
	static const struct {
		const char *name;
		size_t offset;
	} LIMITS[] = {
		{ "RCPTMAX=", offsetof(struct ehlo, rcpt_limit) },
		{ "MAILMAX=", offsetof(struct ehlo, mail_limit) },
		{ "RCPTDOMAINMAX=", offsetof(struct ehlo, domain_limit) },
	};
	struct slice word;

	while ((word = next_word(&rest)).len > 0) {
		for (unsigned i = 0; i < ARRAY_LEN(LIMITS); i++) {
			size_t len = strlen(LIMITS[i].name);
			struct slice name = { word.ptr, len }, digits = { word.ptr + len, word.len - len };
			uint64_t value;

			if (word.len > len && slice_equal_nocase(name, slice_of(LIMITS[i].name)) &&
			    text_parse_u64(digits, &value) && value > 0 && value <= UINT32_MAX)
				*(uint32_t *)((char *)out + LIMITS[i].offset) = (uint32_t)value;
		}
	}
}

static void take_auth(struct slice rest, struct ehlo *out)
{
	out->auth |= mechanism_parse(rest);
}

static const struct keyword {
	const char *name;
	unsigned feature;
	void (*take)(struct slice rest, struct ehlo *out);
} KEYWORDS[] = {
	{ "PIPELINING", EHLO_PIPELINING, NULL },
	{ "SIZE", EHLO_SIZE, take_size },
	{ "8BITMIME", EHLO_8BITMIME, NULL },
	{ "ENHANCEDSTATUSCODES", EHLO_ENHANCEDSTATUSCODES, NULL },
	{ "STARTTLS", EHLO_STARTTLS, NULL },
	{ "SMTPUTF8", EHLO_SMTPUTF8, NULL },
	{ "DSN", EHLO_DSN, NULL },
	{ "CHUNKING", EHLO_CHUNKING, NULL },
	{ "AUTH", EHLO_AUTH, take_auth },
	{ "LIMITS", EHLO_LIMITS, take_limits },
};

static void take_line(struct slice line, struct ehlo *out)
{
	static const char OLD[] = "AUTH="; /* before RFC 2554; some servers still say both */
	struct slice word;

	line = text_trim(line);
	if (line.len > strlen(OLD) && slice_equal_nocase((struct slice){ line.ptr, strlen(OLD) }, slice_of(OLD))) {
		out->features |= EHLO_AUTH;
		take_auth((struct slice){ line.ptr + strlen(OLD), line.len - strlen(OLD) }, out);
		return;
	}
	word = next_word(&line);

	for (unsigned i = 0; i < ARRAY_LEN(KEYWORDS); i++) {
		if (!slice_equal_nocase(word, slice_of(KEYWORDS[i].name)))
			continue;
		out->features |= KEYWORDS[i].feature;
		if (KEYWORDS[i].take)
			KEYWORDS[i].take(line, out);
	}
}

void ehlo_parse(struct slice text, struct ehlo *out)
{
	bool is_greeting = true;

	*out = (struct ehlo){ 0 };
	while (text.len > 0) {
		const char *end = memchr(text.ptr, '\n', text.len);
		struct slice line = { text.ptr, end ? (size_t)(end - text.ptr) : text.len };

		if (!is_greeting)
			take_line(line, out);
		is_greeting = false;
		line.len += end ? 1 : 0;
		text = (struct slice){ text.ptr + line.len, text.len - line.len };
	}
}
