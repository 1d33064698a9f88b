/*
 * limiter_fleet_test.c - three hosts, one store, anything may happen: no span at the receiver is over the limit.
 *
 * The hosts are the real ledger, permits and fleet; the store is the real script, in a Lua of our own with a store of
 * a few lines; time and network are made up. The receiver notes when something is sent and knows nothing else.
 */
#include "limiter/fleet.h"
#include "tests/unit/folder.h"
#include <lua5.1/lauxlib.h>
#include <lua5.1/lua.h>
#include <lua5.1/lualib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka last: it needs the four standard headers above */
#include <cmocka.h>

enum { HOSTS = 3, RUNS = 6, SOAK_RUNS = 300, FLIGHTS_MAX = 4096, WIDTH_MS = 10000, SENT_MAX = 1 << 20 };
static const int64_t START = 1700000000000;
static const struct slice ISP = { "isp", 3 };

static const char REDIS[] =
	"data, expires, copy, clock = {}, {}, {}, 0\n"
	"local function live(key)\n"
	"  if expires[key] and expires[key] <= clock then data[key], expires[key] = nil, nil end\n"
	"  data[key] = data[key] or {}\n"
	"  return data[key]\n"
	"end\n"
	"local function str(v) return type(v) == 'number' and string.format('%.17g', v) or v end\n"
	"local commands = {}\n"
	"function commands.TIME() return { str(math.floor(clock / 1000)), str(clock % 1000 * 1000) } end\n"
	"function commands.HGETALL(key)\n"
	"  local flat = {}\n"
	"  for k, v in pairs(live(key)) do flat[#flat + 1] = k; flat[#flat + 1] = v end\n"
	"  return flat\n"
	"end\n"
	"function commands.HGET(key, k) return live(key)[k] or false end\n"
	"function commands.HSET(key, ...)\n"
	"  local h, a = live(key), { ... }\n"
	"  assert(#a > 0 and #a % 2 == 0, 'HSET wants pairs')\n"
	"  for i = 1, #a, 2 do h[str(a[i])] = assert(str(a[i + 1])) end\n"
	"end\n"
	"function commands.HDEL(key, ...) for _, k in ipairs({ ... }) do live(key)[k] = nil end end\n"
	"function commands.HINCRBY(key, k, by)\n"
	"  live(key)[k] = str(tonumber(live(key)[k] or 0) + by)\n"
	"  return tonumber(live(key)[k])\n"
	"end\n"
	"function commands.DEL(key) data[key], expires[key] = nil, nil end\n"
	"function commands.PEXPIRE(key, ms) expires[key] = clock + tonumber(ms) end\n"
	"redis = { call = function(name, ...) return assert(commands[name], name)(...) end }\n"
	"local function clone(from)\n"
	"  local to = {}\n"
	"  for k, h in pairs(from) do to[k] = {}; for f, v in pairs(h) do to[k][f] = v end end\n"
	"  return to\n"
	"end\n"
	"function flush() data, expires = {}, {} end\n"
	"function save() copy = clone(data) end\n"
	"function restore() data = clone(copy) end\n";

/* --- the store --- */

static lua_State *lua;
static unsigned run_number;
static int64_t clock_ahead; /* of the store's clock */

static void do_lua(const char *text)
{
	if (luaL_dostring(lua, text) != 0)
		fail_msg("%s", lua_tostring(lua, -1));
}

static void set_clock(int64_t now)
{
	lua_pushnumber(lua, (double)(START + now + clock_ahead));
	lua_setglobal(lua, "clock");
}

static void push_words(const char **at, unsigned count, const char *name)
{
	lua_createtable(lua, (int)count, 0);
	for (unsigned i = 0; i < count; i++) {
		lua_pushstring(lua, *at);
		lua_rawseti(lua, -2, (int)i + 1);
		*at += strlen(*at) + 1;
	}
	lua_setglobal(lua, name);
}

struct answer {
	struct slice word[512];
	char bytes[16384];
	unsigned count;
};

static void run_script(int64_t now, const struct fleet_call *call, struct answer *out)
{
	const char *at = call->words.ptr;
	size_t len, used = 0;

	set_clock(now);
	push_words(&at, call->keys, "KEYS");
	push_words(&at, call->count - call->keys, "ARGV");
	lua_getglobal(lua, "script");
	if (lua_pcall(lua, 0, 1, 0) != 0)
		fail_msg("%s", lua_tostring(lua, -1));
	out->count = (unsigned)lua_objlen(lua, -1);
	assert_true(out->count < ARRAY_LEN(out->word));
	for (unsigned i = 0; i < out->count; i++) {
		lua_rawgeti(lua, -1, (int)i + 1);
		assert_int_equal(lua_type(lua, -1), LUA_TSTRING);
		const char *text = lua_tolstring(lua, -1, &len);

		assert_true(used + len < sizeof(out->bytes));
		memcpy(out->bytes + used, text, len);
		out->word[i] = (struct slice){ out->bytes + used, len };
		used += len;
		lua_pop(lua, 1);
	}
	lua_pop(lua, 1);
}

