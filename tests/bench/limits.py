#!/usr/bin/env python3
"""Speed of the limiter alone: durable permits a second by size of batch; 10,000 servers: start, memory for each.

Every permit is settled, every answer durable. Four limits a server, all of them bucketed.
"""
import os
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "fake"), str(TESTS / "system")]

import peers  # noqa: E402
from childproc import Child, encode  # noqa: E402
from measure import rollup_kb  # noqa: E402

SERVERS = 10000
LIMITS = ("10000000/hour", "100000000/day", "1000000000/month", "1000000000/day recipients")


def conf(servers, store=""):
    quoted = ", ".join(f'"{limit}"' for limit in LIMITS)
    return 'hostname = "mail.example.org"\nspool = "spool"\nlog = "stderr"\n' + store + "".join(
        f'server "s{i}" {{ host = "smtp.example.org" limits = {{ {quoted} }} }}\n' for i in range(servers))


def start(folder, servers, store=""):
    counters = folder / "spool/db/limits"
    counters.mkdir(parents=True)
    counters.chmod(0o700)
    return Child("limiter", conf(servers, store), folder)


def pairs(child, rounds, batch, server=lambda i: "s0"):
    for i in range(rounds):
        common = {"scopes": server(i), "class": 0}
        child.request = getattr(child, "request", 0) + 2
        yield encode("PERMIT_ASK", child.us, child.generation, request=child.request - 1, first=1, messages=batch,
                     recipients=batch, **common)
        yield encode("SETTLE", child.us, child.generation, request=child.request, used_messages=batch, used_recipients=batch,
                     refund_messages=0, refund_recipients=0, **common)


def answered_pairs(child, rounds, batch, ahead=64):
    """So many asks, `ahead` of them unanswered at most, and each grant settled; permits a second."""
    asked = settled = granted = 0
    begun = time.monotonic()
    while settled < rounds:
        while asked < rounds and asked - settled < ahead:
            asked += 1
            child.send("PERMIT_ASK", request=asked, scopes="s0", **{"class": 0}, messages=batch, recipients=batch, first=1)
        name, grant = child.receive()
        if name != "PERMIT":
            continue
        settled += 1
        granted += grant["messages"]
        child.send("SETTLE", request=rounds + settled, scopes="s0", **{"class": 0}, used_messages=grant["messages"],
                   used_recipients=grant["recipients"], refund_messages=0, refund_recipients=0)
    return granted / (time.monotonic() - begun)


def bench_shared(folder):
    """As a fleet's host: leases, so that Redis is not in the way of each permit."""
    store = peers.Redis(folder)
    try:
        with start(folder, 1, store.option()) as child:
            child.tell_peer(True)
            for batch, rounds in ((1, 20000), (100, 5000)):
                before = int(store.command("info", "commandstats").partition("cmdstat_evalsha:calls=")[2].partition(",")[0] or 0)
                speed = answered_pairs(child, rounds, batch)
                calls = int(store.command("info", "commandstats").partition("cmdstat_evalsha:calls=")[2].partition(",")[0])
                print(f"batches of {batch:3}: {speed:10,.0f} permits a second from a shared store, "
                      f"{calls - before} calls of it for {rounds} grants")
    finally:
        store.stop()


def main():
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as folder:
        with start(Path(folder), 1) as child:
            for batch, rounds in ((1, 20000), (10, 10000), (100, 5000)):
                seconds = child.exchange(list(pairs(child, rounds, batch)))
                print(f"batches of {batch:3}: {rounds * batch / seconds:10,.0f} durable permits a second")
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as folder:
        bench_shared(Path(folder))
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as folder:
        with start(Path(folder), 1) as child:
            empty_kb = rollup_kb(child.pid, "Pss")
        os.system(f"rm -rf {folder}/spool")
        with start(Path(folder), SERVERS) as child:
            child.exchange(list(pairs(child, SERVERS, 5, lambda i: f"s{i}")))
            used_kb = rollup_kb(child.pid, "Pss")
            child.kill()
            child.generation += 1
            begun = time.monotonic()
            child.start()
            seconds = time.monotonic() - begun
        print(f"{SERVERS:,} servers: {(used_kb - empty_kb) / SERVERS:.2f} KB each, configuration included; "
              f"ready {seconds:.2f} s after a kill")


if __name__ == "__main__":
    main()
