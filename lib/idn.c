/* idn.c - internationalised domain names. */
#include "lib/idn.h"
#include "lib/text.h"
#include <idn2.h>

enum { IDN_DOMAIN_MAX = 253, IDN_LABEL_MAX = 63, IDN_INPUT_MAX = 1024 };

static bool is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* Expects lower case without a trailing dot. */
static bool is_domain(struct slice s)
{
	size_t label = 0;
	bool is_numeric = true;

	if (s.len == 0 || s.len > IDN_DOMAIN_MAX)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];

		if (c == '.') {
			if (label == 0)
				return false;
			label = 0;
			is_numeric = true;
			continue;
		}
		if (!is_name_byte(c) || ++label > IDN_LABEL_MAX)
			return false;
		is_numeric = is_numeric && c >= '0' && c <= '9';
	}
	return label > 0 && !is_numeric;
}

static bool put_ascii(struct buf *out, struct slice domain)
{
	char lower[IDN_DOMAIN_MAX + 1];

	if (domain.len > 0 && domain.ptr[domain.len - 1] == '.')
		domain.len--;
	if (domain.len > IDN_DOMAIN_MAX)
		return false;
	memcpy(lower, domain.ptr, domain.len);
	text_lower(lower, domain.len);
	if (!is_domain((struct slice){ lower, domain.len }))
		return false;
	buf_put(out, lower, domain.len);
	return !out->failed;
}

bool idn_to_ascii(struct buf *out, struct slice domain)
{
	char *copy, *ascii = NULL;
	int flags = IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL;
	bool is_ok;

	if (domain.len == 0)
		return false;
	if (text_is_ascii(domain))
		return put_ascii(out, domain);
	/* libidn2 reads to the first NUL: one inside would cut the name short without a word */
	if (domain.len > IDN_INPUT_MAX || !text_is_utf8(domain) || memchr(domain.ptr, 0, domain.len))
		return false;
	copy = xstrndup(domain.ptr, domain.len);
	is_ok = idn2_to_ascii_8z(copy, &ascii, flags) == IDN2_OK && put_ascii(out, slice_of(ascii));
	idn2_free(ascii);
	free(copy);
	return is_ok;
}