/* --- the hosts --- */

struct flight {
	uint32_t messages;
	int64_t send_at, settle_at; /* send_at -1: sent; INT64_MAX: never, it is refunded */
};

struct host {
	char dir[64];
	struct ledger *ledger;
	struct permits *permits;
	struct lease_book book;
	struct fleet *fleet;
	struct account_spec spec[1];
	struct limit_spec limit[2];
	uint32_t request;
	struct flight flight[FLIGHTS_MAX];
	unsigned flight_count;
	int64_t boot_offset;
	double drift;
	bool is_dead, is_cut, is_connected;
	int64_t dead_until, cut_until;
	/* a call under way */
	struct fleet_call call;
	bool has_call, is_executed;
	int64_t run_at, answer_at;
	struct answer answer;
	uint64_t waiting_since;
	bool is_waiting;
	uint64_t refusals;
};

static struct host host[HOSTS];
static bool may_share, is_alone; /* alone: one host, counters of its own, for comparison */
static uint64_t amount;
static int64_t step_ms;
static const struct calendar *calendar; /* of the limit, if it has one */
static int64_t sent[SENT_MAX];
static unsigned sent_count, sent_oldest;
static uint64_t seed;

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static int64_t boot_ms(const struct host *h, int64_t now)
{
	return h->boot_offset + (int64_t)((double)now * h->drift);
}

static int64_t local_now(struct host *h, int64_t now)
{
	int64_t local = ledger_now(h->ledger, boot_ms(h, now));

	ledger_set_wall(h->ledger, local, START + now);
	return local;
}

static void host_start(struct host *h, int64_t now)
{
	struct ledger_options o = { .dir = h->dir,
				    .account_count = 1,
				    .account = h->spec,
				    .boot_id = "boot",
				    .boot_ms = boot_ms(h, now),
				    .wall_ms = START + now };
	const char *why = "";

	lease_book_init(&h->book);
	h->spec[0] = (struct account_spec){
		.name = "isp", .limit_count = 2, .limit = h->limit, .book = is_alone ? NULL : &h->book
	};
	if (ledger_open(&h->ledger, &o, &why) > STORE_CREATED)
		fail_msg("ledger_open: %s", why);
	h->permits = permits_new(h->ledger);
	h->fleet = fleet_new(&(struct fleet_options){ .hostname = "host",
						      .ledger = h->ledger,
						      .book = &h->book,
						      .widest_window_ms = WIDTH_MS * 4,
						      .nonce = rnd(UINT64_MAX),
						      .may_share = may_share });
	h->is_connected = h->is_waiting = false;
}

static void host_drop_call(struct host *h)
{
	if (h->has_call)
		fleet_call_release(&h->call);
	h->has_call = false;
}

static void host_stop(struct host *h)
{
	host_drop_call(h);
	fleet_free(&h->fleet);
	permits_free(&h->permits);
	ledger_close(&h->ledger); /* what was not committed is lost */
}

/* The limiter alone dies: the scheduler tells its successor what is under way. */
static void host_restart(struct host *h, int64_t now)
{
	uint64_t under_way = 0;

	host_stop(h);
	host_start(h, now);
	for (unsigned i = 0; i < h->flight_count; i++)
		under_way += h->flight[i].messages;
	h->request = 0;
	permits_adopt(h->permits, local_now(h, now), ++h->request, ISP, CLASS_USUAL, (uint32_t)under_way,
		      (uint32_t)under_way);
	permits_adopt(h->permits, local_now(h, now), ++h->request, slice_of(""), CLASS_USUAL, 0, 0);
}

static void host_die(struct host *h, int64_t until)
{
	host_stop(h);
	h->is_dead = true;
	h->dead_until = until;
	h->flight_count = 0; /* what was sent was sent */
}

static void host_revive(struct host *h, int64_t now)
{
	h->is_dead = false;
	host_start(h, now);
	h->request = 1;
	permits_adopt(h->permits, local_now(h, now), 1, slice_of(""), CLASS_USUAL, 0, 0);
}

