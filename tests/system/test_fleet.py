"""Several hosts share their limits in one Redis: what arrives is never more than the limit, whatever dies."""
import os
import random
import signal
import time

import peers
import pytest
from harness import SANITIZED, wait_until

@pytest.fixture
def redis(folder):
    made = []

    def start(*options, **more):
        made.append(peers.Redis(folder, *options, **more))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.signal(signal.SIGCONT)
        one.stop()


def message(i):
    return f"From: a@here.example\nTo: b{i}@there.example\nMessage-ID: <{i}@here.example>\n\nhello\n"


def check_no_span_over(times_ms, amount, seconds):
    """The receiver's own clock: no span of so many seconds holds more than so many."""
    times = sorted(times_ms)
    for first, last in zip(times, times[amount:]):
        assert last - first > seconds * 1000, f"{amount + 1} within {last - first} ms at {first}"


def settled(mta):
    """That limit's line of `postern limits`."""
    return mta.json("limits")[0]


def waits(mta, what):
    return what in mta.postern("queue").stdout


def test_one_counter_for_all(make_mta, sink, redis):
    store, server = redis(), sink()
    hosts = [make_mta() for _ in range(3)]
    for host in hosts:
        host.start(store.option() + server.relay("out", 'limits = { "7/hour" }'))
        host.drop_many(4, lambda i: message(f"{id(host)}-{i}"))
    server.wait(7)
    shown = wait_until(lambda: all((line := settled(h))["used"] == 7 and line["free_at"] and line for h in hosts)
                       and settled(hosts[0]))
    assert shown["allowed"] == 7 and shown["leased"] == 0
    assert server.count() == 7
    keys = store.command("-n", 3, "keys", "*").splitlines()
    assert keys and all(int(store.command("-n", 3, "pttl", key)) > 0 for key in keys)


def test_every_scope_is_shared(make_mta, sink, redis):
    """A sender's limit, the fleet's own, and a server's in recipients, all at once."""
    store, server = redis(), sink()
    hosts = [make_mta() for _ in range(2)]
    for host in hosts:
        host.start(store.option('limits = { "100/hour" } limit-per-sender = { "3/hour" }')
                   + server.relay("out", 'limits = { "9/hour recipients" }'))

    def drop(host, sender, name, rcpts=1):
        to = ", ".join(f"b{i}@there.example" for i in range(rcpts))
        host.drop(f"From: {sender}@here.example\nTo: {to}\nMessage-ID: <{name}@here.example>\n\nhello\n")

    for i in range(4):
        drop(hosts[i % 2], "x", f"x{i}")
    server.wait(3)
    wait_until(lambda: any(waits(host, "limit 3/hour of sender x@here.example") for host in hosts))
    drop(hosts[0], "y", "y1", 4)
    server.wait(4)
    drop(hosts[1], "y", "y2", 4)
    wait_until(lambda: waits(hosts[1], "limit 9/hour recipients of out"))
    wait_until(lambda: {(line["scope"], line["used"]) for line in hosts[1].json("limits")} >= {
        ("instance", 4), ("server", 7), ("sender", 3)})
    assert server.count() == 4


@pytest.mark.final
@pytest.mark.parametrize("down", ["hold", "share"])
def test_no_span_is_over_while_hosts_and_store_are_killed(make_mta, sink, redis, down):
    """Counted where mail arrives. The store comes back with all it knew, or with nothing."""
    amount, seconds = 30, 3
    store, server = redis("--appendonly", "yes", "--appendfsync", "no"), sink()
    hosts = [make_mta() for _ in range(3)]
    for host in hosts:
        host.start(store.option(f"limits-store-down = {down}") + server.relay("out", f'limits = {{ "{amount}/{seconds}s" }}'))
        host.drop_many(150, lambda i: message(f"{id(host)}-{i}"))
    chance = random.Random(f"fleet {down} {os.environ.get('POSTERN_SEED', '')}")

    def kill_store(*more):
        store.kill()
        for path in (store.folder / "appendonlydir").glob("*") if more else ():
            path.unlink()
        time.sleep(chance.random())     # the hosts are to see it gone, or not
        store.start_again()

    def kill_host():
        host = chance.choice(hosts)
        host.kill_all_processes()
        host.start()

    def stop_store():
        store.signal(signal.SIGSTOP)
        time.sleep(chance.random() * 3)
        store.signal(signal.SIGCONT)

    harm = [kill_store, lambda: kill_store("and its data"), lambda: store.command("flushall"), stop_store, kill_host,
            lambda: chance.choice(hosts).kill("limiter"), lambda: chance.choice(hosts).kill("limiter")]
    chance.shuffle(harm)
    for deed in harm:
        before = server.count()
        deed()
        try:
            wait_until(lambda: server.count() >= before + 8, 1.5, "some more")
        except AssertionError:
            pass                        # or not: some deeds come while another has its way
    before = server.count()
    server.wait(before + 2 * amount, 30)        # and it goes on
    check_no_span_over([int(row["time_ms"]) for row in server.ledger()], amount, seconds)
    for host in hosts:
        host.stop()


