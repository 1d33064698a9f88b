/* EHLO's text: any bytes. */
#include "smtpout/ehlo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ehlo e;

	ehlo_parse((struct slice){ (const char *)data, size }, &e);
	if (e.size_limit_bytes > INT64_MAX || (e.size_limit_bytes > 0 && !(e.features & EHLO_SIZE)))
		BUG("a size limit out of nowhere");
	if ((e.rcpt_limit || e.mail_limit) && !(e.features & EHLO_LIMITS))
		BUG("limits out of nowhere");
	return 0;
}
