/* A lane is shared by all domains of its MX hosts: what becomes of one of them is no harm to the others. */
#include "lib/hosts.h"
#include "scheduler/dispatch.h"
#include "scheduler/session.h"
#include "scheduler/slots.h"
#include "scheduler/target.h"
#include "tests/unit/scheduler_on_disk.h"
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>

enum { DIRECT = 1 };
static const uint64_t ID = UINT64_C(1795307043448000) << 12;
static const char *const FIRST[] = { "x@first.example", NULL }, *const SECOND[] = { "x@second.example", NULL };

static void set_up_dispatch(struct scheduler *s)
{
	static unsigned primary[] = { DIRECT };
	struct conf *conf = (struct conf *)s->conf;

	conf->primary = primary;
	conf->primary_count = 1;
	conf->retry.max_age_ms = INT64_MAX / 2;
	conf->server[DIRECT].reconnect_every = 100;
	conf->server[DIRECT].max_connections = conf->server[DIRECT].max_connections_per_destination = 5;
	slots_init(s);
	s->due_timer = loop_timer_new(s->loop, ignore, NULL);
}

static void free_target(void *arg UNUSED, struct table_node *node)
{
	struct target *t = TABLE_OBJECT(node, struct target, node);

	free(t->text);
	free(t->hosts);
	free(t);
}

static void tear_down_dispatch(struct scheduler *s)
{
	for (uint32_t i = 1; i < s->lane_limit; i++) {
		if (!s->lane[i])
			continue;
		while (lane_pop(s, s->lane[i]))
			;
		s->lane[i]->state = LANE_UP;
		s->lane[i]->is_dirty = false;
		lane_collect(s, s->lane[i]);
	}
	s->dirty_lanes = NULL;
	table_each(&s->targets, free_target, NULL);
	free(s->lane);
	free(s->destination);
	loop_timer_free(&s->due_timer);
}

static void answer(struct scheduler *s, const char *domain, enum resolve_status status, const char *host)
{
	struct target *t = target_get(s, DIRECT, domain);
	static struct hosts hosts;
	struct buf encoded;

	assert_int_equal(t->state, TARGET_ASKED);
	memset(&hosts, 0, sizeof(hosts));
	hosts.count = 1;
	snprintf(hosts.host[0].name, sizeof(hosts.host[0].name), "%s", host);
	hosts.host[0].address_count = 1;
	hosts.host[0].address[0].family = AF_INET;
	buf_init(&encoded, HOSTS_BYTES_MAX);
	hosts_encode(&encoded, &hosts);
	target_on_resolved(s, &(struct msg_resolved){ .request = t->request,
						      .status = (uint8_t)status,
						      .ttl_s = 60,
						      .text = slice_of("as the test says"),
						      .hosts = buf_slice(&encoded) });
	buf_release(&encoded);
}

/* Mail for both in one lane, which looks for its hosts by the first one's name. */
static struct lane *share_lane(struct scheduler *s, entry_index *first, entry_index *second)
{
	struct lane *l;

	set_up_dispatch(s);
	*first = put_entry(s, ID, FIRST);
	*second = put_entry(s, ID + 4096, SECOND);
	dispatch_entry(s, *first);
	dispatch_entry(s, *second);
	answer(s, "first.example", RESOLVE_OK, "mx.example");
	answer(s, "second.example", RESOLVE_OK, "mx.example");
	l = lane_at(s, entry_get(s->entries, *first)->blame);
	assert_non_null(l);
	assert_int_equal(l->ready_count, 2);
	assert_string_equal(l->name, "first.example");
	dispatch_turn(s);
	target_get(s, DIRECT, "first.example")->expires.ms = 0;
	lane_mark_dirty(s, l);
	dispatch_turn(s);
	return l;
}

static void test_one_domains_dns_fails(void **state)
{
	struct scheduler *s = *state;
	entry_index first, second;
	struct lane *l = share_lane(s, &first, &second);

	answer(s, "first.example", RESOLVE_TEMPORARY, "");
	dispatch_turn(s);
	assert_int_equal(entry_get(s->entries, first)->place, ENTRY_HEAP);
	assert_int_equal(entry_get(s->entries, second)->place, ENTRY_LISTED);
	assert_int_equal(l->state, LANE_UP);
	assert_int_equal(l->ready_count, 1);
	assert_string_equal(l->name, "second.example");
	entries_remove(s->entries, first);
	tear_down_dispatch(s);
}

static void test_one_domain_moves(void **state)
{
	struct scheduler *s = *state;
	entry_index first, second;
	struct lane *l = share_lane(s, &first, &second);

	answer(s, "first.example", RESOLVE_OK, "elsewhere.example");
	alarm(10); /* it went round for ever */
	dispatch_turn(s);
	alarm(0);
	assert_string_equal(l->name, "second.example");
	assert_int_equal(l->ready_count, 1);
	assert_ptr_not_equal(lane_at(s, entry_get(s->entries, first)->blame), l);
	assert_ptr_equal(lane_at(s, entry_get(s->entries, second)->blame), l);
	tear_down_dispatch(s);
}

/* One more connection is wanted, and by looking for the addresses the lane loses its mail. */
static void test_all_mail_moves_while_a_session_is_busy(void **state)
{
	static _Alignas(max_align_t) char nobody[65536]; /* a process without partners */
	struct scheduler *s = *state;
	struct worker w = { .owner = s, .state = WORKER_UP, .channel = s->pickup };
	struct session busy = {
		.state = SESSION_UP, .server = DIRECT, .worker = &w, .in_flight = 1, .owner = s, .was_up = true
	};
	entry_index first, second;
	struct lane *l = share_lane(s, &first, &second);

	s->proc = (struct proc *)(void *)nobody;
	l->session = &busy;
	l->sessions = 1;
	busy.lane = l;
	target_get(s, DIRECT, "second.example")->expires.ms = 0;
	(void)target_get(s, DIRECT, "second.example");
	answer(s, "second.example", RESOLVE_OK, "elsewhere.example");
	answer(s, "first.example", RESOLVE_OK, "elsewhere.example");
	dispatch_turn(s);
	assert_int_equal(l->ready_count, 0);
	assert_int_equal(busy.in_flight, 1);
	l->session = NULL;
	l->sessions = 0;
	tear_down_dispatch(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_scheduler, teardown_scheduler)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_domains_dns_fails),
		TEST(test_one_domain_moves),
		TEST(test_all_mail_moves_while_a_session_is_busy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