static void note_sent(int64_t now, uint32_t messages)
{
	for (uint32_t i = 0; i < messages; i++) {
		assert_true(sent_count < SENT_MAX);
		sent[sent_count++] = now;
	}
	while (sent[sent_oldest] < now - WIDTH_MS)
		sent_oldest++;
	if (sent_count - sent_oldest > amount)
		fail_msg("%u in a span that ends at %lld, seed state %llu", sent_count - sent_oldest, (long long)now,
			 (unsigned long long)seed);
}

static void host_fly(struct host *h, int64_t now)
{
	for (unsigned i = 0; i < h->flight_count; i++) {
		struct flight *f = &h->flight[i];
		struct settlement s = { { 0, 0 }, { 0, 0 } };

		if (f->send_at >= 0 && f->send_at <= now) {
			note_sent(now, f->messages);
			f->send_at = -1;
		}
		if (f->settle_at > now)
			continue;
		(f->send_at < 0 ? s.used : s.refunded)[0] = (f->send_at < 0 ? s.used : s.refunded)[1] = f->messages;
		permits_settle(h->permits, local_now(h, now), ++h->request, ISP, CLASS_USUAL, &s);
		*f = h->flight[--h->flight_count];
		i--;
	}
}

static void host_ask(struct host *h, int64_t now, uint32_t messages)
{
	struct permit_wish wish = { ISP, CLASS_USUAL, messages, messages, 1, h->book.calls };
	struct flight *f = &h->flight[h->flight_count];
	struct permit permit;

	if (h->flight_count == FLIGHTS_MAX)
		return;
	fleet_look_at_clock(h->fleet, local_now(h, now));
	if (h->is_waiting)
		wish.since = h->waiting_since;
	permit = permits_ask(h->permits, local_now(h, now), ++h->request, &wish);
	if (permit.is_pending && !h->is_waiting)
		h->waiting_since = h->book.calls;
	h->is_waiting = permit.is_pending;
	h->refusals += permit.messages == 0 && !permit.is_pending;
	if (permit.messages == 0)
		return;
	*f = (struct flight){ permit.messages, now + (int64_t)rnd(800), 0 };
	f->settle_at = f->send_at + 1 + (int64_t)rnd(700);
	if (rnd(20) == 0)
		f->send_at = INT64_MAX;
	h->flight_count++;
	assert_int_equal(ledger_commit(h->ledger, START + now), STORE_OK);
}

static void host_network(struct host *h, int64_t now, int64_t latency)
{
	char run[32];

	snprintf(run, sizeof(run), "run%u", run_number);
	if (h->has_call && !h->is_executed && h->run_at <= now) {
		run_script(now, &h->call, &h->answer);
		h->is_executed = true;
	}
	if (h->has_call && h->is_executed && h->answer_at <= now) {
		host_drop_call(h);
		if (!fleet_take_answer(h->fleet, local_now(h, now), h->answer.word, h->answer.count))
			fail_msg("an answer makes no sense: %.*s", (int)h->answer.word[0].len, h->answer.word[0].ptr);
	}
	if (!h->is_connected && !h->is_cut) {
		fleet_connected(h->fleet, local_now(h, now), run);
		h->is_connected = true;
	}
	assert_int_equal(ledger_commit(h->ledger, START + now), STORE_OK);
	if (h->is_connected && !h->has_call && fleet_next(h->fleet, local_now(h, now), &h->call)) {
		h->has_call = true;
		h->is_executed = false;
		h->run_at = now + (int64_t)rnd((uint64_t)latency + 1);
		h->answer_at = h->run_at + (int64_t)rnd((uint64_t)latency + 1);
	}
}

/* A call that is under way may still be done, late, and its answer is lost. */
static void host_cut(struct host *h, int64_t now, int64_t until)
{
	if (h->has_call && !h->is_executed && rnd(2))
		run_script(now, &h->call, &h->answer);
	host_drop_call(h);
	if (h->is_connected)
		fleet_disconnected(h->fleet, local_now(h, now), "cut");
	h->is_connected = false;
	h->is_cut = until > now;
	h->cut_until = until;
}

static void host_step(struct host *h, int64_t now, int64_t latency, unsigned greed)
{
	if (h->is_dead && h->dead_until <= now)
		host_revive(h, now);
	if (h->is_dead || (is_alone && h != host))
		return;
	if (h->is_cut && h->cut_until <= now)
		h->is_cut = false;
	host_fly(h, now);
	if (rnd(100) < greed)
		host_ask(h, now, 1 + (uint32_t)rnd(8));
	if (!is_alone)
		host_network(h, now, latency);
}

