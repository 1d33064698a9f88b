/* packet_fuzz.c - what a compromised or broken partner may put into a pipe. */
#include "lib/hosts.h"
#include "lib/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was decoded must be readable to its last byte. */
static void touch_hosts(struct slice bytes)
{
	struct hosts hosts;
	struct buf text;

	if (!hosts_decode(bytes, &hosts))
		return;
	buf_init(&text, 1000);
	for (unsigned i = 0; i < hosts.count; i++)
		for (unsigned k = 0; k < hosts.host[i].address_count; k++)
			host_address_format(&text, &hosts.host[i].address[k]);
	(void)hosts_site_hash(&hosts);
	buf_clear(&text);
	text.max = HOSTS_BYTES_MAX + 300;
	hosts_encode(&text, &hosts);
	if (!slice_equal(buf_slice(&text), bytes))
		BUG("a host list changes when it is encoded again");
	buf_release(&text);
}

static void touch_report(const struct packet *p)
{
	struct msg_report m;
	struct packet again;
	struct msg_head head;
	uint64_t sum = 0;

	if (!msg_decode_head(p, &head) || !msg_decode_report(p, &m))
		return;
	for (unsigned i = 0; i < m.rcpts.count; i++)
		sum += msg_u32(&m.rcpts, i);
	if (sum > m.rcpts.count * (uint64_t)UINT32_MAX)
		BUG("impossible sum");
	msg_encode_report(&again, &head, &m);
	if (again.len != p->len)
		BUG("a report changes when it is encoded again");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct msg_head head;
	struct packet p;

	touch_hosts((struct slice){ (const char *)data, size });
	p.len = (uint16_t)(size < MSG_PACKET_MAX ? size : MSG_PACKET_MAX);
	memcpy(p.bytes, data, p.len);
	if (!msg_decode_any(&p))
		return 0;
	(void)msg_decode_head(&p, &head);
	if (head.type == MSG_REPORT)
		touch_report(&p);
	if (head.type == MSG_RESOLVED) {
		struct msg_resolved m;

		if (msg_decode_resolved(&p, &m))
			touch_hosts(m.hosts);
	}
	return 0;
}