def test_down_is_said_once_and_hold_holds(mta, sink, redis):
    store, server = redis(), sink()
    mta.start(store.option() + server.relay("out", 'limits = { "1000/hour" }'))
    mta.drop(message(1))
    server.wait(1)
    assert mta.status()["limits_store"] is None
    store.kill()
    mta.wait_log("limits-store .* is away")
    for i in range(2, 6):
        mta.drop(message(i))
    wait_until(lambda: waits(mta, "the limits: limits-store is away"))
    assert "is away" in mta.status()["limits_store"]
    assert "is away" in mta.postern("status").stdout
    refused = mta.postern("limits", "reset", "out", "--why", "a test")
    assert refused.returncode != 0 and "away" in refused.stdout + refused.stderr
    assert server.count() == 1 and len(mta.grep("limits-store .* is away")) == 1
    store.start_again()
    server.wait(5)
    mta.wait_log("limits-store .* serves")
    assert wait_until(lambda: mta.status()["limits_store"] is None)
    assert len(mta.grep("limits-store .* is away")) == 1


def test_share_goes_on_with_the_lease_and_no_further(mta, sink, redis):
    store, server = redis(), sink()
    mta.start(store.option("limits-store-down = share") + server.relay("out", 'limits = { "100000/hour" }'))
    sent = 0

    def keep_sending():
        """Until something is leased ahead: what goes back when nothing is sent for a second."""
        nonlocal sent
        mta.drop_many(200, lambda i: message(sent + i))
        sent += 200
        server.wait(sent)
        return settled(mta)["leased"] > 20
    wait_until(keep_sending)
    store.signal(signal.SIGSTOP)
    leased = settled(mta)["leased"]     # asks the store, and shows what is known when that is away
    mta.wait_log("limits-store .* is away")
    mta.drop_many(leased + 50, lambda i: message(sent + i))
    server.wait(sent + leased)
    wait_until(lambda: waits(mta, "the limits: limits-store is away"))
    assert server.count() <= sent + leased
    store.signal(signal.SIGCONT)
    server.wait(sent + leased + 50)


def test_set_and_reset_are_for_all(make_mta, sink, redis):
    store, server = redis(), sink()
    hosts = [make_mta() for _ in range(2)]
    for host in hosts:
        host.start(store.option() + server.relay("out", 'limits = { "5/hour" }'))
    hosts[0].drop(message("first"))
    server.wait(1)
    wait_until(lambda: settled(hosts[1])["used"] == 1)      # what is leased ahead goes back
    done = hosts[1].postern("limits", "set", "out", "5/hour", "5", "--why", "others use it, too", check=True)
    assert "1 had been used" in done.stdout
    hosts[0].drop(message("second"))
    wait_until(lambda: waits(hosts[0], "limit 5/hour of out"))
    assert settled(hosts[0])["used"] == settled(hosts[1])["used"] == 5
    hosts[1].postern("limits", "reset", "out", "--why", "the provider lifted it", check=True)
    server.wait(2)      # at once, not in an hour
    assert wait_until(lambda: settled(hosts[1])["used"] == 1)


def test_password_and_jail(mta, sink, redis, folder):
    """Logged in, with a password from a file that only root may read; in its jail the limiter has no other network."""
    store, server = redis("--requirepass", "hunter2"), sink()
    secret = folder / "redis.password"
    secret.write_text("wrong\n")
    secret.chmod(0o600)
    conf = store.option(f'limits-store-password-file = "{secret}"') + server.relay("out", 'limits = { "5/hour" }')
    mta.start(conf)
    mta.drop(message(1))
    mta.wait_log("limits-store .* is away: WRONGPASS")
    secret.write_text("hunter2\n")
    assert mta.postern("reload").returncode == 0
    server.wait(1)
    assert "hunter2" not in mta.log()
    limiter, = mta.pids("limiter")
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{limiter}/status").read().splitlines() if ":\t" in line)
    assert SANITIZED or status["Seccomp"].strip() == "2"
    if os.geteuid() == 0:
        assert status["Uid"].split()[0] != "0" and int(status["CapEff"], 16) == 0


def test_a_store_that_forgets_is_refused(mta, sink, redis):
    store, server = redis("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"), sink()
    mta.start(store.option() + server.relay("out", 'limits = { "5/hour" }'))
    mta.drop(message(1))
    mta.wait_log("is away: it evicts keys")
    store.command("config", "set", "maxmemory-policy", "noeviction")
    server.wait(1)