/* --- the faults --- */

static void store_restart(int64_t now, const char *with)
{
	run_number++;
	do_lua(with);
	for (unsigned i = 0; i < HOSTS; i++)
		if (!host[i].is_dead)
			host_cut(&host[i], now, now + (int64_t)rnd(3000));
}

static void do_harm(int64_t now)
{
	struct host *h = &host[rnd(HOSTS)];

	switch (rnd(9)) {
	case 0:
		if (!h->is_dead)
			host_restart(h, now);
		break;
	case 1:
		if (!h->is_dead)
			host_die(h, now + (int64_t)rnd(20000));
		break;
	case 2:
	case 3:
		if (!h->is_dead)
			host_cut(h, now, now + (int64_t)rnd(8000));
		break;
	case 4:
		store_restart(now, "flush()");
		break;
	case 5:
		store_restart(now, "restore()");
		break;
	case 6:
		store_restart(now, "");
		break;
	case 7:
		do_lua("flush()"); /* the process lives on */
		break;
	default:
		if (rnd(4) == 0)
			clock_ahead += 50 + (int64_t)rnd(30000);
		else
			do_lua("save()");
	}
}

/* --- the tests --- */

static void begin(uint64_t first_seed, uint64_t limit)
{
	seed = first_seed;
	amount = limit;
	step_ms = 20;
	sent_count = sent_oldest = run_number = 0;
	clock_ahead = 0;
	lua = luaL_newstate();
	luaL_openlibs(lua);
	do_lua(REDIS);
	if (luaL_loadstring(lua, STORE_SCRIPT) != 0)
		fail_msg("%s", lua_tostring(lua, -1));
	lua_setglobal(lua, "script");
	for (unsigned i = 0; i < HOSTS; i++) {
		struct host *h = &host[i];

		*h = (struct host){ .boot_offset = 1000000 + (int64_t)rnd(1000000), .drift = 0.9999 + 0.0001 * i };
		h->limit[0] =
			(struct limit_spec){ "short", UNIT_MESSAGES, limit, calendar ? 3600000 : WIDTH_MS, calendar };
		h->limit[1] = (struct limit_spec){ "long", UNIT_MESSAGES, limit * 1000, WIDTH_MS * 4, NULL };
		assert_int_equal(folder_make(h->dir, sizeof(h->dir), folder_in_memory()), 0);
		host_start(h, 0);
	}
}

static void end(void)
{
	for (unsigned i = 0; i < HOSTS; i++) {
		if (!host[i].is_dead)
			host_stop(&host[i]);
		folder_remove(host[i].dir);
	}
	lua_close(lua);
}

static void go(int64_t *now, int64_t span, unsigned greed, uint64_t harm_every_ms)
{
	for (int64_t until = *now + span; *now < until; *now += step_ms) {
		for (unsigned i = 0; i < HOSTS; i++)
			host_step(&host[i], *now, 40, greed);
		if (harm_every_ms > 0 && rnd(harm_every_ms / (uint64_t)step_ms) == 0)
			do_harm(*now);
	}
}

static unsigned count_without_harm(uint64_t limit, bool alone)
{
	int64_t now = 0;
	unsigned before;

	is_alone = alone;
	begin(77 + limit, limit);
	go(&now, 3 * WIDTH_MS, 60, 0);
	before = sent_count;
	go(&now, 20 * WIDTH_MS, 60, 0);
	end();
	is_alone = false;
	return sent_count - before;
}

static void test_as_much_is_sent_as_by_one_host_with_a_log(void **state)
{
	static const uint64_t AMOUNTS[] = { 5, 60, 1000 };

	for (unsigned k = 0; k < ARRAY_LEN(AMOUNTS); k++) {
		unsigned alone = count_without_harm(AMOUNTS[k], true), together = count_without_harm(AMOUNTS[k], false);

		printf("limit %llu: three hosts send %u, one alone %u\n", (unsigned long long)AMOUNTS[k], together,
		       alone);
		assert_true(together >= alone * 9 / 10);
	}
}

static void harm_for(bool share)
{
	unsigned total = 0, runs = getenv("POSTERN_SOAK") ? SOAK_RUNS : RUNS;

	may_share = share;
	for (unsigned k = 0; k < runs; k++) {
		int64_t now = 0;

		begin(1000 + k * 7919 + share, 3 + rnd(200));
		go(&now, 20 * WIDTH_MS, 50, 2500);
		total += sent_count;
		end();
	}
	may_share = false;
	printf("%u sent in %u runs, %s\n", total, runs, share ? "share" : "hold");
	assert_true(total > runs * 40);
}

