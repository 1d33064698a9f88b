/* address_fuzz.c - single addresses and lists: whatever comes out of a list is an address, and fit for a command line.
 */
#include "lib/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void check(void *arg, struct slice address)
{
	struct address_parts parts;

	(void)arg;
	if (address_parse(address, &parts) != ADDRESS_OK || address.ptr[0] == '<')
		BUG("a list gave what is no address");
	if (parts.local.len == 0 || parts.domain.len == 0 || parts.local.len + parts.domain.len + 1 != address.len)
		BUG("parts do not make the whole");
	for (size_t i = 0; i < address.len; i++) {
		if ((uint8_t)address.ptr[i] < ' ' || address.ptr[i] == 127)
			BUG("control character in an address");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct slice text = { (const char *)bytes, len }, where;
	struct address_parts parts;
	struct buf key;

	buf_init(&key, 4096);
	if (address_parse(text, &parts) == ADDRESS_OK) {
		address_domain_key(&key, &parts);
		(void)address_matches(buf_slice(&key), text);
	}
	buf_release(&key);
	if (address_list_parse(text, 1000, check, NULL, &where) != ADDRESS_OK &&
	    (where.ptr < text.ptr || where.ptr + where.len > text.ptr + text.len))
		BUG("the culprit is outside");
	(void)address_pattern_is_valid(text);
	return 0;
}
