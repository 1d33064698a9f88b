/* sts_fuzz.c - MTA-STS: the TXT record, the policy file, the kept line. First byte: which. What is read reads again. */
#include "lib/sts.h"

static void check(struct sts_policy *p)
{
	struct sts_policy again;
	struct buf line;

	if (p->mode > STS_ENFORCE || p->max_age_s > STS_AGE_MAX_S || (p->mode != STS_NONE && !p->mx[0]))
		abort();
	(void)sts_allows(p, "mx.example.net");
	buf_init(&line, STS_LINE_MAX);
	sts_put_line(&line, p);
	if (line.failed || !sts_read_line(buf_slice(&line), &again) || strcmp(p->mx, again.mx) != 0 ||
	    p->mode != again.mode || p->max_age_s != again.max_age_s)
		abort();
	buf_release(&line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice text = { (const char *)data + 1, size - 1 };
	struct sts_policy p = { .domain = "example.com", .id = "1" };
	char id[STS_ID_MAX + 1];
	const char *why;

	if (size == 0)
		return 0;
	switch (data[0] % 3) {
	case 0:
		if (sts_read_record(text, id) && (strlen(id) == 0 || strlen(id) > STS_ID_MAX))
			abort();
		break;
	case 1:
		if (sts_read_file(text, &p, &why))
			check(&p);
		break;
	default:
		if (sts_read_line(text, &p))
			check(&p);
	}
	return 0;
}