static void test_no_span_is_over_whatever_happens_hold(void **state)
{
	harm_for(false);
}

static void test_no_span_is_over_whatever_happens_share(void **state)
{
	harm_for(true);
}

/* What it held counts until it cannot come back any more, and then for a window. */
static void test_a_dead_host_takes_its_lease_with_it_for_a_while(void **state)
{
	int64_t now = 0;
	unsigned before;

	begin(5, 4);
	go(&now, 2 * WIDTH_MS, 100, 0);
	while (host[2].flight_count == 0)
		go(&now, step_ms, 100, 0);
	host_die(&host[2], INT64_MAX);
	go(&now, 2 * WIDTH_MS, 100, 0);
	assert_true(host[0].refusals + host[1].refusals > 0);
	step_ms = 2000;
	go(&now, FLEET_SILENT_MS + 2 * WIDTH_MS, 100, 0);
	step_ms = 20;
	before = sent_count;
	go(&now, 10 * WIDTH_MS, 100, 0);
	assert_true(sent_count - before >= 30); /* all four again, most of the time */
	end();
}

static void test_after_a_loss_nothing_is_granted_while_a_host_is_missing(void **state)
{
	int64_t now = 0;
	unsigned before, index[] = { 0, 1 };
	struct correction c = { CORRECT_RESET, ISP, { "", 0 }, 0, 0 };

	begin(6, 50);
	go(&now, 2 * WIDTH_MS, 100, 0);
	host_die(&host[2], INT64_MAX);
	go(&now, 2000, 100, 0);
	do_lua("flush()");
	go(&now, FLEET_HEARTBEAT_MS + 1000, 100, 0); /* until they have seen it; what they had leased was theirs */
	before = sent_count;
	go(&now, 5 * WIDTH_MS, 100, 0);
	assert_int_equal(sent_count, before);
	assert_non_null(strstr(fleet_trouble(host[0].fleet), "waits for host-"));
	assert_true(fleet_correct(host[0].fleet, ledger_find(host[0].ledger, ISP), index, 2, &c));
	go(&now, WIDTH_MS, 100, 0);
	assert_true(sent_count > before + 25);
	before = sent_count;
	step_ms = 2000;
	go(&now, FLEET_SILENT_MS + 5 * WIDTH_MS, 100, 0);
	step_ms = 20;
	assert_true(sent_count > before);
	end();
}

/* A copy of a spool, started beside it: seen, and one of them gets nothing. */
static void test_one_name_for_two_hosts_is_seen(void **state)
{
	int64_t now = 0;

	begin(8, 50);
	ledger_set_note(host[1].ledger, "twin-1");
	ledger_set_note(host[2].ledger, "twin-1");
	assert_int_equal(ledger_commit(host[1].ledger, START), STORE_OK);
	assert_int_equal(ledger_commit(host[2].ledger, START), STORE_OK);
	host_restart(&host[1], now);
	host_restart(&host[2], now);
	go(&now, 6 * WIDTH_MS, 100, 0); /* the checker looks */
	assert_true(sent_count > 100);
	end();
}

static void test_calendar_periods_are_the_stores(void **state)
{
	enum { HOUR = 3600000, HOURS = 4 };
	struct zone *zone = zone_new("UTC");
	struct calendar hourly = { CALENDAR_HOUR, 0, 0, zone };
	unsigned count[HOURS + 2] = { 0 };
	int64_t now = 0;

	calendar = &hourly;
	begin(9, 40);
	amount = UINT32_MAX; /* the rolling check is for others */
	clock_ahead = 7000;
	step_ms = 500;
	go(&now, HOURS * HOUR, 30, 0);
	for (unsigned i = 0; i < sent_count; i++)
		count[(START + clock_ahead + sent[i]) / HOUR - (START + clock_ahead) / HOUR]++;
	for (unsigned i = 0; i < HOURS; i++)
		assert_int_equal(count[i], 40);
	end();
	calendar = NULL;
	zone_free(&zone);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_much_is_sent_as_by_one_host_with_a_log),
		cmocka_unit_test(test_a_dead_host_takes_its_lease_with_it_for_a_while),
		cmocka_unit_test(test_after_a_loss_nothing_is_granted_while_a_host_is_missing),
		cmocka_unit_test(test_one_name_for_two_hosts_is_seen),
		cmocka_unit_test(test_calendar_periods_are_the_stores),
		cmocka_unit_test(test_no_span_is_over_whatever_happens_hold),
		cmocka_unit_test(test_no_span_is_over_whatever_happens_share),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
