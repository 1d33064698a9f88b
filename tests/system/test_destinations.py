"""destination { }: connections and messages for one recipient domain, or for domains grouped by MX host."""
import threading

import peers
from fake_smtp import ordinary
from harness import wait_until

DIRECT = 'server "direct" { method = direct port = 2525 deny-addresses = {} max-connections-per-destination = 8 }\n'


def test_connections_and_messages_of_a_destination(mta, peer, sink):
    """`small` has a block of its own, `group` is two sites found by their MX hosts, `other` is as the server says."""
    sinks = {name: sink("-c", "-d", "50") for name in ("small", "group", "other")}
    nsd = peer(peers.Nsd, [line for name, one in sinks.items() for line in (f"mx.{name} A {one.address}", f"{name} MX 10 mx.{name}")] +
               [f"mx2.group A {sinks['group'].address}", "group-too MX 10 mx2.group"])
    mta.start(nsd.conf() + DIRECT + 'destination "small.example" { max-connections = 2 reconnect-every = 5 }\n'
              'destination "a group" { mx = { "*.group.example" } max-connections = 2 }\n')
    for i in range(40):
        for name in (*sinks, "group-too"):
            mta.drop(f"From: a@here.example\nTo: b@{name}.example\nMessage-ID: <{i}@{name}>\n\nx\n")
    for name, one in sinks.items():
        one.wait(80 if name == "group" else 40)
    mta.wait_empty()
    most = {name: one.most_open() for name, one in sinks.items()}
    assert most["small"] == most["group"] == 2 < most["other"] <= 8, most
    assert max(int(row["transaction"]) for row in sinks["small"].ledger()) == 5


def test_connections_from_before_a_crash_count(mta, server, zone):
    """What a killed scheduler had opened counts for its site and its destination, until the worker is done with it."""
    gate = threading.Event()

    def hold(s):
        s.say("220 hi")
        s.serve(dot=lambda m: gate.wait(60) and None)
    held = {name: server(hold) for name in ("own", "plain")}
    sites = held | {"free": server(ordinary)}
    records = {f"{name}.example MX": [f"10 mx.{name}.example"] for name in sites}
    dns = zone(records | {f"mx.{name}.example A": [one.address] for name, one in sites.items()})
    mta.allow.append("signal 9")
    mta.start(dns + DIRECT.replace("= 8", "= 2") + 'destination "own.example" { max-connections = 2 }\n')

    def drop(name):
        mta.drop(f"From: a@here.example\nTo: b@{name}.example\n\nx\n")
    for name in [*held] * 2:
        drop(name)
    for one in held.values():
        wait_until(lambda: sum("DATA" in s.commands for s in one.sessions) == 2, what="two messages that are held")
    before = mta.kill("scheduler")
    for name in [*held] * 4:
        drop(name)
    wait_until(lambda: mta.pids("scheduler") and list(mta.pids("scheduler")) != before, what="another scheduler")
    mta.wait_log(r"nrcpt=1 \(queue active\)", times=12)
    drop("free")
    sites["free"].wait(1)
    counts = {name: len(one.sessions) for name, one in held.items()}
    gate.set()
    for one in held.values():
        one.wait(6)
    mta.wait_empty()
    assert counts == {"own": 2, "plain": 2}, counts
