/* dns_fuzz.c - DNS answers: the parser, then the search that acts upon them. First byte: which type was asked for. */
#include "resolver/mx.h"
#include "resolver/wire.h"

static const uint16_t TYPES[] = { WIRE_TYPE_MX, WIRE_TYPE_A, WIRE_TYPE_AAAA, WIRE_TYPE_TLSA, WIRE_TYPE_TXT };

static void check_answer(const struct wire_answer *a)
{
	if (a->count > WIRE_RECORDS_MAX || a->data_bytes > WIRE_DATA_BYTES_MAX || !a->why || a->is_secure ||
	    (a->status != WIRE_RECORDS && a->count > 0))
		abort();
	for (unsigned i = 0; i < a->count; i++) {
		const struct wire_record *r = &a->record[i];

		if (strlen(r->host) >= WIRE_NAME_SIZE || r->data_at + r->data_len > a->data_bytes)
			abort();
		for (const char *c = r->host; *c; c++)
			if (*c <= ' ' || *c > '~')
				abort();
	}
}

/* The same answer to every question, until the search is over; it must be, after two passes of five rounds. */
static void search(struct wire_answer *a)
{
	struct mx_search *s = xmalloc(sizeof(*s));
	struct hosts *hosts = xmalloc(sizeof(*hosts));
	enum mx_step step;
	struct buf bytes;

	a->is_secure = a->status != WIRE_FAILED;
	mx_start(s, RESOLVE_MX, "example.com", NULL, 0, 25, 1);
	for (unsigned turns = 0; (step = mx_step(s)) != MX_STEP_DONE; turns++) {
		unsigned count = s->question_count;
		bool is_last = false;

		if (turns > 11)
			abort();
		if (step == MX_STEP_PAUSE) {
			mx_resume(s);
			continue;
		}
		for (unsigned i = 0; i < count; i++)
			is_last = mx_answer(s, i, a);
		if (!is_last)
			abort();
	}
	mx_hosts(s, hosts);
	buf_init(&bytes, 2 * HOSTS_BYTES_MAX);
	hosts_encode(&bytes, hosts);
	if (!hosts_decode(buf_slice(&bytes), hosts))
		abort();
	buf_release(&bytes);
	free(hosts);
	free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_answer *a;

	if (size == 0)
		return 0;
	a = xmalloc(sizeof(*a));
	wire_parse(a, data + 1, size - 1, "example.com", TYPES[data[0] % ARRAY_LEN(TYPES)]);
	check_answer(a);
	search(a);
	free(a);
	return 0;
}
